"""Every event that the tests of the loop write is as the reference describes it, but where a test makes events up."""

from collections.abc import Iterator
from typing import Any

import pytest

from described import undescribed
from driftloop.loop.store import Store

MADE_UP = {"test_store"}
"""Tests that write what they like."""
REPORTED = {
    "alert_firing", "alert_resolved", "verdict", "step_started", "step_finished", "step_failed",
    "challenger_registered", "gate_decided", "waiting_for_labels",
}  # fmt: skip
"""Kinds that the watch and the steps report: of these tests make up as much as they need. Whole ones are seen by the
tests of running platforms (live_platform.Platform)."""


@pytest.fixture(autouse=True)
def described(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test whose events are not as described."""
    found: list[str] = []
    insert = Store._insert

    def noted(store: Store, event: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        kept, is_new = insert(store, event)
        wrong = undescribed(kept)
        found.extend(one for one in wrong if kept["kind"] not in REPORTED or not one.endswith(" is missing"))
        return kept, is_new

    monkeypatch.setattr(Store, "_insert", noted)
    yield
    if request.module.__name__.rpartition(".")[2] not in MADE_UP:
        assert found == []
