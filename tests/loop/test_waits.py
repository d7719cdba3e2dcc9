"""Waits: whatever the clocks do, none lasts longer than its length, and none is cut short."""

from hypothesis import given
from hypothesis import strategies as st

from driftloop.loop import waits
from driftloop.loop.waits import Now

SECONDS = st.floats(0, 1e7)
LENGTHS = st.floats(0, 1e5)
NOWS = st.builds(Now, st.sampled_from(["a", "b"]), SECONDS, st.sampled_from(["1970-01-01T00:00:00.000Z"]))


@given(LENGTHS, NOWS, NOWS)
def test_what_is_left_is_at_most_the_length(length: float, begun: Now, now: Now):
    wait = waits.begin(length, begun)
    for each in (wait, wait.carried_over(now)):
        assert 0.0 <= each.left(now) <= length


@given(LENGTHS, SECONDS, SECONDS)
def test_on_one_boot_it_ends_when_its_length_has_passed(length: float, begun: float, passed: float):
    wait = waits.begin(length, Now("a", begun, ""))
    left = wait.left(Now("a", begun + passed, "whatever the wall clock says"))
    assert abs(left - max(0.0, length - passed)) < 1e-6


@given(LENGTHS, NOWS, SECONDS)
def test_after_another_boot_it_begins_anew_once(length: float, begun: Now, up_for: float):
    first = Now("c", up_for, "")
    carried = waits.begin(length, begun).carried_over(first)
    assert carried.left(first) == length
    assert carried.left(Now("c", up_for + length + 1.0, "")) == 0.0
    assert carried.carried_over(Now("c", up_for + 0.5, "")) == carried


def test_a_duration_over_two_boots_is_not_known():
    began = waits.moment(Now("a", 5.0, ""))
    assert began.passed(Now("a", 7.5, "")) == 2.5
    assert began.passed(Now("b", 7.5, "")) is None


def test_the_clocks_of_this_machine():
    first, second = waits.now(), waits.now()
    assert first.boot == second.boot
    assert 0 <= second.seconds - first.seconds < 60
