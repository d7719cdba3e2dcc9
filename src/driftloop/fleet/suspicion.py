"""What is suspicious about data that can be used: readings that no sensor makes, and units that may not have failed."""

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet import wear
from driftloop.fleet.findings import Findings
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Channel, Schema
from driftloop.fleet.tables import Reading, Unit

_EQUAL = 1000
"""Equal readings in a row that are worth a word, whatever the unit's life."""
_STUCK, _USUAL = 0.3, 0.05
"""Share of its life for which a sensor stood still that in most units never does for longer than the other share."""
_DISTINCT = 20
"""A sensor with fewer distinct readings is quantised and may well stay at one."""
_LINEAR = 0.9995
"""Correlation with the label from which on a column is the label."""
_CLASSES = 4
"""Changes that a column of classes of the label has at most."""
_ALIKE = 5
"""Units from which on it is no chance that all lives are equally long."""
_SHORT = 0.2
"""Share of the median life below which a life is far shorter than others."""
_FAR = 3
"""A reading this many ranges of all others away from them is a word for missing."""
_FEW_READINGS, _FURTHER = 5, 30
"""Of fewer distinct ones, such as the currents of a cycler's steps, it must be further away."""


def look(reading: Reading, schema: Schema) -> None:
    """Add to a reading's findings what is suspicious about its units and columns."""
    units = reading.units
    if not units:
        return
    findings = reading.findings
    _columns(units, schema, findings)
    _names(units, schema, findings)
    failed = [unit for unit in units if not unit.run.censored]
    _roles(failed, schema, findings)
    _lives(failed, schema, findings)


def _columns(units: Sequence[Unit], schema: Schema, findings: Findings) -> None:
    runs = [unit.run for unit in units]
    rows = np.concatenate([run.rows for run in runs])
    constant = []
    for at, channel in enumerate(schema.channels):
        values = rows[:, at]
        there = values[np.isfinite(values)]
        if not len(there):
            continue
        if there.min() == there.max():
            constant.append(channel.name)
            continue
        kind = "setting" if at < schema.n_settings else "sensor"
        where = f"{kind} {channel.name}"
        _beyond(there, channel, where, findings)
        for edge, count in markers(there):
            what = f"{count} readings are exactly {edge:g}, far from all others: this may be a word for missing"
            remedy = f"write missing_values = [{edge:g}] in the fleet file"
            findings.add("warning", where, what, remedy, kind=("marker", edge))
        if at >= schema.n_settings:
            if len(np.unique(there)) > _DISTINCT:
                _still(units, at, where, schema, findings)
            said = leak([run.rows[:, at] for run in runs if not run.censored])
            if said is not None:
                findings.add("warning", where, f"{said}: it gives the label away", "leave it out of sensors")
    if constant:
        what = f"{', '.join(constant)} never change in these data"
        findings.add("note", "columns", what, "leave out what is constant in all units to come")


def leak(columns: Sequence[NDArray[np.float64]]) -> str | None:
    """How a column, given for each failed unit, tells what is left of a life; None where it does not.

    It follows the steps left, or their share of the life, up to a cap; it is the whole life; it changes at the end.
    """
    columns = [column for column in columns if len(column) > 2 and np.isfinite(column).all()]
    lives = np.array([len(column) for column in columns], dtype=np.float64)
    if len(columns) < 3 or len(set(lives.tolist())) < 3:
        return None
    if all(column.min() == column.max() for column in columns):
        whole = np.array([column[0] for column in columns])
        return "is as long as the whole life" if _same_line(whole, lives) else None
    left = np.concatenate([np.arange(life - 1, -1, -1) for life in lives])
    share = left / np.repeat(lives, lives.astype(int))
    every = np.concatenate(columns)
    free = (every != every.max()) & (every != every.min())
    for label, said in ((left, "follows the steps that are left"), (share, "follows the share of life that is left")):
        if free.sum() > 0.1 * len(every) and _same_line(every[free], label[free]):
            return said
    changes = [np.flatnonzero(np.diff(column)) for column in columns]
    at_end = sum(
        len(found) == 1 and found[0] >= len(column) - 3 for found, column in zip(changes, columns, strict=True)
    )
    if at_end >= 0.9 * len(columns):
        return "changes at the end alone"
    # Classes of the label: they change so many steps before the end in every unit.
    ahead = [tuple(len(column) - 1 - found) for found, column in zip(changes, columns, strict=True)]
    usual = max(ahead, key=ahead.count)
    same = 0 < len(usual) <= _CLASSES and ahead.count(usual) >= 0.9 * len(columns)
    return f"changes {' and '.join(map(str, usual))} steps before the end in all units" if same else None


def _same_line(values: NDArray[np.float64], label: NDArray[np.float64]) -> bool:
    if len(values) < 3 or values.min() == values.max() or label.min() == label.max():
        return False
    return bool(abs(np.corrcoef(values, label)[0, 1]) > _LINEAR)


def _beyond(values: NDArray[np.float64], channel: Channel, where: str, findings: Findings) -> None:
    if channel.range is not None:
        low, high = channel.range
        beyond = values[(values < low) | (values > high)]
        if len(beyond):
            what = f"{len(beyond)} readings are beyond [{low:g}, {high:g}], such as {beyond[0]:g}"
            findings.add("warning", where, what, "correct the range, or look at the sensor")


def markers(values: NDArray[np.float64]) -> list[tuple[float, int]]:
    """Lowest and highest reading, and how often, where one comes again and again, far away from all others."""
    found = []
    for edge in (float(values.min()), float(values.max())):
        others = values[values != edge]
        count = len(values) - len(others)
        spread = float(np.ptp(others)) if len(others) else 0.0
        ranges = _FAR if len(np.unique(others)) >= _FEW_READINGS else _FURTHER
        if count >= 3 and spread > 0 and np.abs(others - edge).min() > ranges * spread:
            found.append((edge, count))
    return found


def _still(units: Sequence[Unit], at: int, where: str, schema: Schema, findings: Findings) -> None:
    longest = np.array([_longest_run(unit.run.rows[:, at]) for unit in units])
    share = longest / np.array([len(unit.run.rows) for unit in units])
    usually = float(np.median(share))
    found = np.flatnonzero((longest >= _EQUAL) | ((share >= _STUCK) & (longest >= 30) & (usually <= _USUAL)))
    if len(found):
        unit = units[int(found[np.argmax(longest[found])])]
        what = f"{longest[found].max()} equal readings in a row in {schema.unit} {unit.name}"
        more = f", and long ones in {len(found) - 1} others" if len(found) > 1 else ""
        findings.add("warning", where, what + more, "leave these cells empty where the sensor was dead")


def _longest_run(values: NDArray[np.float64]) -> int:
    change = np.flatnonzero(np.diff(values) != 0) + 1
    return int(np.diff(np.concatenate([[0], change, [len(values)]])).max())


def _names(units: Sequence[Unit], schema: Schema, findings: Findings) -> None:
    """Units whose names differ by case, spaces, dashes or leading zeros alone."""
    seen: dict[str, Unit] = {}
    for unit in units:
        folded = re.sub(r"[\W_]+", "", unit.name.casefold()).lstrip("0")
        other = seen.setdefault(folded or unit.name, unit)
        if other is not unit:
            what = f"{schema.unit} {unit.name!r} and {schema.unit} {other.name!r} differ by little"
            findings.add("warning", unit.where, what, "write one name if they are one", kind="names")


def _roles(failed: Sequence[Unit], schema: Schema, findings: Findings) -> None:
    needed = sum(schema.least.values())
    if len(failed) < needed:
        parts = ", ".join(f"{role} {number}" for role, number in schema.least.items() if number)
        called = schema.unit if len(failed) == 1 else schema.units
        what = f"{len(failed)} failed {called}, and all roles together need {needed} ({parts})"
        findings.add("warning", "units", what, "lower the numbers in [least], or wait for more failures")


def _lives(failed: Sequence[Unit], schema: Schema, findings: Findings) -> None:
    """Units that were perhaps taken out and did not fail: lives far shorter than others, or no wear at the end."""
    if len(failed) < 3:
        return
    remedy = f"if it had not failed, list it in [censored]: units = [...]; else the {schema.unit} is worth a look"
    median = float(np.median([len(unit.run.rows) for unit in failed]))
    if median < 2:
        what = f"half of all lives are one {schema.step} long"
        findings.add("warning", "units", what, "make steps shorter, or name another time column")
    lives = {len(unit.run.rows) for unit in failed}
    if len(lives) == 1 and len(failed) >= _ALIKE and median >= 2:
        what = f"all {len(failed)} lives are {median:.0f} {schema.steps} long, which {schema.units} that fail are not"
        cut = "say in [end] or [censored] which had failed; if each file is a moment in a unit's life: driftloop fleet "
        findings.add("warning", "units", what, f"{cut}summarise")
    for unit in failed:
        life = len(unit.run.rows)
        if life < _SHORT * median:
            what = (
                f"{schema.unit} {unit.name} lived for {life} {schema.steps}, and half of all for {median:.0f} and more"
            )
            findings.add("warning", unit.where, what, remedy, kind="short")
    runs: list[Run] = [unit.run for unit in failed]
    by_id = {unit.run.run_id: unit for unit in failed}
    for run, worn in wear.taken_out(runs, schema, runs):
        unit = by_id[run.run_id]
        what = f"{schema.unit} {unit.name} shows {max(worn, 0.0):.0%} of the usual wear at its last row"
        findings.add("warning", unit.where, what, remedy, kind="wear")
    unlike = wear.unlike(runs, schema)
    if unlike is not None and not any(math.isnan(value) for value in unlike):
        what = f"at their last row some {schema.units} show {max(unlike[0], 0.0):.0%} of the usual wear"
        what += f", others {unlike[1]:.0%}"
        remedy = f"if many {schema.units} had not failed, say so in [censored] or [end]"
        findings.add("warning", "units", what, remedy)
