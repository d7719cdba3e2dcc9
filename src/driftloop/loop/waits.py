"""Waits and durations that no change of the wall clock stretches or cuts short.

They are measured by the monotonic clock, which on one machine goes on over a restart of the process; which boot of
the machine a reading is of says its boot id. After another boot, or where there is no such id, a wait begins anew: it
lasts at most its own length from then. Times of the wall clock are for people.
"""

import functools
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from driftloop import durable

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Now(NamedTuple):
    """One look at the clocks."""

    boot: str
    seconds: float
    """Of the monotonic clock of this boot."""
    time: str
    """RFC 3339, UTC."""


class Moment(msgspec.Struct, frozen=True):
    """A moment that durations are measured from."""

    boot: str
    seconds: float

    def passed(self, now: Now) -> float | None:
        """Seconds since then; None where nothing measures them."""
        return max(0.0, now.seconds - self.seconds) if now.boot == self.boot else None


class Wait(msgspec.Struct, frozen=True):
    """A wait of `length_s` seconds that began at `since`."""

    length_s: float
    since: Moment

    def left(self, now: Now) -> float:
        """Seconds that are left of it: never below zero, never more than its length."""
        passed = self.since.passed(now)
        return self.length_s if passed is None else max(0.0, self.length_s - passed)

    def carried_over(self, now: Now) -> "Wait":
        """The same wait after a restart: it goes on where this boot measures it, and begins anew otherwise."""
        if self.since.boot == now.boot and self.since.seconds <= now.seconds:
            return self
        return begin(self.length_s, now)


def begin(length_s: float, now: Now) -> Wait:
    """A wait that begins now."""
    return Wait(length_s, moment(now))


def later(now: Now, seconds: float) -> str:
    """The time of the wall clock so many seconds from now, for people: RFC 3339, UTC."""
    return durable.format_time(durable.parse_time(now.time) + timedelta(seconds=seconds))


def moment(now: Now) -> Moment:
    """The moment of a look at the clocks."""
    return Moment(now.boot, now.seconds)


def now() -> Now:
    """What the clocks of this machine say."""
    return Now(_boot(), time.monotonic(), durable.now())


@functools.cache
def _boot() -> str:
    """This boot of the machine; where nothing names it, this process."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return uuid.uuid4().hex
