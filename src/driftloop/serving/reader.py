"""From the bytes of a body to checked windows.

The fast way is msgspec, straight into the types of the fleet. Only a body that it refuses is looked at again, slowly,
to say in which field what is wrong (driftloop.serving.problems).
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from driftloop.durable import NOT_JSON
from driftloop.fleet.schema import Schema
from driftloop.protocol import windows as packed
from driftloop.protocol.problems import Problem, RequestRefused, refusal
from driftloop.serving import problems
from driftloop.serving.requests import Form, Limits, Row, Window


class Reader:
    """Reads bodies with rows of one fleet."""

    def __init__(self, schema: Schema) -> None:
        self.form = Form(schema)
        self._may_be_missing = np.array([channel.missing == "hold" for channel in schema.channels])
        self._named: Any = self.form.named
        self._window: Any = msgspec.json.Decoder(self.form.window)
        self._batch: Any = msgspec.json.Decoder(self.form.batch)

    def decode(self, body: bytes, limits: Limits) -> tuple[list[Window], bool]:
        """The windows of a body, and whether it is a batch; raises RequestRefused.

        Every row in the result has a value or None for each column; values are finite and fit float32.
        """
        try:
            windows, many = self._decode(body)
        except NOT_JSON:
            again = self._as_written(body) if self.form.holds else None
            if again is None:
                raise self._refusal(body, limits) from None
            windows, many = again
        if many and len(windows) > limits.max_batch:
            raise self._refusal(body, limits)
        for window in windows:
            if len(window.rows) > limits.max_cycles:
                raise self._refusal(body, limits)
            if self._named in map(type, window.rows):
                window.rows = [self._in_order(row) for row in window.rows]
            if self.form.codes:
                try:
                    window.rows = [self.form.in_numbers(row) for row in window.rows]
                except KeyError:
                    raise self._refusal(body, limits) from None
        if self.form.holds and not all(_has_value(window.rows) for window in windows):
            raise self._refusal(body, limits)
        if self.form.synonyms:
            for window in windows:
                _give_one_name(window)
        return windows, many

    def decode_packed(self, body: bytes, limits: Limits) -> list[Window]:
        """The windows of a batch of MessagePack; raises RequestRefused. The same holds of the result."""
        try:
            asked = packed.decode_batch(body).windows
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            message, _, path = str(error).partition(" - at `$.")
            raise refusal(422, path.rstrip("`") or "body", message) from error
        if len(asked) > limits.max_batch:
            raise refusal(413, "windows", f"has {len(asked)} windows; at most {limits.max_batch} are taken")
        return [self._packed(one, at, limits) for at, one in enumerate(asked)]

    def _packed(self, asked: packed.Asked, at: int, limits: Limits) -> Window:
        columns, field = self.form.schema.n_columns, f"windows[{at}].rows"
        if not asked.rows or len(asked.rows) % (4 * columns):
            what = f"has {len(asked.rows)} bytes; a row of this fleet has {4 * columns}: {columns} of float32"
            raise refusal(422, field, what)
        rows = np.frombuffer(asked.rows, dtype="<f4").reshape(-1, columns).astype(np.float32, copy=False)
        if len(rows) > limits.max_cycles:
            raise refusal(422, field, f"has {len(rows)} rows; at most {limits.max_cycles} are taken")
        finite = np.isfinite(rows)
        if not finite.all():
            gone = np.isnan(rows)
            bad = ~finite & ~(gone & self._may_be_missing)
            if bad.any():
                row, column = np.argwhere(bad)[0].tolist()
                name = self.form.schema.columns[column]
                raise refusal(422, f"{field}[{row}].{name}", "is missing" if gone[row, column] else "is infinite")
            if gone.all():
                raise refusal(422, field, "has no value at all")
        found = Window(rows, asked.engine_id, asked.cycle, asked.request_id, history=asked.history)
        if self.form.synonyms:
            found.unit_id, found.step = asked.engine_id, asked.cycle
        return found

    def _decode(self, body: bytes) -> tuple[list[Any], bool]:
        try:
            return [self._window.decode(body)], False
        except NOT_JSON:
            return self._batch.decode(body).windows, True

    def _as_written(self, body: bytes) -> tuple[list[Any], bool] | None:
        """The windows of a body in which NaN stands for missing values, as some writers put it; None for any other."""
        try:
            value = problems.parse(body)
            if isinstance(value, dict) and "windows" in value:
                batch: Any = msgspec.convert(value, self.form.batch)
                return batch.windows, True
            return [msgspec.convert(value, self.form.window)], False
        except (*NOT_JSON, ValueError):
            return None

    def _in_order(self, row: Any) -> Row:
        values: Row = msgspec.structs.astuple(row) if isinstance(row, self._named) else row
        return values

    def _refusal(self, body: bytes, limits: Limits) -> RequestRefused:
        found = problems.explain(body, self.form, limits)
        return found if found.problems else RequestRefused(found.status, [self._whatever_msgspec_says(body)])

    def _whatever_msgspec_says(self, body: bytes) -> Problem:
        try:
            self._batch.decode(body) if b'"windows"' in body else self._window.decode(body)
        except NOT_JSON as error:
            message, _, path = str(error).partition(" - at `$.")
            return Problem(path.rstrip("`") or "body", message)
        return Problem("body", "is ambiguous: a field is given twice")


def _has_value(rows: Iterable[Row]) -> bool:
    return any(value is not None for row in rows for value in row)


def _give_one_name(window: Window) -> None:
    """Let code find unit and step under one name each."""
    if window.unit_id is not None:
        window.engine_id = window.unit_id
    if window.step is not None:
        window.cycle = window.step
