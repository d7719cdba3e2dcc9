"""What events and answers mean to people: pure functions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.api import loop_view, models_view, units_view
from driftloop.model.registry import Version
from driftloop.protocol.answers import Answer, newest_of
from driftloop.protocol.unit_list import choose


def events(*kinds: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Events one second apart."""
    return [
        {"seq": at, "time": f"2027-01-15T09:00:{at:02d}.000Z", "kind": kind, **more}
        for at, (kind, more) in enumerate(kinds, 1)
    ]


RECOVERY = events(
    ("alert_firing", {"cause": "fleet_change:0", "starts_at": "2027-01-15T08:00:00.000Z"}),
    ("retraining_started", {"cause": "fleet_change:0"}),
    ("promoted", {"model_version": "1"}),
    ("fleet_changed", {}),
    ("alert_firing", {"cause": "fleet_change:1", "starts_at": "2027-01-15T08:59:59.500Z"}),
    ("first_aid_promoted", {"model_version": "2"}),
    ("serving_confirmed", {"model_version": "2"}),
    ("retraining_started", {"cause": "fleet_change:1"}),
    ("retraining_started", {"cause": "fleet_change:1"}),
    ("promoted", {"model_version": "3"}),
    ("serving_confirmed", {"model_version": "3"}),
    ("recovery_verified", {"model_version": "3"}),
)


def times(found: list[dict[str, Any]]) -> dict[str, int | None]:
    return {one["mark"]: one["event"] for one in found}


def test_the_marks_of_the_newest_recovery_are_told_by_its_events() -> None:
    found = loop_view.marks(RECOVERY)
    assert times(found) == {"T0": 4, "T1": 5, "T_FA": 7, "T2": 8, "T_RT": 10, "T4": 11, "T5": 12}
    assert found[1]["time"] == "2027-01-15T08:59:59.500Z"


@given(st.integers(0, len(RECOVERY)), st.randoms())
def test_marks_come_one_after_the_other_whatever_the_order_of_events(upto: int, random: Any) -> None:
    shown = RECOVERY[:upto]
    random.shuffle(shown)
    found = loop_view.marks(shown)
    assert [one["mark"] for one in found] == list(loop_view.MARKS)
    known = [one["event"] for one in found if one["event"] is not None]
    assert known == sorted(known)
    assert set(known) <= {event["seq"] for event in shown}


def test_a_retraining_by_hand_has_no_alert() -> None:
    found = loop_view.marks(
        [
            *RECOVERY,
            {"seq": 13, "time": "t13", "kind": "retraining_started", "cause": "by_hand:1"},
            {"seq": 14, "time": "t14", "kind": "promoted", "model_version": "4"},
        ]
    )
    assert times(found) == {"T0": None, "T1": None, "T_FA": None, "T2": 13, "T_RT": 14, "T4": None, "T5": None}


def test_nothing_has_happened() -> None:
    assert set(times(loop_view.marks([])).values()) == {None}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"state": "idle"}, None),
        ({"state": "idle", "blocked": "the registry is away"}, "the registry is away"),
        ({"state": "waiting_for_labels", "attempt": {"waiting_for": "3 more runs"}}, "3 more runs"),
        ({"state": "idle", "approval": {"version": "7"}}, "a person's answer about version 7"),
        ({"state": "cooling_down", "cooling_down_s": 12.5}, "12.5 s of pause before the next retraining"),
        ({"state": "verifying", "verification": {"says": "not enough data"}}, "not enough data"),
    ],
)
def test_what_it_waits_for_is_said_in_words(status: dict[str, Any], said: str | None) -> None:
    assert loop_view.waits_for(status) == said


def answer(unit: str, low: float = 1.0, time: float = 0.0, flags: list[str] | None = None) -> Answer:
    return Answer(unit, time, 1, low + 5, low, low + 10, flags or [], "1")


def test_units_are_sorted_by_the_lower_bound_then_searched() -> None:
    found = [answer("e10", 3), answer("e9", 3), answer("x1", 1, flags=["held:flow"])]

    def shown(**asked: Any) -> list[str]:
        query: dict[str, Any] = {"sort": "low", "order": "asc", "q": "", "flag": "", **asked}
        return [one.unit for one in choose(map(units_view.entry, found), **query).units]

    assert shown() == ["x1", "e9", "e10"]
    assert shown(q="E", sort="unit", order="desc") == ["e10", "e9"]
    assert shown(flag="held") == ["x1"]


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)))))
def test_of_several_replicas_the_newest_answer_counts(replicas: list[list[tuple[str, int]]]) -> None:
    found = newest_of([[answer(unit, time=at) for unit, at in told] for told in replicas])
    every = [told for replica in replicas for told in replica]
    assert {unit: one.time for unit, one in found.items()} == {
        unit: max(at for other, at in every if other == unit) for unit, _ in every
    }


@pytest.mark.parametrize(
    ("decision", "aliases", "state"),
    [
        ("promoted", {"production": "3"}, "champion"),
        ("promoted", {"previous": "3"}, "previous"),
        ("rejected", {}, "rejected"),
        ("rolled_back", {"previous": "3"}, "rejected"),
        ("pending", {"challenger": "3"}, "challenger"),
        ("undecided", {}, "challenger"),
        ("promoted", {}, "archived"),
    ],
)
def test_what_a_version_is(decision: str, aliases: dict[str, str], state: str) -> None:
    tags = {"decision": decision, "training": "warm_start", "decision_reason": "one; two", "parent_version": "2"}
    shown = models_view.model(Version("3", None, "", 0.0, tags), aliases, {})
    assert (shown["state"], shown["kind"], shown["parent"], shown["reasons"]) == (state, "warm", "2", ["one", "two"])
    assert shown["created"] == "1970-01-01T00:00:00.000Z"


def test_how_a_version_was_judged_is_told_by_its_event() -> None:
    figures = {"rmse_champion": 20.0, "rmse_challenger": 12.0, "engines": 8, "lower": -9.0, "upper": -7.0}
    decided = {"seq": 2, "kind": "gate_decided", "model_version": "3", "figures": {"new": figures, "old": figures}}
    shown = models_view.judged("3", [{**decided, "findings": ["better", "forgot"]}], 0.15)
    assert [(one["what"], one["passed"]) for one in shown["gate"]] == [
        ("RMSE on new units", True),
        ("RMSE on old units", False),
    ]
    assert [one["limit"] for one in shown["gate"]] == [0.0, pytest.approx(3.0)]
    assert shown["by_domain"][0]["rmse"] == 12.0
    assert models_view.judged("4", [decided], 0.15)["gate"] == []
