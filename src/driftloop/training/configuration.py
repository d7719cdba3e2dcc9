"""A training's configuration as JSON, and that of a model that is there."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import msgspec

from driftloop.durable import read_json
from driftloop.errors import DataError, JsonError
from driftloop.fleet.schema import Schema
from driftloop.training.network import Architecture
from driftloop.training.train import TrainConfig

_Numbers = Mapping[str, float | int | str | bool]


def as_json(config: TrainConfig) -> dict[str, Any]:
    """A configuration as `driftloop train --config` takes it."""
    return asdict(config)


def default(schema: Schema) -> TrainConfig:
    """The configuration that the loop trains a fleet's model with; both were found by cross-validation over units.

    Where padding is repeated rows it is C-MAPSS's (docs/model-card.md), elsewhere that of two fleets of battery cells.
    """
    if schema.padding == "repeated":
        return TrainConfig()
    return TrainConfig(
        architecture=Architecture(health=0, perceptron=64, members=5, standardised=True),
        steps=500,
        lr=0.02,
        # A training from nothing takes seconds, and one that goes on from a champion's sensors falls short.
        warm_steps=0,
        weight_decay=0.03,
        missing=0.3,
    )


def read(path: Path, start: TrainConfig | None = None) -> TrainConfig:
    """The configuration in a JSON file; what it leaves out is as in `start`, by default the loop's own.

    Raises DataError naming the field that is wrong.
    """
    try:
        given = read_json(path)
        sizes = given.pop("architecture", {}) if isinstance(given, dict) else {}
        _check_names(given, TrainConfig(), "")
        _check_names(sizes, TrainConfig().architecture, "architecture.")
        return _completed(given, sizes, start or TrainConfig())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (JsonError, ValueError, TypeError) as error:
        what = error.what if isinstance(error, JsonError) else str(error)
        raise DataError(what, where=str(path), remedy="driftloop tune writes such a file") from error


def of_model(parameters: _Numbers) -> TrainConfig:
    """The configuration that a bundle's metadata tells of: a warm start needs the champion's architecture.

    Nothing goes on from the LSTM of older versions: its successor has the loop's own configuration.
    """
    start = TrainConfig()
    if parameters.get("hidden"):
        return start
    names = {field.name for field in fields(start)}
    sizes = {field.name for field in fields(start.architecture)}
    return _completed(
        {name: value for name, value in parameters.items() if name in names},
        {name: value for name, value in parameters.items() if name in sizes},
        start,
    )


def _completed(given: Mapping[str, Any], sizes: Mapping[str, Any], start: TrainConfig) -> TrainConfig:
    whole = {**asdict(start), **given, "architecture": {**asdict(start.architecture), **sizes}}
    return msgspec.convert(whole, type(start))


def _check_names(given: object, example: Any, prefix: str) -> None:
    """Raise TypeError or ValueError unless `given` is an object with names of the dataclass `example` alone."""
    if not isinstance(given, dict):
        raise TypeError(f"{prefix.rstrip('.') or 'the whole'} is not a JSON object")
    known = [field.name for field in fields(example)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{prefix}{unknown[0]} is not known; there are {', '.join(known)}")
