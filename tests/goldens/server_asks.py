"""The requests that the prediction server is asked, good and bad."""

import gzip
import json
from typing import Any

from .material import CRUISE, SEA_LEVEL, UNSEEN, Ask, cell, engine

JSON = {"Content-Type": "application/json"}
LIMITS = {"max_batch": 8, "max_cycles": 120, "max_body_bytes": 200_000}

_NEAR, _BOTH, _FAR = engine("asked", 200, SEA_LEVEL), engine("asked", 200, SEA_LEVEL, CRUISE), engine("far", 9, UNSEEN)
_ROWS = _NEAR[:3]


def _predict(name: str, body: Any, kind: str | None = "application/json", pieces: int = 0) -> Ask:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if kind is None else {"Content-Type": kind}
    return Ask(name, "POST", "/predict", content, headers, pieces=pieces)


def _of(rows: Any, **fields: Any) -> dict[str, Any]:
    return {"rows": rows if isinstance(rows, list) else rows.tolist(), **fields}


GOOD = [
    _predict("one window", _of(_NEAR[:60], engine_id="eng-1", cycle=60, request_id="mine")),
    _predict("a window near the end of a life", _of(_NEAR[-60:], engine_id="eng-1", cycle=200, request_id="mine")),
    _predict("two regimes", _of(_BOTH[:60], request_id="mine")),
    _predict("a history longer than the model's window", _of(_NEAR[:120], request_id="mine")),
    _predict("a single row", _of(_NEAR[:1], request_id="mine")),
    _predict("a short history", _of(_BOTH[:20], request_id="mine")),
    _predict("an unseen regime", _of(_FAR, request_id="mine")),
    _predict("a sensor that stands still", _of(_NEAR[[7] * 12], request_id="mine")),
    _predict("no ids", _of(_ROWS)),
    _predict("ids that are null", _of(_ROWS, engine_id=None, cycle=None, request_id=None)),
    _predict("a cycle that is a float", _of(_ROWS, cycle=3.0, request_id="mine")),
    _predict("whole numbers", _of([[round(x) for x in row] for row in _ROWS.tolist()], request_id="mine")),
    _predict("the largest float32", _of(cell(_ROWS, 2, 9, 3.4028235e38), request_id="mine")),
    _predict("rows that no engine sends", _of([[1e30] * 24, [-1e30] * 24], request_id="mine")),
    _predict("a name in other letters", _of(_ROWS, engine_id="tür\u20ac\u4e2d", request_id="\U0001f600")),
    _predict(
        "a batch",
        {
            "windows": [
                _of(_NEAR[i * 20 : i * 20 + 1 + 9 * i], engine_id=f"eng-{i}", cycle=i, request_id=str(i))
                for i in range(8)
            ]
        },
    ),
    _predict("a batch of one", {"windows": [_of(_FAR, request_id="mine")]}),
    _predict("a body without content type", _of(_ROWS, request_id="mine"), None),
    _predict("a content type with a charset", _of(_ROWS, request_id="mine"), "Application/JSON; charset=utf-8"),
    _predict("a content type of one's own", _of(_ROWS, request_id="mine"), "application/vnd.x+json"),
]

BAD = [
    _predict("an empty body", b""),
    _predict("blanks", b" \n"),
    _predict("not JSON", b"rows=1"),
    _predict("cut off", b'{"rows": [[1.0, 2.0'),
    _predict("two values", b"{} {}"),
    _predict("not UTF-8", b'{"rows": [], "engine_id": "\xe9"}'),
    _predict("not UTF-8 from the start", b"\xff\xfe{}"),
    _predict("a byte order mark", b"\xef\xbb\xbf{}"),
    _predict("nested too deeply", b"[" * 50_000 + b"]" * 50_000),
    _predict("null", b"null"),
    _predict("a list", b"[]"),
    _predict("a string", b'"rows"'),
    _predict("a number", b"1"),
    _predict("an empty object", b"{}"),
    _predict("rows that are null", {"rows": None}),
    _predict("rows that are an object", {"rows": {"sensor_1": 1}}),
    _predict("no row", {"rows": []}),
    _predict("a row that is null", {"rows": [None]}),
    _predict("a row that is a number", {"rows": [1.0]}),
    _predict("a row that is a string", {"rows": ["1,2,3"]}),
    _predict("a row that is an object", {"rows": [{"sensor_1": 1.0}]}),
    _predict("an empty row", {"rows": [[]]}),
    _predict("23 columns", {"rows": [_ROWS[0].tolist(), _ROWS[1, :-1].tolist()]}),
    _predict("25 columns", {"rows": [[*_ROWS[0].tolist(), 1.0]]}),
    _predict("26 columns, as in NASA's files", {"rows": [[1, 1, *_ROWS[0].tolist()]]}),
    _predict("a setting that is null", _of(cell(_ROWS, 1, 0, None))),
    _predict("a sensor that is null", _of(cell(_ROWS, 1, 3, None))),
    _predict("a sensor that is a string", _of(cell(_ROWS, 1, 5, "n/a"))),
    _predict("a number as a string", _of(cell(_ROWS, 1, 5, "1.5"))),
    _predict("a long string", _of(cell(_ROWS, 1, 5, "x" * 100))),
    _predict("a sensor that is a boolean", _of(cell(_ROWS, 0, 23, True))),
    _predict("a sensor that is a list", _of(cell(_ROWS, 0, 23, []))),
    _predict("NaN", _of(cell(_ROWS, 2, 4, float("nan")))),
    _predict("Infinity", _of(cell(_ROWS, 2, 4, float("inf")))),
    _predict("-Infinity", _of(cell(_ROWS, 2, 4, float("-inf")))),
    _predict("beyond float32", _of(cell(_ROWS, 0, 3, 3.5e38))),
    _predict("beyond float64", json.dumps(_of(cell(_ROWS, 0, 3, 7777))).replace("7777", "1e999").encode()),
    _predict("an endless integer", json.dumps(_of(cell(_ROWS, 0, 3, 7777))).replace("7777", "7" * 5000).encode()),
    _predict("many faults", {"rows": [[None] * 24, [1.0] * 3]}),
    _predict("too many rows", _of(_NEAR[:121])),
    _predict("too many rows in a batch", {"windows": [_of(_NEAR[:1]), _of(_NEAR[:121])]}),
    _predict("too many windows", {"windows": [_of(_NEAR[:1])] * 9}),
    _predict("no window", {"windows": []}),
    _predict("windows that are null", {"windows": None}),
    _predict("a window that is null", {"windows": [None]}),
    _predict("a window without rows", {"windows": [_of(_ROWS), {}]}),
    _predict("a fault in the second window", {"windows": [_of(_ROWS), _of(cell(_ROWS, 0, 7, None))]}),
    _predict("rows next to windows", {"windows": [_of(_ROWS)], "rows": _ROWS.tolist()}),
    _predict("an unknown field", _of(_ROWS, engine="eng-1")),
    _predict("an unknown field in a batch", {"windows": [_of(_ROWS, unit=1)]}),
    _predict("an engine that is a number", _of(_ROWS, engine_id=7)),
    _predict("an engine with a long name", _of(_ROWS, engine_id="e" * 201)),
    _predict("an engine with half a character", json.dumps(_of(_ROWS, engine_id="\ud800")).encode()),
    _predict("a request id that is a list", _of(_ROWS, request_id=[])),
    _predict("a request id that is too long", _of(_ROWS, request_id="r" * 201)),
    _predict("a cycle below 0", _of(_ROWS, cycle=-1)),
    _predict("half a cycle", _of(_ROWS, cycle=1.5)),
    _predict("a cycle that is a string", _of(_ROWS, cycle="3")),
    _predict("a cycle that is a boolean", _of(_ROWS, cycle=True)),
    _predict("a cycle beyond all lives", _of(_ROWS, cycle=10**10)),
    _predict("a field twice", b'{"windows": [], "windows": 1}'),
    _predict("a body that is too long", b" " * 200_001),
    _predict("a body that is too long and does not say so", b" " * 50_001, pieces=4),
    _predict("plain text", _of(_ROWS), "text/plain"),
    _predict("a form", b"rows=1", "application/x-www-form-urlencoded"),
    _predict("an empty content type", _of(_ROWS), ""),
    Ask("gzip", "POST", "/predict", gzip.compress(b"{}", mtime=0), JSON | {"Content-Encoding": "gzip"}),
]

OTHERS = [
    Ask("healthz", "GET", "/healthz"),
    Ask("HEAD /healthz", "HEAD", "/healthz"),
    Ask("model", "GET", "/model"),
    Ask("docs", "GET", "/docs"),
    Ask("an unknown path", "GET", "/nowhere"),
    Ask("an unknown path with a body", "POST", "/predictions", b"{}", JSON),
    Ask("GET /predict", "GET", "/predict"),
    Ask("PUT /predict", "PUT", "/predict", b"{}", JSON),
    Ask("DELETE /model", "DELETE", "/model"),
    Ask("POST /healthz", "POST", "/healthz", b"{}", JSON),
    Ask("a slash behind", "POST", "/predict/", b"{}", JSON),
]

STUB = [
    _predict("the stub: one window", _of(_NEAR[:60], engine_id="eng-1", cycle=60, request_id="mine")),
    _predict("the stub: a batch", {"windows": [_of(_ROWS, request_id="1"), _of(_FAR, request_id="2")]}),
    _predict("the stub: a bad row", _of(cell(_ROWS, 1, 3, None))),
    Ask("the stub: readyz", "GET", "/readyz"),
    Ask("the stub: model", "GET", "/model"),
]
