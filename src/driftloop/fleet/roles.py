"""What each unit is for: its role, by a hash of its id, or dealt where there are too few units for a hash.

A role never changes, and all lives of a unit have one, so that no unit is both learnt from and judged by. By the hash
alone a large fleet has each role in its share; a small one may lack a role (17 units meet the default least numbers
with probability 0.18). `deal` then gives each role its least number; what it says is written into the archive once
(`archive.Archive.deal`), and everybody reads it there.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from driftloop.fleet.names import unit_of

if TYPE_CHECKING:
    from driftloop.fleet.runs import Run

ROLES = {"train": 0.50, "early_stop": 0.08, "calibrate": 0.12, "gate": 0.15, "live": 0.15}
"""Share of units in each role: weights are fitted on `train`, the epoch is chosen on `early_stop`,
intervals are calibrated on `calibrate`, challengers are judged on `gate`; `live` units only send traffic."""


def role_of(run_id: str) -> str:
    """The role of a unit, from a hash of its id alone, so that it never changes."""
    position = int.from_bytes(hashlib.sha256(unit_of(run_id).encode()).digest()[:8], "big") / 2**64
    for role, share in ROLES.items():
        if position < share:
            return role
        position -= share
    return "live"


def dealt_role(run_id: str, dealt: Mapping[str, str]) -> str | None:
    """The role that was dealt to a run, or to an earlier life of its unit; None where none was."""
    return dealt.get(run_id) or dealt.get(unit_of(run_id))


def count(roles: Mapping[str, str]) -> Counter[str]:
    """How many units have each role, of the roles of runs by their ids."""
    return Counter({unit_of(run_id): role for run_id, role in roles.items()}.values())


def with_role(runs: Iterable["Run"], *roles: str) -> list["Run"]:
    """The runs whose unit has one of `roles`, in their order."""
    return [run for run in runs if run.role in roles]


def assign(runs: Iterable["Run"], roles: Mapping[str, str]) -> list["Run"]:
    """The runs, each with the role that `roles` gives its unit; one that is not there keeps its own."""
    return [replace(run, dealt=dealt_role(run.run_id, roles) or run.dealt) for run in runs]


def lacking(roles: Iterable[str], least: Mapping[str, int]) -> dict[str, int]:
    """The roles that have fewer units than they need, and how many they have."""
    counts = Counter(roles)
    return {role: counts[role] for role, number in least.items() if counts[role] < number}


def from_nothing(least: Mapping[str, int]) -> dict[str, int]:
    """The least numbers of a training that has no older units: whatever a training needs, at least one of each."""
    return {**least, **{role: max(1, least.get(role, 0)) for role in ("train", "early_stop", "calibrate")}}


def deal(run_ids: Collection[str], least: Mapping[str, int], known: Mapping[str, str]) -> dict[str, str]:
    """The role of each of `run_ids`: its unit's in `known`, else the hash's, else one that had too few units.

    Equal arguments, in any order, give equal roles. Where even dealing cannot give each role its least number, since
    there are too few units or `known` stands against it, the hash's roles stay.
    """
    of_units = {unit_of(run_id): known[run_id] for run_id in sorted(known, reverse=True)}
    dealt = _deal(sorted({unit_of(run_id) for run_id in run_ids}), least, of_units)
    return {run_id: known.get(run_id) or dealt[unit_of(run_id)] for run_id in sorted(set(run_ids))}


def _deal(ids: list[str], least: Mapping[str, int], known: Mapping[str, str]) -> dict[str, str]:
    roles = {unit: known.get(unit) or role_of(unit) for unit in ids}
    free = [unit for unit in ids if unit not in known]
    fixed = Counter(role for unit, role in roles.items() if unit in known)
    if sum(max(0, number - fixed[role]) for role, number in least.items()) > len(free):
        return roles
    while wanting := lacking(roles.values(), least):
        role = max(wanting, key=lambda name: least[name] - wanting[name])
        counts = Counter(roles.values())
        givers = [unit for unit in free if counts[roles[unit]] > least.get(roles[unit], 0)]
        # From the role that is furthest above its share; within it, by a hash of the unit and its new role.
        surplus = {name: counts[name] - ROLES[name] * len(ids) for name in sorted({roles[giver] for giver in givers})}
        richest = max(surplus, key=surplus.__getitem__)
        chosen = min((giver for giver in givers if roles[giver] == richest), key=lambda giver: _preference(role, giver))
        roles[chosen] = role
    return roles


def _preference(role: str, unit: str) -> bytes:
    """Where a unit stands in the queue of those that could change to a role."""
    return hashlib.sha256(f"{role}/{unit}".encode()).digest()
