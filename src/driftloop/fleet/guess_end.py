"""How units of a fleet seem to end: what the columns of the data say, or a table beside them."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from driftloop.fleet import cells
from driftloop.fleet.guess_time import Clocked
from driftloop.fleet.inventory import Column, Inventory
from driftloop.fleet.schema import Censored, End

_END = re.compile(
    r".*(fail|broken|broke|dead|event|fault|breakdown|end_of|status|state|health|ausfall|defekt|störung|zustand).*"
    r"|end|alive"
)
_FAILURE = re.compile(r".*(fail|broken|broke|breakdown|ausfall|defekt|störung).*")
"""What columns are called that may say in the middle of a unit's rows that it failed, and was repaired; tables of
failures beside the data too, and the words that say so."""
_STATES = 8
"""Distinct words that a column of states has at most."""
_RARE = 0.1
"""Share of rows up to which what a column says can be failures."""
_OUT = re.compile(r".*(censor|taken_out|withdrawn|suspen|removed|truncat).*")
_FAILED = re.compile(r".*(fail|broken|broke|breakdown|repair|ausfall).*")
"""Columns of a table of units that say which of them have failed."""
_NEW_LIFE = "A unit that goes on then was repaired: its next life begins."


def drop(free: list[Column], column: Column | None) -> None:
    """Take a column out of those that are free."""
    free[:] = [other for other in free if other is not column]


def says_yes(column: Column) -> bool:
    """Whether a column says nothing but yes and no."""
    return 1 <= len(column.words) <= 2 and all(
        word.lower() in cells.FALSE | {"1", "1.0", "yes", "y", "true", "t", "on"} for word in column.words
    )


def find_end(
    free: list[Column],
    blocks: Sequence[NDArray[np.int64]],
    unit: Column | None,
    clocked: Clocked | None,
    data: Inventory,
    comments: dict[str, str],
) -> End:
    """A column whose value changes in the last rows of units, and never back, says that they have failed; so does one
    that is called so and seldom says anything, or seldom says a word for it; so does a table that is called so.
    """
    for column in [column for column in free if _END.fullmatch(column.plain) and 2 <= len(column.words) <= 5]:
        texts = np.array([text.strip() for text in column.texts])
        last = [texts[block[-1]] for block in blocks]
        value = max(set(last), key=last.count)
        early = np.concatenate([texts[block[: len(block) // 2]] for block in blocks])
        if value not in early and last.count(value) * 2 >= len(last):
            drop(free, column)
            comments["end"] = f"{last.count(value)} of {len(blocks)} units end so; the others count as taken out."
            truth = says_yes(column) and cells.is_true(value, None)
            return End(rule="column", column=column.header, value=None if truth else str(value))
    for column in [column for column in free if _END.fullmatch(column.plain) and column.words]:
        value = _word(column)
        if value is None and not _FAILURE.fullmatch(column.plain):
            continue
        yes = {text: cells.is_true(text, value) for text in set(column.texts)}
        failed = np.array([yes[text] for text in column.texts])
        if 0 < failed.sum() <= _RARE * len(failed):
            drop(free, column)
            comments["end"] = f"{failed.sum()} rows say so. {_NEW_LIFE}"
            return End(rule="column", column=column.header, value=value, after="new_life")
    end = _table(unit, clocked, data, comments)
    if end is None:
        comments["end"] = (
            "Each unit's last row is taken as its failure. If not so, say how a life ends:\n"
            '[end]\nsensor = "..."\nbelow = 0.8\nholds = "2 of 3 rows"'
        )
    return end or End()


def _word(column: Column) -> str | None:
    """The one word for a failure in a column of states, such as BROKEN beside NORMAL and RECOVERING."""
    words = [word for word in column.words if _FAILURE.fullmatch(word.lower())]
    return words[0] if len(words) == 1 and 2 <= len(column.words) <= _STATES else None


def _table(unit: Column | None, clocked: Clocked | None, data: Inventory, comments: dict[str, str]) -> End | None:
    """The end that a table of failures beside the data tells."""
    if clocked is None:
        return None
    time = clocked.column.header.casefold()
    for path, columns in data.beside.items():
        spelt = {column.header.casefold(): column for column in columns}
        key = spelt.get(unit.header.casefold()) if unit is not None else None
        called = [path.stem.lower(), *spelt]
        if key is None or unit is None or time not in spelt or not any(_FAILURE.fullmatch(name) for name in called):
            continue
        known = set(unit.names)
        rows = sum(name in known for name in key.names)
        if rows:
            comments["end"] = f"{rows} failures of {len(known & set(key.names))} units stand there. {_NEW_LIFE}"
            return End(rule="table", file=path.name, after="new_life")
    return None


def find_censored(
    free: list[Column],
    blocks: Sequence[NDArray[np.int64]],
    unit: Column | None,
    data: Inventory,
    comments: dict[str, str],
) -> Censored:
    """Which units were taken out before they failed: a column of the data says so, or one of a table of units."""
    for column in [column for column in free if _OUT.fullmatch(column.plain) and says_yes(column)]:
        drop(free, column)
        out = sum(any(cells.is_true(column.texts[row], None) for row in block) for block in blocks)
        comments["censored"] = f"{out} of {len(blocks)} units were taken out before they failed."
        return Censored(column=column.header)
    for path, columns in data.beside.items():
        found = _of_units(columns, unit)
        if found is not None:
            column, value = found
            out = sum(cells.is_true(text, value) for text in column.texts)
            comments["censored"] = f"{out} of {len(column.texts)} units were taken out before they failed."
            return Censored(column=column.header, value=value, file=path.name)
    comments["censored"] = (
        "No unit is known to have been taken out before it failed. If some were, name them:\n"
        '[censored]\nunits = ["...", "..."]'
    )
    return Censored()


def _of_units(columns: Sequence[Column], unit: Column | None) -> tuple[Column, int | None] | None:
    """The column of a table of units that says which were taken out, and the value that means so."""
    keys = [column for column in columns if unit is not None and column.header.casefold() == unit.header.casefold()]
    if not keys or unit is None or not set(keys[0].names) & set(unit.names):
        return None
    for column in [column for column in columns if _OUT.fullmatch(column.plain) and says_yes(column)]:
        return column, None
    once = len(set(keys[0].names)) == len(keys[0].names)
    for column in [column for column in columns if _FAILED.fullmatch(column.plain) and set(column.words) == {"0", "1"}]:
        if once:
            return column, 0
    return None
