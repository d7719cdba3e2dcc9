"""When the live error of drifted traffic can be told: where only the mix of known regimes has changed."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from msgspec import UNSET

from driftloop.drift import baseline_build
from driftloop.drift.baseline import Baseline, baseline_bytes, decode_baseline
from driftloop.drift.baseline_build import Trace
from driftloop.drift.estimating import Counts, estimate, only_the_mix_changed
from driftloop.drift.live_error import LiveErrors
from driftloop.drift.provisional import with_domain
from driftloop.drift.verdict import DRIFT, judge
from driftloop.errors import BundleError
from driftloop.model.bundle import ErrorTable
from driftloop.protocol.causes import FLEET_CHANGE
from made_up import build_baseline

from .engines import lives, stream, tally, trace


def switching(number: int, often: float = 0.5, bias: dict[int, float] | None = None) -> Trace:
    """A unit that is run in two regimes, in the second one this often; sensor 5 shows in which."""
    first, second = (trace(number, fleet=fleet, bias=bias) for fleet in (0, 1))
    n = min(len(first.regime), len(second.regime))
    there = np.random.default_rng([number, 7]).random(n) < often
    parts = {
        name: np.where(there.reshape(-1, *[1] * (getattr(first, name).ndim - 1)), getattr(second, name)[-n:],
                       getattr(first, name)[-n:])
        for name in ("prediction", "settings", "newest", "regime")
    }  # fmt: skip
    return replace(first, **parts)


@pytest.fixture(scope="module")
def mixed() -> Baseline:
    """Of units that switch between two regimes."""
    made = build_baseline([switching(i) for i in range(60)], replicates=300)
    bins = int(made.binner.sizes[0])
    table = ErrorTable(20, [100.0] * bins, [0.9] * bins, [[100.0] * bins] * 10)
    return msgspec.structs.replace(made, errors=LiveErrors(table, 2))


def traffic(baseline: Baseline, units: list[Trace], n: int = 500) -> Counts:
    return tally(baseline, stream(lives(baseline, units), n, np.random.default_rng(1)))


def told(baseline: Baseline, counts: Counts) -> tuple[str | None, bool]:
    verdict = judge(counts, baseline)
    assert verdict.verdict == DRIFT
    return verdict.kind, estimate([counts], baseline, verdict, 12).known


def test_units_that_are_all_in_one_known_regime_drift_and_their_error_is_told(mixed: Baseline) -> None:
    counts = traffic(mixed, [switching(i, 1.0) for i in range(100, 130)])
    assert told(mixed, counts) == (FLEET_CHANGE, True)


def test_settings_within_a_regime_are_no_matter_of_the_model(mixed: Baseline) -> None:
    units = [switching(i, 1.0) for i in range(100, 130)]
    moved = [replace(unit, settings=unit.settings + np.array([0.7, 0, 0])) for unit in units]
    assert told(mixed, traffic(mixed, moved)) == (FLEET_CHANGE, True)


@pytest.mark.parametrize("bias", [{11: 1.5}, {2: 1.5, 11: 1.5, 14: -1.5}])
def test_units_that_read_otherwise_too_are_not_known(mixed: Baseline, bias: dict[int, float]) -> None:
    counts = traffic(mixed, [switching(i, 1.0, bias) for i in range(100, 130)])
    assert told(mixed, counts)[1] is False


def test_what_one_of_the_windows_shows_is_enough_to_say_nothing(mixed: Baseline) -> None:
    known = traffic(mixed, [switching(i, 1.0) for i in range(100, 130)])
    other = traffic(mixed, [switching(i, 1.0, {11: 3.0}) for i in range(100, 130)], 100)
    verdict = judge(known, mixed)
    assert estimate([known, known], mixed, verdict, 12).known
    assert not estimate([known, other], mixed, verdict, 12).known


def test_a_regime_that_nobody_knows_is_no_mix(mixed: Baseline) -> None:
    units = [replace(unit, regime=np.full_like(unit.regime, -1)) for unit in map(switching, range(100, 130))]
    assert not only_the_mix_changed(traffic(mixed, units), mixed)


def test_too_few_requests_say_nothing(mixed: Baseline) -> None:
    units = [switching(i, 1.0) for i in range(100, 130)]
    assert not only_the_mix_changed(traffic(mixed, units, 40), mixed)


def test_a_fleet_of_one_regime_has_no_mix(baseline: Baseline) -> None:
    assert baseline.by_regime is UNSET
    assert not only_the_mix_changed(traffic(baseline, [trace(i) for i in range(100, 130)]), baseline)


def test_the_regimes_hold_each_row_once_and_survive_being_written(mixed: Baseline) -> None:
    assert mixed.by_regime is not UNSET
    again = decode_baseline(baseline_bytes(mixed))
    assert again.by_regime == mixed.by_regime
    assert [regime.domain for regime in mixed.by_regime] == [0, 1]
    for domains in (mixed.domains, mixed.by_regime):
        assert sum(domain.rows for domain in domains) == mixed.rows
    whole = [
        np.sum([age.counts for d in domains for age in d.ages], axis=0) for domains in (mixed.domains, mixed.by_regime)
    ]
    assert np.array_equal(*whole)


def test_a_damaged_regime_is_refused(mixed: Baseline) -> None:
    assert mixed.by_regime is not UNSET
    first = mixed.by_regime[0]
    age = msgspec.structs.replace(first.ages[0], counts=first.ages[0].counts[:-1])
    damaged = msgspec.structs.replace(first, ages=[age, *first.ages[1:]])
    with pytest.raises(BundleError, match="do not fit together"):
        decode_baseline(baseline_bytes(msgspec.structs.replace(mixed, by_regime=[damaged, *mixed.by_regime[1:]])))


def test_a_provisional_domain_leaves_no_regimes_on_other_bins(mixed: Baseline) -> None:
    added = [replace(trace(i, 1), regime=np.full(len(trace(i, 1).regime), 2)) for i in range(5)]
    assert decode_baseline(baseline_bytes(with_domain(mixed, added, 3, 0.5))).by_regime is UNSET


def test_rows_keep_their_age_within_a_regime() -> None:
    unit = switching(3)
    parted = [baseline_build._within(unit, regime) for regime in (0, 1)]
    assert sorted(np.concatenate([part.left for part in parted])) == list(range(len(unit.regime)))
