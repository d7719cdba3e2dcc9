from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.fleet import names
from driftloop.fleet.roles import ROLES, assign, count, deal, from_nothing, lacking, role_of, with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import LEAST
from driftloop.fleets.cmapss.source import engine_id

PINNED_ROLES = {
    ("FD001", 1): ("eng-cde1c55558", "train"),
    ("FD001", 2): ("eng-413411542c", "train"),
    ("FD001", 3): ("eng-5d3d2ca142", "gate"),
    ("FD001", 4): ("eng-ad276b7bba", "gate"),
    ("FD001", 5): ("eng-471c002cbc", "gate"),
    ("FD001", 6): ("eng-e313a8b6d7", "train"),
    ("FD002", 1): ("eng-cb8ef0a128", "train"),
    ("FD002", 2): ("eng-0732698b43", "calibrate"),
    ("FD002", 3): ("eng-e4cce180e4", "calibrate"),
    ("FD002", 4): ("eng-34b06496fc", "train"),
    ("FD002", 5): ("eng-dbc4f65740", "gate"),
    ("FD002", 6): ("eng-5792fb4d11", "calibrate"),
}


@given(st.text(max_size=30))
def test_every_engine_has_exactly_one_role_and_keeps_it(run_id: str) -> None:
    assert [role for role in ROLES if role == role_of(run_id)] == [role_of(run_id)]
    assert role_of(run_id) == role_of(run_id)


def test_the_shares_of_the_roles_make_a_whole() -> None:
    assert sum(ROLES.values()) == pytest.approx(1)


def test_the_roles_of_known_engines_never_change() -> None:
    assert {key: (engine_id(*key), role_of(engine_id(*key))) for key in PINNED_ROLES} == PINNED_ROLES


def test_engines_fall_into_roles_in_the_stated_shares() -> None:
    roles = [role_of(engine_id("FD002", unit)) for unit in range(1, 5001)]
    for role, share in ROLES.items():
        assert roles.count(role) / len(roles) == pytest.approx(share, abs=0.02)


def test_with_role_keeps_the_order() -> None:
    runs = [Run(engine_id("FD001", unit), np.zeros((2, 24))) for unit in range(1, 60)]
    chosen = with_role(runs, "train", "gate")
    assert [r for r in runs if r in chosen] == chosen
    assert {r.role for r in chosen} == {"train", "gate"}


UNITS = st.sets(st.text(min_size=1, max_size=12), min_size=sum(LEAST.values()), max_size=40)


@given(UNITS)
def test_dealt_roles_have_their_least_numbers(units: set[str]) -> None:
    roles = deal(units, LEAST, {})
    assert roles.keys() == units
    assert lacking(roles.values(), LEAST) == {}


@given(UNITS, st.randoms())
def test_dealing_depends_on_nothing_but_the_units(units: set[str], random) -> None:
    shuffled = list(units)
    random.shuffle(shuffled)
    assert deal(shuffled, LEAST, {}) == deal(sorted(units), LEAST, {})


@given(UNITS, st.data())
def test_a_known_role_never_changes(units: set[str], data: st.DataObject) -> None:
    known = data.draw(st.dictionaries(st.sampled_from(sorted(units)), st.sampled_from(sorted(ROLES))))
    roles = deal(units, LEAST, known)
    assert {run_id: roles[run_id] for run_id in known} == known
    more = deal(units | {"another"}, LEAST, roles)
    assert {run_id: more[run_id] for run_id in units} == roles


def test_where_the_hash_gives_enough_nothing_is_dealt() -> None:
    units = [engine_id("FD001", unit) for unit in range(1, 101)]
    assert deal(units, LEAST, {}) == {unit: role_of(unit) for unit in units}


def test_where_there_are_too_few_units_the_hash_stays() -> None:
    units = [f"pump-{i}" for i in range(sum(LEAST.values()) - 1)]
    assert deal(units, LEAST, {}) == {unit: role_of(unit) for unit in units}


def test_as_many_units_as_are_needed_are_dealt_to_the_last() -> None:
    units = [f"pump-{i}" for i in range(sum(LEAST.values()))]
    assert Counter(deal(units, LEAST, {}).values()) == Counter({role: n for role, n in LEAST.items() if n})


def test_few_units_move_and_the_rest_keep_the_hash() -> None:
    units = [f"cell-{i}" for i in range(17)]
    roles = deal(units, LEAST, {})
    moved = [unit for unit in units if roles[unit] != role_of(unit)]
    assert len(moved) == sum(LEAST[role] - n for role, n in lacking(map(role_of, units), LEAST).items())


def test_a_training_from_nothing_needs_one_of_each_that_it_learns_from() -> None:
    least = from_nothing({"train": 4, "early_stop": 0, "gate": 1})
    assert least == {"train": 4, "early_stop": 1, "calibrate": 1, "gate": 1}


def test_a_run_has_the_role_that_it_was_dealt() -> None:
    runs = [Run("a", np.zeros((2, 24))), Run("b", np.zeros((2, 24)), dealt="gate")]
    assert [run.role for run in assign(runs, {"a": "live"})] == ["live", "gate"]


LIVES = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4), st.integers(0, 1)), min_size=1, max_size=60)


@given(LIVES, st.dictionaries(st.integers(0, 20), st.sampled_from(list(ROLES)), max_size=6))
def test_all_lives_of_a_unit_have_one_role(lives: list[tuple[int, int, int]], known: dict[int, str]) -> None:
    def run_id(unit: int, life: int, again: int) -> str:
        return names.run_id(str(unit), life) + (f".again{again}" if again else "")

    ids = {run_id(*one): one[0] for one in lives}
    dealt = deal(ids, LEAST, {str(unit): role for unit, role in known.items()})
    assert set(dealt) == set(ids)
    by_unit = {ids[one]: role for one, role in dealt.items()}
    assert all(by_unit[ids[one]] == role for one, role in dealt.items())
    assert all(by_unit.get(unit, role) == role for unit, role in known.items())
    assert sum(count(dealt).values()) == len(by_unit)
    runs = assign([Run(one, np.zeros((2, 1))) for one in ids], {str(unit): role for unit, role in by_unit.items()})
    assert {run.run_id: run.role for run in runs} == dealt
    assert all(role_of(one) == role_of(str(unit)) for one, unit in ids.items())


def test_a_role_that_a_later_life_got_before_stays() -> None:
    dealt = deal(["a", "a.life2", "a.life3"], {}, {"a": "train", "a.life2": "gate"})
    assert dealt == {"a": "train", "a.life2": "gate", "a.life3": "train"}
