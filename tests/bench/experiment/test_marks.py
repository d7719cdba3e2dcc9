"""Marks come from events and answers; what did not happen is missing, with a reason."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.durable import format_time
from driftloop_bench.experiment.marks import NAMES, answers_after, find_marks, recovery_prefixes, set_recovery
from driftloop_bench.experiment.traffic import Record

START = 1_700_000_000.0


def at(seconds: float) -> str:
    return format_time(datetime.fromtimestamp(START + seconds, UTC))


def event(seconds: float, kind: str, version: str = "1", **detail: Any) -> dict[str, Any]:
    return {"time": at(seconds), "kind": kind, "model_version": version, **detail}


def record(
    sent: float, version: str = "1", *, changed: bool = True, rul: float = 50.0, engine: str = "eng-1"
) -> Record:
    return Record(START + sent, START + sent + 0.01, 0.0, 200, engine, 1, 50.0, changed, rul, version)


RECORDS = [record(-5, changed=False), record(0), record(20, "2"), record(19.5, "2"), record(21, "2")]
EVENTS = [
    event(3, "alert_firing", starts_at=at(2.5), features=["sensor_4"]),
    event(3.2, "retraining_started"),
    event(15, "gate_decided", "2", approved=True),
    event(19, "promoted", "2", from_version="1"),
    event(19.4, "verdict", "2", verdict="not_enough_data"),
    event(26, "verdict", "2", verdict="no_drift"),
    event(31, "verdict", "2", verdict="no_drift"),
]


def seconds(marks: Any) -> dict[str, float | None]:
    return {name: None if getattr(marks, name) is None else round(getattr(marks, name) - START, 2) for name in NAMES}


def test_each_mark_is_the_time_that_its_event_or_answer_carries() -> None:
    marks = find_marks(EVENTS, RECORDS, "1")
    assert seconds(marks) == {"t0": 0, "t1": 2.5, "t2": 3.2, "t_rt": 19, "t4": 19.51, "t5": None}
    assert marks.no_drift == START + 26
    assert marks.challenger_version == "2"
    assert not marks.reasons


def test_a_new_version_whose_fleet_is_only_older_has_recovered_too():
    events = [{**e, "verdict": "fleet_age"} if e["kind"] == "verdict" else e for e in EVENTS]
    assert find_marks(events, RECORDS, "1").no_drift == START + 26


@given(st.permutations(EVENTS))
def test_the_order_in_which_events_are_read_does_not_matter(events: list[dict[str, Any]]) -> None:
    assert find_marks(events, RECORDS, "1") == find_marks(EVENTS, RECORDS, "1")


@pytest.mark.parametrize(
    ("sent", "alert", "counts"), [(0.0009, 0.00095, True), (0.001, 0.001, True), (0.001, 0.0009, False)]
)
def test_an_event_of_the_same_millisecond_as_a_request_is_not_before_it(
    sent: float, alert: float, counts: bool
) -> None:
    """Events carry whole milliseconds, the rest cut off: one that came later may carry an earlier time."""
    events = [event(alert, "alert_firing", starts_at=at(alert)), *EVENTS[1:]]
    assert (find_marks(events, [record(sent), *RECORDS[2:]], "1").t1 is not None) is counts


def test_events_before_t0_belong_to_something_else() -> None:
    earlier = [event(-60, kind, "7", starts_at=at(-60), verdict="no_drift") for kind in ("alert_firing", "promoted")]
    assert find_marks([*earlier, *EVENTS], RECORDS, "1") == find_marks(EVENTS, RECORDS, "1")


@pytest.mark.parametrize(
    ("kind", "first"), [("alert_firing", "t1"), ("retraining_started", "t2"), ("promoted", "t_rt")]
)
def test_without_an_event_its_mark_and_all_later_ones_are_missing_with_a_reason(kind: str, first: str) -> None:
    marks = find_marks([one for one in EVENTS if one["kind"] != kind], RECORDS, "1")
    missing = NAMES[NAMES.index(first) :]
    assert {name for name in NAMES if getattr(marks, name) is None} == set(missing)
    assert set(marks.reasons) == set(missing)


def test_a_rejection_is_the_reason_for_the_marks_that_it_prevented() -> None:
    events = [*EVENTS[:3], event(16, "rejected", "2", reason="worse on old engines")]
    assert find_marks(events, RECORDS, "1").reasons["t_rt"] == "the challenger was rejected: worse on old engines"


def test_without_changed_requests_there_is_no_mark_at_all() -> None:
    marks = find_marks(EVENTS, [record(0, changed=False)], "1")
    assert all(getattr(marks, name) is None for name in NAMES)
    assert set(marks.reasons) == set(NAMES)


def test_a_new_version_that_nobody_heard_of_has_no_t4() -> None:
    marks = find_marks(EVENTS, RECORDS[:2], "1")
    assert marks.t_rt is not None
    assert marks.t4 is None
    assert "answered no request" in marks.reasons["t4"]


def answers(errors: np.ndarray) -> list[Record]:
    return [record(20 + i / 100, "2", rul=50 + error, engine=f"eng-{i % 30}") for i, error in enumerate(errors)]


def test_a_model_as_good_as_the_reference_recovers_at_the_later_of_verdict_and_bound() -> None:
    noise = np.random.default_rng(0).normal(0, 10, 800)
    records = [*RECORDS[:2], *answers(noise)]
    marks = find_marks(EVENTS, records, "1")
    found = answers_after(records, "2")
    prefixes = recovery_prefixes(found, 50 + noise * 1.0, draws=200)
    set_recovery(marks, prefixes)
    assert [prefix.n for prefix in prefixes] == [500, 550, 600, 650, 700, 750, 800]
    assert prefixes[0].ratio_upper == 1.0
    assert marks.accurate == found[499].answered
    assert marks.t5 == marks.no_drift
    marks.no_drift = START + 21
    set_recovery(marks, prefixes)
    assert marks.t5 == found[499].answered


def test_a_model_much_worse_than_the_reference_has_not_recovered_whatever_the_watch_says() -> None:
    noise = np.random.default_rng(0).normal(0, 10, 800)
    marks = find_marks(EVENTS, [*RECORDS[:2], *answers(noise)], "1")
    set_recovery(marks, recovery_prefixes(answers(noise), 50 + noise / 2, draws=200))
    assert marks.t5 is None
    assert "times the reference" in marks.reasons["t5"]


def test_an_early_lucky_look_does_not_count() -> None:
    errors = np.concatenate([np.full(600, 5.0), np.full(300, 40.0), np.full(6000, 5.0)])
    reference = 50 + np.full(len(errors), 20.0)
    reference[600:900] = 50 + 5
    records = answers(errors)
    marks = find_marks(EVENTS, [*RECORDS[:2], *records], "1")
    prefixes = recovery_prefixes(records, reference, step=100, draws=200)
    set_recovery(marks, prefixes)
    assert prefixes[0].holds
    assert any(not prefix.holds for prefix in prefixes)
    assert marks.accurate is not None
    assert marks.accurate > records[899].answered
    held = [prefix for prefix in prefixes if prefix.at >= marks.accurate]
    assert all(prefix.holds for prefix in held)


def test_fewer_than_500_answers_are_no_recovery() -> None:
    marks = find_marks(EVENTS, RECORDS, "1")
    set_recovery(marks, recovery_prefixes(answers(np.zeros(499)), np.full(499, 50.0)))
    assert marks.t5 is None
    assert "fewer than 500" in marks.reasons["t5"]


def test_without_a_reference_t5_is_missing_for_that_reason() -> None:
    marks = find_marks(EVENTS, RECORDS, "1")
    set_recovery(marks, [], why_unknown="no reference model was trained")
    assert marks.t5 is None
    assert marks.reasons["t5"] == "no reference model was trained"


def test_a_retraining_that_was_rolled_back_is_passed_over_where_another_one_followed() -> None:
    back = [*EVENTS[:-2], event(24, "rolled_back", "1", from_version="2")]
    assert find_marks(back, RECORDS, "1").challenger_version == "2"
    again = [
        *back,
        event(25, "retraining_started"),
        event(30, "promoted", "3"),
        event(40, "verdict", "3", verdict="no_drift"),
    ]
    records = [*RECORDS, record(31, "3")]
    marks = find_marks(again, records, "1")
    assert seconds(marks) | {"t5": 0} == {"t0": 0, "t1": 2.5, "t2": 25, "t_rt": 30, "t4": 31.01, "t5": 0}
    assert (marks.challenger_version, marks.no_drift) == ("3", START + 40)
