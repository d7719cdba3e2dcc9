"""What all tests of the doors share."""

import pytest

from driftloop.access import people


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords cost next to nothing here."""
    monkeypatch.setattr(people, "_N", 2**4)
