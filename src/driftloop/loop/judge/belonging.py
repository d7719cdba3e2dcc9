"""Which completed runs are of operating domains that a model knows, and which are of a changed fleet.

Units of the old fleet go on failing after a change. Their labels say nothing about the new one: a retraining for its
sake waits for labels of its own, and learns the others as what they are. A run is of a known domain where the model's
baseline explains its settings and sensors (not the prediction: nothing is asked of the model) as it would explain
traffic. A change that is too small to be seen in one run is seen in all together: then none of them can be told apart,
and all count as new.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftloop.drift.baseline import Baseline, read_baseline
from driftloop.drift.bins import Binner
from driftloop.drift.mixture import by_group
from driftloop.drift.statistics import Floats
from driftloop.drift.verdict import left_without, measure
from driftloop.fleet.labels import window_ends
from driftloop.fleet.runs import Run, windows_at
from driftloop.loop.judge.evaluation import STRIDE
from driftloop.model import answers
from driftloop.model.answers import Model
from driftloop.model.bundle import read_metadata
from driftloop.model.signature import INPUT

Counts = NDArray[np.int64]
NEWEST, REGIME = "newest", "regime"


class Reader:
    """A version's eyes: what it is asked about a run, and how much of that it knows."""

    def __init__(self, folder: Path) -> None:
        """`folder` is its bundle; raises BundleError where that cannot be used."""
        self._model, self._baseline = answers.open_model(folder), read_baseline(folder)
        self._labelled = {entry.domain for entry in read_metadata(folder).manifest}

    def counts(self, run: Run) -> Counts:
        """How many rows of a run, of every fifth, are in each bin of the baseline, `[total]`."""
        return _counts(self._model, self._baseline.binner, run)

    def known(self, counts: Mapping[str, Counts]) -> dict[str, int]:
        """The runs that are of a domain the version knows with labels, with the number of that domain.

        A provisional domain has none: its first labels are what is waited for.
        """
        found = known(counts, self._baseline)
        return {run: domain for run, domain in found.items() if domain in self._labelled}


def known(counts: Mapping[str, Counts], baseline: Baseline) -> dict[str, int]:
    """Of runs with these counts those that the baseline explains, each with the domain that explains most of it."""
    if not counts:
        return {}
    score, weights = _unexplained(np.stack(list(counts.values())), baseline)
    alike = score <= 1
    if not alike.any():
        return {}
    together = np.sum([each for each, like in zip(counts.values(), alike, strict=True) if like], axis=0)
    if _unexplained(together, baseline)[0] > 1:
        return {}
    shares = by_group(weights, baseline.components.domain, len(baseline.domains))
    domains = [baseline.domains[at].domain for at in shares.argmax(axis=-1)]
    return {run: domain for run, domain, like in zip(counts, domains, alike, strict=True) if like}


def _unexplained(flat: Counts, baseline: Baseline) -> tuple[Floats, Floats]:
    return left_without([], measure(flat, baseline), baseline)


def _counts(model: Model, binner: Binner, run: Run) -> Counts:
    counted = model.schema.padding == "counted"
    ends = window_ends(len(run.rows), STRIDE)
    # A missing value is filled from the rows before; else the newest row stands for itself.
    rows = windows_at(run, ends, model.window if counted else 1, counted=counted)
    newest, regime = model.session.run([NEWEST, REGIME], {INPUT: rows})
    # The prediction is left out when this is judged; any value keeps its place.
    return binner.counts(np.zeros(len(ends)), run.rows[ends, : model.schema.n_settings], newest, regime)
