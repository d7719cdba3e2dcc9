from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.durable import format_time
from driftloop.errors import DriftloopError
from driftloop.protocol import causes
from driftloop.protocol.causes import BY_HAND, CONCEPT, FLEET_CHANGE, SENSOR_FAULT, Cause

VERSIONS = st.integers(0, 10**18 - 1).map(str)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.timezones()).map(format_time)
CAUSES = st.builds(Cause, st.sampled_from([FLEET_CHANGE, SENSOR_FAULT, CONCEPT]), VERSIONS) | st.builds(
    causes.by_hand, VERSIONS, st.none() | TIMES
)


@given(CAUSES)
def test_every_cause_is_read_back_from_its_text(cause: Cause):
    assert causes.parse(str(cause)) == cause


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("fleet_change:3", Cause(FLEET_CHANGE, "3")),
        ("sensor_fault:12", Cause(SENSOR_FAULT, "12")),
        ("concept:1", Cause(CONCEPT, "1")),
        ("by_hand:3:2026-01-31T12:00:00.000Z", Cause(BY_HAND, "3", "2026-01-31T12:00:00.000Z")),
        ("by_hand", Cause(BY_HAND)),
    ],
)
def test_the_texts_of_earlier_versions_are_understood(text: str, cause: Cause):
    assert causes.parse(text) == cause
    assert str(cause) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "fleet_change", "fleet_change:", "fleet_change:x", "fleet_change:3:2026-01-31T12:00:00.000Z", "weather:3",
     "by_hand:3:now", "by_hand::2026-01-31T12:00:00.000Z", "by_hand:3:2026-01-31", "concept:\u0661", "concept:3 "],
)  # fmt: skip
def test_other_texts_are_no_causes(text: str):
    with pytest.raises(DriftloopError, match="is no cause"):
        causes.parse(text)


@given(st.text())
def test_any_text_is_a_cause_that_is_written_the_same_or_refused(text: str):
    try:
        cause = causes.parse(text)
    except DriftloopError:
        return
    assert str(cause) == text


def test_what_a_cause_means_is_asked_of_it_and_not_of_its_text():
    meant = {kind: Cause(kind, "1") for kind in causes.KINDS}
    assert [kind for kind, cause in meant.items() if not cause.learnable] == [SENSOR_FAULT]
    assert [kind for kind, cause in meant.items() if cause.changes_labels] == [CONCEPT]
    assert [kind for kind, cause in meant.items() if cause.of_inputs] == [FLEET_CHANGE, SENSOR_FAULT]


def test_causes_about_a_version_are_found_among_others():
    texts = ["fleet_change:1", "by_hand:11:2026-01-31T12:00:00.000Z", "what a person wrote", "concept:11", "by_hand"]
    assert causes.about(texts, "11") == [causes.by_hand("11", "2026-01-31T12:00:00.000Z"), Cause(CONCEPT, "11")]
