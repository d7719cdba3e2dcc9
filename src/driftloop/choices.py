"""The words that may stand at a place of some JSON, for whoever wrote another one there."""

import re
from collections.abc import Iterator
from typing import Any

from msgspec import inspect

_PART = re.compile(r"\.([^.\[]+)|\[[^\]]*\]")


def at(kind: Any, path: str) -> list[str]:
    """The words of a type at a path as msgspec writes it (`$.alerts[0].status`); none where it is open."""
    found: list[inspect.Type] = [inspect.type_info(kind)]
    for part in _PART.finditer(path.removeprefix("$")):
        found = [inner for one in found for inner in _inside(one, part.group(1))]
    return [str(value) for one in found for leaf in _alternatives(one) for value in _words(leaf)]


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from _alternatives(one)
    elif isinstance(kind, inspect.Metadata):
        yield from _alternatives(kind.type)
    else:
        yield kind


def _inside(kind: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """What is in a type under a name; without one, in a list or under any key."""
    for one in _alternatives(kind):
        if isinstance(one, inspect.StructType) and name is not None:
            yield from (field.type for field in one.fields if field.encode_name == name)
        elif isinstance(one, inspect.DictType):
            yield one.value_type
        elif isinstance(one, inspect.CollectionType) and name is None:
            yield one.item_type


def _words(kind: inspect.Type) -> tuple[Any, ...]:
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        # Beside words: an age is a number, or `unknown`.
        return ("a number",)
    if isinstance(kind, inspect.LiteralType):
        return kind.values
    return tuple(one.value for one in kind.cls) if isinstance(kind, inspect.EnumType) else ()
