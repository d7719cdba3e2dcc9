"""docs/reference is what the code says now."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import references  # noqa: E402

from driftloop.protocol.event_fields import ABOUT, FIELDS, KINDS_OF_VALUES, fields_of  # noqa: E402
from driftloop.protocol.events import KINDS  # noqa: E402


@pytest.mark.parametrize("name", references.PAGES)
def test_what_is_committed_is_what_the_code_says(name: str) -> None:
    committed = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert committed == references.PAGES[name](), "run `make references`"


def test_every_kind_of_event_and_every_field_has_a_meaning() -> None:
    """That they are the fields which events really have, tests/described.py compares wherever events are written."""
    assert set(ABOUT) == KINDS
    used = {f"{kind}.{name}" if f"{kind}.{name}" in FIELDS else name for kind in ABOUT for name in fields_of(kind)}
    assert used == set(FIELDS)
    assert {field.kind for field in FIELDS.values()} <= KINDS_OF_VALUES
    assert [name for name, field in FIELDS.items() if not field.meaning] == []


def test_no_page_is_left_of_what_is_gone() -> None:
    assert {path.name for path in (ROOT / "docs" / "reference").iterdir()} == set(references.PAGES)


def test_the_pages_say_something_of_each_thing() -> None:
    for name, page in references.PAGES.items():
        lines = [line for line in page().splitlines() if line.startswith("| ")]
        assert len(lines) > 8, name
        empty = [line for line in lines if line.endswith("|  |")]
        assert empty == [], name
