"""The requests that the retrainer is asked, scene by scene."""

import json
from typing import Any

from .material import CRUISE, RUN_ID, SEA_LEVEL, Ask, cell, engine

LIMITS = {"max_archive_bytes": 200_000, "min_new_engines": 12}
LONG_AGO = "2001-02-03T04:05:06+01:00"

_ROWS = engine("posted", 4, SEA_LEVEL, CRUISE)


def _post(path: str, name: str, body: Any, until: tuple[str, str] | None = None, pieces: int = 0) -> Ask:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Ask(f"POST {path}: {name}", "POST", path, content, until=until, pieces=pieces)


def _run(run_id: Any = RUN_ID, rows: Any = _ROWS) -> dict[str, Any]:
    return {"run_id": run_id, "rows": rows if isinstance(rows, list) else rows.tolist()}


def _runs(*ids: str) -> dict[str, Any]:
    return {"runs": [_run(run_id, engine(run_id, 3, SEA_LEVEL)) for run_id in ids]}


def _alert(status: str = "firing", version: Any = "1", kind: str = "fleet_change", **changes: Any) -> dict[str, Any]:
    alert = {
        "status": status,
        "labels": {
            "alertname": "DriftloopDrift",
            "model_version": version,
            "kind": kind,
            "features": "sensor_11,sensor_4",
        },
        "annotations": {"n": "500", "score": "3.1", "summary": "the fleet has changed"},
        "startsAt": LONG_AGO,
        "endsAt": "0001-01-01T00:00:00Z",
    }
    alert |= {key: value for key, value in changes.items() if key not in ("labels", "annotations")}
    alert["labels"] = {**alert["labels"], **changes.get("labels", {})}
    alert["annotations"] = {**alert["annotations"], **changes.get("annotations", {})}
    return {"version": "4", "status": "firing", "alerts": [alert]}


def _answer(**changes: Any) -> dict[str, Any]:
    """What POST /predict answers."""
    return {
        "rul": 52.0, "lower": 40.0, "upper": 64.5, "regime": 0, "flags": [], "model_version": "1",
        "request_id": "r-7", "engine_id": "eng-7", "cycle": 31, **changes,
    }  # fmt: skip


def _outcome(**changes: Any) -> dict[str, Any]:
    return {"outcomes": [{"true_rul": 41, "prediction": _answer(), **changes}]}


_BAD_BODIES: list[tuple[str, Any]] = [
    ("an empty body", b""),
    ("cut off", b"{"),
    ("not UTF-8", b'{"weather": "\xe9"}'),
    ("not UTF-8 from the start", b"\xff\xfe"),
    ("NaN", b'{"runs": [NaN]}'),
    ("null", b"null"),
    ("a list", b"[]"),
    ("a string", b'"x"'),
    ("an empty object", b"{}"),
    ("an unknown field", b'{"weather": 1}'),
    ("nested too deeply", b'{"kind":"verdict","a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    ("too long", b" " * 262_145),
]
POSTS = ("/alerts", "/archive/runs", "/feedback", "/events", "/retrain", "/promote", "/rollback")

NOTHING_IN_PRODUCTION = [
    *(
        _post(path, name, body)
        for path in POSTS
        for name, body in _BAD_BODIES
        # An empty object is a good body for this one; what it answers then comes below.
        if not (path == "/retrain" and name == "an empty object")
    ),
    _post("/archive/runs", "too long without saying so", b" " * 65_536, pieces=4),
    _post("/archive/runs", "runs that are null", {"runs": None}),
    _post("/archive/runs", "no run", {"runs": []}),
    _post("/archive/runs", "a run that is null", {"runs": [None]}),
    _post("/archive/runs", "no rows", {"runs": [{"run_id": "eng-1"}]}),
    _post("/archive/runs", "no id", {"runs": [{"rows": _ROWS.tolist()}]}),
    _post("/archive/runs", "an id that is a number", {"runs": [_run(7)]}),
    _post("/archive/runs", "an id that is a path", {"runs": [_run("../../etc")]}),
    _post("/archive/runs", "an id that is empty", {"runs": [_run("")]}),
    _post("/archive/runs", "an id that is too long", {"runs": [_run("e" * 129)]}),
    _post("/archive/runs", "an empty list of rows", {"runs": [_run(rows=[])]}),
    _post("/archive/runs", "a single row", {"runs": [_run(rows=_ROWS[:1])]}),
    _post("/archive/runs", "23 columns", {"runs": [_run(rows=_ROWS[:, :23])]}),
    _post("/archive/runs", "26 columns, as in NASA's files", {"runs": [_run(rows=[[1, 1, *_ROWS[0]]] * 2)]}),
    _post("/archive/runs", "a null", {"runs": [_run(rows=cell(_ROWS, 1, 3, None))]}),
    _post("/archive/runs", "a string", {"runs": [_run(rows=cell(_ROWS, 1, 3, "1.5"))]}),
    _post("/archive/runs", "NaN in a row", {"runs": [_run(rows=cell(_ROWS, 1, 3, float("nan")))]}),
    _post("/archive/runs", "beyond float32", {"runs": [_run("eng-1"), _run(rows=cell(_ROWS, 3, 5, 1e300))]}),
    _post("/archive/runs", "a field that is not known", {"runs": [{**_run(), "remaining": 0}]}),
    _post("/archive/runs", "one id twice", {"runs": [_run(), _run(rows=_ROWS[1:])]}),
    _post("/archive/runs", "one run", {"runs": [_run()]}),
    _post("/archive/runs", "the same run", {"runs": [_run()]}),
    _post("/archive/runs", "other rows under its id", {"runs": [_run("eng-2"), _run(rows=_ROWS[1:])]}),
    _post("/archive/runs", "two runs, one of them known", {"runs": [_run("eng-3", _ROWS[:2]), _run()]}),
    Ask("GET /archive/runs", "GET", "/archive/runs"),
    _post("/events", "a kind with a blank", {"kind": "No Kind"}),
    _post("/events", "a number of its own", {"kind": "verdict", "seq": 7}),
    _post("/events", "a time that is none", {"kind": "verdict", "time": "noon"}),
    _post("/events", "a time without a zone", {"kind": "verdict", "time": "2001-02-03T04:05:06"}),
    _post("/events", "a time that is a number", {"kind": "verdict", "time": 7}),
    _post("/events", "an id that is an object", {"kind": "verdict", "id": {}}),
    _post("/events", "a version that is a number", {"kind": "verdict", "model_version": 7}),
    _post("/events", "a cause that is too long", {"kind": "verdict", "cause": "c" * 501}),
    _post("/events", "an event", {"kind": "verdict", "time": LONG_AGO, "id": "once", "n": 1, "score": None}),
    _post("/events", "the same event", {"kind": "verdict", "time": LONG_AGO, "id": "once", "n": 1}),
    _post("/events", "a kind of its own", {"kind": "something_else", "a": {"b": [1, 2.5, "x"]}}),
    _post("/feedback", "no outcome", {"outcomes": []}),
    _post("/feedback", "a true RUL below 0", _outcome(true_rul=-1)),
    _post("/feedback", "no true RUL", {"outcomes": [{"prediction": _answer()}]}),
    _post("/feedback", "no prediction", {"outcomes": [{"true_rul": 4}]}),
    _post("/feedback", "an engine without cycle", {"outcomes": [{"true_rul": 4, "engine_id": "eng-7"}]}),
    _post("/feedback", "unknown to the log", {"outcomes": [{"true_rul": 4, "engine_id": "eng-7", "cycle": 1}]}),
    _post("/feedback", "of the stub", _outcome(prediction=_answer(model_version="stub"))),
    _post("/feedback", "an interval upside down", _outcome(prediction=_answer(lower=70))),
    _post("/feedback", "a RUL that is a string", _outcome(prediction=_answer(rul="x"))),
    _post("/feedback", "no engine", _outcome(prediction=_answer(engine_id=None))),
    _post("/feedback", "neither cycle nor request", _outcome(prediction=_answer(cycle=None, request_id=None))),
    _post("/feedback", "a field that is not known", _outcome(rul=5)),
    _post("/feedback", "an outcome", _outcome()),
    _post("/feedback", "the same outcome", _outcome()),
    _post("/feedback", "the same with another figure", _outcome(true_rul=42)),
    _post("/feedback", "by its request", _outcome(prediction=_answer(cycle=None, engine_id="eng-8"))),
    Ask("GET /feedback", "GET", "/feedback"),
    _post("/alerts", "another version of the format", {**_alert(), "version": "3"}),
    _post("/alerts", "no alerts", {"version": "4"}),
    _post("/alerts", "an empty list", {"version": "4", "alerts": []}),
    _post("/alerts", "another name", _alert(labels={"alertname": "Watchdog"})),
    _post("/alerts", "the stub", _alert(version="stub")),
    _post("/alerts", "a version that is a number", _alert(version=1)),
    _post("/alerts", "another kind", _alert(kind="weather")),
    _post("/alerts", "another status", _alert(status="pending")),
    _post("/alerts", "a start that is no time", _alert(startsAt="yesterday")),
    _post("/alerts", "n that is no number", _alert(annotations={"n": "many"})),
    _post("/alerts", "a score without end", _alert(annotations={"score": "inf"})),
    _post("/alerts", "a summary in Latin-1", json.dumps(_alert()).replace("fleet has", "fl\xe9et").encode("latin-1")),
    _post("/alerts", "a sensor fault", _alert(kind="sensor_fault"), until=("/events", "a model must not learn it")),
    _post("/alerts", "a fleet change", _alert(), until=("/events", "version None is in production")),
    _post("/alerts", "the fleet change has gone", _alert(status="resolved"), until=("/events", "alert_resolved")),
    _post("/alerts", "the fleet change has gone, again", _alert(status="resolved")),
    _post("/retrain", "nothing to start from", {}),
    _post("/retrain", "a mode that is not known", {"mode": "half"}),
    _post("/promote", "no version of that number", {"version": "9"}),
    _post("/promote", "a version that is a word", {"version": "latest"}),
    _post("/promote", "a version in Latin-1", b'{"version": "\xe9"}'),
    _post("/promote", "a version that is a number", {"version": 1}),
    _post("/rollback", "nothing to go back from", {"from_version": "1"}),
    _post("/nowhere", "an unknown path", {}),
    Ask("GET /retrain", "GET", "/retrain"),
    Ask("PUT /events", "PUT", "/events", b"{}"),
    Ask("GET /events: before the first", "GET", "/events?after=-1"),
    Ask("GET /events: after a word", "GET", "/events?after=x"),
    Ask("GET /events: after the last", "GET", "/events?after=1000"),
    Ask("GET /events", "GET", "/events"),
    Ask("GET /status", "GET", "/status"),
    Ask("GET /healthz", "GET", "/healthz"),
    Ask("GET /readyz", "GET", "/readyz"),
]

_NEW = _runs(*(f"eng-q{i:02d}" for i in range(24)))

IN_PRODUCTION = [
    _post("/rollback", "nothing is in production", {"from_version": "1"}),
    _post("/promote", "the first", {"version": "1"}),
    _post("/rollback", "nothing before it", {"from_version": "1"}),
    _post("/promote", "the second", {"version": "2"}),
    _post("/promote", "the second again", {"version": "2"}),
    _post("/promote", "the first, by who saw it in production", {"version": "1", "from_version": "1"}),
    _post("/rollback", "to the first", {"from_version": "2"}),
    _post("/rollback", "to the first, again", {"from_version": "2"}),
    _post("/retrain", "no new runs", {"mode": "full"}),
    _post("/alerts", "a fleet change without new runs", _alert(), until=("/events", "waiting_for_labels")),
    Ask("GET /status: waiting", "GET", "/status"),
    _post("/alerts", "the fleet change has gone", _alert(status="resolved"), until=("/status", '"state":"idle"')),
    _post("/archive/runs", "new runs", _NEW),
    _post("/retrain", "by hand", {"mode": "full"}, until=("/events", "retraining_started")),
    _post("/retrain", "while one runs", {}),
    _post("/rollback", "nothing before it, while one runs", {"from_version": "1"}),
    _post("/alerts", "while one runs", _alert()),
    Ask("GET /archive/runs", "GET", "/archive/runs"),
    Ask("GET /status: running", "GET", "/status"),
    Ask("GET /events", "GET", "/events"),
]

SWITCHED_OFF = [
    _post("/alerts", "a fleet change", _alert()),
    _post("/alerts", "the same again", _alert()),
    Ask("GET /status", "GET", "/status"),
]

REGISTRY_AWAY = [
    Ask("GET /readyz", "GET", "/readyz"),
    _post("/promote", "a version", {"version": "1"}),
    _post("/rollback", "to the one before", {"from_version": "1"}),
    _post("/retrain", "by hand", {}),
    Ask("GET /healthz", "GET", "/healthz"),
]

WITHOUT_TOKEN = [
    *(_post(path, "no token", {}) for path in POSTS),
    *(
        Ask(f"POST {path}: {name}", "POST", path, b"{}", {"Authorization": header})
        for path in POSTS
        for name, header in (("another token", "Bearer wrong"), ("no scheme", "a-token-of-enough-length"))
    ),
    Ask("GET /archive/runs", "GET", "/archive/runs"),
]
