"""The documentation of the interface, from the same types that decode and check requests."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from driftloop.fleets.cmapss.schema import N_COLUMNS
from driftloop.serving.requests import Batch, BatchAnswer, Limits, Prediction, Refusal, Window

_REF = "#/components/schemas/{name}"

ROW = [-0.0007, -0.0004, 100.0, 518.67, 641.82, 1589.7, 1400.6, 14.62, 21.61, 554.36, 2388.06, 9046.19]
ROW += [1.3, 47.47, 521.66, 2388.02, 8138.62, 8.4195, 0.03, 392.0, 2388.0, 100.0, 39.06, 23.419]
"""A turbofan at sea level in its first cycle."""

REQUESTS: dict[str, Any] = {
    "one window": {
        "summary": "One window: an engine's newest rows, oldest first",
        "value": {"rows": [ROW] * 3, "engine_id": "eng-17", "cycle": 3},
    },
    "a new engine": {"summary": "A single row: a short history is padded", "value": {"rows": [ROW]}},
    "a batch": {
        "summary": "Several windows at once, answered by one model version",
        "value": {"windows": [{"rows": [ROW] * 2, "engine_id": "eng-17"}, {"rows": [ROW], "engine_id": "eng-18"}]},
    },
}

BAD_REQUESTS: dict[str, tuple[int, bytes, str]] = {
    "not JSON": (400, b"rows=1", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
    "a missing column": (
        422,
        msgspec.json.encode({"rows": [ROW, ROW[:-1]]}),
        f"has 23 values; a row has {N_COLUMNS}: setting_1 to 3, sensor_1 to 21",
    ),
    "not a number": (
        422,
        msgspec.json.encode({"rows": [[*ROW[:5], "n/a", *ROW[6:]]]}),
        "sensor_3 is the string 'n/a'; a number is needed",
    ),
    "no rows": (422, b"{}", "is missing; send rows (one window) or windows (a batch)"),
}
"""Status, body and the message that it is answered with."""

_FIELDS = {"not JSON": "body", "a missing column": "rows[1]", "not a number": "rows[0][5]", "no rows": "rows"}
_PREDICTION = {"rul": 112.3, "lower": 96.1, "upper": 125.0, "regime": 0, "flags": ["short_history"]}
_PREDICTION |= {"model_version": "7", "request_id": "9f86d081884c7d65"}


def documents(schema: str, description: str = "Successful Response") -> dict[str, Any]:
    """The documentation of a JSON answer with the schema of that name."""
    return {"description": description, "content": {"application/json": {"schema": {"$ref": _ref(schema)}}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of the refusals with these statuses, with an example each."""
    return {status: _refusal(status) for status in statuses}


PREDICT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [{"$ref": _REF.format(name="Window")}, {"$ref": _REF.format(name="Batch")}]},
                "examples": REQUESTS,
            }
        },
    },
    "responses": {
        "200": {
            "description": "A prediction, or one per window of a batch.",
            "content": {
                "application/json": {
                    "schema": {
                        "oneOf": [{"$ref": _REF.format(name="Prediction")}, {"$ref": _REF.format(name="BatchAnswer")}]
                    },
                    "examples": {
                        "one window": {"value": {**_PREDICTION, "engine_id": "eng-17", "cycle": 3}},
                        "a batch": {"value": {"predictions": [_PREDICTION, _PREDICTION], "model_version": "7"}},
                    },
                }
            },
        },
    },
}


def install(app: FastAPI, limits: Limits, *others: type) -> None:
    """Make `app` document itself with the schemas of the requests, the answers and `others`."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, schemas = msgspec.json.schema_components(
                [Window, Batch, Prediction, BatchAnswer, Refusal, *others], ref_template=_REF
            )
            schemas["Window"]["properties"]["rows"]["maxItems"] = limits.max_cycles
            schemas["Batch"]["properties"]["windows"]["maxItems"] = limits.max_batch
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _ref(schema: str) -> str:
    return _REF.format(name=schema)


def _refusal(status: int) -> dict[str, Any]:
    examples = {
        name: {"value": {"detail": [{"field": _FIELDS[name], "message": message}]}}
        for name, (its_status, _, message) in BAD_REQUESTS.items()
        if its_status == status
    }
    for field, message in _OTHER_REFUSALS.get(status, []):
        examples[field] = {"value": {"detail": [{"field": field, "message": message}]}}
    described = documents("Refusal", _DESCRIPTIONS[status])
    described["content"]["application/json"]["examples"] = examples
    return described


_OTHER_REFUSALS = {
    413: [("body", "is larger than 8388608 bytes; send fewer windows in one request")],
    415: [("Content-Type", "is text/plain; send JSON with the header Content-Type: application/json")],
    503: [("server", "2048 windows are waiting (try again later, or start more workers)")],
}
"""What no short example can provoke, by status: fields and messages."""


_DESCRIPTIONS = {
    400: "The body is not JSON.",
    413: "The body is larger than the limit.",
    415: "The content type is not JSON.",
    422: "A field is not what it must be; the answer names it.",
    503: "Too much is waiting, or the server is not ready; try again after `Retry-After` seconds.",
}
