"""The challenger: trained from the champion, built into a bundle whose baseline knows today's traffic, registered.

Imports torch, and so only the pipeline's training step imports it.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from driftloop.loop.judge.mixture import TrafficMixture
from driftloop.loop.judge.plan import Plan
from driftloop.model.bundle import read_metadata
from driftloop.settings import Settings
from driftloop.training import build, configuration, record
from driftloop.training.train import Report, train


def make(
    plan: Plan,
    champion: Path,
    folder: Path,
    settings: Settings,
    *,
    parent_version: str,
    cause: str,
    full: bool,
    tags: dict[str, str],
    patiently: Callable[[Callable[[], str]], str],
    progress: Report | None = None,
) -> tuple[str, dict[str, Any]]:
    """Train, build in `folder` and register; returns the version and what an event should tell of it.

    The training starts from the bundle `champion`, of version `parent_version`, unless `full`. The baseline's mixture
    is that of the traffic during the training, or the shares of the engines where there was too little.
    `patiently` makes a call again while the registry is away; `progress` is told how far the training is.
    """
    with record.recorder(champion) as record_model:
        started = time.monotonic()
        known = read_metadata(champion)
        runs = [*plan.old, *plan.new]
        traffic = TrafficMixture(champion, parent_version, settings)
        config = replace(
            configuration.of_model(known.parameters), seed=known.seed, old_tolerance=settings.old_tolerance
        )
        trained = train(
            runs, known.schema, config, warm_start=None if full else champion, cap=known.cap, progress=progress
        )
        trained_at = time.monotonic()
        weights = traffic.weights(plan)
        mixture = "engines" if weights is None else "traffic"
        build.build_bundle(
            trained,
            # What the inputs look like, the superseded runs say as well as ever.
            [*runs, *plan.superseded],
            plan.manifest,
            folder,
            weights,
            data_source=known.data_source,
            parent_version=parent_version,
            cause=cause,
            dvc_revision=known.dvc_revision,
        )
        built_at = time.monotonic()
        version = patiently(lambda: record_model(folder, settings, tags={**tags, "mixture": mixture}))
    summary = {
        "training": trained.training,
        "note": trained.note or None,
        "mixture": mixture,
        "weights": weights,
        "train_s": round(trained_at - started, 3),
        "build_s": round(built_at - trained_at, 3),
        "record_s": round(time.monotonic() - built_at, 3),
        "metrics": trained.metrics,
    }
    return version, summary
