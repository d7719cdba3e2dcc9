"""Which domains today's traffic comes from: those that runs belong to, and the new one."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from driftloop.drift.baseline import Age, Domain
from driftloop.loop.judge import mixture
from driftloop.model.bundle import ManifestEntry


class FakeBaseline(SimpleNamespace):
    """As much of a baseline as is asked for."""


def domain(number: int) -> Domain:
    return Domain(number, 1, 1, {}, [Age(0, 1, [1])])


@pytest.mark.parametrize(("kept", "wanted"), [([0], [0, 1]), ([0, 1], [0, 1])])
def test_a_provisional_domain_is_no_domain_of_the_runs(
    monkeypatch: pytest.MonkeyPatch, kept: list[int], wanted: list[int]
) -> None:
    monkeypatch.setattr(mixture.answers, "open_model", lambda _: None)
    monkeypatch.setattr(mixture.answers, "traces", lambda *_: [])
    monkeypatch.setattr(mixture, "domain_of", lambda _, number, *__: domain(number))
    monkeypatch.setattr(mixture.msgspec.structs, "replace", lambda made, **new: SimpleNamespace(**vars(made) | new))
    baseline = FakeBaseline(domains=[domain(number) for number in kept], binner=None, ages=[])
    entries = [ManifestEntry("old", "0" * 64, "train", 0, 200), ManifestEntry("new", "1" * 64, "train", 1, 200)]
    plan = SimpleNamespace(new=[SimpleNamespace(run_id="new")], manifest=entries)
    found = mixture.with_new_domain(baseline, Path("champion"), plan)  # type: ignore[arg-type]
    assert [each.domain for each in found.domains] == wanted
    assert np.isclose(sum(found.weights), 1.0)
