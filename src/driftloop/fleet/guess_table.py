"""Tables beside the data that tell when units failed: found by what they are called or say, whatever their headers."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from msgspec import UNSET, UnsetType

from driftloop.fleet import cells
from driftloop.fleet.guess_time import Clocked
from driftloop.fleet.guess_unit import Key
from driftloop.fleet.inventory import Column, Inventory
from driftloop.fleet.schema import End, Headers

NEW_LIFE = "A unit that goes on then was repaired: its next life begins."

_FAILURE = re.compile(
    r".*(fail|fault|broken|broke|breakdown|outage|incident|downtime|unplanned|ausfall|ausgefallen|defekt|störung).*"
)
"""What tables of failures are called, or their columns, and the words in them that mean one."""
_NO_FAILURE = re.compile(r"(no|non|without|kein|keine|default)_?(fail|fault|ausfall|defekt|störung|s?$).*|default.*")
_BEGINS = re.compile(
    r".*(fail|fault|broke|break|ausfall|störung|occur|event|incident|start|begin|down|detect|report).*"
)
_OTHERWISE = re.compile(
    r".*(install|purchas|commission|manufactur|built|birth|repair|fix|restor|clos|end|finish|resol|complet|updat|creat"
    r"|modif|warranty|until|to$).*"
)
"""Times in a table of failures that are not when a unit failed."""
_TIMES = re.compile(r".*(time|date|day|when|timestamp|datum|zeit|tag|_at|_on|^ts|^ds).*")
_KINDS = 20
"""Distinct words that a column of kinds of events has at most."""
_KNOWN = 0.5
"""Share of a table's units from which on they are those of the data."""
_LOOKED_AT = 200


def failures(key: Key | None, clocked: Clocked | None, data: Inventory, comments: dict[str, str]) -> End | None:
    """The end that a table of failures beside the data tells."""
    if clocked is None or (key is None and len(data.paths) > 1):
        return None
    for path, columns in data.beside.items():
        found = table([path], columns, key, clocked, comments)
        if found is not None:
            # One table for each year, say: with the same columns, and read as one.
            alike = [other for other, theirs in data.beside.items() if _headers(theirs) == _headers(columns)]
            alike = [other for other in alike if table([other], data.beside[other], key, clocked, {}) is not None]
            joined = [_joined([data.beside[other][at] for other in alike]) for at in range(len(columns))]
            return table(alike, joined, key, clocked, comments) if len(alike) > 1 else found
    return None


def _headers(columns: Sequence[Column]) -> list[str]:
    return [column.header.casefold() for column in columns]


def _joined(columns: Sequence[Column]) -> Column:
    """One column of several tables, one below the other."""
    numbers = [column.numbers for column in columns if column.numbers is not None]
    texts = [text for column in columns for text in column.texts]
    return replace(columns[0], texts=texts, numbers=np.concatenate(numbers) if len(numbers) == len(columns) else None)


def table(
    paths: Sequence[Path], columns: Sequence[Column], key: Key | None, clocked: Clocked, comments: dict[str, str]
) -> End | None:
    """The end that one table tells, where it is of failures, or several that have the same columns; what is to be said
    of it goes into `comments`.
    """
    keyed = None if key is None else key_in(columns, key)
    if key is not None and keyed is None:
        return None
    units, unit_header = keyed if keyed is not None else ([""] * len(columns[0].texts), UNSET)
    named = {column.header.casefold() for column in (clocked.column, clocked.of_day) if column is not None}
    named |= {*({column.header.casefold() for column in key.columns} if key else ())}
    rest = [column for column in columns if column.header.casefold() not in named and column.header != unit_header]
    time = _time_in(columns, clocked, rest)
    if time is None:
        return None
    kinds = _kinds([column for column in rest if column is not time])
    if kinds is None and not any(
        map(_means_failure, (paths[0].stem.lower(), *(column.plain for column in [*rest, time])))
    ):
        return None
    column, value = kinds if kinds is not None else (None, None)
    chosen = np.array([cells.is_true(text, value) for text in column.texts] if column else [True] * len(time.texts))
    chosen &= np.array([text.strip().lower() not in cells.MISSING for text in time.texts])
    known = set(key.names) if key is not None else set()
    if key is not None:
        chosen &= np.array([unit in known for unit in units])
    if not chosen.any():
        return None
    failed = {unit for unit, one in zip(units, chosen, strict=True) if one}
    of = f" of {len(failed)} unit{'s' * (len(failed) != 1)}" if key is not None else ""
    said = f"{chosen.sum()} failures{of} stand there, by {time.header}"
    said += f", where {column.header} says so. {NEW_LIFE}" if column is not None else f". {NEW_LIFE}"
    others = [] if column is not None else [other for other in rest if other is not time and _is_kinds(other)]
    if others:
        words = ", ".join(list(others[0].words)[:4])
        said += f"\nEvery row counts. If only some are failures, choose them by {others[0].header} ({words}):"
        said += f'\ncolumn = "{others[0].header}"\nvalue = "..."'
    comments["end"] = said
    same_time = time.header.casefold() == clocked.column.header.casefold()
    return End(
        rule="table",
        column=column.header if column is not None else None,
        value=value,
        file=paths[0].name if len(paths) == 1 else tuple(path.name for path in paths),
        after="new_life",
        unit_column=unit_header,
        time_column=UNSET if same_time else time.header,
    )


def seems_of_failures(path: Path, columns: Sequence[Column]) -> bool:
    """Whether a table or one of its columns is called so, whether or not its units and times are known."""
    return any(map(_means_failure, (path.stem.lower(), *(column.plain for column in columns))))


def key_in(columns: Sequence[Column], key: Key) -> tuple[list[str], Headers | UnsetType] | None:
    """The unit of each row of a table, and the header that names it where that is not the data's: the column with the
    data's header, else the one that holds their units; None where there is none.
    """
    known = set(key.names)
    spelt = {column.header.casefold(): column for column in columns}
    same = [spelt.get(column.header.casefold()) for column in key.columns]
    if all(same):
        names = Key(tuple(column for column in same if column is not None)).names
        return (names, UNSET) if set(names) & known else None
    if len(key.columns) > 1:
        return None
    best, most = None, 0.0
    for column in columns:
        found = set(column.names) - {""}
        share = len(found & known) / len(found) if found else 0.0
        # Numbers are many things: those of units have a header that says so, and do not count the table's rows.
        counts = column.names == [str(at) for at in range(1, len(column.names) + 1)]
        if column.numbers is not None and (counts or not _alike(column, key.columns[0])):
            continue
        if share > max(most, _KNOWN):
            best, most = column, share
    return (best.names, best.header) if best is not None else None


def _alike(one: Column, other: Column) -> bool:
    """Whether two headers share a word, as `asset` and `asset_id` do, or `Tool` and `toolID`."""
    return bool(set(one.plain.split("_")) & set(other.plain.split("_")) - {"id", "no", "nr", "number", "name"})


def _time_in(columns: Sequence[Column], clocked: Clocked, rest: Sequence[Column]) -> Column | None:
    """The column that tells when: the one with the data's header, else the first that begins a failure."""
    header = clocked.column.header.casefold()
    same = [column for column in columns if column.header.casefold() == header]
    if same:
        return same[0]
    stamped = clocked.time.kind == "timestamp"
    fitting = [column for column in rest if (_tells_times(column) if stamped else _tells_counts(column, clocked))]
    fitting = [column for column in fitting if not _OTHERWISE.fullmatch(column.plain) or _means_failure(column.plain)]
    fitting.sort(key=lambda column: (not _means_failure(column.plain), not _BEGINS.fullmatch(column.plain)))
    return fitting[0] if fitting else None


def _tells_times(column: Column) -> bool:
    told = [text for text in column.texts if text.strip().lower() not in cells.MISSING][:_LOOKED_AT]
    numbers = column.numbers is not None and not _TIMES.fullmatch(column.plain)
    return bool(told) and not numbers and all(cells.moment(text) is not None for text in told)


def _tells_counts(column: Column, clocked: Clocked) -> bool:
    """Whether a column counts as the data do, and its header says that something failed then."""
    told = column.told
    within = len(told) > 0 and told.min() >= clocked.values.min() and told.max() <= 1.1 * clocked.values.max()
    return within and _means_failure(column.plain) and not column.says_yes


def _kinds(rest: Sequence[Column]) -> tuple[Column, str | None] | None:
    """The column that says which rows are failures, and the word for it; None where all are."""
    for column in [column for column in rest if column.says_yes and len(column.words) == 2]:
        if _means_failure(column.plain):
            return column, None
    for column in [column for column in rest if _is_kinds(column)]:
        words = [word for word in column.words if _means_failure(word.lower())]
        if len(words) == 1:
            return column, words[0]
    return None


def _is_kinds(column: Column) -> bool:
    """Whether a column tells one of several kinds of events, each of which comes again."""
    return column.numbers is None and 2 <= len(column.words) <= _KINDS and min(column.words.values()) > 1


def _means_failure(text: str) -> bool:
    return bool(_FAILURE.fullmatch(text)) and not _NO_FAILURE.fullmatch(text)
