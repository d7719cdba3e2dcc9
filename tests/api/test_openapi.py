"""The documentation: complete, and its examples are run; then the whole of what one may look at is fuzzed."""

from typing import Any

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from driftloop.api.app import create_app, needs
from live_server import running

from .conftest import Platform

SUCCESS = {"200", "201", "204"}
NO_HTTP = "Invalid HTTP request received."


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()]


@pytest.fixture
def document(platform: Platform) -> dict[str, Any]:
    found: dict[str, Any] = platform.http.get("/api/openapi.json").json()
    return found


def filled(path: str, operation: dict[str, Any]) -> str:
    """The path with the example of each name in it."""
    for one in operation.get("parameters", []):
        if one["in"] == "path":
            [example] = one["schema"].get("examples") or one["examples"]
            path = path.replace("{" + one["name"] + "}", str(example))
    assert "{" not in path, path
    return path


def test_every_request_is_described(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"], where
        if method in ("post", "put") and "logout" not in path:
            assert operation["requestBody"]["content"]["application/json"]["example"], where
        for status, answer in operation["responses"].items():
            if status.startswith(("4", "5")):
                assert "application/problem+json" in answer["content"], f"{where} {status}"


def test_every_example_works(platform: Platform, document: dict[str, Any]) -> None:
    """Each is sent as it stands: it succeeds, or what it names is not there or not so just now, and nothing else."""
    platform.predict("engine-7", 9)
    platform.registry.add(decision="promoted")
    platform.registry.add(decision="approved")
    platform.registry.pointers["production"] = "2"
    platform.http.app.state.door.people.add("anna", "view", "a long enough password")  # type: ignore[attr-defined]
    rows = np.random.default_rng(0).normal(size=(30, 24)).round(3).tolist()
    kept = {"runs": [{"run_id": "pump-7", "rows": rows, "confirmed": True}]}
    assert platform.retrainer.post("/archive/runs", json=kept, headers=platform.token).status_code == 200
    succeeded = set()
    # What takes away goes last.
    for path, method, operation in sorted(operations(document), key=lambda one: one[1] == "delete"):
        if path.endswith("/stream"):
            continue
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        answer = platform.http.request(
            method, filled(path, operation), json=content.get("example"), headers=platform.token
        )
        where = f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        assert str(answer.status_code) in operation["responses"], where
        assert answer.status_code < 300 or answer.status_code in (404, 409), where
        if str(answer.status_code) in SUCCESS:
            succeeded.add(f"{method} {path}")
    every = {f"{method} {path}" for path, method, _ in operations(document)}
    left = {one.replace("/api/v1/", "") for one in every - succeeded}
    # One after the other: while one of these two is under way, the other is refused.
    one_of = {"post fleets/{fleet}/loop/retrain", "post fleets/{fleet}/loop/first-aid"}
    assert not one_of <= left
    # Nothing is asked of a person, and no service keeps units here (test_unit_acts has one).
    unit = "fleets/{fleet}/units/{unit}"
    acts = {f"post {unit}/{act}" for act in ("events", "rename", "split")} | {f"delete {unit}/events/{{id}}"}
    assert left - one_of - acts == {"get events/stream", "post fleets/{fleet}/approvals/{id}/{answer}"}
    assert acts <= left


def test_every_path_needs_a_role_but_the_login(document: dict[str, Any]) -> None:
    open_to_all = {(path, method) for path, method, _ in operations(document) if needs(method.upper(), path) is None}
    assert open_to_all == {("/api/v1/login", "post")}
    changing = {needs(method.upper(), path) for path, method, _ in operations(document) if method != "get"}
    assert changing == {None, "operate", "admin", "view"}
    viewers_change = {path for path, m, _ in operations(document) if m != "get" and needs(m.upper(), path) == "view"}
    assert viewers_change == {"/api/v1/logout"}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_look_whatever_is_sent_is_answered_as_described(platform: Platform, mode: GenerationMode) -> None:
    platform.predict("engine-7", 9)
    platform.registry.add(decision="promoted")
    base = platform.http.app.state.fleets.base  # type: ignore[attr-defined]
    with running(create_app(base)) as http:
        schema = schemathesis.openapi.from_url(f"{http.base_url}/api/openapi.json")
        for path, method, _ in operations(schema.raw_schema):
            if method == "get" and not path.endswith("/stream"):
                fuzz(schema[path][method.upper()], mode, platform.token)


def fuzz(operation: Any, mode: GenerationMode, headers: dict[str, str]) -> None:
    """Ask as the document allows, or as it does not; schemathesis compares what is answered with the document."""

    @hypothesis_settings(
        max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        answer = case.call(headers=headers)
        if answer.status_code == 400 and answer.text == NO_HTTP:
            return  # Tens of kilobytes of address: the HTTP server passes none of it on.
        # What fits the document may still make no sense together, and is refused with 422.
        case.validate_response(answer, headers=headers, excluded_checks=[positive_data_acceptance])

    try:
        check()
    except Unsatisfiable:
        # Nothing in this request can be wrong.
        assert mode is GenerationMode.NEGATIVE
