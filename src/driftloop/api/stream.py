"""Server-sent events: everything that happens to the fleets, to everybody who listens, from where each left off.

An id names the last event of every fleet that has been sent: `cmapss:120,pumps:7`. A browser sends the last id back
when it connects again, and goes on behind it.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi.concurrency import run_in_threadpool

from driftloop.api import loop_view
from driftloop.api.fleets import Fleet
from driftloop.errors import DriftloopError

HEARTBEAT_S = 10.0
CHECK_S = 2.0
"""Between two looks whether who listens still may."""
LONGEST_S = 3600.0
"""What a proxy said of somebody when the stream began counts no longer; a page goes on behind its last id by itself."""
LOOK_S = 0.25
"""Between two looks at what the tails hold; costs no request."""
_PLACE = re.compile(r"([a-z0-9-]{1,40}):(\d{1,15})")


def places(last_event_id: str) -> dict[str, int]:
    """The number of the last event of each fleet, from an id; what is none is passed over."""
    found = (_PLACE.fullmatch(part) for part in last_event_id.split(","))
    return {match[1]: int(match[2]) for match in found if match is not None}


async def follow(fleets: Mapping[str, Fleet], last_event_id: str, admitted: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The stream, from behind `last_event_id`, or of what happens from now on where that is empty; it ends when who
    listens is no longer `admitted`, and after LONGEST_S."""
    seen = places(last_event_id)
    told: dict[str, Any] = dict.fromkeys(fleets)
    began = beat = checked = time.monotonic()
    yield b"retry: 2000\n: connected\n\n"
    while time.monotonic() - began < LONGEST_S:
        for name, fleet in fleets.items():
            async for message in _news(name, fleet, seen):
                beat = time.monotonic()
                yield message
            state = _state(fleet)
            if state != told[name]:
                told[name], beat = state, time.monotonic()
                yield _message("state", {"fleet": name, **state}, seen)
        if time.monotonic() - checked >= CHECK_S:
            checked = time.monotonic()
            if not await run_in_threadpool(admitted):
                return
        if time.monotonic() - beat >= HEARTBEAT_S:
            beat = time.monotonic()
            yield b": still here\n\n"
        await asyncio.sleep(LOOK_S)


async def _news(name: str, fleet: Fleet, seen: dict[str, int]) -> AsyncIterator[bytes]:
    """What a fleet's listener has not seen yet; `seen` follows."""
    if not fleet.tail.known:
        return  # Where its log ends is not known yet.
    if seen.setdefault(name, fleet.tail.last) > fleet.tail.last:
        seen[name] = 0  # Another log than the one whose events were seen: all of it is new.
    while seen[name] < fleet.tail.last:
        try:
            events = await run_in_threadpool(fleet.tail.after, seen[name])
        except DriftloopError:
            return  # The retrainer is away; asked again with the next look.
        if not events:
            return
        for event in events:
            seen[name] = int(event["seq"])
            yield _message("event", {"fleet": name, **loop_view.public(event)}, seen)


def _state(fleet: Fleet) -> dict[str, Any]:
    status = fleet.tail.state
    if status is None:
        return {"state": loop_view.UNKNOWN, "waits_for": None, "verdict": fleet.tail.verdict}
    approval = status.get("approval") or {}
    return {
        "state": status.get("state"),
        "waits_for": None if status.get("state") == "cooling_down" else loop_view.waits_for(status),
        "step": status.get("step"),
        "cause": status.get("cause"),
        "approval": approval.get("id"),
        "progress": status.get("progress"),
        "verdict": fleet.tail.verdict,
    }


def _message(event: str, content: Mapping[str, Any], seen: Mapping[str, int]) -> bytes:
    place = ",".join(f"{name}:{seq}" for name, seq in sorted(seen.items()))
    return f"id: {place}\nevent: {event}\ndata: {json.dumps(content)}\n\n".encode()
