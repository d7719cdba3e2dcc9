"""What a retraining would learn from: which completed runs are old, which are new, which cannot be trusted."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import roles
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.model import regimes
from driftloop.model.bundle import ManifestEntry

NEWEST_CYCLES, LEAST_CYCLES = 20, 10
"""A sensor is looked at over an engine's newest 20 cycles in a regime; with fewer than 10 it is not judged."""
NOTHING: Mapping[str, int] = {}
LEAST_REFERENCE = 5
"""Runs that must have been in a regime before their variation says anything."""
USUALLY, DISTINCT = 0.95, 4
"""A sensor counts as stuck where it showed one value, and at least 4 in at least 95 % of these runs. (Some sensors
of a healthy C-MAPSS engine, such as 6 and 16, flip between two values and may well stay at one.)"""


class StuckSensor(msgspec.Struct, frozen=True):
    """A run whose sensor stood still where other runs' vary."""

    run_id: str
    sensors: list[str]


@dataclass(frozen=True)
class Plan:
    """The runs of one retraining, and the challenger's manifest over all of them."""

    old: list[Run]
    """Of domains that the champion knows: those that it has learnt from, and those that came since."""
    new: list[Run]
    """Of the next domain."""
    manifest: list[ManifestEntry]
    excluded: list[StuckSensor]
    missing: list[str]
    """Runs of the champion's manifest that the archive no longer has."""
    superseded: list[Run]
    """Runs whose labels no longer hold; the baseline still knows their inputs."""


def new_run_ids(archived: Iterable[str], manifest: Sequence[ManifestEntry]) -> list[str]:
    """The archived runs that the champion does not know, sorted."""
    return sorted(set(archived) - {entry.run_id for entry in manifest})


def lacking(
    new_ids: Sequence[str], least_in_all: int, least: Mapping[str, int], known: Mapping[str, str] | None = None
) -> str | None:
    """What new completed runs are still too few of, in words; None where there are enough.

    `least` are the units that each role needs, `known` the roles that are fixed; any other is dealt where its hash
    would not do.
    """
    counts = roles.count(roles.deal(new_ids, least, known or {}))
    wants = [f"{len(new_ids)} new completed runs, {least_in_all} are needed"] * (len(new_ids) < least_in_all)
    wants += [
        f"{counts[role]} of them in role {role}, {number} are needed"
        for role, number in least.items()
        if counts[role] < number
    ]
    return "; ".join(wants) or None


def make(
    runs: Sequence[Run],
    manifest: Sequence[ManifestEntry],
    schema: Schema,
    changed: Iterable[str] | None = None,
    *,
    withdrawn: Collection[str] = (),
    restored: Collection[str] = (),
    domains: Mapping[str, int] = NOTHING,
) -> Plan:
    """Sort archived runs into old and new, and leave out new ones with a stuck sensor or with rows that are known.

    New runs form the next operating domain, but for those that `domains` has: these are of a domain that is there, and
    count as old. After a concept drift `changed` are the runs that show the labels as they
    are now: only these are learnt from, and all others are superseded. Censored runs have no labels: they count as
    superseded from the start. `withdrawn` runs leave the manifest; the labels of `restored` ones hold again. Raises
    DataError where a run differs from what the champion was trained on under the same id.
    """
    known = {entry.run_id: entry for entry in manifest if entry.run_id not in withdrawn}
    runs = [run for run in runs if run.run_id not in withdrawn]
    recognised = sorted((run for run in runs if run.run_id in known), key=lambda run: run.run_id)
    altered = [run.run_id for run in recognised if run.sha256 != known[run.run_id].sha256]
    if altered:
        raise DataError(
            f"run {altered[0]} and {len(altered) - 1} others are not what the production model was trained on",
            where="archive",
            remedy="the archive is append-only: restore it from a backup",
        )
    arrived = _first_of_each(
        sorted((run for run in runs if run.run_id not in known), key=lambda run: run.run_id),
        {entry.sha256 for entry in known.values()},
    )
    excluded = stuck_sensors(arrived, recognised, schema)
    refused = {stuck.run_id for stuck in excluded}
    usable = [run for run in arrived if run.run_id not in refused]
    domain = 1 + max((entry.domain for entry in manifest), default=-1)
    entries = [known[run.run_id] for run in recognised]
    entries += [
        ManifestEntry(run.run_id, run.sha256, run.role, domains.get(run.run_id, domain), len(run.rows))
        for run in usable
    ]
    hold = {entry.run_id for entry in entries if not entry.superseded or entry.run_id in restored}
    if changed is not None:
        hold = set(changed)
    hold -= {run.run_id for run in [*recognised, *usable] if run.censored}
    entries = [msgspec.structs.replace(entry, superseded=entry.run_id not in hold) for entry in entries]
    stale = {entry.run_id for entry in entries if entry.superseded}
    familiar = [*recognised, *(run for run in usable if run.run_id in domains)]
    return Plan(
        old=[run for run in familiar if run.run_id not in stale],
        new=[run for run in usable if run.run_id not in stale and run.run_id not in domains],
        manifest=entries,
        excluded=excluded,
        missing=sorted(set(known) - {run.run_id for run in recognised}),
        superseded=[run for run in [*recognised, *usable] if run.run_id in stale],
    )


def with_roles(plan: Plan, dealt: Mapping[str, str]) -> Plan:
    """The plan with the roles that its new runs were dealt."""
    new = {run.run_id for run in plan.new}
    entries = [
        msgspec.structs.replace(entry, role=dealt.get(entry.run_id, entry.role)) if entry.run_id in new else entry
        for entry in plan.manifest
    ]
    return replace(plan, new=roles.assign(plan.new, dealt), manifest=entries)


def _first_of_each(runs: Sequence[Run], known: set[str]) -> list[Run]:
    """The runs whose rows are neither in `known` nor an earlier run's: archives from before rows were compared."""
    first: dict[str, Run] = {}
    for run in runs:
        if run.sha256 not in known:
            first.setdefault(run.sha256, run)
    return list(first.values())


def stuck_sensors(new: Sequence[Run], old: Sequence[Run], schema: Schema) -> list[StuckSensor]:
    """New runs in which a sensor stood still over the newest cycles in a regime where it usually varies.

    What is usual, the old runs say; in a regime that too few of them were in, the other new runs do.
    """
    everything = [*old, *new]
    if not new:
        return []
    found = regimes.find(everything, schema)
    values = np.stack([_distinct_values(run, found, schema) for run in everything])
    reference, candidates = values[: len(old)], values[len(old) :]
    expected = _usually_varies(reference)
    unknown = np.isnan(expected)
    expected[unknown] = _usually_varies(candidates)[unknown]
    visited = (~np.isnan(values)).any(axis=2).sum(axis=1)
    if len(found) > 1 and np.median(visited) <= 1:
        # Units whose settings are their own: what is usual, units say, wherever they are run.
        anywhere = np.fmax.reduce(values, axis=1, keepdims=True)
        unknown = np.isnan(expected)
        expected[unknown] = np.broadcast_to(_usually_varies(anywhere), expected.shape)[unknown]
    stuck = ((candidates == 1) & (expected == 1)[None]).any(axis=1)
    return [
        StuckSensor(run.run_id, [schema.sensor_names[i] for i in np.flatnonzero(sensors)])
        for run, sensors in zip(new, stuck, strict=True)
        if sensors.any()
    ]


def _distinct_values(run: Run, found: regimes.Regimes, schema: Schema) -> NDArray[np.float64]:
    """How many values each sensor took in each regime, `[K, sensors]`.

    NaN where the run was there too briefly, or a sensor has too few values: a missing one is no standing still.
    """
    nearest, inside = found.assign(run.rows[:, : schema.n_settings])
    values = np.full((len(found), schema.n_sensors), np.nan)
    for regime in range(len(found)):
        rows = run.rows[inside & (nearest == regime)][-NEWEST_CYCLES:, schema.n_settings :]
        if len(rows) >= LEAST_CYCLES:
            present = np.isfinite(rows).sum(axis=0)
            distinct = 1 + (np.diff(np.sort(rows, axis=0), axis=0) > 0).sum(axis=0)
            values[regime] = np.where(present >= LEAST_CYCLES, distinct, np.nan)
    return values


def _usually_varies(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of `[runs, K, sensors]`: 1 where a sensor usually varies in a regime, else 0; NaN where too few runs say so."""
    judged = (~np.isnan(values)).sum(axis=0)
    share = (np.nan_to_num(values) >= DISTINCT).sum(axis=0) / np.maximum(judged, 1)
    return np.where(judged >= LEAST_REFERENCE, (share >= USUALLY).astype(np.float64), np.nan)
