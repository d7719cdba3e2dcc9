"""Writing a `fleet.toml` that people can read: short, in order, with comments."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from driftloop.fleet.schema import LEAST, Channel, Missing, Schema


def toml_text(schema: Schema, comments: Mapping[str, str] | None = None) -> str:
    """The schema as a fleet file that `read` gives back, with comments for people.

    `comments` maps a key (`cap`, `time`, `sensors`, `sensors.capacity_ah`, or an empty string for the head of the
    file) to what is said about it: above the key, or after a column on its line.
    """
    said = dict(comments or {})
    common: Missing = "refuse" if {channel.missing for channel in schema.channels} == {"refuse"} else "hold"
    lines = [*_comment(said.get("", "")), ""] if said.get("") else []
    for key, value, wanted in (
        ("name", schema.name, True),
        ("unit", schema.unit, True),
        ("step", schema.step, True),
        ("unit_column", schema.unit_column, schema.unit_column is not None),
        ("unit_from", schema.unit_from, schema.unit_from is not UNSET),
        ("cap", schema.cap, True),
        ("use_settings", schema.use_settings, bool(schema.settings)),
        ("missing", common, common != "hold"),
        ("missing_values", schema.missing_values, bool(schema.missing_values)),
        ("padding", schema.padding, schema.padding != "counted"),
    ):
        lines.extend([*_comment(said.get(key, "")), *([f"{key} = {_toml(value)}"] if wanted else [])])
    for kind, channels in (("settings", schema.settings), ("sensors", schema.sensors)):
        lines.extend(["", *_comment(said.get(kind, "")), *_columns(kind, channels, common, said)])
    for table, struct in (("time", schema.time), ("end", schema.end), ("censored", schema.censored)):
        lines.extend(_table(table, struct, said))
    least = {role: number for role, number in schema.least.items() if LEAST.get(role) != number}
    if least:
        lines.extend(["", *_comment(said.get("least", "")), "[least]"])
        lines.extend(f"{role} = {number}" for role, number in least.items())
    return "\n".join(lines) + "\n"


def _table(table: str, struct: msgspec.Struct, said: Mapping[str, str]) -> list[str]:
    """What differs from the defaults, as a table; nothing where neither a key nor a comment is left."""
    defaults = msgspec.to_builtins(type(struct)())
    changed = {key: value for key, value in msgspec.to_builtins(struct).items() if value != defaults.get(key)}
    lines = ["", *_comment(said.get(table, ""))] if changed or said.get(table) else []
    if changed:
        lines.append(f"[{table}]")
        for key, value in changed.items():
            lines.extend([*_comment(said.get(f"{table}.{key}", "")), f"{key} = {_toml(value)}"])
    return lines


def _columns(kind: str, channels: tuple[Channel, ...], common: Missing, said: Mapping[str, str]) -> Iterator[str]:
    if not channels:
        yield f"{kind} = []"
        return
    yield f"{kind} = ["
    cells = []
    for channel in channels:
        parts = {
            "name": channel.name,
            "source": channel.source,
            "unit": channel.unit,
            "description": channel.description,
        }
        given: dict[str, Any] = {key: value for key, value in parts.items() if value}
        if channel.range is not None:
            given["range"] = list(channel.range)
        if channel.scale is not None:
            given["scale"] = channel.scale
        if channel.words:
            given["values"] = list(channel.words)
        if channel.missing != common:
            given["missing"] = channel.missing
        inner = ", ".join(f"{key} = {_toml(value)}" for key, value in given.items())
        cells.append((f"  {{ {inner} }}," if len(given) > 1 else f"  {_toml(channel.name)},", f"{kind}.{channel.name}"))
    column = min(max(len(cell) for cell, key in cells if key in said), 60) if any(k in said for _, k in cells) else 0
    for cell, key in cells:
        yield f"{cell:{column}}  # {' '.join(said[key].split())}" if said.get(key) else cell
    yield "]"


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in text.splitlines()]


def _toml(value: Any) -> str:
    """A value as TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped; pairs of surrogates are no TOML.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)
