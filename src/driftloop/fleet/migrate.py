"""The archive of a fleet whose columns have changed, made anew for its new fleet file: nothing that was learnt from is
lost.

A column that went is left out of every run. A sensor that came reads nothing in the runs from before, as if it had been
missing; so it must be one whose missing values are held. Units keep their ids, roles and ends. What else makes another
fleet (steps of time, how a unit ends, a setting that came) would change the runs themselves: these are refused.
"""

from dataclasses import dataclass

import numpy as np

from driftloop.errors import DataError, FleetError
from driftloop.fleet.archive import Archive
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema

_BATCH = 100
"""Runs that are read and written together."""


@dataclass(frozen=True)
class Change:
    """What is another in the new fleet's rows."""

    gone: tuple[str, ...]
    came: tuple[str, ...]
    order: tuple[int | None, ...]
    """For each column of the new fleet, where it was before; None for a sensor that came."""

    def of(self, run: Run) -> Run:
        """The run as one of the new fleet."""
        nothing = np.full(len(run.rows), np.nan)
        columns = [nothing if at is None else run.rows[:, at] for at in self.order]
        return Run(run.run_id, np.column_stack(columns), censored=run.censored, dealt=run.dealt)


def change(old: Schema, new: Schema) -> Change:
    """What is another in `new`; raises FleetError, naming the key, where no run of `old` can become one of it."""
    where = f"fleet {new.name}"
    if old.name == new.name:
        remedy = f'write another, such as name = "{new.name[:38]}-2": versions of one model are of one fleet'
        raise FleetError("it has the name of the one before", where=where, remedy=remedy, key=("name",))
    if _steps(old) != _steps(new):
        remedy = "keep the steps of the archived runs, or add the data again as another fleet"
        raise FleetError("its steps of time are others than before", where=where, remedy=remedy, key=("time",))
    if _ends(old) != _ends(new):
        remedy = "keep the end of the archived runs, or add the data again as another fleet"
        raise FleetError("its units end otherwise than before", where=where, remedy=remedy, key=("end",))
    unknown = [name for name in new.setting_names if name not in old.columns]
    if unknown:
        what = f"nobody knows the setting {unknown[0]} of the runs from before"
        raise FleetError(what, where=where, remedy="name it among the sensors", key=("settings",))
    before = {channel.name: channel.words for channel in old.channels}
    for channel in new.channels:
        words = before.get(channel.name, channel.words)
        if words != channel.words[: len(words)] or bool(words) != bool(channel.words):
            what = f"{channel.name} has other values than before"
            remedy = "keep them in their order, and add new ones behind them"
            raise FleetError(what, where=where, remedy=remedy, key=("settings", channel.name, "values"))
    came = [channel for channel in new.sensors if channel.name not in old.columns]
    for channel in came:
        if channel.missing != "hold":
            what = f"the runs from before have no {channel.name}, whose missing values are refused"
            raise FleetError(what, where=where, remedy=f'write missing = "hold" for {channel.name}', key=("sensors",))
    if len(came) == new.n_sensors:
        raise FleetError("it has no sensor of before", where=where, remedy="add its data as another fleet")
    return Change(
        gone=tuple(name for name in old.columns if name not in new.columns),
        came=tuple(channel.name for channel in came),
        order=tuple(old.columns.index(name) if name in old.columns else None for name in new.columns),
    )


def migrate(old: Archive, new: Archive) -> int:
    """Put the runs of the archive `old`, but for withdrawn ones, into `new` as its fleet's; how many were not there.

    It can be done again: what is there already stays. Raises FleetError where the fleets differ in more than columns,
    and DataError where a run cannot become one of the new fleet.
    """
    changed = change(old.schema, new.schema)
    ids = old.run_ids()
    if not ids:
        raise DataError("has no runs", where="the archive from before", remedy="name the folder that holds its runs")
    new.adopt(old.roles())
    added = 0
    for first in range(0, len(ids), _BATCH):
        added += sum(new.add_all([changed.of(run) for run in old.read_all(ids[first : first + _BATCH])]))
    return added


def _steps(schema: Schema) -> tuple[object, ...]:
    return schema.time.kind, schema.time.width, schema.time.between


def _ends(schema: Schema) -> tuple[object, ...]:
    end = schema.end
    return end.rule, end.column, end.value, end.sensor, end.below, end.above, end.needed
