"""The documentation of the interface, from the same types that decode and check requests, in the words of the fleet."""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from driftloop import fleets
from driftloop.fleet import names
from driftloop.fleet.schema import Channel, Schema
from driftloop.protocol.problems import Refusal
from driftloop.serving import problems
from driftloop.serving.engine import stub_cap
from driftloop.serving.requests import BatchAnswer, Form, Limits, Prediction, UnitPrediction

_REF = "#/components/schemas/{name}"


def described(schema: Schema) -> str:
    """What the whole interface is for."""
    return f"Remaining useful life of {schema.units}, in {schema.steps}, from raw sensor rows (fleet {schema.name})."


def documents(schema: str, description: str = "Successful Response") -> dict[str, Any]:
    """The documentation of a JSON answer with the schema of that name."""
    return {"description": description, "content": {"application/json": {"schema": {"$ref": _ref(schema)}}}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of the refusals with these statuses, with an example each where every fleet has the same."""
    return {status: _refusal(status) for status in statuses}


def requests(schema: Schema) -> dict[str, Any]:
    """Examples of requests."""
    row, unit = example_row(schema), schema.unit
    name = unit[:3].lower()
    found: dict[str, Any] = {
        "one window": {
            "summary": f"One window: {names.one(unit)}'s newest rows, oldest first",
            "value": {"rows": [row] * 3, "engine_id": f"{name}-17", "cycle": 3},
        },
        f"a new {unit}": {"summary": "A single row: a short history is padded", "value": {"rows": [row]}},
        "by name": {
            "summary": "Rows by the names of their columns",
            "value": {"rows": [dict(zip(schema.columns, row, strict=True))]},
        },
        "a batch": {
            "summary": "Several windows at once, answered by one model version",
            "value": {
                "windows": [{"rows": [row] * 2, "engine_id": f"{name}-17"}, {"rows": [row], "engine_id": f"{name}-18"}]
            },
        },
    }
    if any(channel.missing == "hold" for channel in schema.channels):
        gaps = [None if channel.missing == "hold" and at else row[at] for at, channel in enumerate(schema.channels)]
        found["missing values"] = {
            "summary": "null is a missing value: the last one is held, and the answer says so",
            "value": {"rows": [row, gaps]},
        }
    return found


def bad_requests(schema: Schema) -> dict[str, tuple[int, bytes]]:
    """Examples of requests that are refused: status and body."""
    row, at = example_row(schema), min(5, schema.n_columns - 1)
    return {
        "not JSON": (400, b"rows=1"),
        "a missing column": (422, msgspec.json.encode({"rows": [row, row[:-1]]})),
        "not a number": (422, msgspec.json.encode({"rows": [[*row[:at], "n/a", *row[at + 1 :]]]})),
        "no rows": (422, b"{}"),
    }


def example_row(schema: Schema) -> list[float]:
    """A row of the fleet: the built-in one's own, else the middle of each range."""
    return fleets.example_row(schema) or [_middle(channel) for channel in schema.channels]


def install(app: FastAPI, limits: Limits, form: Form, *others: type) -> None:
    """Make `app` document itself with the schemas of the requests, the answers and `others`."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            prediction = UnitPrediction if form.synonyms else Prediction
            _, schemas = msgspec.json.schema_components(
                [form.window, form.batch, prediction, BatchAnswer, Refusal, *others], ref_template=_REF
            )
            schemas["Prediction"] = _prediction(schemas.pop(prediction.__name__), form)
            schemas["Window"]["properties"]["rows"]["maxItems"] = limits.max_cycles
            schemas["Batch"]["properties"]["windows"]["maxItems"] = limits.max_batch
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
            _complete(document["paths"]["/predict"]["post"], form, limits)
            _complete_explain(document["paths"]["/explain"]["post"], form, limits)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(operation: dict[str, Any], form: Form, limits: Limits) -> None:
    """Add to the documentation of POST /predict what depends on the fleet."""
    schema = form.schema
    operation["description"] = (
        f"Raw rows of {names.one(schema.unit)} in, oldest first; "
        f"RUL in {schema.steps} with its prediction interval out."
    )
    operation["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"oneOf": [{"$ref": _ref("Window")}, {"$ref": _ref("Batch")}]},
                "examples": requests(schema),
            }
        },
    }
    cap = stub_cap(schema)
    answer: dict[str, Any] = {"rul": round(0.8984 * cap, 1), "lower": round(0.7688 * cap, 1), "upper": cap, "regime": 0}
    answer |= {"flags": ["short_history"], "model_version": "7", "request_id": "9f86d081884c7d65"}
    named = {**answer, "engine_id": f"{schema.unit[:3].lower()}-17", "cycle": 3}
    operation["responses"]["200"] = {
        "description": "A prediction, or one per window of a batch.",
        "content": {
            "application/json": {
                "schema": {"oneOf": [{"$ref": _ref("Prediction")}, {"$ref": _ref("BatchAnswer")}]},
                "examples": {
                    "one window": {"value": named},
                    "a batch": {"value": {"predictions": [answer, answer], "model_version": "7"}},
                },
            }
        },
    }
    _add_bad_requests(operation, form, limits)


def _complete_explain(operation: dict[str, Any], form: Form, limits: Limits) -> None:
    """Add to the documentation of POST /explain what depends on the fleet."""
    schema = form.schema
    operation["description"] = (
        f"By how many {schema.steps} each sensor moves the RUL, compared with an average {schema.unit} under the same "
        "settings (integrated gradients). Nothing is counted, logged or remembered."
    )
    examples = {name: value for name, value in requests(schema).items() if "rows" in value["value"]}
    content = {"schema": {"$ref": _ref("Window")}, "examples": examples}
    operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    operation["responses"]["200"] = documents("Explanation", "What drives the prediction.")
    _add_bad_requests(operation, form, limits)


def _add_bad_requests(operation: dict[str, Any], form: Form, limits: Limits) -> None:
    for name, (status, body) in bad_requests(form.schema).items():
        examples = operation["responses"][str(status)]["content"]["application/json"]["examples"]
        found = problems.explain(body, form, limits).problems
        examples[name] = {"value": {"detail": [{"field": one.field, "message": one.message} for one in found]}}


def _prediction(schema: dict[str, Any], form: Form) -> dict[str, Any]:
    """The schema of an answer in the words of the fleet, with the flags that it can have."""
    text = str(Prediction.__doc__ and schema_text(Prediction)).replace("in cycles", f"in {form.schema.steps}")
    if form.schema.padding == "counted":
        text = text.replace("; they were padded with the first one", "")
    if form.holds:
        text += HOLD_FLAGS
    properties = {**schema["properties"]}
    regime = {**properties["regime"], "description": f"-1: seen by no training {form.schema.unit}"}
    return {**schema, "title": "Prediction", "description": text, "properties": {**properties, "regime": regime}}


HOLD_FLAGS = (
    "\n\nWhere values may be missing: `held:<column>` (the newest value of this column was missing, the last one is"
    " held), `too_much_missing` (more than 30 % of the values that the model looks at are missing; the interval is the"
    " whole range)."
)


def schema_text(kind: type[msgspec.Struct]) -> str:
    """The description that msgspec gives a type."""
    _, schemas = msgspec.json.schema_components([kind], ref_template=_REF)
    return str(schemas[kind.__name__]["description"])


def _middle(channel: Channel) -> float:
    return 1.0 if channel.range is None else round((channel.range[0] + channel.range[1]) / 2, 6)


def _ref(schema: str) -> str:
    return _REF.format(name=schema)


def _refusal(status: int) -> dict[str, Any]:
    examples = {
        field: {"value": {"detail": [{"field": field, "message": message}]}}
        for field, message in _OTHER_REFUSALS.get(status, [])
    }
    described = documents("Refusal", _DESCRIPTIONS[status])
    described["content"]["application/json"]["examples"] = examples
    return described


_OTHER_REFUSALS = {
    413: [("body", "is larger than 8388608 bytes; send fewer windows in one request")],
    415: [
        ("Content-Type", "is text/plain; send JSON with the header Content-Type: application/json"),
        ("Content-Encoding", "is br; send gzip, or the bare JSON"),
    ],
    503: [("server", "2048 windows are waiting (try again later, or start more workers)")],
}
"""What no short example can provoke, by status: fields and messages."""


_DESCRIPTIONS = {
    400: "The body is not JSON.",
    413: "The body is larger than the limit.",
    415: "The content type is not JSON, or the encoding is not gzip.",
    422: "A field is not what it must be; the answer names it.",
    503: "Too much is waiting, or the server is not ready; try again after `Retry-After` seconds.",
}
