"""First aid on a small real model: what was known stays bit for bit, what is new becomes known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from driftloop.drift.bins import REGIME
from driftloop.errors import BundleError
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.model import answers, bundle, first_aid, grafting, regimes
from driftloop.model.bundle import CHECKPOINT, SERVING_FILES, Ages
from driftloop.serving import engine
from driftloop.training import rehearsal
from made_up import CRUISE, SEA_LEVEL, fleet, run, tiny_bundle

FAR = (20.0, 0.5, 60.0)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> first_aid.Known:
    """A model of sea level alone."""
    return first_aid.read(tiny_bundle(tmp_path_factory.mktemp("known") / "bundle", runs=fleet(per_role=12)))


def seen(settings: tuple[tuple[float, ...], ...] = (SEA_LEVEL, CRUISE, FAR), units: int = 14) -> list[Run]:
    """A window of each of some units in service."""
    return [Run(f"seen-{n}", run(f"seen-{n}", settings=settings, cycles=60 + n).rows[: 40 + n]) for n in range(units)]


def ages(known: first_aid.Known) -> Ages:
    """What is usual at each age."""
    assert known.metadata.rehearsal is not None
    return known.metadata.rehearsal.ages


@pytest.fixture(scope="module")
def aided(known: first_aid.Known) -> first_aid.Aided:
    """What first aid makes of it for units that are run elsewhere too, and some that are not."""
    found = first_aid.give(known, [*seen(), *with_role(fleet(name="b"), "live")])
    assert found is not None
    return found


def test_the_regimes_of_a_graph_are_those_that_it_was_trained_with(known: first_aid.Known) -> None:
    """Their statistics are the same numbers, their centres to rounding."""
    trained = regimes.find(with_role(fleet(per_role=12), "train"), known.metadata.schema)
    assert_array_equal(known.regimes.mean, trained.mean)
    assert_array_equal(known.regimes.std, trained.std)
    np.testing.assert_allclose(known.regimes.centres, trained.centres, rtol=1e-5, atol=1e-4)


def test_answers_in_known_regimes_stay_bit_for_bit(known: first_aid.Known, aided: first_aid.Aided) -> None:
    """All five outputs, of histories of all lengths, intervals included."""
    assert aided.added == 2
    for one in [*with_role(fleet(name="c"), "live", "gate"), run("odd", cycles=1), run("long", cycles=300)]:
        for was, now in zip(
            next(answers.outputs(known.model, [one], 1)), next(answers.outputs(aided.model, [one], 1)), strict=True
        ):
            assert_array_equal(was, now)


def test_what_was_unseen_is_a_regime_with_rows_of_unit_variance(known: first_aid.Known, aided: first_aid.Aided) -> None:
    """The new regimes' rows are normalised by themselves, their intervals at least as wide as without widening."""
    one = run("other", settings=(CRUISE,), cycles=80)
    assert set(next(answers.outputs(known.model, [one], 1))[3]) == {-1}
    rul, lower, upper, regime, newest = next(answers.outputs(aided.model, [one], 1))
    assert set(regime) <= {1, 2}
    varies = aided.regimes.varies[regime[0]] > 0
    assert np.abs(newest[:, varies].mean(axis=0)).max() < 2
    bare = grafting.appended(known.content, aided.regimes, np.zeros(6, np.float32))
    plain = answers.Model(answers.open_session(bare), known.metadata.window, known.metadata.schema, 125)
    was, narrow_lower, narrow_upper, _, _ = next(answers.outputs(plain, [one], 1))
    assert_array_equal(rul, was)
    assert (lower <= narrow_lower).all()
    assert (upper >= narrow_upper).all()


def test_a_window_with_one_row_elsewhere_is_widened_and_one_without_is_not(known: first_aid.Known) -> None:
    """The interval rests on all rows of the window."""
    found = first_aid.grown(known.regimes, seen(), ages(known))
    # This small model's intervals are as wide as can be: only narrowing them shows.
    bare = grafting.appended(known.content, found, np.zeros(6, np.float32))
    narrow = grafting.appended(known.content, found, np.full(6, -200, np.float32))
    history = run("mixed", cycles=12).rows.astype(np.float32)
    mixed = history.copy()
    mixed[3] = run("elsewhere", settings=(CRUISE,), cycles=1).rows[0]

    def width(content: bytes, rows: np.ndarray) -> float:  # type: ignore[type-arg]
        lower, upper = answers.open_session(content).run(["lower", "upper"], {"rows": rows[None]})
        return float(upper[0] - lower[0])

    assert width(narrow, history) == width(bare, history)
    assert width(narrow, mixed) < width(bare, mixed)


def test_first_aid_on_first_aid_keeps_what_the_first_one_added(known: first_aid.Known, aided: first_aid.Aided) -> None:
    """A further change is grown too, and answers in the regimes between stay."""
    found = first_aid.grown(aided.regimes, seen((SEA_LEVEL, (10.0, 0.25, 100.0))), ages(known))
    again = grafting.appended(aided.content, found, np.zeros(6, np.float32))
    model = answers.Model(answers.open_session(again), known.metadata.window, known.metadata.schema, 125)
    one = run("between", settings=(CRUISE, SEA_LEVEL), cycles=50)
    for was, now in zip(
        next(answers.outputs(aided.model, [one], 1)), next(answers.outputs(model, [one], 1)), strict=True
    ):
        assert_array_equal(was, now)


def test_the_bundle_serves_and_keeps_what_has_labels(
    known: first_aid.Known, aided: first_aid.Aided, tmp_path: Path
) -> None:
    """A server takes it; manifest and checkpoint are the labelled version's."""
    folder = first_aid.write(known, aided, tmp_path / "aided", parent_version="3", cause="drift/x")
    metadata = bundle.read_metadata(folder)
    assert metadata.provisional
    assert not known.metadata.provisional
    assert (metadata.parent_version, metadata.regimes, metadata.manifest) == ("3", 3, known.metadata.manifest)
    assert (folder / CHECKPOINT).read_bytes() == (known.folder / CHECKPOINT).read_bytes()
    loaded = engine.load(folder, "4", bundle.digest(folder))
    assert loaded.binner is not None
    assert loaded.binner.features[-1].bins == 4
    assert all((folder / name).exists() for name in SERVING_FILES)


def test_the_provisional_baseline_knows_the_new_domain_and_still_sees_another(aided: first_aid.Aided) -> None:
    """Its last bin of regimes, the unseen ones, is new; the domain's own regimes are not."""
    baseline = aided.baseline
    new = dict(zip(baseline.binner.names, np.split(baseline.new, baseline.binner.offsets[1:]), strict=True))[REGIME]
    assert new.tolist() == [False, False, False, True]
    assert [domain.domain for domain in baseline.domains] == [0, 1]
    assert sum(baseline.weights) == pytest.approx(1.0)


def test_rows_are_normalised_as_of_their_age_where_it_is_known(known: first_aid.Known) -> None:
    """To what is usual at that age; of units of whom nobody knows it, to mean 0 and standard deviation 1."""
    runs = seen((CRUISE,))
    anyhow = first_aid.grown(known.regimes, runs, ages(known))
    rows = anyhow.normalised(np.concatenate([each.rows for each in runs]))
    varies = anyhow.varies[-1] > 0
    assert varies.any()
    np.testing.assert_allclose(rows[:, varies].mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(rows[:, varies].std(axis=0), 1.0, atol=1e-2)
    young = first_aid.grown(known.regimes, runs, ages(known), {each.run_id: 0 for each in runs})
    usual = np.asarray(ages(known).mean)[
        np.searchsorted(ages(known).edges, np.concatenate([np.arange(len(each.rows)) for each in runs]), side="right")
    ].mean(axis=0)
    rows = young.normalised(np.concatenate([each.rows for each in runs]))
    np.testing.assert_allclose(rows[:, varies].mean(axis=0), usual[varies], atol=1e-3)


def test_too_few_units_and_rows_are_waited_for(known: first_aid.Known) -> None:
    """It says how many there are; all rows of a unit count that is run elsewhere in some of them."""
    assert "0 of 10 units" in str(first_aid.lacking(known.regimes, with_role(fleet(), "live")))
    assert "3 of 10 units" in str(first_aid.lacking(known.regimes, seen(units=3)))
    assert first_aid.lacking(known.regimes, seen(units=30)) is None
    units = [Run(f"seen-{n}", run(f"seen-{n}", settings=(SEA_LEVEL, CRUISE), cycles=60).rows[:50]) for n in range(10)]
    assert first_aid.lacking(known.regimes, units) is None
    short = [*units[1:], Run("seen-0", units[0].rows[:49])]
    assert "10 of 10 units in regimes that the model does not know, with 499 of 500 rows" in str(
        first_aid.lacking(known.regimes, short)
    )


def test_windows_without_a_new_regime_get_no_first_aid(known: first_aid.Known) -> None:
    """There is nothing to grow."""
    assert first_aid.give(known, seen((SEA_LEVEL,))) is None


def test_of_each_unit_the_longest_window_counts() -> None:
    """Rows that are in two windows are measured once."""
    long, short = run("u", cycles=9), Run("u", run("u", cycles=9).rows[:4])
    assert [len(one.rows) for one in first_aid.newest([short, long, short])] == [9]


def test_a_regime_next_to_a_known_one_is_left_out(known: first_aid.Known) -> None:
    """It would take rows from it."""
    near = (SEA_LEVEL[0] + 1.5 * regimes.RADIUS * known.regimes.scales[0], *SEA_LEVEL[1:])
    assert len(first_aid.grown(known.regimes, seen((near,)), ages(known))) == len(known.regimes)


def test_a_graph_without_regimes_is_refused() -> None:
    """The error names the file."""
    from onnx import TensorProto, helper

    given = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [1])]
    graph = helper.make_graph([helper.make_node("Identity", ["rows"], ["rul"])], "g", given, given)
    with pytest.raises(BundleError, match="no regimes"):
        grafting.known_regimes(helper.make_model(graph).SerializeToString())


def test_what_is_told_of_intervals_in_grown_regimes_is_of_widened_ones(
    known: first_aid.Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share inside that the live error is estimated from is that of the intervals that will be served."""
    asked, widenings = rehearsal._asked, []

    def spy(content: bytes, found: regimes.Regimes, widening: np.ndarray, *rest: Any) -> answers.Answers:
        widenings.append(widening.tolist())
        return asked(content, found, widening, *rest)

    monkeypatch.setattr(rehearsal, "_asked", spy)
    made = rehearsal.rehearse(known.content, known.model, fleet(per_role=12), seed=0)
    assert made is not None
    assert widenings == [[0.0] * 6, pytest.approx(made.rest.widening)]
    assert (made.asked.upper - made.asked.lower).min() >= min(made.rest.widening)
