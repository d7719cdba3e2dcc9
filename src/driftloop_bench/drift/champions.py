"""The models whose traffic is watched: one per subset and engine split, trained, exported and asked once.

A split is a new division of the engines into roles: the engines' ids get a suffix, and roles are hashes of ids.
Everything that takes long is kept in a folder, so that a benchmark that was interrupted goes on where it was.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from driftloop.drift.baseline import Baseline
from driftloop.drift.baseline_build import REFERENCE_ROLES, Trace, build_baseline
from driftloop.fleet import roles
from driftloop.fleet.roles import with_role
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import Schema
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.model import answers
from driftloop.model.bundle import MODEL

HELD_OUT = ("gate", "live")
"""Roles of the engines that took part in neither the model nor its baseline."""


@dataclass(frozen=True, eq=False)
class Lives:
    """What a model answered over the lives of some engines, one after the other, and what it was asked."""

    prediction: NDArray[np.float32]
    """`[rows]`, cycles."""
    settings: NDArray[np.float32]
    """`[rows, settings]`, raw."""
    newest: NDArray[np.float32]
    """`[rows, sensors]`, normalised."""
    regime: NDArray[np.int64]
    """`[rows]`; -1 for one never seen."""
    length: NDArray[np.int64]
    """Cycles of each engine, `[E]`."""

    def taken(self, rows: NDArray[np.int64] | slice) -> "Lives":
        """Some rows in a new order, as if they were one life."""
        prediction = self.prediction[rows]
        length = np.array([len(prediction)])
        return Lives(prediction, self.settings[rows], self.newest[rows], self.regime[rows], length)

    def each(self) -> "list[Lives]":
        """Every engine's life by itself."""
        ends = np.cumsum(self.length)
        return [self.taken(slice(end - cycles, end)) for end, cycles in zip(ends, self.length, strict=True)]


@dataclass(frozen=True, eq=False)
class Champion:
    """A model that was trained on one split of one subset, with its baseline."""

    subset: str
    split: int
    folder: Path
    model: answers.Model
    baseline: Baseline
    reference: Lives
    """The engines that the baseline is made of."""

    def answers(self, runs: Sequence[Run], name: str) -> Lives:
        """The champion's answers to every cycle of `runs`; asked once and kept under `name`."""
        return _kept(self.folder / "answers" / f"{name}.npz", self.model, runs)


def resplit(runs: Sequence[Run], split: int) -> list[Run]:
    """The same engines with other ids, and so other roles; split 0 leaves them as they are."""
    return [Run(f"{run.run_id}-{split}" if split else run.run_id, run.rows) for run in runs]


def dealt(runs: Sequence[Run], schema: Schema) -> list[Run]:
    """The same runs, roles dealt as for the fleet's first training where a hash gives too few units to one."""
    return roles.assign(runs, roles.deal([run.run_id for run in runs], roles.from_nothing(schema.least), {}))


def held_out(runs: Sequence[Run], split: int) -> list[Run]:
    """The engines of a split that neither a model nor a baseline of it has seen."""
    return with_role(resplit(runs, split), *HELD_OUT)


def champion(
    subset: str,
    runs: Sequence[Run],
    split: int,
    folder: Path,
    *,
    steps: int | None = None,
    schema: Schema = SCHEMA,
    cap: int = RUL_CAP,
) -> Champion:
    """Train on a split of `runs`, or load what was trained before in `folder`; `steps` shortens the training.

    Where a split gives too few units to a role, roles are dealt. The baseline is built anew each time, by today's
    code, from the champion's answers.
    """
    divided = dealt(resplit(runs, split), schema)
    kept = folder / f"{subset}-{split}"
    window = kept / "window"
    if not window.exists():
        _train(divided, split, kept, steps, schema)
    model = answers.Model(answers.open_session(kept / MODEL), int(window.read_text()), schema, cap)
    chosen = sorted(with_role(divided, *REFERENCE_ROLES), key=lambda run: run.run_id)[: answers.TRACED]
    reference = _kept(kept / "answers" / "reference.npz", model, chosen)
    traces = [
        Trace(run.run_id, 0, run.role, life.prediction, life.settings, life.newest, life.regime)
        for run, life in zip(chosen, reference.each(), strict=True)
    ]
    return Champion(subset, split, kept, model, build_baseline(traces, schema, cap, seed=split), reference)


def _train(runs: Sequence[Run], split: int, folder: Path, steps: int | None, schema: Schema) -> None:
    # Torch is needed here alone: a benchmark that goes on with trained models does without.
    from dataclasses import replace

    from driftloop.training import configuration, export
    from driftloop.training import train as training

    config = replace(configuration.default(schema), seed=split)
    if steps is not None:
        config = replace(config, steps=steps)
    trained = training.train(runs, schema, config)
    folder.mkdir(parents=True, exist_ok=True)
    export.export(trained.network, runs[0].rows, folder)
    (folder / "window").write_text(str(config.architecture.window))


def _kept(path: Path, model: answers.Model, runs: Sequence[Run]) -> Lives:
    if path.exists():
        with np.load(path, allow_pickle=False) as content:
            return Lives(**{name: content[name] for name in content.files})
    parts = list(answers.outputs(model, runs, threads=1))
    rul, _, _, regime, newest = (np.concatenate(column) for column in zip(*parts, strict=True))
    settings = np.concatenate([run.rows[:, : model.schema.n_settings] for run in runs]).astype(np.float32)
    lives = Lives(rul, settings, newest, regime, np.array([len(run.rows) for run in runs]))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, **vars(lives))
    os.replace(temporary, path)
    return lives
