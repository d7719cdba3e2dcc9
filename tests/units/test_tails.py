"""A tail holds the newest rows, in order, in no more memory than they take."""

import sys
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from driftloop.units.tails import Tail

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
