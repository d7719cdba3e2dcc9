"""A tail holds the newest rows, in order, in no more memory than they take; what memory has not is read."""

import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from driftloop.units.tails import Tail

from .conftest import Make, row

NOTHING = b"\0" * 4
ACTS = st.lists(st.one_of(st.just("clear"), st.integers(0, 12), st.binary(min_size=4, max_size=4)))


@given(st.integers(1, 9), ACTS)
def test_the_newest_rows_are_there_oldest_first(most: int, acts: list[str | int | bytes]) -> None:
    tail, rows = Tail(most, 4), deque[bytes](maxlen=most)
    for act in acts:
        if isinstance(act, bytes):
            tail.append(act)
            rows.append(act)
        elif isinstance(act, int):
            tail.skip(act, NOTHING)
            rows.extend([NOTHING] * act)
        else:
            tail.clear()
            rows.clear()
        assert tail.content() == b"".join(rows)
        assert len(tail) == len(rows)


def test_a_full_tail_takes_what_it_says_however_long_it_goes_on() -> None:
    tail, sizes = Tail(256, 96), set()
    for at in range(2000):
        tail.append(at.to_bytes(96, "little"))
        if at >= 255:
            sizes.add(sys.getsizeof(tail._rows) + sys.getsizeof(tail))
    assert len(sizes) == 1
    assert max(sizes) <= tail.size


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_behind_a_restart_the_newest_rows_of_all_units_are_read_by_one_question(
    make: Make, request: pytest.FixtureRequest, kind: str
) -> None:
    fleet = make(**({"units_database": request.getfixturevalue("postgres_url")} if kind == "postgresql" else {}))
    hours = {"a": [1, 2], "b": [1, 2, 3, 4, 5, 7], "c": [1, 2, 3, 4, 5], "new": []}
    fleet.send(*(row(name, hour, pressure=float(hour)) for name, past in hours.items() for hour in past))
    for name, past in hours.items():
        fleet.until(lambda name=name, past=past: not past or fleet.steps(name) == past)
    fleet.again()
    fleet.server.windows.clear()
    asked: list[str] = []
    reads = fleet.app.state.service.store.reads
    event.listen(reads, "before_cursor_execute", lambda *given: asked.append(given[2]))
    fleet.send(*(row(name, past[-1] + 1 if past else 1, pressure=50.0) for name, past in hours.items()))
    fleet.until(lambda: len(fleet.server.windows) == len(hours))
    assert sum("readings" in one for one in asked) == 1
    assert {one["engine_id"]: [values[1] for values in one["rows"]] for one in fleet.server.windows} == {
        "a": [1.0, 2.0, 50.0],
        "b": [5.0, None, 7.0, 50.0],
        "c": [3.0, 4.0, 5.0, 50.0],
        "new": [50.0],
    }


def test_where_memory_holds_few_units_every_window_is_whole(make: Make) -> None:
    fleet = make(units_tail_bytes=1)
    for hour in range(1, 7):
        fleet.send(*(row(name, hour, pressure=float(hour)) for name in "abc"))
        fleet.until(lambda hour=hour: len(fleet.server.windows) == 3 * hour)
    for one in fleet.server.windows:
        newest = one["cycle"]
        assert [values[1] for values in one["rows"]] == [float(at) for at in range(max(1, newest - 3), newest + 1)]
