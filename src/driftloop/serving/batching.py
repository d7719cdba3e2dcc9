"""Dynamic micro-batching: what arrives while the model is busy is answered by its next run.

One worker thread takes whatever waits as soon as it is free, so an idle server adds no delay, and a busy one
answers more windows with each run. ONNX Runtime releases the interpreter's lock, so the event loop reads the
next requests meanwhile.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from driftloop.errors import DriftloopError

log = logging.getLogger(__name__)

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
    """Groups concurrent requests into calls of `answer`, which runs in a thread of its own.

    `answer` gets the items of one or more requests and returns one answer per item, in order.
    A call has at most `most_at_once` items, unless one request alone has more.
    """

    def __init__(
        self, answer: Callable[[Sequence[Item]], Sequence[Answer]], *, most_at_once: int, most_waiting: int
    ) -> None:
        self._answer = answer
        self._most_at_once, self._most_waiting = most_at_once, most_waiting
        self._waiting = 0
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
        future: asyncio.Future[list[Answer]] = self._loop.create_future()
        self._waiting += len(items)
        self._jobs.put(_Job(items, future))
        return await future

    def _work(self) -> None:
        held: _Job[Item, Answer] | None = None
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
            self._run(jobs)

    def _run(self, jobs: list[_Job[Item, Answer]]) -> None:
        # A client that has gone needs no answer; its items still leave the queue in _deliver.
        wanted = [job for job in jobs if not job.future.cancelled()]
        answers: Sequence[Answer] = ()
        failure: Exception | None = None
        try:
            if wanted:
                items = wanted[0].items if len(wanted) == 1 else [item for job in wanted for item in job.items]
                answers = self._answer(items)
        except Exception as error:
            log.exception("a batch of %d requests could not be answered", len(wanted))
            failure = error
        assert self._loop is not None
        # A closed loop means that nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, jobs, wanted, answers, failure)

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
