"""Parts of a fleet: by a table of units, or by files; and what the archive's roles make of them."""

from pathlib import Path

import numpy as np
import pytest

from driftloop import settings
from driftloop.errors import DataError
from driftloop.fleet.runs import Run
from driftloop.settings import Settings
from driftloop_bench.experiment.source import Source, completed, needed, part
from driftloop_bench.experiment.traffic import encode

FLEET = """
name = "pumps"
unit = "pump"
unit_column = "pump"
sensors = ["pressure", "flow"]
[time]
column = "hour"
[censored]
units = ["p3"]
[least]
live = 2
"""


@pytest.fixture
def pumps(tmp_path: Path) -> Settings:
    """Four pumps in one file: three that are old, of which one was taken out, and a new one."""
    (tmp_path / "fleet.toml").write_text(FLEET)
    rows = [f"p{unit},{hour},{hour * 0.5},{unit}" for unit in range(1, 5) for hour in range(1, 6)]
    (tmp_path / "runs.csv").write_text("pump,hour,pressure,flow\n" + "\n".join(rows) + "\n")
    (tmp_path / "units.csv").write_text("pump,hall\np1,old\np2,old\np3,old\np4,new\n")
    return settings.load(fleet=str(tmp_path / "fleet.toml"), state_dir=tmp_path / "state")


def test_a_part_is_the_failed_units_of_its_groups(pumps: Settings, tmp_path: Path) -> None:
    source = Source((tmp_path / "runs.csv",), f"{tmp_path}/units.csv:hall")
    assert [run.run_id for run in part("old", source, pumps).runs] == ["p1", "p2"]
    assert [run.run_id for run in part("old, new", source, pumps).runs] == ["p1", "p2", "p4"]
    assert part("new", source, pumps).data_source == "measured"
    assert [run.run_id for run in part("old", source, pumps).taken_out] == ["p3"]


def test_without_groups_a_part_is_a_file(pumps: Settings, tmp_path: Path) -> None:
    assert len(part(str(tmp_path / "runs.csv"), Source(), pumps).runs) == 3


@pytest.mark.parametrize(
    ("name", "groups", "said"),
    [
        ("young", "units.csv:hall", "there is no group 'young'"),
        ("old", "units.csv:floor", "has no columns 'pump' and 'floor'"),
        ("FD001", "", "there is no such file"),
    ],
)
def test_a_part_that_is_not_there_is_refused(
    pumps: Settings, tmp_path: Path, name: str, groups: str, said: str
) -> None:
    source = Source((tmp_path / "runs.csv",), f"{tmp_path}/{groups}" if groups else "")
    with pytest.raises(DataError, match=said):
        part(name, source, pumps)


def test_live_units_are_archived_only_where_a_retraining_needs_them(pumps: Settings) -> None:
    runs = [Run("a", np.ones((3, 2)), dealt="live"), Run("b", np.ones((3, 2)), dealt="train")]
    assert [run.run_id for run in completed(runs, pumps.schema)] == ["a", "b"]
    assert [run.run_id for run in completed(runs, settings.load(fleet="cmapss").schema)] == ["b"]
    assert needed(settings.load(fleet="cmapss").schema)["live"] == 1


def test_a_missing_reading_is_sent_as_null_and_labels_have_the_cap_of_the_fleet() -> None:
    sent = encode(Run("a", np.array([[1.0, np.nan], [2.0, 3.0]])), cap=0.5)
    assert sent.encoded == [b"[1,null]", b"[2,3]"]
    assert np.isnan(sent.rows[0, 1])
    assert list(sent.rul) == [0.5, 0.0]
