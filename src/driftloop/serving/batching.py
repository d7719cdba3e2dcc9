"""Dynamic micro-batching: requests that arrive together are answered by one run of the model.

Quick batches run between two turns of the event loop: everything that was read in this turn goes into one run,
so an idle server adds no delay. Handing 50 microseconds of arithmetic to another thread costs more than doing
it, since both then wait for the interpreter's lock. What would keep the loop from its other clients for long,
a large request or a large model, runs in a worker thread, grouped with what waits there.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from driftloop.errors import DriftloopError

log = logging.getLogger(__name__)

LONGEST_TURN_S = 0.003
"""Computing that is done on the event loop at a time."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Overloaded(DriftloopError):
    """More waits than can be answered soon."""


class _Job(Generic[Item, Answer]):
    """One request: its items are answered in one call, never divided."""

    __slots__ = ("future", "items")

    def __init__(self, items: Sequence[Item], future: "asyncio.Future[list[Answer]]") -> None:
        self.items, self.future = items, future


class Batcher(Generic[Item, Answer]):
    """Groups concurrent requests into calls of `answer`.

    `answer` gets the items of one or more requests and returns one answer per item, in order; it is called on
    the event loop and in one other thread. A call has at most `most_at_once` items, unless one request alone
    has more. `turn_s` is the computing time that is expected of a call on the event loop at most.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        most_at_once: int,
        most_waiting: int,
        turn_s: float = LONGEST_TURN_S,
    ) -> None:
        self._answer, self._turn_s = answer, turn_s
        self._most_at_once, self._most_waiting = most_at_once, most_waiting
        self._waiting = 0
        self._item_s = 0.0
        """Computing time of an item, a moving average."""
        self._quick: deque[_Job[Item, Answer]] = deque()
        self._turn_is_due = False
        self._jobs: queue.SimpleQueue[_Job[Item, Answer] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="predict", daemon=True)

    def start(self) -> None:
        """Start the worker; called from the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Answer what waits, then end the worker."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    @property
    def alive(self) -> bool:
        """Whether requests are being answered."""
        return self._thread.is_alive()

    async def ask(self, items: Sequence[Item]) -> list[Answer]:
        """The answers to one request's items, in order.

        Raises Overloaded where too many items wait already, and what `answer` raised.
        """
        assert self._loop is not None
        if self._waiting and self._waiting + len(items) > self._most_waiting:
            raise Overloaded(f"{self._waiting} windows are waiting", remedy="try again later, or start more workers")
        job: _Job[Item, Answer] = _Job(items, self._loop.create_future())
        self._waiting += len(items)
        if len(items) * self._item_s > self._turn_s or len(items) > self._most_at_once:
            self._jobs.put(job)
        else:
            self._quick.append(job)
            if not self._turn_is_due:
                self._turn_is_due = True
                self._loop.call_soon(self._take_turn)
        return await job.future

    # On the event loop.

    def _take_turn(self) -> None:
        most = self._most_at_once
        if self._item_s > 0:
            most = min(most, int(self._turn_s / self._item_s))
        jobs = [self._quick.popleft()]
        size = len(jobs[0].items)
        while self._quick and size + len(self._quick[0].items) <= most:
            jobs.append(self._quick.popleft())
            size += len(jobs[-1].items)
        self._turn_is_due = bool(self._quick)
        if self._quick:
            assert self._loop is not None
            # After what else is ready: other requests are read and answers written in between.
            self._loop.call_soon(self._take_turn)
        self._deliver(jobs, *self._run(jobs))

    def _deliver(
        self,
        jobs: list[_Job[Item, Answer]],
        wanted: list[_Job[Item, Answer]],
        answers: Sequence[Answer],
        failure: Exception | None,
    ) -> None:
        self._waiting -= sum(len(job.items) for job in jobs)
        start = 0
        for job in wanted:
            stop = start + len(job.items)
            if not job.future.done():
                if failure is None:
                    job.future.set_result(list(answers[start:stop]))
                else:
                    job.future.set_exception(failure)
            start = stop

    # In the worker thread.

    def _work(self) -> None:
        held: _Job[Item, Answer] | None = None
        assert self._loop is not None
        while (job := held or self._jobs.get()) is not None:
            jobs, size, held = [job], len(job.items), None
            with contextlib.suppress(queue.Empty):
                while size < self._most_at_once:
                    following = self._jobs.get_nowait()
                    if following is None:
                        self._jobs.put(None)
                        break
                    if size + len(following.items) > self._most_at_once:
                        held = following
                        break
                    jobs.append(following)
                    size += len(following.items)
            result = self._run(jobs)
            # A closed loop means that nobody waits any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver, jobs, *result)

    # On either.

    def _run(
        self, jobs: list[_Job[Item, Answer]]
    ) -> tuple[list[_Job[Item, Answer]], Sequence[Answer], Exception | None]:
        """The jobs that somebody still waits for, and their answers or what went wrong."""
        wanted = [job for job in jobs if not job.future.cancelled()]
        items = wanted[0].items if len(wanted) == 1 else [item for job in wanted for item in job.items]
        if not items:
            return wanted, (), None
        started = time.thread_time()
        try:
            answers = self._answer(items)
        except Exception as error:
            log.exception("a batch of %d requests could not be answered", len(wanted))
            return wanted, (), error
        self._item_s += 0.1 * ((time.thread_time() - started) / len(items) - self._item_s)
        return wanted, answers, None
