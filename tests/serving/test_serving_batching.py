"""Grouping of concurrent requests, without waiting for any."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from driftloop.serving.batching import Batcher, Overloaded


class Model:
    """Answers n with 10 n, notes its batches, and can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[str] = []
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.append(threading.current_thread().name)
        self.entered.set()
        assert self.free.wait(10)
        if -1 in items:
            raise ValueError("no answer to -1")
        return [10 * item for item in items]


@asynccontextmanager
async def running(
    answer: Callable[[Sequence[int]], Sequence[int]],
    most_at_once: int = 8,
    most_waiting: int = 100,
    turn_s: float = 9.0,
) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(answer, most_at_once=most_at_once, most_waiting=most_waiting, turn_s=turn_s)
    batcher.start()
    yield batcher
    await batcher.stop()
    assert not batcher.alive


async def entered(model: Model) -> None:
    """Wait until the worker is inside the model."""
    await asyncio.to_thread(model.entered.wait, 10)
    model.entered.clear()


def in_thread(batcher: Batcher[int, int]) -> None:
    """Make the batcher believe that the model is slow."""
    batcher._turn_s = -1.0


async def test_a_single_request_is_answered_at_once() -> None:
    model = Model()
    async with running(model) as batcher:
        assert await batcher.ask([3]) == [30]
    assert model.threads == ["MainThread"]


async def test_requests_of_one_turn_of_the_loop_are_answered_by_one_call_in_order() -> None:
    model = Model()
    async with running(model) as batcher:
        answers = await asyncio.gather(*(batcher.ask([n]) for n in range(5)), batcher.ask([5, 6]))
    assert answers == [[0], [10], [20], [30], [40], [50, 60]]
    assert model.batches == [[0, 1, 2, 3, 4, 5, 6]]


async def test_a_call_has_no_more_items_than_allowed_and_divides_no_request() -> None:
    model = Model()
    async with running(model, most_at_once=4) as batcher:
        answers = await asyncio.gather(*(batcher.ask([n, n, n]) for n in range(3)), batcher.ask([7]))
    assert answers == [[0] * 3, [10] * 3, [20] * 3, [70]]
    assert model.batches == [[0] * 3, [1] * 3, [2, 2, 2, 7]]


async def test_a_large_request_runs_in_the_worker_while_the_loop_answers_others() -> None:
    model = Model()
    async with running(model, most_at_once=4) as batcher:
        model.free.clear()
        large = asyncio.create_task(batcher.ask(list(range(9))))
        await entered(model)
        # The loop is free; a quick model would answer here.
        assert batcher.alive
        assert not large.done()
        model.free.set()
        assert await batcher.ask([1]) == [10]
        assert await large == [10 * n for n in range(9)]
    assert model.threads == ["predict", "MainThread"]


async def test_what_arrives_while_the_worker_is_busy_is_its_next_call() -> None:
    model = Model()
    async with running(model, most_at_once=4) as batcher:
        in_thread(batcher)
        batcher._item_s = 1.0
        model.free.clear()
        first = asyncio.create_task(batcher.ask([0]))
        await entered(model)
        others = [asyncio.create_task(batcher.ask([n])) for n in range(1, 7)]
        await asyncio.sleep(0)
        model.free.set()
        assert await asyncio.gather(first, *others) == [[10 * n] for n in range(7)]
    assert model.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_a_slow_model_moves_to_the_worker_by_itself() -> None:
    threads = []

    def slow(items: Sequence[int]) -> list[int]:
        threads.append(threading.current_thread().name)
        return [sum(range(200_000)) for _ in items]

    async with running(slow, turn_s=1e-4) as batcher:
        for _ in range(3):
            await batcher.ask([1])
    assert threads == ["MainThread", "predict", "predict"]


async def test_more_than_may_wait_is_turned_away_and_the_rest_answered() -> None:
    model = Model()
    async with running(model, most_at_once=1, most_waiting=3) as batcher:
        tasks = [asyncio.create_task(batcher.ask([n])) for n in range(5)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[:3] == [[0], [10], [20]]
        assert [type(result) for result in results[3:]] == [Overloaded, Overloaded]
        assert await batcher.ask(list(range(50))) == [10 * n for n in range(50)], "an idle server takes any one request"


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_client_that_has_gone_does_not_disturb_the_others(threaded: bool) -> None:
    model = Model()
    async with running(model, most_waiting=3) as batcher:
        if threaded:
            in_thread(batcher)
            batcher._item_s = 1.0
            model.free.clear()
            blocker = asyncio.create_task(batcher.ask([9]))
            await entered(model)
        gone, stays = asyncio.create_task(batcher.ask([1])), asyncio.create_task(batcher.ask([2]))
        await asyncio.sleep(0)
        gone.cancel()
        model.free.set()
        assert await stays == [20]
        if threaded:
            await blocker
        for _ in range(5):
            assert await batcher.ask([4]) == [40], "what was given up takes no room"
    assert [2] in model.batches


@pytest.mark.parametrize("size", [1, 9])
async def test_a_failure_reaches_those_who_asked_and_no_one_after(size: int) -> None:
    async with running(Model()) as batcher:
        with pytest.raises(ValueError, match="no answer to -1"):
            await batcher.ask([-1] * size)
        assert await batcher.ask([2]) == [20]


async def test_stopping_answers_what_waits() -> None:
    model = Model()
    async with running(model) as batcher:
        in_thread(batcher)
        batcher._item_s = 1.0
        asked = asyncio.gather(*(batcher.ask([n]) for n in range(20)))
        await asyncio.sleep(0)
    assert await asked == [[10 * n] for n in range(20)]
