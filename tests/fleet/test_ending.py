"""Lives that ended in failure pass, and lives that were cut short are doubted."""

import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from driftloop.fleet.ending import LEAST_FAILURES, Ending, doubtful, ending, wear
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Channel, Schema
from driftloop.fleets.cmapss import files
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.fleets.cmapss.simulator import simulate

NASA, FLEETS = os.environ.get("CMAPSS_DIR"), os.environ.get("FLEETS_DIR")
needs_nasa = pytest.mark.skipif(not NASA, reason="needs NASA's files: set CMAPSS_DIR")
needs_fleets = pytest.mark.skipif(not FLEETS, reason="needs the two fleets of cells: set FLEETS_DIR")


def named(name: str, lives: Sequence[np.ndarray]) -> list[Run]:
    return [Run(f"{name}-{i}", rows) for i, rows in enumerate(lives)]


def doubted(runs: Sequence[Run], failures: Sequence[Ending], schema: Schema = SCHEMA) -> list[str]:
    found = doubtful(runs, {run.run_id: ending(run, schema) for run in runs}, failures, schema)
    return [doubt.run_id for doubt in found]


@cache
def simulated(subset: str) -> tuple[list[Run], list[Run]]:
    """Simulated engines of a subset that failed, and that had not."""
    content = simulate(subset, seed=3, engines=24)
    return named(f"train-{subset}", content.train), named(f"test-{subset}", content.test)


@pytest.mark.parametrize("archived", ["FD001", "FD004"])
@pytest.mark.parametrize("arriving", ["FD001", "FD002", "FD003", "FD004"])
def test_engines_that_failed_pass_and_a_file_of_others_is_stopped(archived: str, arriving: str) -> None:
    failures = [ending(run, SCHEMA) for run in simulated(archived)[0]]
    failed, others = simulated(arriving)
    assert doubted(failed, failures) == []
    assert len(doubted(others, failures)) > len(others) / 4


def test_one_engine_that_is_young_is_doubted_with_the_reason() -> None:
    failures = [ending(run, SCHEMA) for run in simulated("FD001")[0]]
    run = Run("young", simulated("FD001")[0][0].rows[:60])
    (doubt,) = doubtful([run], {"young": ending(run, SCHEMA)}, failures, SCHEMA)
    assert doubt.reason.startswith("no wear towards the end")
    assert "failed engines before" in doubt.reason


def test_into_an_empty_archive_many_engines_without_wear_do_not_come() -> None:
    failed, others = simulated("FD002")
    assert doubted(failed, []) == []
    assert len(doubted(others, [])) > len(others) / 5
    assert doubted(others[: LEAST_FAILURES - 1], []) == []


def test_the_same_readings_at_half_the_life_are_no_reason_to_doubt() -> None:
    failures = [ending(run, SCHEMA) for run in simulated("FD001")[0]]
    hurried = named("hurried", [run.rows[::-1][::2][::-1] for run in simulated("FD001")[0]])
    assert doubted(hurried, failures) == []


def test_a_life_of_a_few_rows_where_all_were_long_is_doubted() -> None:
    failures = [ending(run, SCHEMA) for run in simulated("FD001")[0]]
    assert doubted(named("short", [simulated("FD001")[0][0].rows[:4]]), failures) == ["short-0"]


def test_missing_values_and_constant_sensors_say_nothing_of_wear() -> None:
    schema = Schema(name="x", sensors=(Channel(name="a"), Channel(name="b"), Channel(name="c")), use_settings="none")
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.linspace(0, 30, 60) + rng.normal(size=60), np.full(60, 7.0), np.full(60, np.nan)])
    rows[5:20:2, 0] = np.nan
    found = wear(Run("r", rows), schema)
    assert found is not None
    assert 5 < found < 50
    assert wear(Run("r", rows[:3]), schema) is None


def nasas(split: str, subset: str) -> list[Run]:
    content = files.read_bytes(Path(str(NASA)) / f"{split}_{subset}.txt")
    return named(f"{split}-{subset}", [rows for _, rows in files.parse_series(content, subset)])


@needs_nasa
def test_nasas_test_files_are_stopped_and_all_train_files_pass_whatever_is_archived() -> None:
    runs = {(split, subset): nasas(split, subset) for split in files.SPLITS for subset in files.SUBSETS}
    seen = {key: {run.run_id: ending(run, SCHEMA) for run in found} for key, found in runs.items()}
    for archived in files.SUBSETS:
        failures = list(seen["train", archived].values())
        for arriving in files.SUBSETS:
            passed = doubtful(runs["train", arriving], seen["train", arriving], failures, SCHEMA)
            stopped = doubtful(runs["test", arriving], seen["test", arriving], failures, SCHEMA)
            assert passed == [], (archived, arriving)
            assert len(stopped) > 0.4 * len(runs["test", arriving]), (archived, arriving)


@needs_fleets
@pytest.mark.parametrize("name", ["lfp-fastcharge", "tongji-18650"])
def test_cells_that_failed_pass_whatever_batch_is_archived(name: str) -> None:
    with (Path(str(FLEETS)) / name / "units.csv").open() as file:
        batch = {row["unit"]: row["batch"] for row in csv.DictReader(file) if row["censored"] == "0"}
    with (Path(str(FLEETS)) / name / "runs.csv").open() as file:
        header, *rows = csv.reader(file)
    lives: dict[str, list[list[float]]] = defaultdict(list)
    for unit, _, *cells in rows:
        if unit in batch:
            lives[unit].append([float(cell) if cell else np.nan for cell in cells])
    names = [Channel(name=column) for column in header[2:]]
    schema = Schema(name="cells", settings=tuple(names[:3]), sensors=tuple(names[3:]), use_settings="regimes")
    runs = {unit: Run(unit, np.array(life)) for unit, life in lives.items()}
    seen = {unit: ending(run, schema) for unit, run in runs.items()}
    for archived in set(batch.values()):
        failures = [seen[unit] for unit in runs if batch[unit] == archived]
        assert doubtful(list(runs.values()), seen, failures, schema) == [], archived
