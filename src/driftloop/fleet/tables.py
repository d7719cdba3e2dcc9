"""Files of a fleet, in the form in which people have them, as runs: which columns, which units, how each ends.

`read` refuses with the first thing that cannot be used; `examine` goes on and tells everything, for `fleet check`.
Rows are kept as numbers alone, 8 bytes for each; what would not fit into memory is refused with its size.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import UNSET

from driftloop.errors import DataError
from driftloop.fleet import failures, folders, lives, names, strays
from driftloop.fleet.columns import Columns, Cut, Keys, is_foreign, locate, side_table
from driftloop.fleet.findings import Findings
from driftloop.fleet.foreign import NoTable
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.fleet.sheets import Sheet, open_sheet
from driftloop.fleet.times import Clock

_MUCH = 0.3
"""Share of missing values in a column that is worth a word."""
_NAMED = 5
"""Files that are named."""
_SAME = 10
"""Steps from which on two units do not have the same rows by chance."""


@dataclass(frozen=True)
class Unit:
    """What was seen of one unit, or of one of its lives."""

    name: str
    life: int
    """1, or more for one that was repaired or replaced."""
    run: Run
    where: str
    """File and line of its first row."""
    first_index: int
    read: int
    """Rows in the files."""
    repeated: int
    after_end: int
    empty: int
    """Steps without a row."""
    why: str
    """How its life ended, or why it counts as taken out."""


@dataclass(frozen=True)
class Reading:
    """What files of a fleet hold."""

    units: list[Unit]
    findings: Findings
    left_out: tuple[str, ...]
    """Headers that the fleet file does not name."""

    @property
    def runs(self) -> list[Run]:
        """The runs of all units, censored ones among them."""
        return [unit.run for unit in self.units]


Tell = Callable[[int], object]
"""Called with how many rows were read."""


def mute(rows: int) -> None:
    """Tell nobody."""


def read(
    paths: Iterable[Path], schema: Schema, *, per_file: bool = False, limit_bytes: int | None = None, tell: Tell = mute
) -> Reading:
    """The runs in files and folders; raises DataError for the first thing that cannot be used, and says how many more.

    With `per_file` the same unit in two files is two units, named after their files.
    """
    reading = examine(paths, schema, per_file=per_file, limit_bytes=limit_bytes, tell=tell)
    problems = reading.findings.problems
    if problems:
        first = problems[0]
        more = f"; {first.more} more like this" if first.more else ""
        count = len(problems) - 1
        others = f"; {count} other problem{'s' * (count > 1)}, see `driftloop fleet check`" if count else ""
        raise DataError(f"{first.what}{more}{others}", where=first.where, remedy=first.remedy)
    return reading


def examine(
    paths: Iterable[Path], schema: Schema, *, per_file: bool = False, limit_bytes: int | None = None, tell: Tell = mute
) -> Reading:
    """The runs in files and folders, and everything that cannot be used or is suspicious about the files.

    `tell` is called with the rows so far.
    """
    findings = Findings()
    gathered = _Gathered(schema, findings, per_file, limit_bytes or _free_bytes(), tell)
    beside: dict[str, bool] | None = None
    given = list(paths)
    for path in folders.expand(given):
        try:
            if path.name in (schema.censored.file, *schema.end.files):
                continue
            sheet = open_sheet(path, order_without_header(schema))
            if path not in given and is_foreign(sheet, schema):
                strays.tell_foreign(sheet, schema, findings)
                continue
            for note in sheet.notes:
                findings.add("note", str(path), note, kind=note)
            try:
                if schema.censored.file is not None:
                    beside = {**(beside or {}), **_beside(folders.near(path, schema.censored.file), schema)}
            except NoTable as error:  # the file of readings is one
                raise DataError(error.what, where=error.where, remedy=error.remedy) from None
            gathered.add(sheet)
        except NoTable as error:
            if path in given:
                findings.add_error(error)
            else:
                findings.add("warning", str(path), f"is left alone: it {error.what}")
        except DataError as error:
            findings.add_error(error)
    read_from = [sheet.path for sheet in gathered.sheets]
    strays.tell_tests(read_from, schema, findings)
    strays.tell_days(read_from, schema, findings)
    folders.tell_below(given, findings)
    return gathered.reading(beside)


def order_without_header(schema: Schema) -> list[str]:
    """The columns of a file without a header; none where one of them could not be told from the others."""
    if schema.end.flag is not None or (schema.censored.column is not None and schema.censored.file is None):
        return []
    first = [*schema.unit_columns, *([] if schema.time.column is None else [schema.time.column])]
    first += [] if schema.time.of_day is UNSET else [schema.time.of_day]
    return first + [channel.header for channel in schema.channels]


class _Gathered:
    """Rows of all files, column by column, as they are read."""

    def __init__(self, schema: Schema, findings: Findings, per_file: bool, limit: int, tell: Tell) -> None:
        self.schema, self.findings, self.per_file, self.limit, self.tell = schema, findings, per_file, limit, tell
        self.cuts: list[Cut] = []
        self.starts: list[int] = []
        """Position of the first row of each cut among all."""
        self.sheets: list[Sheet] = []
        self.codes: dict[str, int] = {}
        self.keys: Keys = {}
        self.named: dict[str, Path] = {}
        """After which file or folder each unit is named, where no column names it."""
        self.clock = Clock()
        self.rows = 0
        self.left_out: dict[str, None] = {}
        self.failures: list[failures.Failures] = []

    def add(self, sheet: Sheet) -> None:
        """Read one file; raises DataError where nothing of it can be used."""
        columns = locate(sheet, self.schema)
        self.left_out.update(dict.fromkeys(columns.left_out))
        self.sheets.append(sheet)
        name = folders.unit_of(sheet.path, self.schema)
        if name is not None:
            self._refuse_name_again(name, sheet)
        reader = Columns(sheet, columns, self.schema, self.findings, self.clock, self.keys)
        prefix = f"{folders.file_unit(sheet.path)}/" if self.per_file and name is None else ""
        for chunk in sheet.chunks(columns.wanted):
            self.cuts.append(reader.cut(chunk, self.codes, len(self.sheets) - 1, name, prefix))
            self.starts.append(self.rows)
            self.rows += len(chunk.rows)
            self.tell(self.rows)
            if self.rows * (self.schema.n_columns + 6) * 8 > self.limit:
                self._refuse_size(sheet)
        if sheet.remarks:
            lines = len(sheet.remarks)
            many = f"{lines} such lines are left out" if lines > 1 else "it is left out"
            self.findings.add(
                "note", sheet.where(sheet.remarks[0]), f"is no row: a sum, or a remark; {many}", kind="remark"
            )
        for line in sheet.cut_off:
            what = "the file ends within this line, which is left out"
            self.findings.add("warning", sheet.where(line), what, "look at whether the copy is whole")

    def _refuse_name_again(self, name: str, sheet: Sheet) -> None:
        """Raise DataError where another file, or folder, has given its name to a unit already."""
        mine = folders.named_after(sheet.path, self.schema)
        first = self.named.setdefault(name, mine)
        if first != mine and not folders.are_days((first, mine)):
            kind = "folder" if self.schema.unit_from == "folder" else "file"
            what = f"there is a {kind} of the name {name!r} already, {first}, and each {kind} is one {self.schema.unit}"
            raise DataError(what, where=str(mine), remedy=f"give every {kind} a name of its own")

    def _refuse_size(self, sheet: Sheet) -> None:
        held = self.rows * (self.schema.n_columns + 6) * 8 / 2**30
        what = f"the rows up to here take {held:.2f} GiB as numbers, and {self.limit / 2**30:.2f} GiB may be used"
        remedy = "split the files by unit and read one after another, or make steps longer before"
        raise DataError(what, where=str(sheet.path), remedy=remedy)

    def where(self, place: int) -> str:
        """File and line of the row at a position among all."""
        at = bisect_right(self.starts, place) - 1
        cut = self.cuts[at]
        return self.sheets[cut.file].where(int(cut.row[place - self.starts[at]]))

    def reading(self, beside: dict[str, bool] | None) -> Reading:
        """The units that the rows tell of."""
        units: list[Unit] = []
        if self.rows:
            code = np.concatenate([cut.unit for cut in self.cuts])
            order = np.argsort(code, kind="stable")
            bounds = np.searchsorted(code[order], np.arange(len(self.codes) + 1))
            rows = self._joined()
            for name, at in self.codes.items() if self._read_failures() else ():
                index = order[bounds[at] : bounds[at + 1]]
                if rows.time is not None:
                    index = index[np.isfinite(rows.time[index])]
                if len(index):
                    units.extend(self._lives(name, rows.take(index), beside))
        elif not self.findings.problems:
            where = str(self.sheets[0].path) if self.sheets else "data"
            self.findings.add("problem", where, "there are no rows", "name files with rows below their header")
        self._look_at(units, beside)
        return Reading(units, self.findings, tuple(self.left_out))

    def _joined(self) -> lives.Rows:
        schema = self.schema
        values = np.concatenate([cut.values for cut in self.cuts])
        time = None
        if schema.time.column is not None:
            time = np.concatenate([cut.time for cut in self.cuts if cut.time is not None])
            if schema.time.kind == "timestamp":
                time = self.clock.settle(self.where, self.findings, schema.time.column)
        compared = [cut.compared for cut in self.cuts if cut.compared is not None]
        ended = [cut.ended for cut in self.cuts if cut.ended is not None]
        return lives.Rows(
            values,
            np.arange(self.rows),
            np.concatenate([np.full(len(cut.row), cut.file) for cut in self.cuts]),
            time,
            np.concatenate(compared) if compared else None,
            np.concatenate(ended) if ended else None,
            np.concatenate([cut.flagged for cut in self.cuts]),
        )

    def _read_failures(self) -> bool:
        """Read the tables of failures, which lie beside the data or above; what is wrong with one is told.

        Without them nothing can be said of any life: False.
        """
        found = dict.fromkeys(path for sheet in self.sheets for path in failures.beside(sheet.path, self.schema))
        for path in found:
            try:
                self.failures.append(failures.read(path, self.schema, self.clock.order))
            except DataError as error:
                self.findings.add_error(error)
        return len(self.failures) == len(found)

    def _lives(self, name: str, rows: lives.Rows, beside: dict[str, bool] | None) -> Iterator[Unit]:
        """The unit once for each of its lives; nothing where its rows cannot be used, which is told."""
        schema = self.schema
        if self.failures:
            marks = [table.marked(rows, name, schema, self.findings) for table in self.failures]
            rows = replace(rows, ended=np.logical_or.reduce(marks))
        try:
            found = lives.told(rows, schema, name, self.findings)
        except lives.Unusable as error:
            what, files = error.what, [self.sheets[at].path.name for at in np.unique(rows.file)]
            if error.kind == "again" and len(files) > 1:
                what += f" ({', '.join(files[:_NAMED])}{', …' if len(files) > _NAMED else ''})"
            self.findings.add("problem", self.where(error.place), what, error.remedy, kind=error.kind)
            return
        if beside is not None and name not in beside:
            what = f"{schema.unit} {name} is not in {schema.censored.file}, so nobody knows whether it failed"
            self.findings.add("problem", self.where(rows.place[0]), what, "add a line for it", kind="beside")
        listed = bool(beside and beside.get(name)) or name in schema.censored.units
        for number, life in enumerate(found, 1):
            # A list of units tells of what became of them in the end.
            yield self._unit(name, number, life, life.taken or (listed and number == len(found)))

    def _unit(self, unit: str, number: int, life: lives.Life, taken: bool) -> Unit:
        schema, where = self.schema, self.where(life.start)
        name = unit if number == 1 else f"{unit}, life {number}"
        self._refuse_missing(name, life)
        if taken and life.failed and schema.end.rule != "last_row":
            what = f"{schema.unit} {name} reaches its end, and is said to have been taken out; it counts as taken out"
            self.findings.add("warning", where, what, "correct one of the two", kind="both")
        if life.after_end and schema.end.after == "left_out":
            what = f"{life.after_end} rows of {schema.unit} {name} come after its end, and are left out"
            remedy = 'if it was repaired and lived on, write after = "new_life" below [end]'
            self.findings.add("note", where, what, remedy, kind="after end")
        return Unit(
            name=name,
            life=number,
            run=Run(names.run_id(unit, number), life.rows, censored=taken or not life.failed),
            where=where,
            first_index=life.first_index,
            read=life.read,
            repeated=life.repeated,
            after_end=life.after_end,
            empty=life.empty,
            why="taken out before it failed" if taken else ended(schema) if life.failed else "never reaches its end",
        )

    def _refuse_missing(self, name: str, life: lives.Life) -> None:
        for at, channel in enumerate(self.schema.channels):
            missing = np.flatnonzero(np.isnan(life.rows[:, at]))
            if channel.missing == "refuse" and len(missing):
                step = int(missing[0])
                said = (
                    f"{self.schema.unit} {name} has no {channel.name} at {self.schema.step} {life.first_index + step}"
                )
                where = self.where(int(life.place[step:][life.place[step:] >= 0][0]))
                remedy = 'add the value, or write missing = "hold" in the fleet file'
                self.findings.add("problem", where, said, remedy, kind=("missing", channel.name), more=len(missing) - 1)

    def _look_at(self, units: Sequence[Unit], beside: dict[str, bool] | None) -> None:
        """What is to be said about all units together."""
        schema, first = self.schema, str(self.sheets[0].path) if self.sheets else "data"
        by_id: dict[str, Unit] = {}
        for unit in units:
            other = by_id.setdefault(unit.run.run_id, unit)
            if other is not unit:
                what = f"{schema.unit} {unit.name} and {other.name} would both be called {unit.run.run_id}"
                self.findings.add("problem", unit.where, what, "give one of them another name")
        by_rows: dict[str, Unit] = {}
        for unit in units:
            other = by_rows.setdefault(unit.run.sha256, unit)
            if other is not unit and len(unit.run.rows) >= _SAME:
                what = f"{schema.unit} {unit.name} has the same rows as {schema.unit} {other.name}"
                self.findings.add("warning", unit.where, what, "leave one of them out", kind="same")
        for table in self.failures:
            table.tell(self.codes, schema, self.findings)
        for listed in (*schema.censored.units, *(beside or {})):
            if listed not in self.codes:
                where = str(schema.censored.file) if listed in (beside or {}) else "censored.units"
                self.findings.add(
                    "warning", where, f"{schema.unit} {listed} is not in the data", kind=("absent", where)
                )
        if units:
            missing = np.isnan(np.concatenate([unit.run.rows for unit in units]))
            # Steps without a row are told of by themselves.
            share = missing[~missing.all(axis=1)].mean(axis=0)
            for channel, part in zip(schema.channels, share, strict=True):
                if part == 1:
                    self.findings.add("problem", first, f"{channel.name} has no value at all", "leave it out")
                elif part > _MUCH:
                    self.findings.add(
                        "warning", first, f"{channel.name} is missing in {part:.0%} of all steps with a row"
                    )


def ended(schema: Schema) -> str:
    """How units of this fleet end, in words."""
    end = schema.end
    if end.rule == "last_row":
        return "its last row is its failure"
    if end.rule in ("column", "table"):
        return f"{end.column if end.rule == 'column' else ' or '.join(end.files)} says so"
    beyond = f"below {end.below:g}" if end.below is not None else f"above {end.above:g}"
    return f"{end.sensor} {beyond}" + (f" for {end.holds.removeprefix('for ')}" if end.holds else "")


def _beside(path: Path, schema: Schema) -> dict[str, bool]:
    """Which units a table of units says were taken out; raises DataError where it cannot say."""
    if not path.exists():
        what = f"is not there, and the fleet file says that it tells which {schema.units} were taken out"
        raise DataError(what, where=str(path), remedy="put it beside the data, or take `file` out of [censored]")
    return side_table(path, schema)


def _free_bytes() -> int:
    """A third of the memory that is free, since rows are held twice for a while; 2 GiB where nobody knows."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return free * 1024 // 3
    except (OSError, StopIteration, ValueError):
        return 2 << 30
