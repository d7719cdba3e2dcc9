"""Put on a platform's PYTHONPATH as `sitecustomize`: its trainings are the real ones, of a smaller network.

Nothing else is replaced. A full training takes seconds instead of a minute on two cores.
"""

import dataclasses
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

TARGET = "driftloop.training.train"


class Finder(importlib.machinery.PathFinder):
    """Finds the training module and makes its default configuration small once it has been imported."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """The spec of the training module; None for every other one."""
        if fullname != TARGET:
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_shrink(module: ModuleType) -> None:
            execute(module)
            shrink(module)

        spec.loader.exec_module = execute_and_shrink  # type: ignore[method-assign]
        return spec


def shrink(training: Any) -> None:
    """Make `TrainConfig()` a configuration of a small network."""
    small = {
        "architecture": training.Architecture(window=15, oldest=4, health=5, perceptron=32),
        "steps": 300, "warm_steps": 200, "batch": 128, "lr": 0.01, "warm_lr": 0.01, "evaluations": 4, "threads": 1,
    }  # fmt: skip
    # A class, since annotations name it.
    training.TrainConfig = dataclasses.make_dataclass(
        "TrainConfig",
        [(name, type(value), dataclasses.field(default=value)) for name, value in small.items()],
        bases=(training.TrainConfig,),
        frozen=True,
    )


sys.meta_path.insert(0, Finder)
