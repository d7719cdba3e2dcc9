"""Files that lie among those of a fleet and are perhaps none of its failed units: what is said of them."""

import re
from collections.abc import Sequence
from pathlib import Path

from driftloop.fleet.findings import Findings
from driftloop.fleet.schema import Censored, Schema
from driftloop.fleet.sheets import Sheet

_TEST = re.compile(r"(.*[\W_\d])?test([\W_\d].*)?", re.IGNORECASE)
"""What files of units that were cut off before they failed are called."""


def tell_foreign(sheet: Sheet, schema: Schema, findings: Findings) -> None:
    """Say that a table lies beside those of the fleet; one of events of its units may tell of failures."""
    spelt = {header.casefold() for header in sheet.headers}
    keys = [key for key in (schema.unit_column, schema.time.column) if key is not None]
    if len(keys) == 2 and all(key.casefold() in spelt for key in keys):
        what = f"is left alone: it has {' and '.join(keys)}, but no reading of {schema.name}"
        remedy = f'if its rows are failures, write file = "{sheet.path.name}" below [end], '
        remedy += 'and after = "new_life" where units lived on'
        findings.add("warning", str(sheet.path), what, remedy if schema.end.rule != "table" else None)
    else:
        findings.add("warning", str(sheet.path), f"is left alone: it has none of the columns of {schema.name}")


def tell_tests(files: Sequence[Path], schema: Schema, findings: Findings) -> None:
    """Say that units in files called test have perhaps not failed, where nothing else says how lives end."""
    tests = [path for path in files if _TEST.fullmatch(path.name.partition(".")[0])]
    if schema.end.rule == "last_row" and schema.censored == Censored() and 0 < len(tests) < len(files):
        what = f"is called a test file: its {schema.units} were perhaps cut off before they failed"
        remedy = "name the other files alone, or list these units in [censored]"
        findings.add("warning", str(tests[0]), what, remedy, kind="test")
