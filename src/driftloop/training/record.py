"""The record of a model in MLflow: a run with parameters, metrics and data, its bundle, and a registered version.

The only importer of mlflow in driftloop. Importing it takes seconds, so `recorder` has that done in a process of
its own while a model trains.
"""

import contextlib
import hashlib
import importlib.metadata
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from driftloop import __version__
from driftloop.durable import parse_time
from driftloop.environment import reach_directly
from driftloop.errors import RegistryUnavailable
from driftloop.model import bundle
from driftloop.model.bundle import CHECKPOINT, MODEL, SERVING_FILES, Metadata
from driftloop.model.mlflow import START_IT
from driftloop.model.registry import DIGEST_TAG, Registry
from driftloop.model.signature import INPUT, SIGNATURE
from driftloop.settings import Settings

ARTIFACT = "model"
"""Folder of the run's artifacts that holds the bundle and MLflow's own description of it."""
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    # Standard output belongs to the command that records.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A registry that is away is reported to the caller, who knows how long to wait for it.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


NICENESS = 9
"""Of the process of `recorder`: it has the whole training's time to import."""


@contextlib.contextmanager
def recorder(like: Path | None = None) -> Iterator[Callable[..., str]]:
    """A `record` that works in a process of its own, which imports mlflow from now on.

    A thread would do for that if it did not hold up the training beside it. A bundle that is `like` the one to come is
    written for MLflow once, for nothing: what MLflow looks up at its first model takes it a second.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent) as process:
        process.submit(_prepare, like)
        yield lambda *arguments, **named: process.submit(record, *arguments, **named).result()


def record(folder: Path, settings: Settings, *, tags: dict[str, str] | None = None) -> str:
    """Log the bundle in `folder` to MLflow, register it, and return the new version; no alias is moved.

    The run holds parameters, metrics, the training manifest with the hash of every run's data, git commit and
    DVC revision; the model has signature and input example. `tags` are added to the version's own. Raises
    BundleError for an incomplete bundle and RegistryUnavailable where MLflow cannot be reached or refuses.
    """
    # Proxies named in the environment are for the world outside; MLflow's client would ask them for the registry.
    reach_directly(os.environ, settings.mlflow_url)
    metadata, digest = bundle.read_metadata(folder), bundle.digest(folder)
    described = _described(metadata, digest)
    client = _mlflow().MlflowClient(tracking_uri=settings.mlflow_url)
    try:
        run = client.create_run(_experiment(client, settings.model), run_name=_name(metadata), tags=described)
        try:
            _log(client, run.info.run_id, metadata, folder)
            source = f"{run.info.artifact_uri}/{ARTIFACT}"
            with Registry(settings.mlflow_url, settings.model) as registry:
                version = registry.create_version(source, run.info.run_id, described | (tags or {}))
        except BaseException:
            with contextlib.suppress(_mlflow().exceptions.MlflowException):  # the first error is the one to show
                client.set_terminated(run.info.run_id, "FAILED")
            raise
        client.set_terminated(run.info.run_id, "FINISHED")
    except _mlflow().exceptions.MlflowException as error:
        raise RegistryUnavailable(
            f"the model could not be logged: {error}",
            where=f"MLflow at {settings.mlflow_url}",
            remedy=START_IT,
        ) from error
    return version


def save_model(folder: Path, target: Path) -> None:
    """Write the bundle in `folder` as an MLflow model to `target`, with signature and input example.

    The bundle's own files lie beside MLflow's, byte for byte.
    """
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    metadata = bundle.read_metadata(folder)
    schema = metadata.schema
    rows = TensorSpec(np.dtype("float32"), (-1, -1, schema.n_columns), INPUT)
    outputs = [
        TensorSpec(np.dtype(output.dtype), (-1, schema.n_sensors) if output.per_sensor else (-1,), output.name)
        for output in SIGNATURE
    ]
    mlflow.onnx.save_model(
        onnx.load(str(folder / MODEL)),
        str(target),
        signature=ModelSignature(Schema([rows]), Schema(outputs)),
        input_example={INPUT: np.asarray(metadata.example.rows[:1], dtype=np.float32)},
        # Given here, since MLflow would otherwise run the model in another process to find out.
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("onnx", "onnxruntime", "numpy")],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
        metadata={DIGEST_TAG: bundle.digest(folder), "driftloop": __version__},
    )
    for name in (*SERVING_FILES, CHECKPOINT):
        shutil.copyfile(folder / name, target / name)


def _end_with_parent() -> None:
    """End this process when the one that records ends, however it does: nothing else would tell it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _prepare(like: Path | None) -> None:
    os.nice(NICENESS)
    _mlflow()
    if like is not None:
        with tempfile.TemporaryDirectory(prefix="driftloop-") as folder:
            save_model(like, Path(folder) / ARTIFACT)


def _mlflow() -> Any:
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
    import mlflow
    import mlflow.onnx

    return mlflow


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except _mlflow().exceptions.MlflowException:
        found = client.get_experiment_by_name(name)  # another process may have been faster
        if found is None:
            raise
        return str(found.experiment_id)


def _log(client: Any, run_id: str, metadata: Metadata, folder: Path) -> None:
    from mlflow.entities import Metric, Param

    milliseconds = int(parse_time(metadata.created).timestamp() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, milliseconds, 0) for name, value in sorted(metadata.metrics.items())],
        params=[Param(name, str(value)) for name, value in sorted(metadata.parameters.items())],
    )
    with tempfile.TemporaryDirectory(prefix="driftloop-") as temporary:
        artifacts = Path(temporary)
        save_model(folder, artifacts / ARTIFACT)
        manifest = artifacts / "training" / "manifest.json"
        manifest.parent.mkdir()
        manifest.write_bytes(_manifest(metadata))
        client.log_artifacts(run_id, str(artifacts))


def _manifest(metadata: Metadata) -> bytes:
    return msgspec.json.format(msgspec.json.encode(metadata.manifest), indent=1) + b"\n"


def _described(metadata: Metadata, digest: str) -> dict[str, str]:
    """The tags that run and version share; what is unknown is left out."""
    known = {
        DIGEST_TAG: digest,
        "cause": metadata.cause,
        "parent_version": metadata.parent_version,
        "training": metadata.training,
        "data_source": metadata.data_source,
        "data_sha256": hashlib.sha256(_manifest(metadata)).hexdigest(),
        "engines": str(len(metadata.manifest)),
        "mlflow.source.git.commit": metadata.git_commit,
        "dvc_revision": metadata.dvc_revision,
        "decision": "pending",
    }
    return {name: value for name, value in known.items() if value}


def _name(metadata: Metadata) -> str:
    return f"{metadata.training}-{metadata.created}"
