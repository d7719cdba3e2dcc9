"""What the first pipeline step hands to the others: the runs of a retraining and its plan, as two files."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from driftloop import durable
from driftloop.errors import DataError, JsonError
from driftloop.fleet import roles
from driftloop.fleet.runs import Run
from driftloop.loop.judge.plan import Plan, StuckSensor
from driftloop.model.bundle import ManifestEntry

_PLAN, _ROWS = "plan.json", "rows.npz"


class _Stored(msgspec.Struct):
    old: list[str]
    new: list[str]
    manifest: list[ManifestEntry]
    excluded: list[StuckSensor]
    missing: list[str]
    superseded: list[str]
    censored: list[str] = []


def write(plan: Plan, folder: Path) -> None:
    """Write the plan and its runs' rows below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = _Stored(
        [run.run_id for run in plan.old],
        [run.run_id for run in plan.new],
        plan.manifest,
        plan.excluded,
        plan.missing,
        [run.run_id for run in plan.superseded],
        [run.run_id for run in plan.superseded if run.censored],
    )
    rows: dict[str, Any] = {run.run_id: run.rows for run in [*plan.old, *plan.new, *plan.superseded]}
    with (folder / _ROWS).open("wb") as file:
        np.savez(file, **rows)
    durable.write_json(folder / _PLAN, msgspec.to_builtins(stored))


def read(folder: Path) -> Plan:
    """Read them back; raises DataError where a run is not what the manifest says."""
    try:
        stored = durable.read_json(folder / _PLAN, _Stored)
        rows = durable.read_arrays(folder / _ROWS)
        names, censored = [*stored.old, *stored.new, *stored.superseded], set(stored.censored)
        runs = {run_id: Run(run_id, rows[run_id], censored=run_id in censored) for run_id in names}
    except (OSError, ValueError, KeyError, DataError, JsonError) as error:
        raise DataError(f"the data of a retraining cannot be read: {error}", where=str(folder)) from error
    for entry in stored.manifest:
        if entry.run_id not in runs or runs[entry.run_id].sha256 != entry.sha256:
            raise DataError(f"run {entry.run_id} is damaged", where=str(folder))
    by_id = {run.run_id: run for run in roles.assign(runs.values(), {e.run_id: e.role for e in stored.manifest})}
    return Plan(
        [by_id[run_id] for run_id in stored.old],
        [by_id[run_id] for run_id in stored.new],
        stored.manifest,
        stored.excluded,
        stored.missing,
        [by_id[run_id] for run_id in stored.superseded],
    )
