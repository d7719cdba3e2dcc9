"""A store that cannot be written now: whatever write fails, nothing is lost, and nothing happens twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from driftloop.loop import by_hand
from driftloop.loop.store import Store, StoreUnavailable

from .test_by_hand import behind_another, running, told
from .test_worker import CAUSE, World

T = TypeVar("T")


class Disk:
    """Full for one write, the one behind so many."""

    def __init__(self) -> None:
        self.writes_until_full: int | None = None
        self.refused = 0

    def fill(self, writes: int) -> None:
        self.writes_until_full = writes

    def write(self) -> None:
        if self.writes_until_full is None:
            return
        self.writes_until_full -= 1
        if self.writes_until_full < 0:
            self.writes_until_full = None
            self.refused += 1
            raise StoreUnavailable("the retrainer's store cannot be used: database or disk is full")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found, transaction = Disk(), Store._transaction

    @contextmanager
    def writing(store: Store) -> Iterator[None]:
        with transaction(store):
            yield
            found.write()  # SQLite may say so no sooner than at the end

    monkeypatch.setattr(Store, "_transaction", writing)
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def again(act: Callable[[], T]) -> T:
    """As whoever asks again who was refused."""
    try:
        return act()
    except StoreUnavailable:
        return act()


def settled(world: World) -> str:
    return again(world.settle)


@pytest.mark.parametrize("recovers", [True, False])
@pytest.mark.parametrize("writes", range(12))
def test_a_recovery_goes_on_where_a_write_failed(world: World, disk: Disk, writes: int, recovers: bool):
    disk.fill(writes)
    again(world.arrive)
    again(world.alert)
    assert settled(world) == "running"
    world.run(world.approving)
    assert settled(world) == "verifying"
    verdict: dict[str, Any] = {"model_version": "2", "verdict": "no_drift" if recovers else "drift", "n": 900}
    again(lambda: world.report("verdict", **verdict, answered=5000))
    assert settled(world) == "cooling_down"
    assert world.registry.pointers["production"] == ("2" if recovers else "1")
    assert world.decisions == [(CAUSE, "promoted" if recovers else "rolled_back")]
    assert len(world.backend.jobs) == 1
    ends = ["recovery_verified"] if recovers else ["recovery_failed", "rolled_back"]
    once = ("alert_firing", "retraining_started", "promoted", *ends)
    assert {kind: world.kinds.count(kind) for kind in once} == dict.fromkeys(once, 1)


@pytest.mark.parametrize("writes", range(5))
def test_what_a_person_does_is_done_or_not_done_and_may_be_asked_for_again(tmp_path: Path, disk: Disk, writes: int):
    world = behind_another(World(tmp_path))
    running(world)
    disk.fill(writes)
    again(lambda: by_hand.rollback(world.worker, "2", "ann"))
    assert settled(world) == "cooling_down"
    assert world.registry.pointers["production"] == "1"
    assert [event["who"] for event in told(world, "rolled_back")] == ["ann"]
    again(lambda: by_hand.promote(world.worker, "2", "bob", from_version="1"))
    settled(world)
    assert [event["who"] for event in told(world, "promoted")] == ["bob"]
    assert world.store.state.intent is None
