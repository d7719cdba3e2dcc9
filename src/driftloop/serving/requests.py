"""What a request may be and what an answer is: one set of types for decoding, validation and the documentation.

The types of a body are made for a fleet (`Form`): rows with its columns, in an array or by name, with null where a
value may be missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from driftloop.fleet.schema import Channel, Schema, folded

FLOAT32_MAX = 3.4028235e38
"""The largest number that float32 holds, as numpy and Java print it."""
LONGEST_NAME = 200

Number = Annotated[float, Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
Name = Annotated[str, Meta(max_length=LONGEST_NAME)]
Step = Annotated[float, Meta(ge=0, le=10**9, multiple_of=1)]
"""A whole number; 3.0 is one in JSON, and what clients with tables of floats send."""
Row = Sequence[float | None]
"""Values in the order of the fleet's columns; None is missing."""
Rows = Sequence[Row] | NDArray[np.float32]
"""Rows as JSON has them, or as MessagePack does: `[n, columns]`, NaN is missing."""


def newest_row(rows: Rows) -> Row:
    """The last row as JSON has it."""
    if isinstance(rows, np.ndarray):
        found: Row = rows[-1].tolist()
        return found
    return rows[-1]


class Window(msgspec.Struct, forbid_unknown_fields=True):
    """Rows of one unit as code sees them; what a body may hold is `Form.window`."""

    rows: Rows
    engine_id: str | None = None
    cycle: float | None = None
    request_id: str | None = None
    unit_id: str | None = None
    """Equal to `engine_id` where the request named its unit by this field."""
    step: float | None = None
    """Equal to `cycle` where the request named its step by this field."""
    history: bool = False
    """Of a history, and no traffic; only the service that keeps units says so, in MessagePack."""


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """Several windows, answered together and by one model version."""

    windows: Annotated[list[Window], Meta(min_length=1)]


class Prediction(msgspec.Struct, kw_only=True):
    """Remaining useful life in cycles after the newest row, with the ends of its prediction interval.

    Flags: `stub` (no model is registered yet), `unseen_regime` and `out_of_distribution` (an operating regime the
    model was not trained on: the interval is the whole range), `provisional` (the model was given first aid, without
    labels), `short_history` (fewer rows than the model looks at; they were padded with the first one),
    `no_finite_answer` (the model's arithmetic failed on these rows; 0 is given, the cautious value).
    """

    rul: float
    lower: float
    upper: float
    regime: Annotated[int, Meta(description="-1: seen by no training engine")]
    flags: list[str]
    model_version: str
    request_id: str
    engine_id: str | UnsetType = UNSET
    cycle: int | UnsetType = UNSET


class UnitPrediction(Prediction, kw_only=True):
    """Remaining useful life in steps after the newest row, with the ends of its prediction interval."""

    unit_id: str | UnsetType = UNSET
    step: int | UnsetType = UNSET


class BatchAnswer(msgspec.Struct):
    """One prediction per window, in the order of the windows."""

    predictions: list[Prediction]
    model_version: str


@dataclass(frozen=True)
class Limits:
    """The largest request that is taken."""

    max_batch: int
    max_cycles: int
    max_body_bytes: int


class Form:
    """What a body may be for one fleet: the types that are decoded and documented."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.holds = any(channel.missing == "hold" for channel in schema.channels)
        """Whether values may be missing."""
        self.synonyms = (schema.unit, schema.step) != ("engine", "cycle")
        """Whether `unit_id` and `step` are taken for `engine_id` and `cycle`: a fleet of engines and cycles needs no
        second word."""
        self.named = _named_row(schema)
        """A row as an object."""
        self.window = _window(schema, self.named, self.synonyms)
        """A window, as `Window` has it."""
        self.batch = msgspec.defstruct(
            "Batch",
            [("windows", Annotated[list[self.window], Meta(min_length=1)])],  # type: ignore[name-defined]
            forbid_unknown_fields=True,
            namespace={"__doc__": Batch.__doc__},
        )
        """Several windows."""
        self.fields = self.window.__struct_fields__
        self.codes = {at: channel.codes() for at, channel in enumerate(schema.channels) if channel.words}
        """The numbers of words, by the position of their column."""

    def in_numbers(self, row: Sequence[Any]) -> Row:
        """A row with the numbers of its words; KeyError where a word is not known."""
        for at, codes in self.codes.items():
            if isinstance(row[at], str):
                row = [*row[:at], codes[folded(row[at])], *row[at + 1 :]]
        return row


def _window(schema: Schema, named: type, synonyms: bool) -> type[Any]:
    row = _array_row(schema) | named
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [("rows", Annotated[list[row], Meta(min_length=1)])]  # type: ignore[valid-type]
    fields += [("engine_id", Name | None, None), ("cycle", Step | None, None), ("request_id", Name | None, None)]
    if synonyms:
        fields += [("unit_id", Name | None, None), ("step", Step | None, None)]
    doc = f"Rows of one {schema.unit}, one per {schema.step}, oldest first, the newest last."
    if synonyms:
        doc += " `unit_id` and `step` are other names of `engine_id` and `cycle`, and go before them; the answer has"
        doc += " the name that was sent."
    return msgspec.defstruct("Window", fields, forbid_unknown_fields=True, namespace={"__doc__": doc})


def _array_row(schema: Schema) -> Any:
    size, values = schema.n_columns, [_value(channel) for channel in schema.channels]
    described = ", ".join(spans(schema.columns, "..")) + ", raw units"
    if all(value == values[0] for value in values):
        return Annotated[list[values[0]], Meta(min_length=size, max_length=size, description=described)]  # type: ignore[valid-type]
    return Annotated[tuple[tuple(values)], Meta(description=described)]  # type: ignore[misc]


def _named_row(schema: Schema) -> type:
    # Names of columns may be words of Python, so the fields have names of their own.
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for position, channel in enumerate(schema.channels):
        kind = Annotated[_value(channel), Meta(description=about(channel))] if about(channel) else _value(channel)
        name = f"column_{position}"
        fields.append((name, kind) if channel.missing == "refuse" else (name, kind, None))
    return msgspec.defstruct(
        "Row",
        fields,
        kw_only=True,
        forbid_unknown_fields=True,
        rename={f"column_{position}": name for position, name in enumerate(schema.columns)},
        namespace={"__doc__": f"One row by the names of its columns, in any order{_leaving_out(schema)}."},
    )


def _leaving_out(schema: Schema) -> str:
    return "; what is missing may be left out" if any(c.missing == "hold" for c in schema.channels) else ""


def _value(channel: Channel) -> Any:
    value = Number | Name if channel.words else Number
    return value | None if channel.missing == "hold" else value


def numbered(channel: Channel) -> str:
    """The number of each word of a column of text; empty for one of numbers."""
    return ", ".join(f"{word} is {at}" for at, word in enumerate(channel.words))


def about(channel: Channel) -> str:
    """Unit, description and plausible range of a column, in words; empty where there is none."""
    parts = [channel.description] if channel.description else []
    if channel.unit:
        parts.append(f"in {channel.unit}")
    if channel.words:
        parts.append(numbered(channel))
    if channel.range is not None:
        parts.append(f"plausible from {channel.range[0]:g} to {channel.range[1]:g}")
    return ", ".join(parts)


def spans(names: Sequence[str], to: str, most: int = 30) -> list[str]:
    """Names in words: `sensor_1`, `sensor_2`, `sensor_3` are `sensor_1` `to` `3`; what is beyond `most` is counted."""
    found: list[list[str]] = []
    for name in names:
        before = found[-1][-1] if found else ""
        if (numbered := _numbered(name)) and _numbered(before) == (numbered[0], numbered[1] - 1):
            found[-1].append(name)
        else:
            found.append([name])
    said = [f"{run[0]}{to}{(_numbered(run[-1]) or ('', 0))[1]}" if len(run) > 1 else run[0] for run in found]
    return said if len(said) <= most else [*said[:most], f"and {len(said) - most} more"]


def _numbered(name: str) -> tuple[str, int] | None:
    """A name such as `sensor_12` taken apart; None of any other."""
    stem, _, number = name.rpartition("_")
    return (stem, int(number)) if stem and number.isdigit() and not number.startswith("0") else None
