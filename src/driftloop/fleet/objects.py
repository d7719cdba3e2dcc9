"""What an archived run is as bytes, and which runs may become so.

An object is a NumPy file of the rows (float64 `[steps, columns]`, which `numpy.load` reads), followed by one line of
JSON, the label: the run's id, the SHA-256 of its rows, the digest of its fleet, and whether the unit was taken out
before it failed. Objects from before there was more than one fleet have no digest; they are C-MAPSS's, whose objects
are still written so.
"""

import io
import json
import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import numpy as np

from driftloop import durable
from driftloop.errors import DataError
from driftloop.fleet.difference import difference
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema

FIRST_FLEET = "d40f544c4acf6a4b15c1138ae9ecb7a88724c2e94a6053ed6a364a03188c2a8a"
"""Digest of the one fleet that there was before labels said which."""
RUN_ID = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""What the id of a run is, so that it can be the name of a file."""
LABEL_BYTES = 1024
"""The end of an object that surely holds its label."""

_LIMIT = float(np.finfo(np.float32).max)
_RESTORE = "restore this object from a backup, or delete it and add the run again"


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The line behind the rows."""

    run_id: str
    sha256: str
    fleet: str = FIRST_FLEET
    censored: bool = False


def is_run_id(text: str) -> bool:
    """Whether a text can be the id of an archived run, and so the name of a file."""
    return re.fullmatch(RUN_ID.strip("^$"), text) is not None


def check_run(run: Run, schema: Schema) -> None:
    """Raise DataError, naming the field, unless `run` can be archived.

    Its id must do for a file name, its rows must be `[steps, columns]` and within float32, with a value wherever the
    fleet file refuses missing ones, and it must have run to failure or say that it is censored.
    """
    if not is_run_id(run.run_id):
        what = f"the run id {run.run_id[:80]!r} must be 1 to 128 letters, digits, points, dashes or underscores"
        raise DataError(what, remedy="give the run another id, such as eng-0123456789", field="run_id")
    where, steps = f"run {run.run_id}", schema.steps
    # A row that repeats the one before it says nothing new only where short histories are padded so.
    least = 2 if schema.padding == "repeated" else 1
    if run.rows.ndim != 2 or run.rows.shape[1] != schema.n_columns or len(run.rows) < least:
        fewest = f"at least {least} {steps if least > 1 else schema.step}"
        what = f"rows have the shape {list(run.rows.shape)}, not [{steps}, {schema.n_columns}] with {fewest}"
        raise DataError(what, where=where, remedy=f"send all {schema.n_columns} columns of every {schema.step}")
    if run.remaining:
        what = f"the {schema.unit} had {run.remaining} {steps} left; only completed runs-to-failure can be archived"
        raise DataError(what, where=where, remedy=f"add the run when the {schema.unit} has failed")
    may_miss = np.array([channel.missing == "hold" for channel in schema.channels])
    bad = ~(np.abs(run.rows) <= _LIMIT) & ~(np.isnan(run.rows) & may_miss)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        name, value = schema.columns[column], run.rows[row, column]
        what = f"rows[{row}][{column}] ({name}) is {value}, not a finite float32"
        cell = f"rows[{row}][{column}]"
        raise DataError(what, where=where, remedy="send the measured value, or leave the run out", field=cell)


def encode(run: Run, schema: Schema) -> bytes:
    """The object of a run."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(run.rows, dtype="<f8"), allow_pickle=False)
    buffer.write(b"\n" + json.dumps(msgspec.to_builtins(label_of(run, schema))).encode() + b"\n")
    return buffer.getvalue()


def label_of(run: Run, schema: Schema) -> Label:
    """The label of a run of a fleet."""
    # msgspec leaves out a default by its identity.
    fleet = FIRST_FLEET if schema.digest == FIRST_FLEET else schema.digest
    return Label(run.run_id, run.sha256, fleet, run.censored)


def decode(
    run_id: str, content: bytes, where: str, schema: Schema, others: Mapping[str, Schema] = MappingProxyType({})
) -> Run:
    """The run in an object's bytes; raises DataError where they are not what was written for `run_id`.

    A run of another fleet is refused too; `others` are fleets by digest that are known here.
    """
    buffer = io.BytesIO(content)
    try:
        rows = np.load(buffer, allow_pickle=False)
        label = msgspec.json.decode(buffer.read(), type=Label)
        run = Run(run_id, rows, censored=label.censored)
        intact = rows.dtype == np.float64 and (label.run_id, label.sha256) == (run_id, run.sha256)
    except (ValueError, EOFError, OSError, AttributeError, MemoryError, *durable.NOT_JSON):
        intact = False
    if not intact:
        raise DataError("the archived run is damaged: its rows do not match its checksum", where=where, remedy=_RESTORE)
    check_fleet(label, where, schema, others)
    return run


def read_label(run_id: str, tail: bytes) -> Label | None:
    """The label at the end of an object; None where it is damaged or another run's."""
    try:
        label = msgspec.json.decode(tail.rstrip(b"\n").rpartition(b"\n")[2], type=Label)
    except (ValueError, *durable.NOT_JSON):
        return None
    return label if label.run_id == run_id else None


def check_fleet(label: Label, where: str, schema: Schema, others: Mapping[str, Schema] = MappingProxyType({})) -> None:
    """Raise DataError where a label names another fleet than `schema`, saying how it differs where `others` has it."""
    if label.fleet != schema.digest:
        known = others.get(label.fleet)
        differs = difference(known, schema) if known else "which has other columns, steps of time or ends"
        what = (
            f"is a run of another fleet (digest {label.fleet[:12]}) than {schema.name} (digest {schema.digest[:12]}), "
            + differs
        )
        remedy = (
            "use an archive of its own for each fleet (DRIFTLOOP_ARCHIVE, or another DRIFTLOOP_STATE_DIR), also for "
            "one whose columns have changed, or bring the fleet file back to what it was"
        )
        raise DataError(what, where=where, remedy=remedy)
