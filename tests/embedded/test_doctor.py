"""`driftloop doctor`: each check finds what it is for when that is broken, and nothing where all is well."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Response

import serving_bundles
from certificates import write
from driftloop import cli, settings
from driftloop.access.people import FILE as PEOPLE
from driftloop.access.tokens import Tokens
from driftloop.embedded import guard
from driftloop.embedded.doctor import clocks, credentials, databases, folder, machine, models, ports, processes, runs
from driftloop.embedded.doctor import examine as examining
from driftloop.embedded.doctor.findings import Finding
from driftloop.embedded.supervisor import LOCK, STATUS, lock
from driftloop.fleet.archive import open_archive
from driftloop.fleet.runs import Run
from driftloop.loop import store
from driftloop.model import bundle
from driftloop.settings import Settings
from driftloop.units.store import Store as UnitsStore
from live_server import running
from mlflow_double import Mlflow, mlflow
from ports import free_port

GIB = 2**30


def wrong(found: Iterable[Finding]) -> list[Finding]:
    """What is not fine; every finding of that kind says where and what to do."""
    left = [finding for finding in found if finding.level != "fine"]
    assert all(finding.where and finding.remedy for finding in left)
    return left


def only(found: Iterable[Finding]) -> Finding:
    """The one thing that is wrong."""
    [finding] = wrong(found)
    return finding


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of nothing but a state folder."""
    for name in [name for name in os.environ if name.startswith("DRIFTLOOP_")]:
        monkeypatch.delenv(name)
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(state))
    for part in ("console", "mlflow", "server", "retrainer", "units"):
        monkeypatch.setenv(f"DRIFTLOOP_{part.upper()}_URL", f"http://127.0.0.1:{free_port()}")
    return settings.load()


# The machine.


def test_another_python_than_driftloop_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrong(machine.python()) == []
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.9.1")
    assert "Python 3.9.1 is none of" in only(machine.python()).what


def test_packages_that_are_missing_or_below_their_floor() -> None:
    assert wrong(machine.packages()) == []
    assert only(machine.packages(["numpy>=99"])).what.endswith("and >=99 is needed")
    assert only(machine.packages(["no-such-package>=1"])).what.startswith("no-such-package is not installed")
    assert wrong(machine.packages(["no-such-package>=1; extra == 'units'"])) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(machine.PACKAGES, "no-such-package", "training")
        assert only(machine.packages(["no-such-package>=1; extra == 'train'"])).level == "warning"
    assert "numpy" in only(machine.packages(["numpy>=99; extra == 'units'"])).what
    assert wrong(machine.packages(["numpy>=99; python_version < '3'"])) == []


def test_memory_that_is_too_little_for_a_retraining(tmp_path: Path) -> None:
    assert only(machine.memory(GIB // 2)).level == "problem"
    assert only(machine.memory(GIB + GIB // 2)).level == "warning"
    assert wrong(machine.memory(8 * GIB)) == []
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8388608 kB\n")
    assert machine.available_bytes(tmp_path / "meminfo", tmp_path) == 8 * GIB
    (tmp_path / "memory.max").write_text(f"{3 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    assert machine.available_bytes(tmp_path / "meminfo", tmp_path) == 2 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_bytes(tmp_path / "meminfo", tmp_path) == 8 * GIB


def test_a_disk_without_room(tmp_path: Path) -> None:
    def of(least: int, comfortable: int) -> list[Finding]:
        return wrong(machine.disk(tmp_path / "not" / "there", least=least, comfortable=comfortable, what_for="state"))

    free = shutil.disk_usage(tmp_path).free
    assert of(1, 2) == []
    assert of(1, 2 * free)[0].level == "warning"
    assert of(2 * free, 3 * free)[0].level == "problem"


def test_a_locale_that_this_machine_does_not_have() -> None:
    assert wrong(machine.language({"LANG": "C.UTF-8"})) == []
    assert "no locale 'xx_YY.UTF-8'" in only(machine.language({"LANG": "C.UTF-8", "LC_ALL": "xx_YY.UTF-8"})).what


def test_a_variable_that_is_nearly_called_as_a_setting() -> None:
    assert wrong(machine.variables({"DRIFTLOOP_PROMOTION": "approve", "ENABLE_RETRAINING": "false", "HOME": "/"})) == []
    found = only(machine.variables({"DRIFTLOOP_PROMOTON": "approve"}))
    assert found.level == "warning"
    assert (found.what, found.remedy) == (
        "DRIFTLOOP_PROMOTON is no setting and changes nothing", "is DRIFTLOOP_PROMOTION meant? Else unset it",
    )  # fmt: skip


def test_a_proxy_between_programs_and_the_platform() -> None:
    urls = ["http://127.0.0.1:8400", "http://mlflow.example.org:5500"]
    assert wrong(machine.proxies(urls, {})) == []
    found = only(machine.proxies(urls, {"HTTP_PROXY": "http://proxy:3128", "no_proxy": "127.0.0.1"}))
    assert "ask a proxy for mlflow.example.org" in found.what
    given = {"https_proxy": "http://proxy:3128", "NO_PROXY": "127.0.0.1,.example.org"}
    assert wrong(machine.proxies(urls, given)) == []
    assert wrong(machine.proxies(urls, {"https_proxy": "http://proxy:3128", "NO_PROXY": "*"})) == []
    bad = wrong(machine.proxies([], {"http_proxy": "proxy:3128"}))
    assert [finding.what for finding in bad] == ["http_proxy is no address of a proxy"]


# The clock.


def test_a_disk_with_another_time_and_files_from_the_future(tmp_path: Path) -> None:
    assert wrong(clocks.of_the_disk(tmp_path)) == []
    assert "60 s behind" in only(clocks.of_the_disk(tmp_path, time.time() + 60)).what
    (tmp_path / "loop.db").write_bytes(b"")
    assert wrong(clocks.of_files(tmp_path, ["loop.db", "none"])) == []
    os.utime(tmp_path / "loop.db", (time.time() + 3600,) * 2)
    assert "in the future" in only(clocks.of_files(tmp_path, ["loop.db"])).what
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop.db"]


def test_a_service_with_another_time() -> None:
    with running(FastAPI()) as http:
        url = str(http.base_url).rstrip("/")
        assert wrong(clocks.of_services([url, f"http://127.0.0.1:{free_port()}"])) == []
        found = only(clocks.of_services([url], now=time.time() + 600))
    assert (found.level, found.where) == ("problem", url)
    assert "behind this machine's" in found.what


# Ports and the state folder.


def test_a_port_that_another_process_has_and_which(base: Settings) -> None:
    named = ports.addresses(base, {"cmapss": base})
    assert wrong(ports.taken(named, base.state_dir)) == []
    with socket.create_server(("127.0.0.1", int(base.units_url.rpartition(":")[2]))):
        found = only(ports.taken(named, base.state_dir))
    assert f"process {os.getpid()} (" in found.what
    assert found.where == f"DRIFTLOOP_UNITS_URL = {base.units_url}"


def test_the_platforms_own_processes_have_its_ports(base: Settings) -> None:
    port = int(base.server_url.rpartition(":")[2])
    code = f"import socket; s = socket.create_server(('127.0.0.1', {port})); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, guard.MARK: str(base.state_dir.resolve())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as own:
        assert own.stdout is not None
        assert own.stdout.readline() == b"ready\n"
        assert ports.listeners(port) == [own.pid]
        assert wrong(ports.taken(ports.addresses(base, {"cmapss": base}), base.state_dir)) == []
        # And without a supervisor they are orphans.
        found = only(folder.leftovers(base.state_dir))
        assert f"still run: {own.pid}" in found.what
        own.communicate(b"\n")


def test_a_state_folder_that_is_another_users_or_none(base: Settings, tmp_path: Path) -> None:
    assert wrong(folder.owner(base.state_dir)) == []
    assert wrong(folder.owner(tmp_path / "none")) == []
    (tmp_path / "file").write_text("")
    assert only(folder.owner(tmp_path / "file")).what == "is no folder"
    (base.state_dir / "loop").mkdir()
    if os.geteuid() == 0:
        os.chown(base.state_dir / "loop", 12345, -1)
        assert "belongs to user 12345" in only(folder.owner(base.state_dir)).what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_folder_that_cannot_be_written(base: Settings) -> None:
    base.state_dir.chmod(0o500)
    assert only(folder.owner(base.state_dir)).what == "cannot be written"


def test_what_a_killed_platform_leaves(base: Settings) -> None:
    assert wrong(folder.leftovers(base.state_dir)) == []
    (base.state_dir / STATUS).write_text(json.dumps({"pid": 1, "components": {}}))
    (base.state_dir / LOCK).write_text("1\n")
    assert folder.supervisor(base.state_dir) is None
    assert "it was killed" in only(folder.leftovers(base.state_dir)).what
    with lock(base.state_dir):
        assert folder.supervisor(base.state_dir) == 1
        assert wrong(folder.leftovers(base.state_dir)) == []


# Processes.


def test_components_that_are_down_silent_or_restless(base: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"pid": 7, "last_exit": None, "restarts": 0}
    written = {name: dict(state) for name in ("console", "mlflow", "server", "retrainer", "watch")}
    written["server"] |= {"pid": None, "last_exit": 3}
    written["mlflow"]["restarts"] = 5
    (base.state_dir / "logs").mkdir()
    (base.state_dir / "logs" / "server.log").write_text("out of memory\n")
    (base.state_dir / STATUS).write_text(json.dumps({"pid": 1, "components": written}))
    silent = {"retrainer"}

    def made(*arguments: Any) -> list[Any]:
        found = real(*arguments)
        for one in found:
            object.__setattr__(one, "ready", lambda _, name=one.name: name not in silent)
        return found

    real = processes.components
    monkeypatch.setattr(processes, "components", made)
    said = {finding.what for finding in wrong(processes.embedded(base.state_dir, {"cmapss": base}))}
    assert said == {
        "server is down (exit code 3); its log ends: out of memory",
        "retrainer runs (process 7) and does not answer, or is not ready",
        "mlflow was started again 5 times",
        "units was not started with this platform",
    }


def test_services_of_a_platform_that_is_elsewhere(base: Settings) -> None:
    app = FastAPI()

    @app.get("/readyz")
    def _() -> Response:
        return Response("no model", 503)

    assert list(processes.elsewhere({"cmapss": base})) == []
    away = base.model_copy(update={"units_url": "http://platform.invalid:8700"})
    with running(app) as http:
        one = away.model_copy(update={"server_url": str(http.base_url).rstrip("/")})
        said = {finding.where: finding.what for finding in wrong(processes.elsewhere({"cmapss": one}))}
    assert said[f"{one.server_url}/readyz"] == "answers 503: no model"
    assert said["http://platform.invalid:8700/readyz"].startswith("does not answer")
    assert len(said) == 2


def test_a_tunnel_to_a_cluster_is_a_platform_and_no_stranger(
    base: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FastAPI()

    @app.get("/readyz")
    def _() -> dict[str, str]:
        return {}

    def found() -> list[dict[str, str]]:
        cli.main(["doctor", "--json"])
        said: list[dict[str, str]] = json.loads(capsys.readouterr().out)["findings"]
        return said

    with running(app) as http:
        monkeypatch.setenv("DRIFTLOOP_SERVER_URL", str(http.base_url).rstrip("/"))
        assert [one["check"] for one in found() if one["check"] == "ports"] == []
        assert "server of cmapss is ready" in [one["what"] for one in found()]
    with socket.create_server(("127.0.0.1", int(base.units_url.rpartition(":")[2]))):
        monkeypatch.setenv("DRIFTLOOP_SERVER_URL", base.server_url)
        assert [one["level"] for one in found() if one["check"] == "ports"] == ["problem", "fine"]


# The model.


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Mlflow]:
    with mlflow(tmp_path / "models") as server:
        serving_bundles.write(tmp_path / "models" / "1", 1)
        server.production = "1"
        yield server


def answering(version: str, digest: str, refused: dict[str, Any] | None = None) -> FastAPI:
    app = FastAPI()

    @app.get("/model")
    def _() -> dict[str, Any]:
        return {"model_version": version, "digest": digest, "refused": refused}

    return app


def test_the_registry_the_alias_and_what_is_served(base: Settings, registry: Mlflow, tmp_path: Path) -> None:
    right = bundle.digest(tmp_path / "models" / "1")
    base = base.model_copy(update={"mlflow_url": registry.url})

    def of(version: str, digest: str, **more: Any) -> list[str]:
        with running(answering(version, digest, **more)) as http:
            one = base.model_copy(update={"server_url": str(http.base_url).rstrip("/")})
            return [finding.what for finding in wrong(models.production(one))]

    assert of("1", right) == []
    assert of("2", right) == ["the server answers with version 2, and 1 is in production"]
    assert of("1", "0" * 64) == ["version 1 is served with another digest than the registry has for it"]
    refused = {"version": "1", "reason": "damaged"}
    assert of("0", "", refused=refused) == ["the server refuses version 1, which is in production: damaged"]
    assert "no usable answer from the server" in only(models.production(base)).what
    registry.digest = "f" * 64
    assert "cannot be used" in only(models.production(base)).what
    registry.production = None
    assert only(models.production(base)).level == "warning"


def test_a_registry_that_does_not_answer(base: Settings) -> None:
    found = examining.safely("registry", lambda: models.production(base))
    assert "cannot be reached" in only(found).what


def test_a_model_of_another_fleet(base: Settings, registry: Mlflow, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('name = "pumps"\n[[sensors]]\nname = "pressure"\n')
    one = base.model_copy(update={"mlflow_url": registry.url, "fleet": str(tmp_path / "fleet.toml")})
    found = [finding for finding in wrong(models.production(one)) if finding.check == "fleet"]
    assert "trained for another fleet: it has the settings" in found[0].what


# The archive.


def test_damaged_runs_of_the_archive(base: Settings) -> None:
    columns = base.schema.n_columns
    archive = open_archive(base.archive_location, base.schema)
    rows = np.random.default_rng(0).normal(size=(3, 40, columns)).astype(np.float32)
    archive.add_all([Run(f"run-{k}", rows[k]) for k in range(3)])
    assert [finding.level for finding in wrong(runs.archive(base))] == ["warning"]
    assert "too few units" in wrong(runs.archive(base))[0].what
    path = Path(base.archive_location) / "run-1.npy"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    found = [finding for finding in wrong(runs.archive(base)) if finding.level == "problem"]
    assert len(found) == 1
    assert found[0].what.startswith("run run-1 ")


# Credentials.


def test_secrets_that_others_can_read(base: Settings, tmp_path: Path) -> None:
    Tokens(base.access_folder).add("gateway", "predict")
    assert wrong(credentials.modes(base)) == []
    path = base.access_folder / PEOPLE
    path.write_text("{}")
    path.chmod(0o644)
    assert only(credentials.modes(base)).what == "everybody on this machine may read or change it (mode 644)"
    path.chmod(0o640)
    assert only(credentials.modes(base)).level == "warning"
    path.chmod(0o600)
    away = base.model_copy(update={"units_password_file": tmp_path / "none"})
    assert only(credentials.modes(away)).what == "a setting names this file, and it is not there"


def test_tokens_that_end(base: Settings) -> None:
    Tokens(base.access_folder).add("long", "predict")
    Tokens(base.access_folder).add("short", "predict", days=3)
    assert "token short ends in 3 days" in only(credentials.tokens(base)).what
    assert "ended" in only(credentials.tokens(base, now=time.time() + 86_400 * 5)).what


def certificate(folder: Path, days: float) -> Settings:
    write(folder, 7, since_days=100, days=days)
    return Settings(state_dir=folder, tls_cert=folder / "cert.pem", tls_key=folder / "key.pem")


def test_certificates_that_end_or_are_not_their_keys(tmp_path: Path) -> None:
    assert wrong(credentials.certificates(Settings())) == []
    assert wrong(credentials.certificates(certificate(tmp_path, 90))) == []
    assert only(credentials.certificates(certificate(tmp_path, 5))).level == "warning"
    assert "ended 3 days ago" in only(credentials.certificates(certificate(tmp_path, -3))).what
    good = certificate(tmp_path, 90)
    key = (tmp_path / "key.pem").read_bytes()
    certificate(tmp_path, 90)
    (tmp_path / "key.pem").write_bytes(key)
    assert only(credentials.certificates(good)).what == "the key is another certificate's"
    (tmp_path / "key.pem").write_text("nothing")
    assert "no key in PEM" in only(credentials.certificates(good)).what
    (tmp_path / "cert.pem").write_text("nothing")
    assert "no certificate in PEM" in only(credentials.certificates(good)).what
    assert (
        "no key" in only(credentials.certificates(certificate(tmp_path, 90).model_copy(update={"tls_key": None}))).what
    )


# Databases.


def test_the_retrainers_store_of_another_version_or_damaged(base: Settings) -> None:
    path = base.state_dir / "loop" / store.NAME
    assert list(databases.loop(base.state_dir)) == []
    store.Store(path, keep=10).close()

    def found() -> list[Finding]:
        return wrong([*databases.sqlite(path), *databases.loop(base.state_dir)])

    def mark(statement: str) -> None:
        db = sqlite3.connect(path)
        db.execute(statement)
        db.commit()
        db.close()

    assert found() == []
    mark(f"PRAGMA user_version = {store.SCHEMA + 1}")
    assert "written by a newer driftloop" in only(found()).what
    mark(f"PRAGMA user_version = {store.SCHEMA - 1}")
    assert only(found()).level == "warning"
    mark("PRAGMA application_id = 1")
    assert only(found()).what == "is not the store of a retrainer"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert "is damaged or cannot be read" in only(found()).what


def test_the_store_of_units_with_another_migration(base: Settings) -> None:
    assert list(databases.units(base)) == []
    UnitsStore(base).close()
    assert wrong(databases.units(base)) == []
    path = base.state_dir / "units" / "units.db"

    def mark(version: str) -> Finding:
        db = sqlite3.connect(path)
        db.execute("UPDATE alembic_version SET version_num = ?", (version,))
        db.commit()
        db.close()
        return only(databases.units(base))

    assert mark("0000").level == "warning"
    assert "which this driftloop does not know" in mark("9999").what
    away = base.model_copy(update={"units_database": f"postgresql+psycopg2://u@127.0.0.1:{free_port()}/units"})
    assert "cannot be asked" in only(databases.units(away)).what


# All together.


def test_the_command_says_what_to_do_and_ends_with_1_for_a_problem(
    base: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["problems"], found["warnings"]) == (0, 1)
    assert {"python", "packages", "memory", "disk", "state", "locks", "clock", "ports", "archive"} <= {
        finding["check"] for finding in found["findings"]
    }
    assert cli.main(["doctor"]) == 0
    said = "".join(capsys.readouterr().out.split())
    assert f"canbewritten{base.state_dir}" in said, "which of several is meant"
    before = sorted(path.name for path in base.state_dir.rglob("*"))
    (base.state_dir / "token").write_text("0123456789abcdef0123456789abcdef")
    (base.state_dir / "token").chmod(0o644)
    assert cli.main(["doctor", "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "-> chmod 600" in said
    assert "\nok   " not in f"\n{said}"
    (base.state_dir / "token").unlink()
    assert sorted(path.name for path in base.state_dir.rglob("*")) == before, "it changed something"
    monkeypatch.setenv("DRIFTLOOP_MAX_BATCH", "many")
    assert cli.main(["doctor", "--quiet"]) == 1
    assert "DRIFTLOOP_MAX_BATCH = 'many'" in capsys.readouterr().out


def test_files_that_are_damaged_in_any_way_end_no_other_check(
    base: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (base.state_dir / STATUS).write_text("[]")
    (base.state_dir / "access").mkdir(mode=0o700)
    (base.state_dir / "access" / "tokens.json").write_text('{"tokens": 7}')
    (base.state_dir / "access" / "tokens.json").chmod(0o600)
    with lock(base.state_dir):
        assert cli.main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    bad = {one["check"] for one in found if one["level"] == "problem"}
    assert {"credentials", "processes"} <= bad
    assert "archive" in {one["check"] for one in found}


@pytest.mark.usefixtures("base")
def test_a_fleet_file_that_is_wrong_is_a_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fleet.toml").write_text("name = 7\n")
    monkeypatch.setenv("DRIFTLOOP_FLEET", str(tmp_path / "fleet.toml"))
    assert cli.main(["doctor", "--json"]) == 1
    found = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["level"] == "problem"]
    assert [one["check"] for one in found] == ["fleet"]
