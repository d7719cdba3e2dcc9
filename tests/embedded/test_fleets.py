"""Several fleets in one state folder: who gets which place, and which one a command is meant for."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from driftloop import cli, places, settings
from driftloop.embedded import fleets
from driftloop.embedded.components import components
from driftloop.errors import DriftloopError
from driftloop.places import Places
from driftloop.settings import Settings
from ports import free_ports


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own, on ports that nobody uses."""
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def a_fleet(tmp_path: Path, name: str, file: str = "") -> str:
    """The path of a small fleet file."""
    path = tmp_path / (file or f"{name}.toml")
    path.write_text(f'name = "{name}"\n[[sensors]]\nname = "pressure"\n')
    return str(path)


def start(wanted: list[str]) -> dict[str, Settings]:
    """What `up` does before it starts anything."""
    base = settings.from_environment()
    found = fleets.assign(base, wanted, places.read(base.state_dir))
    places.write(base.state_dir, found)
    return fleets.running(base, found)


def test_the_only_fleet_has_the_state_folder_and_the_usual_ports(state: Path) -> None:
    running = start(["cmapss"])
    assert running["cmapss"].state_dir == state
    assert running["cmapss"].server_url == Settings().server_url
    assert settings.load() == running["cmapss"]


def test_two_fleets_share_mlflow_and_the_token_and_nothing_else(tmp_path: Path, state: Path) -> None:
    (state / "token").write_text("a-token-of-sixteen-characters\n")
    one, two = start([a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "filters")]).values()
    assert one.mlflow_url == two.mlflow_url
    assert one.token == two.token == "a-token-of-sixteen-characters"
    assert (one.model, two.model) == ("rul-pumps", "rul-filters")
    for field in ("state_dir", "archive_location", "server_url", "retrainer_url"):
        assert getattr(one, field) != getattr(two, field), field
    assert not any(a.is_relative_to(b) for a, b in ((one.state_dir, two.state_dir), (two.state_dir, one.state_dir)))


def test_no_process_of_one_fleet_is_told_a_place_of_another(tmp_path: Path, state: Path) -> None:
    running = start([a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "filters")])
    found = components(running, state)
    assert [one.name for one in found] == [
        "console", "mlflow", "pumps/server", "pumps/retrainer", "pumps/watch", "pumps/units", "filters/server",
        "filters/retrainer", "filters/watch", "filters/units",
    ]  # fmt: skip
    for one in found[2:]:
        other = next(other for name, other in running.items() if name != one.fleet)
        told = [*one.command, *one.environment.values()]
        own = (other.fleet, other.server_url, other.retrainer_url, other.model, str(other.state_dir))
        assert not [text for text in told for foreign in own if foreign in text]
        assert not [text for text in told if text in map(str, map(_port, (other.server_url, other.retrainer_url)))]


def test_a_fleet_keeps_its_place_and_ports_are_given_out_once(tmp_path: Path) -> None:
    pumps, filters, drives = (a_fleet(tmp_path, name) for name in ("pumps", "filters", "drives"))
    before = start([pumps, filters])
    after = start([drives, filters, pumps])
    assert {name: after[name] for name in before} == before
    ports = [_port(url) for one in after.values() for url in (one.server_url, one.retrainer_url)]
    assert len(set(ports)) == 6
    assert start([filters])["filters"].server_url == before["filters"].server_url


def test_the_first_fleet_keeps_the_state_folder_when_others_come(tmp_path: Path, state: Path) -> None:
    first = start(["cmapss"])["cmapss"]
    running = start(["cmapss", a_fleet(tmp_path, "pumps")])
    assert running["cmapss"].state_dir == first.state_dir == state
    assert running["pumps"].state_dir == state / "fleets" / "pumps"


def test_state_from_before_there_were_several_fleets_stays_that_of_cmapss(tmp_path: Path, state: Path) -> None:
    (state / "archive").mkdir()
    assert start([a_fleet(tmp_path, "pumps")])["pumps"].state_dir == state / "fleets" / "pumps"
    assert start(["cmapss"])["cmapss"].state_dir == state


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DriftloopError, match=r"two fleets are called 'pumps'.*change `name`"):
        start([a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "pumps", "others.toml")])


def test_one_model_name_for_several_fleets_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_MODEL_NAME", "ours")
    with pytest.raises(DriftloopError, match=r"DRIFTLOOP_MODEL_NAME = ours: 2 fleets cannot share"):
        start(["cmapss", a_fleet(tmp_path, "pumps")])


@pytest.mark.parametrize(
    ("location", "other"), [("s3://bucket/runs", "s3://bucket/runs-pumps"), ("/srv/runs/", "/srv/runs-pumps")]
)
def test_the_archive_of_a_further_fleet_is_beside_the_first_and_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, other: str
) -> None:
    monkeypatch.setenv("DRIFTLOOP_ARCHIVE", location)
    start(["cmapss"])
    running = start(["cmapss", a_fleet(tmp_path, "pumps")])
    assert (running["cmapss"].archive, running["pumps"].archive) == (location, other)


def test_a_whole_bucket_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLOOP_ARCHIVE", "s3://bucket")
    with pytest.raises(DriftloopError, match="a whole bucket"):
        start([a_fleet(tmp_path, "filters"), a_fleet(tmp_path, "pumps")])


def test_a_command_names_its_fleet_where_several_run_and_needs_not_where_one_does(tmp_path: Path) -> None:
    pumps, filters = a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "filters")
    running = start([pumps, filters])
    with pytest.raises(DriftloopError, match=r"several fleets share this platform: pumps, filters \(name one"):
        settings.load()
    assert start([filters])["filters"] == settings.load() == running["filters"]


def test_the_option_means_a_fleet_by_its_name_or_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = start([a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "filters")])
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["--fleet", "filters", "status", "--json"],
        ["status", "--json", "--fleet=filters"],
        ["status", "--fleet", "filters.toml", "--json"],
    ):
        assert cli.main(arguments) == 1
        assert list(json.loads(capsys.readouterr().out)["fleets"]) == ["filters"]
    monkeypatch.setenv("DRIFTLOOP_FLEET", "filters")
    assert settings.load() == running["filters"]


def test_a_folder_of_data_that_is_called_like_a_fleet_is_not_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start([a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "filters")])
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters" / "runs.csv").write_text("unit,cycle\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIFTLOOP_FLEET", "filters")
    assert settings.load() == running["filters"]


def test_the_status_of_several_fleets_shows_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start([a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "filters")])
    assert cli.main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "pumps: server does not answer" in shown
    assert "filters: server does not answer" in shown


@pytest.mark.parametrize("arguments", [["events"], ["retrain"], ["archive", "list"], ["drift", "check"], ["train"]])
def test_commands_refuse_with_the_list_where_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    start([a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "filters")])
    assert cli.main(arguments) == 2
    assert "several fleets share this platform: pumps, filters" in capsys.readouterr().err
    assert cli.main(["--fleet", "drives", *arguments]) == 2
    assert "there is no fleet 'drives' on this platform, but filters, pumps" in capsys.readouterr().err


def test_a_fleet_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--fleet", "a", "--fleet", "b"]) == 2
    assert "takes one fleet" in capsys.readouterr().err


def test_a_damaged_file_of_places_is_named(state: Path) -> None:
    (state / places.FILE).write_bytes(b'{"up": ["\xe9"]}')
    with pytest.raises(DriftloopError, match=r"fleets\.json.*delete it"):
        settings.load()
    (state / places.FILE).write_text('{"mlflow_url": "", "up": ["pumps"], "fleets": {}}')
    with pytest.raises(DriftloopError, match="has no place for pumps"):
        settings.load()


def test_a_state_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DriftloopError, match=r"the state folder is no folder.*DRIFTLOOP_STATE_DIR"):
        settings.load(state_dir=tmp_path / "file")


def test_processes_of_a_fleet_read_their_own_place(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / "token").write_text("a-token-of-sixteen-characters\n")
    start(["cmapss"])
    running = start(["cmapss", a_fleet(tmp_path, "pumps")])
    for one in components(running, state)[2:]:
        with monkeypatch.context() as inside:
            for name, value in one.environment.items():
                inside.setenv(name, value)
            read, meant = settings.load(), running[one.fleet]
        for field in (
            "fleet",
            "state_dir",
            "server_url",
            "retrainer_url",
            "mlflow_url",
            "model",
            "archive_location",
            "token",
        ):
            assert str(getattr(read, field)) == str(getattr(meant, field)), (one.name, field)


def test_places_know_a_fleet_by_the_folder_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "pumps").mkdir()
    file = a_fleet(tmp_path / "pumps", "pumps", "fleet.toml")
    start([file])
    known = places.read(settings.from_environment().state_dir)
    assert isinstance(known, Places)
    assert places.choose(known, str(tmp_path / "pumps")) == "pumps"


def _port(url: str) -> int:
    return urlsplit(url).port or 0


def test_a_taken_port_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    first = free_ports(1)[0]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", first))
        holder.listen()
        monkeypatch.setenv("DRIFTLOOP_SERVER_URL", f"http://127.0.0.1:{first}")
        running = start([a_fleet(tmp_path, "pumps"), a_fleet(tmp_path, "filters")])
    assert first not in {_port(one.server_url) for one in running.values()}
