"""How each golden is made from the present code, without what differs from moment to moment."""

import base64
import hashlib
import json
import re
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
from fastapi.testclient import TestClient

from driftloop.loop.store import read_events
from live_server import local

from . import material, retrainer_asks, server_asks, subject
from .material import Ask

PATIENCE_S = 60.0

_TIME = re.compile(r"(?!2001)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_RUN = re.compile(r"\d{8}T\d{12}")
_RANDOM = re.compile(r"[0-9a-f]{16}")
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_SHOWN_HEADERS = ("allow", "content-type", "retry-after", "location")
_UNITS = "driftloop_unit_bucket_total{"
_UNSTEADY = {"git_commit": "COMMIT", "duration_s": "SECONDS", "cooling_down_s": "SECONDS", "started": "MOMENT"}
"""Fields whose value depends on the moment or the checkout, and what is kept for one that is there."""


# The goldens.


def archive_object() -> dict[str, Any]:
    """An archived run as the bytes of its object."""
    with _folder() as folder:
        subject.archive(folder / "archive", material.RUN_ID, archived_rows())
        objects = sorted((folder / "archive").iterdir())
        return {path.name: base64.b64encode(path.read_bytes()).decode() for path in objects}


def archived_rows() -> material.Rows:
    """The rows of that run."""
    return material.engine(material.RUN_ID, 5, material.SEA_LEVEL, material.CRUISE)


def loop_bundle() -> dict[str, Any]:
    """The files of a bundle of the loop's network.

    What the network answers goes into the metadata's example and the edges of the baseline's bins. Those are kept as
    numbers, and the digest of the baseline is over the rest of it.
    """
    folder = bundle()
    metadata = json.loads((folder / "metadata.json").read_bytes())
    metadata["example"]["rows"] = _sha256(json.dumps(metadata["example"]["rows"]).encode())
    metadata["rehearsal"]["errors"]["draws"] = len(metadata["rehearsal"]["errors"]["draws"])
    baseline = json.loads((folder / "baseline.json").read_bytes())
    edges = {feature["name"]: feature.pop("edges") for feature in baseline["features"]}
    return {
        "files": sorted(path.name for path in folder.iterdir()),
        **_model(folder),
        "metadata.json": _steady(metadata, folder),
        "baseline.json": {
            "sha256 without edges": _sha256(json.dumps(baseline, sort_keys=True).encode()),
            "fields": sorted(baseline),
            "edges": edges,
            "bins": [[feature["name"], feature["kind"], feature["bins"]] for feature in baseline["features"]],
            "rows by age": [[[age["band"], age["rows"]] for age in domain["ages"]] for domain in baseline["domains"]],
            "psi at 500": next(one["psi"] for one in baseline["thresholds"] if one["n"] == 500),
            "min_n": baseline["min_n"],
            "power_by_n": baseline["power_by_n"],
        },
    }


def server_answers() -> list[dict[str, Any]]:
    """What the prediction server answers."""
    return _served()[0]


def server_metrics() -> str:
    """What the prediction server has counted after these requests, without what depends on time."""
    return _served()[1]


def server_log() -> list[dict[str, Any]]:
    """What the prediction server has written into its inference log about the first of these requests."""
    return _served()[2]


def server_openapi() -> dict[str, Any]:
    """The documentation of the prediction server."""
    with _folder() as folder:
        return _document(subject.server_app(folder, None).openapi())


def retrainer_answers() -> list[dict[str, Any]]:
    """What the retrainer answers, scene by scene."""
    return _retrained()[0]


def retrainer_metrics() -> str:
    """What the retrainer shows at the end of its scenes, without what depends on time."""
    return _retrained()[1]


def retrainer_files() -> dict[str, Any]:
    """What a retrainer leaves behind for its successor in the middle of a retraining."""
    return _retrained()[2]


def retrainer_openapi() -> dict[str, Any]:
    """The documentation of the retrainer."""
    with _folder() as folder, subject.retrainer_app(folder / "state") as (app, _):
        found = app.openapi()
        with local(app):  # What it has opened is closed when it ends.
            return _document(found)


GOLDENS: dict[str, Callable[[], Any]] = {
    "archive_object": archive_object,
    "loop_bundle": loop_bundle,
    "server_answers": server_answers,
    "server_metrics": server_metrics,
    "server_log": server_log,
    "server_openapi": server_openapi,
    "retrainer_answers": retrainer_answers,
    "retrainer_metrics": retrainer_metrics,
    "retrainer_files": retrainer_files,
    "retrainer_openapi": retrainer_openapi,
}


# Parts.


@cache
def _kept_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="driftloop-goldens-")


@cache
def bundle() -> Path:
    """The bundle of the loop's network, made once. Not to be changed."""
    return subject.loop_bundle(Path(_kept_folder().name) / "bundle")


def _model(folder: Path) -> dict[str, Any]:
    with np.load(folder / "checkpoint.npz") as file:
        weights = {name: [str(file[name].dtype), list(file[name].shape), _sha256(file[name])] for name in file.files}
    return {
        "model.onnx": _sha256((folder / "model.onnx").read_bytes()),
        "checkpoint.npz": _sha256((folder / "checkpoint.npz").read_bytes()),
        "weights": weights,
        "answers": _answers(folder / "model.onnx"),
    }


def _answers(path: Path) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = {}
    for name, rows in material.histories().items():
        values = session.run(names, {session.get_inputs()[0].name: rows})
        # Decimal digits of a float32, instead of those of the float64 that it becomes.
        found[name] = {key: json.loads(_digits(value)) for key, value in zip(names, values, strict=True)}
    return found


def _digits(value: np.ndarray) -> str:
    if value.dtype == np.int64:
        return json.dumps(value.tolist())
    return json.dumps(np.vectorize(lambda x: float(f"{x:.7g}"), otypes=[float])(value).tolist())


def good_answers(folder: Path) -> list[dict[str, Any]]:
    """What a prediction server with the bundle in `folder` answers to the good requests."""
    with _folder() as state, _server(state / "server", folder) as http:
        return _ask(http, server_asks.GOOD, state)


@contextmanager
def _server(state: Path, folder: Path) -> Iterator[TestClient]:
    app = subject.server_app(state, folder, **server_asks.LIMITS)
    with local(app, raise_server_exceptions=False) as http:
        _until(http, ("/readyz", '"model_version":"1"'))
        yield http


@cache
def _served() -> tuple[list[dict[str, Any]], str, list[dict[str, Any]]]:
    """Answers, metrics and inference log."""
    with _folder() as state:
        with _server(state / "server", bundle()) as http:
            answers = _ask(http, [*server_asks.GOOD, *server_asks.BAD, *server_asks.OTHERS], state)
            metrics = _exposition(http.get("/metrics").text)
        lines = (state / "server" / "inference" / "inference-0.jsonl").read_text(encoding="utf-8").splitlines()
        log = [_steady(json.loads(line), state) for line in lines[:4]]
        stub = subject.server_app(state / "stub", None, **server_asks.LIMITS)
        with local(stub, raise_server_exceptions=False) as http:
            answers += _ask(http, server_asks.STUB, state)
    return answers, metrics, log


@cache
def _retrained() -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    scenes: list[tuple[str, list[Ask], dict[str, Any]]] = [
        ("nothing in production", retrainer_asks.NOTHING_IN_PRODUCTION, {}),
        ("in production", retrainer_asks.IN_PRODUCTION, {"versions": 2}),
        ("switched off", retrainer_asks.SWITCHED_OFF, {"retrains": False, "token": False}),
        ("registry away", retrainer_asks.REGISTRY_AWAY, {"versions": 2, "away": True}),
        ("registry gone", retrainer_asks.REGISTRY_AWAY, {"versions": 2}),
        ("without token", retrainer_asks.WITHOUT_TOKEN, {}),
    ]
    answers, metrics, files, limits = [], [], {}, retrainer_asks.LIMITS
    for scene, asks, how in scenes:
        with _folder() as folder, subject.retrainer_app(folder / "state", **how, **limits) as (app, take_away):
            with_token = how.get("token", True) and scene != "without token"
            headers = {"Authorization": f"Bearer {subject.TOKEN}"} if with_token else {}
            with local(app, headers=headers, raise_server_exceptions=False) as http:
                _until(http, ("/readyz", "cannot be reached") if "away" in how else ("/status", '"blocked":null'))
                if scene == "registry gone":
                    take_away()
                found = _ask(http, asks, folder)
                answers += [{**answer, "ask": f"{scene}: {answer['ask']}"} for answer in found]
                metrics.append(f"# SCENE {scene}\n{_exposition(http.get('/metrics').text)}")
                if scene == "in production":
                    files = _left_behind(folder)
    return answers, "".join(metrics), files


def _left_behind(folder: Path) -> dict[str, Any]:
    loop = folder / "state" / "loop"
    with closing(sqlite3.connect(loop / "loop.db")) as db:
        kept = {name: json.loads(value) for name, value in db.execute("SELECT name, value FROM kept ORDER BY name")}
        engines = [list(row) for row in db.execute("SELECT engine_id, archived FROM engines ORDER BY place")]
    return {
        "kept": _steady(kept, folder),
        "events": [_steady(event, folder) for event in read_events(loop / "loop.db")],
        "engines": engines,
    }


def _ask(http: TestClient, asks: Iterable[Ask], folder: Path) -> list[dict[str, Any]]:
    found = []
    for ask in asks:
        answer = http.request(ask.method, ask.path, content=ask.content(), headers=ask.headers, follow_redirects=False)
        found.append(
            {
                "ask": ask.name,
                "asked": _sha256(ask.body or b"")[:16],
                "status": answer.status_code,
                "headers": {name: answer.headers[name] for name in _SHOWN_HEADERS if name in answer.headers},
                "body": _body(answer, folder),
            }
        )
        if ask.until is not None:
            _until(http, ask.until)
    return found


def _body(answer: httpx.Response, folder: Path) -> Any:
    if answer.content and answer.headers.get("content-type", "").startswith("application/json"):
        return _steady(answer.json(), folder)
    return f"{len(answer.content)} bytes" if answer.is_success else answer.text


def _until(http: TestClient, condition: tuple[str, str]) -> None:
    path, text = condition
    deadline = time.monotonic() + PATIENCE_S
    while text not in (shown := http.get(path).text):
        assert time.monotonic() < deadline, f"GET {path} never showed {text}, but {shown}"
        time.sleep(0.01)


def _steady(value: Any, folder: Path) -> Any:
    """The value without what differs from one moment, one machine and one checkout to the next."""
    if isinstance(value, dict):
        return {key: _steady_field(key, item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_steady(item, folder) for item in value]
    if isinstance(value, str):
        text = value.replace(str(folder), "FOLDER")
        return _RUN.sub("RUN", _TIME.sub("TIME", text))
    return value


def _steady_field(key: str, value: Any, folder: Path) -> Any:
    if key in _UNSTEADY:
        # Whether there is a checkout is no property of the code either.
        return _UNSTEADY[key] if value is not None or key == "git_commit" else None
    if key == "request_id" and isinstance(value, str) and _RANDOM.fullmatch(value):
        return "RANDOM"
    if key == "digest" and isinstance(value, str) and _HASH.fullmatch(value):
        # It is over the metadata, and so over the commit; `loop_bundle` has the files.
        return "DIGEST"
    return _steady(value, folder)


def _exposition(text: str) -> str:
    """The metrics without times, without readiness, which is asked until it is given, and without digests.

    Units are counted in the background: which stands first says how many requests were counted at once.
    """
    kept = []
    of_units = iter(sorted(line for line in text.splitlines() if line.startswith(_UNITS)))
    for said in text.splitlines():
        line = next(of_units) if said.startswith(_UNITS) else said
        if 'endpoint="/readyz"' in line or re.search(r'seconds_bucket\{.*le="[0-9.]+"', line):
            continue
        if not line.startswith("#") and re.match(r"\w+_seconds(_sum)?[ {]", line):
            kept.append(f"{line.rpartition(' ')[0]} SECONDS")
        else:
            kept.append(re.sub(r'digest="[0-9a-f]{64}"', 'digest="DIGEST"', line))
    return "".join(f"{line}\n" for line in kept)


def _document(document: dict[str, Any]) -> dict[str, Any]:
    assert document["info"]["version"] == subject.VERSION
    return {**document, "info": {**document["info"], "version": "VERSION"}}


def _sha256(content: bytes | np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(content) if isinstance(content, np.ndarray) else content).hexdigest()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="driftloop-goldens-") as folder:
        yield Path(folder).resolve()
