import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from driftloop.errors import DataError, DriftloopError
from driftloop.fleet.archive import RunConflict, open_archive
from driftloop.fleet.commands import archive_app
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss import files
from driftloop.fleets.cmapss.commands import data_app
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.protocol import archive_client
from driftloop.settings import Settings

pytestmark = pytest.mark.usefixtures("bare")

TOKEN = "a-token-of-sixteen-or-more"


class Retrainer:
    """Stands in for the retrainer's archive endpoints; `failures` answers come before the first good one."""

    def __init__(self, folder: Path) -> None:
        self.archive = open_archive(folder, SCHEMA)
        self.calls: list[int] = []
        self.failures: list[tuple[int, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.calls.append(len(body))
                if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    self._answer(401, {"detail": "token"})
                elif outer.failures:
                    self._answer(*outer.failures.pop(0))
                elif json.loads(body).get("only_check"):
                    self._answer(200, {"added": [], "known": []})
                else:
                    runs = [Run(run["run_id"], np.array(run["rows"])) for run in json.loads(body)["runs"]]
                    new = outer.archive.add_all(runs)
                    names: dict[bool, list[str]] = {True: [], False: []}
                    for run, is_new in zip(runs, new, strict=True):
                        names[is_new].append(run.run_id)
                    self._answer(200, {"added": names[True], "known": names[False]})

            def do_GET(self) -> None:
                runs = [{"run_id": i, "role": Run(i, np.zeros((2, 24))).role} for i in outer.archive.run_ids()]
                self._answer(200, {"runs": runs})

            def _answer(self, status: int, content: object) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def retrainer(bare: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Retrainer]:
    made = Retrainer(Path(bare.archive_location))
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("DRIFTLOOP_RETRAINER_URL", made.url)
    monkeypatch.setenv("DRIFTLOOP_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setattr(archive_client, "_FIRST_PAUSE_S", 0.0)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def call(app: Any, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.mark.usefixtures("retrainer")
def test_simulated_files_can_be_written_and_archived(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet"
    assert "SIMULATED" in call(data_app, "simulate", "--out", str(fleet), "--engines", "2").stdout
    paths = [str(fleet / f"train_{subset}.txt") for subset in files.SUBSETS]
    first = json.loads(call(archive_app, "add", *paths, "--json").stdout)
    again = json.loads(call(archive_app, "add", *paths, "--json").stdout)
    assert (len(first["added"]), first["known"]) == (8, [])
    assert (again["added"], sorted(again["known"])) == ([], sorted(first["added"]))
    listed = json.loads(call(archive_app, "list", "--json").stdout)
    assert (listed["count"], sum(listed["roles"].values())) == (8, 8)
    direct = json.loads(call(archive_app, "list", "--location", "state/archive", "--json").stdout)
    assert direct == listed
    assert "8 archived runs" in call(archive_app, "list").stdout.replace("\n", " ")


def test_a_folder_with_files_is_not_simulated_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train_FD001.txt").write_text("precious")
    with pytest.raises(DataError, match="is not empty"):
        call(data_app, "simulate", "--out", str(tmp_path / "out"))


def test_no_run_is_sent_when_one_file_is_damaged(retrainer: Retrainer, fleet_folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("1 1 2 3\n")
    with pytest.raises(DataError, match=r"bad\.txt:1"):
        call(archive_app, "add", str(fleet_folder / "train_FD001.txt"), str(bad))
    assert retrainer.calls == []


def test_runs_are_sent_in_batches_with_progress(retrainer: Retrainer) -> None:
    rows = np.random.default_rng(0).normal(size=(400, 24))
    runs = [Run(f"eng-{i:02}", rows + i) for i in range(30)]
    seen: list[tuple[int, int]] = []
    posted = archive_client.post_runs(runs, retrainer.url, TOKEN, lambda done, total: seen.append((done, total)))
    assert posted.added == [run.run_id for run in runs]
    assert len(retrainer.calls) > 1
    assert max(retrainer.calls) <= 2 * 2**20 + 100
    assert seen[-1] == (30, 30)
    assert [run.sha256 for run in retrainer.archive.read_all()] == [run.sha256 for run in runs]


def test_a_call_that_failed_is_repeated(retrainer: Retrainer) -> None:
    retrainer.failures = [(503, {"detail": "starting"}), (500, {"detail": "no"})]
    assert archive_client.post_runs([Run("a", np.ones((2, 24)))], retrainer.url, TOKEN).added == ["a"]


def test_refusals_are_errors_for_people(retrainer: Retrainer) -> None:
    runs = [Run("a", np.ones((2, 24)))]
    retrainer.failures = [(409, {"detail": "run a: is known with other rows"})]
    with pytest.raises(RunConflict, match="run a: is known"):
        archive_client.post_runs(runs, retrainer.url, TOKEN)
    retrainer.failures = [(422, {"detail": [{"field": "runs[0].rows", "message": "too short"}]})]
    with pytest.raises(DataError, match=r"runs\[0\]\.rows: too short"):
        archive_client.post_runs(runs, retrainer.url, TOKEN)
    retrainer.failures = [(413, "too large")]
    with pytest.raises(DataError, match="413"):
        archive_client.post_runs(runs, retrainer.url, TOKEN)
    with pytest.raises(DriftloopError, match="DRIFTLOOP_TOKEN_FILE"):
        archive_client.post_runs(runs, retrainer.url, "wrong")
    retrainer.failures = [(200, {"added": [], "known": []})]
    with pytest.raises(DriftloopError, match="acknowledged fewer"):
        archive_client.post_runs(runs, retrainer.url, TOKEN)


def test_a_retrainer_that_is_down_is_an_error_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_client, "_FIRST_PAUSE_S", 0.0)
    with pytest.raises(DriftloopError, match=r"no usable answer.*driftloop up"):
        archive_client.archived_runs("http://127.0.0.1:9")


def test_info_describes_the_simulated_fleet_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_SIMULATOR_ENGINES", "3")
    shown = json.loads(call(data_app, "info", "--json").stdout)
    assert shown["data_source"] == "simulated"
    assert [entry["regimes"] for entry in shown["subsets"]] == [1, 6, 1, 6]
    assert [entry["train_engines"] for entry in shown["subsets"]] == [3, 3, 3, 3]
    result = call(data_app, "info")
    assert "SIMULATED DATA" in result.stderr
    assert "FD004" in result.stdout


def test_verify_without_files_says_how_to_get_them() -> None:
    with pytest.raises(DataError, match="driftloop data pull"):
        call(data_app, "verify")


def test_pull_offline_says_what_else_can_be_done(bare: Settings) -> None:
    with pytest.raises(DataError, match="CMAPSS_DIR"):
        call(data_app, "pull", "--url", "http://127.0.0.1:9/x.zip")
    assert not bare.raw_dir.exists()


def test_nasas_files_are_pulled_from_a_zip_verified_and_described(nasa: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "CMAPSSData"), "zip", nasa)
    assert "now holds NASA's 13 files" in call(data_app, "pull", "--url", packed).stdout.replace("\n", " ")
    assert "nothing was downloaded" in call(data_app, "pull").stdout.replace("\n", " ")
    assert json.loads(call(data_app, "verify", "--json").stdout)["files"] == files.SHA256
    shown = json.loads(call(data_app, "info", "--json").stdout)
    assert shown["data_source"] == "nasa"
    assert [(e["train_engines"], e["test_engines"]) for e in shown["subsets"]] == list(files.ENGINES.values())
    assert [entry["regimes"] for entry in shown["subsets"]] == [1, 6, 1, 6]
