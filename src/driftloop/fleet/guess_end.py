"""How units of a fleet seem to end: what the columns of the data say, or a table beside them."""

import re
from collections.abc import Sequence

import numpy as np
from msgspec import UnsetType
from numpy.typing import NDArray

from driftloop.fleet import cells, guess_table
from driftloop.fleet.guess_time import Clocked
from driftloop.fleet.guess_unit import Key
from driftloop.fleet.inventory import Column, Inventory
from driftloop.fleet.schema import Censored, End, Headers

_END = re.compile(
    r".*(fail|broken|broke|dead|event|fault|breakdown|end_of|status|state|health|ausfall|defekt|störung|zustand).*"
    r"|end|alive"
)
_FAILURE = re.compile(r".*(fail|broken|broke|breakdown|ausfall|defekt|störung).*")
"""What columns are called that may say in the middle of a unit's rows that it failed, and was repaired; tables of
failures beside the data too, and the words that say so."""
_FLAG = re.compile(r"(is_|has_)?(fail(ed|ure)?|broken?|breakdown|ausfall|defekt)(_(flag|label))?")
"""What a column is called that says of each row whether the unit has failed."""
_STATES = 8
"""Distinct words that a column of states has at most."""
_RARE = 0.1
"""Share of rows up to which what a column says can be failures."""
_OUT = re.compile(r".*(censor|taken_out|withdrawn|suspen|removed|truncat).*")
_FAILED = re.compile(r".*(fail|broken|broke|breakdown|repair|ausfall).*")
"""Columns of a table of units that say which of them have failed."""


def drop(free: list[Column], column: Column | None) -> None:
    """Take a column out of those that are free."""
    free[:] = [other for other in free if other is not column]


def find_end(
    free: list[Column],
    blocks: Sequence[NDArray[np.int64]],
    key: Key | None,
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
            truth = column.says_yes and cells.is_true(value, None)
            return End(rule="column", column=column.header, value=None if truth else str(value))
    for column in [column for column in free if _END.fullmatch(column.plain) and column.words]:
        value = _word(column)
        if value is None and not _FAILURE.fullmatch(column.plain):
            continue
        yes = {text: cells.is_true(text, value) for text in set(column.texts)}
        failed = np.array([yes[text] for text in column.texts])
        if 0 < failed.sum() <= _RARE * len(failed):
            drop(free, column)
            comments["end"] = f"{failed.sum()} rows say so. {guess_table.NEW_LIFE}"
            return End(rule="column", column=column.header, value=value, after="new_life")
    for column in free:
        if (
            _FLAG.fullmatch(column.plain)
            and column.says_yes
            and not any(cells.is_true(word, None) for word in column.words)
        ):
            drop(free, column)
            comments["end"] = "No row that was looked at says so: a unit that no row says it of counts as taken out."
            return End(rule="column", column=column.header, after="new_life")
    end = guess_table.failures(key, clocked, data, comments)
    if end is None:
        comments["end"] = (
            "Each unit's last row is taken as its failure. If not so, say how a life ends:\n"
            '[end]\nsensor = "..."\nbelow = 0.8\nholds = "2 of 3 rows"'
        )
    return end or End()


def _word(column: Column) -> str | None:
    """The one word for a failure in a column of states, such as BROKEN beside NORMAL, or beside nothing."""
    words = [word for word in column.words if _FAILURE.fullmatch(word.lower())]
    several = 2 <= len(column.words) <= _STATES or (len(column.words) == 1 and column.missing > 0)
    return words[0] if len(words) == 1 and several else None


def find_censored(
    free: list[Column],
    blocks: Sequence[NDArray[np.int64]],
    key: Key | None,
    data: Inventory,
    comments: dict[str, str],
    end: End,
) -> Censored:
    """Which units were taken out before they failed: a column of the data says so, or one of a table of units."""
    for column in [column for column in free if _OUT.fullmatch(column.plain) and column.says_yes]:
        drop(free, column)
        out = sum(any(cells.is_true(column.texts[row], None) for row in block) for block in blocks)
        comments["censored"] = f"{out} of {len(blocks)} units were taken out before they failed."
        return Censored(column=column.header)
    for path, columns in [one for one in data.beside.items() if one[0].name not in end.files]:
        found = _of_units(columns, key)
        if found is not None:
            unit_column, column, value = found
            out = sum(cells.is_true(text, value) for text in column.texts)
            comments["censored"] = f"{out} of {len(column.texts)} units were taken out before they failed."
            return Censored(column=column.header, value=value, file=path.name, unit_column=unit_column)
    comments["censored"] = (
        "No unit is known to have been taken out before it failed. If some were, name them:\n"
        '[censored]\nunits = ["...", "..."]'
    )
    return Censored()


def _of_units(columns: Sequence[Column], key: Key | None) -> tuple[Headers | UnsetType, Column, int | None] | None:
    """Of a table of units: its header of the unit, where that is not the data's, the column that says which were taken
    out, and the value that means so.
    """
    found = None if key is None else guess_table.key_in(columns, key)
    if found is None:
        return None
    names, header = found
    for column in [column for column in columns if _OUT.fullmatch(column.plain) and column.says_yes]:
        return header, column, None
    once = len(set(names)) == len(names)
    for column in [column for column in columns if _FAILED.fullmatch(column.plain) and set(column.words) == {"0", "1"}]:
        if once:
            return header, column, 0
    return None
