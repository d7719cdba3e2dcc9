"""Files that lie among those of a fleet and are perhaps none of its failed units: what is said of them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftloop.errors import DataError
from driftloop.fleet import cells
from driftloop.fleet.findings import Findings
from driftloop.fleet.foreign import NoTable
from driftloop.fleet.schema import Censored, Schema
from driftloop.fleet.sheets import SUFFIXES, Sheet, open_sheet

_TEST = re.compile(r"(.*[\W_\d])?test([\W_\d].*)?", re.IGNORECASE)
"""What files of units that were cut off before they failed are called."""
_DATE = re.compile(
    r"[-_. ]*(19|20)\d\d[-_. ]?(0[1-9]|1[0-2])[-_. ]?(0[1-9]|[12]\d|3[01])([-_. T]?\d\d([-_.]?\d\d){0,2})?(?!\d)"
)
_DAYS = 4
"""Files with a date in their names from which on they may be days of fewer units."""
_RECORDINGS = 10
"""Files in a folder from which on each may be a moment in a unit's life."""


def no_tables(folder: Path) -> DataError:
    """That a folder has no tables, and what is there instead: folders with some, recordings, files of another form."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    tables = [file for file in files if called_a_table(file)]
    where, what = str(folder), "has no tables"
    summarise = f"if each file is a moment of a unit's life, as of vibrations: driftloop fleet summarise {folder}"
    if tables:
        what = f"has {len(tables)} files in its folders that have no column for the time, such as {tables[0]}"
        return DataError(what, where=where, remedy=f"{summarise}; else name the folders that have tables")
    archive = next((file for file in files if file.suffix.lower() == ".zip"), None)
    if archive is not None:
        return DataError(what, where=where, remedy=f"name {archive}, or unpack it")
    for file in {file.suffix: file for file in files if is_suffixed(file)}.values():
        try:
            open_sheet(file, None)
        except NoTable as error:
            return DataError(f"{what}: {file.name} {error.what}", where=where, remedy=error.remedy)
        except DataError:
            continue
    if len(files) >= _RECORDINGS and sum(not is_suffixed(file) for file in files) * 2 > len(files):
        what += f": {files[0].name} and {len(files) - 1} others do not end as one"
        return DataError(what, where=where, remedy=summarise)
    return DataError(what, where=where, remedy=f"files end in {', '.join(SUFFIXES)}")


def are_recordings(tables: Sequence[Path]) -> bool:
    """Whether files, many in each folder, seem to be waveforms: without a header, or readings alone."""
    if len(tables) < _RECORDINGS * len({file.parent for file in tables}):
        return False
    try:
        sheet = open_sheet(tables[0])
        chunk = next(sheet.chunks(range(len(sheet.headers))), None)
    except DataError:
        return True
    return chunk is not None and not any(_tells_rows(column, sheet) for column in chunk.columns)


def _tells_rows(column: Sequence[str] | NDArray[np.float64], sheet: Sheet) -> bool:
    """Whether a column holds words or times, or never falls."""
    values = column if isinstance(column, np.ndarray) else cells.numbers(column, sheet.decimal)[0]
    told = values[np.isfinite(values)]
    return len(told) < len(values) / 2 or bool((np.diff(told) >= 0).all() and len(told) > 1 and told[-1] > told[0])


def called_a_table(path: Path) -> bool:
    """Whether a file is called as tables are."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def is_suffixed(path: Path) -> bool:
    """Whether a file's name ends in letters that say what it is: `2003.10.22.12.06.24` does not."""
    return bool(path.suffix) and not path.suffix[1:].isdigit()


def tell_foreign(sheet: Sheet, schema: Schema, findings: Findings) -> None:
    """Say that a table lies beside those of the fleet; one of events of its units may tell of failures."""
    spelt = {header.casefold() for header in sheet.headers}
    keys = [*schema.unit_columns, *([] if schema.time.column is None else [schema.time.column])]
    if len(keys) >= 2 and all(key.casefold() in spelt for key in keys):
        what = f"is left alone: it has {' and '.join(keys)}, but no reading of {schema.name}"
        remedy = f'if its rows are failures, write file = "{sheet.path.name}" below [end], '
        remedy += 'and after = "new_life" where units lived on'
        findings.add("warning", str(sheet.path), what, remedy if schema.end.rule != "table" else None)
    else:
        findings.add("warning", str(sheet.path), f"is left alone: it has none of the columns of {schema.name}")


def tell_days(files: Sequence[Path], schema: Schema, findings: Findings) -> None:
    """Say that files which are each taken as a unit are perhaps days of fewer ones, as their names let think."""
    if schema.unit_column is not None or schema.unit_from == "folder":
        return
    undated = [_DATE.sub("", path.stem) for path in files]
    dated = [name for name, path in zip(undated, files, strict=True) if name != path.stem]
    if len(dated) < _DAYS or len(set(dated)) * 2 > len(dated):
        return
    what = f"is taken as a {schema.unit} of its own, and {len(dated)} files differ by the dates in their names alone: "
    what += f"without them there are {len(set(dated))} names"
    remedy = "if each file is a day and no life, put the files of each unit into one, or add a column `unit`"
    findings.add("warning", str(files[0]), what, remedy, kind="days")


def tell_tests(files: Sequence[Path], schema: Schema, findings: Findings) -> None:
    """Say that units in files called test have perhaps not failed, where nothing else says how lives end."""
    tests = [path for path in files if _TEST.fullmatch(path.name.partition(".")[0])]
    if schema.end.rule == "last_row" and schema.censored == Censored() and 0 < len(tests) < len(files):
        what = f"is called a test file: its {schema.units} were perhaps cut off before they failed"
        remedy = "name the other files alone, or list these units in [censored]"
        findings.add("warning", str(tests[0]), what, remedy, kind="test")
