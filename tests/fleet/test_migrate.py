"""Archives of fleets whose columns have changed, by the command and by the functions behind it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftloop import cli, places
from driftloop.errors import FleetError
from driftloop.fleet.archive import open_archive
from driftloop.fleet.fleet_writer import toml_text
from driftloop.fleet.migrate import change
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Channel, End, Schema, Time


def fleet(*sensors: str, **changes: object) -> Schema:
    given: dict[str, Any] = {
        "name": "pumps",
        "unit": "pump",
        "settings": (Channel(name="load"),),
        "sensors": tuple(Channel(name=name) for name in sensors),
        "use_settings": "continuous",
        "cap": 40,
    }
    return Schema(**(given | changes))


OLD, NEW = fleet("flow", "heat", name="pumps-before"), fleet("noise", "flow")


@pytest.fixture
def archived(tmp_path: Path) -> Path:
    """Six pumps of the old fleet: one was taken out, one was withdrawn, and roles were dealt."""
    archive = open_archive(tmp_path / "old", OLD)
    rng = np.random.default_rng(0)
    archive.add_all([Run(f"p{at}", rng.normal(size=(20 + at, 3)), censored=at == 4) for at in range(6)])
    archive.deal([f"p{at}" for at in range(6)], least={"train": 3, "gate": 2, "calibrate": 1}, always=True)
    archive.withdraw(["p5"], "another pump")
    return tmp_path / "old"


def migrated(archived: Path, capsys: pytest.CaptureFixture[str], new: Schema = NEW) -> tuple[int, str, str, Path]:
    folder = archived.parent
    (folder / "old.toml").write_text(toml_text(OLD))
    (folder / "new.toml").write_text(toml_text(new))
    files = [str(folder / name) for name in ("old.toml", "new.toml")]
    code = cli.main(["fleet", "migrate", *files, "--from", str(archived), "--to", str(folder / "new"), "--json"])
    said = capsys.readouterr()
    return code, said.out, said.err, folder / "new"


def test_runs_lose_what_went_read_nothing_of_what_came_and_keep_the_rest(
    archived: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _, place = migrated(archived, capsys)
    assert code == 0
    assert json.loads(out) == {"runs": 5, "added": 5, "gone": ["heat"], "came": ["noise"]}
    before, after = open_archive(archived, OLD), open_archive(place, NEW)
    assert after.run_ids() == ["p0", "p1", "p2", "p3", "p4"]
    assert after.failed_ids() == ["p0", "p1", "p2", "p3"]
    assert after.roles_of(after.run_ids()) == before.roles_of(after.run_ids())
    for old, new in zip(before.read_all(), after.read_all(), strict=True):
        assert np.isnan(new.rows[:, 1]).all()
        assert np.array_equal(new.rows[:, [0, 2]], old.rows[:, [0, 1]])
    assert len(before.run_ids()) == 5
    assert json.loads(migrated(archived, capsys)[1])["added"] == 0


def test_the_platform_knows_where_both_archives_are(
    archived: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = archived.parent / "state"
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(state))
    files = [str(archived.parent / name) for name in ("a.toml", "b.toml")]
    for file, schema in zip(files, (OLD, NEW), strict=True):
        Path(file).write_text(toml_text(schema))
    assert cli.main(["fleet", "migrate", *files]) == 2
    assert (
        f"fleet pumps: no platform has it (start it once with driftloop up --fleet {files[1]}"
        in capsys.readouterr().err
    )
    urls = {"server_url": "http://127.0.0.1:1", "retrainer_url": "http://127.0.0.1:2"}
    found = {
        "pumps-before": places.Place(fleet=files[0], folder=".", **urls),
        "pumps": places.Place(fleet=files[1], folder="fleets/pumps", **urls),
    }
    places.write(state, places.Places(mlflow_url="http://127.0.0.1:3", up=("pumps",), fleets=found))
    shutil.copytree(archived, state / "archive")
    assert cli.main(["fleet", "migrate", *files]) == 0
    out = capsys.readouterr().out
    assert "5 of 5 runs written to " in out
    assert ", without heat, with noise.\nThen: driftloop train --promote --fleet pumps\n" in out
    assert open_archive(state / "fleets" / "pumps" / "archive", NEW).run_ids() == ["p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (
            fleet("flow", time=Time(column="at", kind="seconds", every="10s")),
            "its steps of time are others than before",
        ),
        (fleet("flow", end=End(rule="threshold", sensor="flow", below=0.1)), "its units end otherwise than before"),
        (fleet("flow", settings=(Channel(name="speed"),)), "nobody knows the setting speed of the runs from before"),
        (fleet("flow", name="pumps-before"), "it has the name of the one before"),
        (fleet("noise"), "it has no sensor of before"),
        (
            fleet("flow", sensors=(Channel(name="flow"), Channel(name="x", missing="refuse"))),
            "the runs from before have",
        ),
    ],
)
def test_what_would_change_the_runs_themselves_is_refused(new: Schema, words: str) -> None:
    with pytest.raises(FleetError, match=words) as caught:
        change(OLD, new)
    assert caught.value.remedy


def test_a_setting_may_become_a_sensor_and_a_cap_may_change() -> None:
    found = change(OLD, fleet("load", "heat", "flow", settings=(), use_settings="none", cap=60))
    assert (found.gone, found.came, found.order) == ((), (), (0, 2, 1))
