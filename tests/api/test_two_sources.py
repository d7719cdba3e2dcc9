"""A list of units is the same, whether the service that keeps them answers or what the servers remember."""

import itertools
import math
import threading
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from driftloop.api import units as in_service
from driftloop.fleets import load
from driftloop.protocol.answers import Answer
from driftloop.protocol.unit_list import Entry, choose
from driftloop.units import views
from driftloop.units.memory import Latest, Life, Memory, Unit

CMAPSS = load("cmapss")
FLAGS = ["provisional", "held:sensor_2", "held:sensor_3", "held", "refused: too long", "short_history"]
answers = st.builds(
    lambda unit, time, rul, below, flags: Answer(unit, time, 7, rul, rul - below, rul + 9, flags, "3"),
    st.sampled_from(["e9", "e10", "E1", "e010", "x", "x-1", "ß9", "STRASSE", "9", "10"]),
    st.integers(0, 3).map(float),
    st.integers(0, 3).map(float),
    st.integers(0, 2).map(float),
    st.lists(st.sampled_from(FLAGS), max_size=3, unique=True),
)
fleets = st.lists(answers, max_size=10, unique_by=lambda one: one.unit)
asked = st.fixed_dictionaries(
    {
        "sort": st.sampled_from(["low", "rul", "unit", "last_seen"]),
        "order": st.sampled_from(["asc", "desc"]),
        "q": st.sampled_from(["", "e", "E1", "ss", "-", "nobody"]),
        "flag": st.sampled_from(["", "held", "held:sensor_2", "refused", "provisional", "hel"]),
        "state": st.sampled_from(["running", "all", "failed"]),
        "offset": st.integers(0, 4),
        "limit": st.integers(1, 4),
    }
)
SHOWN = ("unit", "last_seen", "step", "rul", "low", "high", "flags", "version")


def remembered(found: list[Answer], query: dict[str, Any]) -> dict[str, Any]:
    """What the API says where servers alone remember."""
    fleet = SimpleNamespace(kept=lambda *_, **__: None, newest=lambda: {one.unit: one for one in found})
    return in_service.listed(cast(Any, fleet), **query)


def kept(found: list[Answer], query: dict[str, Any]) -> dict[str, Any]:
    """What the service says that keeps units."""
    memory = Memory(CMAPSS, 2**20)
    memory.known = True
    for at, one in enumerate(found):
        unit = Unit(at, one.unit)
        memory.add_unit(unit)
        life = Life(at, unit, 1, first=0.0, last_time=7.0, last_received=one.time)
        life.latest = Latest(7, 7, one.time, one.rul, one.low, one.high, one.flags, one.version)
        memory.add_life(life)
    return views.listed(cast(Any, SimpleNamespace(memory=memory)), **query)


@given(found=fleets, query=asked)
def test_both_sources_list_alike(found: list[Answer], query: dict[str, Any]) -> None:
    of_service, of_servers = kept(found, query), remembered(found, query)
    of_service["units"] = [{name: one[name] for name in SHOWN} for one in of_service["units"]]
    assert of_service == of_servers


@given(found=fleets, query=asked)
def test_pages_together_are_the_whole_list_and_each_flag_finds_as_many_as_are_counted(
    found: list[Answer], query: dict[str, Any]
) -> None:
    whole = remembered(found, {**query, "offset": 0, "limit": 1000})
    pages = [remembered(found, {**query, "offset": at, "limit": 2})["units"] for at in range(0, len(found) + 2, 2)]
    assert list(itertools.chain(*pages)) == whole["units"]
    assert whole["total"] == len(whole["units"])
    for flag, count in whole["flags"].items():
        assert remembered(found, {**query, "flag": flag})["total"] == count


@given(
    known=st.lists(st.one_of(st.none(), st.just(float("nan")), st.floats(-5, 5)), max_size=8),
    sort=st.sampled_from(["low", "rul", "last_seen"]),
    order=st.sampled_from(["asc", "desc"]),
)
def test_what_is_not_known_stands_at_the_end(known: list[float | None], sort: Any, order: Any) -> None:
    entries = [Entry(f"e{at}", value, value, value, [], value) for at, value in enumerate(known)]
    chosen = choose(entries, sort=sort, order=order, q="", flag="").units
    there = [value for value in chosen if value is not None and not math.isnan(value)]
    assert chosen[: len(there)] == there
    assert there == sorted(there, reverse=order == "desc")
    assert len(chosen) == len(known)


def test_a_list_is_made_while_rows_come() -> None:
    """Sorting holds nobody up: the lock of the memory is free meanwhile."""
    memory = Memory(CMAPSS, 2**20)
    memory.known = True
    free: list[bool] = []

    class Name(str):
        def casefold(self) -> str:
            def look() -> None:
                free.append(memory.lock.acquire(blocking=False))
                if free[-1]:
                    memory.lock.release()

            other = threading.Thread(target=look)
            other.start()
            other.join()
            return super().casefold()

    unit = Unit(1, Name("e1"))
    memory.add_unit(unit)
    memory.add_life(Life(1, unit, 1))
    query: dict[str, Any] = {"sort": "low", "order": "asc", "flag": "", "state": "all", "offset": 0, "limit": 1}
    assert views.listed(cast(Any, SimpleNamespace(memory=memory)), q="e", **query)["total"] == 1
    assert free == [True]
