"""Whoever writes a word that is none of those that are known is told which they are."""

from enum import Enum
from typing import Annotated, Literal

import msgspec
import pytest

from driftloop import durable
from driftloop.errors import JsonError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct):
    state: Literal["on", "off"] | None = None
    colour: Colour = Colour.RED
    age: int | Literal["unknown"] = 0


class Outer(msgspec.Struct, rename="camel"):
    the_inner: Annotated[list[Inner], msgspec.Meta(max_length=9)] = []
    by_name: dict[str, Inner] = {}
    number: Literal[1, 2] = 1


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ('{"theInner": [{}, {"state": "half"}]}', "theInner[1].state", "is 'half'; it may be off, on"),
        ('{"byName": {"a": {"colour": "green"}}}', "byName[...].colour", "is 'green'; it may be red, blue"),
        ('{"theInner": [{"age": "old"}]}', "theInner[0].age", "is 'old'; it may be a number, unknown"),
        ('{"number": 3}', "number", "is 3; it may be 1, 2"),
    ],
)
def test_the_words_that_may_stand_there_are_named(given: str, field: str, said: str) -> None:
    with pytest.raises(JsonError) as caught:
        durable.decode_json(given, Outer)
    assert (caught.value.field, caught.value.message) == (field, said)
