"""How goldens are kept as text, and what is said of one that no longer holds."""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
TOLERANCE = 1e-4
"""Absolute, or relative above 1: what processors and kernels may make of the same weights."""


def path_of(name: str) -> Path:
    """The file of a golden."""
    return DATA / f"{name}.{'txt' if name.endswith('_metrics') else 'json'}"


def read(name: str) -> Any:
    """A golden as it is kept."""
    text = path_of(name).read_text(encoding="utf-8")
    return text if path_of(name).suffix == ".txt" else json.loads(text)


def write(name: str, found: Any) -> Path:
    """Keep a golden."""
    text = found if isinstance(found, str) else _pretty(found) + "\n"
    path_of(name).write_text(text, encoding="utf-8")
    return path_of(name)


def differences(kept: Any, present: Any) -> list[str]:
    """A line for everything in which `present` is not what was kept; numbers with a point may differ by TOLERANCE."""
    if isinstance(kept, str) and "\n" in kept:
        lines = kept.splitlines(), str(present).splitlines()
        return list(difflib.unified_diff(*lines, "kept", "present", n=0, lineterm=""))
    return list(_compare(kept, _plain(present), ""))


def _compare(kept: Any, present: Any, at: str) -> Iterator[str]:
    if isinstance(kept, dict) and isinstance(present, dict):
        for key in [*kept, *(key for key in present if key not in kept)]:
            if key not in present:
                yield f"{at}.{key}: is gone; was {_short(kept[key])}"
            elif key not in kept:
                yield f"{at}.{key}: is new: {_short(present[key])}"
            else:
                yield from _compare(kept[key], present[key], f"{at}.{key}")
    elif isinstance(kept, list) and isinstance(present, list):
        if len(kept) != len(present):
            yield f"{at}: has {len(present)} entries; had {len(kept)}"
        for index, (one, other) in enumerate(zip(kept, present, strict=False)):
            name = one.get("ask", index) if isinstance(one, dict) else index
            yield from _compare(one, other, f"{at}[{name}]")
    elif type(kept) is not type(present) or not _alike(kept, present):
        yield f"{at}: {_short(present)}; was {_short(kept)}"


def _alike(kept: Any, present: Any) -> bool:
    if isinstance(kept, float):
        return abs(kept - present) <= TOLERANCE * max(1.0, abs(kept))
    return bool(kept == present)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]} ... ({len(text)} characters)"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _pretty(value: Any, indent: int = 0) -> str:
    """JSON with a line for what is short, so that a changed answer is a changed line."""
    text = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(text) + indent <= 118:
        return text
    inner = " " * (indent + 1)
    if isinstance(value, list):
        if all(isinstance(item, int | float) for item in value):
            return text
        parts = [inner + _pretty(item, indent + 1) for item in value]
        return "[\n" + ",\n".join(parts) + "\n" + " " * indent + "]"
    parts = [
        f"{inner}{json.dumps(key, ensure_ascii=False)}: {_pretty(item, indent + 1)}" for key, item in value.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
