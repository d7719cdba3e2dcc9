"""How often one may ask and fail: exact, and in bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.access import limits
from driftloop.access.limits import Failures, Rate, network


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.floats(0.1, 500), st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_never_more_than_the_rate_and_its_reserve(rate: float, pauses: list[float]) -> None:
    clock = Clock()
    allowed, bucket = [], Rate(clock)
    for pause in pauses:
        clock.now += pause
        if bucket.wait_s("a", rate) == 0:
            allowed.append(clock.now)
    for i, begin in enumerate(allowed):
        for j in range(i, len(allowed)):
            assert j - i + 1 <= max(1.0, 2 * rate) + rate * (allowed[j] - begin) + 1e-6


def test_one_name_does_not_spend_what_another_may() -> None:
    clock = Clock()
    bucket = Rate(clock)
    assert [bucket.wait_s("a", 1.0) == 0 for _ in range(3)] == [True, True, False]
    assert bucket.wait_s("b", 1.0) == 0
    wait = bucket.wait_s("a", 1.0)
    assert wait == pytest.approx(1.0)
    clock.now += wait + 1e-6
    assert bucket.wait_s("a", 1.0) == 0


def test_each_failed_try_doubles_the_pause() -> None:
    clock = Clock()
    failures = Failures(clock)
    pauses = []
    for _ in range(16):
        pauses.append(failures.wait_s("10.0.0.1"))
        clock.now += pauses[-1]
        failures.failed("10.0.0.1")
    assert pauses[:5] == [0.0] * 5
    assert pauses[5:8] == [1.0, 2.0, 4.0]
    assert pauses[-1] == Failures.LONGEST_S
    assert failures.wait_s("10.0.0.2") == 0
    assert failures.total == 16
    failures.succeeded("10.0.0.1")
    assert failures.wait_s("10.0.0.1") == 0


def test_old_failures_are_forgotten() -> None:
    clock = Clock()
    failures = Failures(clock)
    for _ in range(9):
        failures.failed("a")
    clock.now += Failures.FORGOTTEN_S + 1
    failures.failed("a")
    assert failures.wait_s("a") == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 50)
    failures, bucket = Failures(), Rate()
    for at in range(500):
        failures.failed(f"10.0.{at // 250}.{at % 250}")
        bucket.wait_s(str(at), 1.0)
    assert len(failures._known) == 50
    assert len(bucket._left) == 50


def test_one_machine_has_a_whole_network_of_ipv6() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff") != network("2001:db8:0:1::1")
    assert network("10.0.0.1") != network("10.0.0.2")
    assert network("no address") == "no address"
