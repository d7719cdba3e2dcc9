"""From events to messages: one a cause, what is in it, and what it never says."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.notify import messages
from driftloop.notify.messages import Kept
from driftloop.notify.rules import RULES, SECTIONS
from driftloop.protocol.events import KINDS

DOCS = Path(__file__).parents[2] / "docs"
TIME = "2027-01-15T08:00:00.000Z"


def event(seq: int, kind: str, **about: Any) -> dict[str, Any]:
    return {"seq": seq, "time": TIME, "kind": kind, **about}


ALERT = event(
    1,
    "alert_firing",
    cause="fleet_change:3",
    model_version="3",
    drift="fleet_change",
    features=["sensor_11", "setting_1"],
    score=4.25,
    summary="the fleet has changed",
)


def test_what_happens_about_one_cause_is_one_message_with_everything_a_person_needs() -> None:
    kept = Kept()
    messages.take(kept, [ALERT, event(2, "first_aid_promoted", cause="fleet_change:3", model_version="4")])
    (notice,) = kept.waiting
    assert messages.title(notice, "cmapss") == "driftloop cmapss: the fleet has changed"
    assert messages.body(notice, "https://docs.example/") == (
        "Cause: fleet_change:3, model version 4\n"
        "\n"
        f"- {TIME} the fleet has changed (in sensor_11, setting_1, score 4.25)\n"
        f"- {TIME} first aid: version 4 serves, provisional until labels come\n"
        "\n"
        "What to do: Add completed runs of the changed units as soon as there are any; the loop does the rest.\n"
        "https://docs.example/runbooks.md#fleet_change"
    )
    assert kept.cursor == 2


def test_lines_about_what_nobody_was_told_of_open_no_message() -> None:
    kept = Kept()
    messages.take(kept, [event(1, "promoted", cause="by_hand", model_version="1"), event(2, "verdict", n=5)])
    assert (kept.waiting, kept.cursor) == ([], 2)


def test_what_comes_after_a_delivery_is_told_together_after_the_pause() -> None:
    kept = Kept()
    messages.take(kept, [ALERT])
    messages.told(kept, kept.waiting[0], TIME)
    messages.take(kept, [event(2, "promoted", cause="fleet_change:3", model_version="5")])
    messages.take(kept, [event(3, "recovery_verified", cause="fleet_change:3", model_version="5")])
    (notice,) = kept.waiting
    assert len(notice.lines) == 2
    assert messages.title(notice, "cmapss") == "driftloop cmapss: since then, about: the fleet has changed"
    assert "What to do" not in messages.body(notice, "docs")
    messages.take(kept, [{**ALERT, "seq": 4}])
    assert messages.title(notice, "cmapss") == "driftloop cmapss: the fleet has changed"
    assert messages.quiet_s(kept, notice.key, "2027-01-15T08:05:00.000Z", 900.0) == 600.0
    assert messages.quiet_s(kept, notice.key, "2027-01-15T07:00:00.000Z", 900.0) == 0.0
    assert messages.quiet_s(kept, "another", TIME, 900.0) == 0.0


def test_causes_are_kept_apart() -> None:
    kept = Kept()
    asked = event(2, "approval_needed", cause="fleet_change:3", model_version="5", approval="5-ab", reason="better")
    failed = event(3, "retraining_failed", cause="fleet_change:3", step="train", error="no room\nTraceback")
    messages.take(kept, [ALERT, asked, failed, event(4, "watch_firing", schedule="high", act="error", reason="21")])
    assert [notice.key for notice in kept.waiting] == [
        "fleet_change fleet_change:3",
        "approval 5-ab",
        "failed fleet_change:3",
        "error high",
    ]
    assert kept.waiting[2].lines == [f"{TIME} step train: no room; it is given up"]


def test_there_is_a_bound_on_everything() -> None:
    kept = Kept()
    for seq in range(1, 40):
        messages.take(kept, [event(seq, "retraining_failed", cause="fleet_change:1", error="x" * 10_000)])
    (notice,) = kept.waiting
    assert (len(notice.lines), notice.dropped) == (messages.MOST_LINES, 39 - messages.MOST_LINES)
    assert "and 19 more" in messages.body(notice, "docs")
    assert max(map(len, notice.lines)) <= 600
    for seq in range(200):
        messages.take(kept, [event(100 + seq, "rejected", cause=f"fleet_change:{seq}")])
    assert len(kept.waiting) == messages.MOST_WAITING


def test_every_rule_is_about_a_kind_that_exists_and_every_section_of_the_runbooks_is_somebodys() -> None:
    assert RULES.keys() <= KINDS
    headings = re.findall(r"^## .*\n+<a id=\"([a-z_-]+)\"></a>", (DOCS / messages.RUNBOOKS).read_text(), re.MULTILINE)
    alerts = "".join(path.read_text() for path in (DOCS.parent / "files").rglob("*.yml*"))
    of_alerts = set(re.findall(r"runbooks\.md#([a-z_-]+)", alerts))
    assert of_alerts
    assert sorted(headings) == sorted({*SECTIONS, *of_alerts})


VALUES = st.none() | st.text(max_size=5) | st.integers() | st.floats(allow_nan=True) | st.lists(st.integers())
NAMES = [
    "cause",
    "drift",
    "features",
    "score",
    "reason",
    "error",
    "step",
    "approval",
    "schedule",
    "act",
    "who",
    "labels",
]


@given(kind=st.sampled_from(sorted(RULES)), about=st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_an_event_that_anybody_may_have_reported_makes_a_message_or_none(kind: str, about: dict[str, Any]) -> None:
    kept = Kept()
    messages.take(kept, [event(1, kind, **about)])
    for notice in kept.waiting:
        assert messages.title(notice, "cmapss")
        assert messages.body(notice, "docs")


def test_features_that_are_none_do_not_stop_it() -> None:
    kept = Kept()
    messages.take(kept, [event(1, "alert_firing", cause="concept:1", features=7)])
    assert "in nothing by name" in kept.waiting[0].lines[0]


@pytest.mark.parametrize("kind", ["concept", "sensor_fault", "fleet_change"])
def test_an_alert_belongs_to_the_section_of_its_kind(kind: str) -> None:
    kept = Kept()
    messages.take(kept, [event(1, "alert_firing", cause=f"{kind}:1", drift=kind)])
    assert kept.waiting[0].section == kind
