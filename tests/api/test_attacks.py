"""Somebody who wants more than they may: forged names, other people's pages, bodies that are bombs, paths out of the
folder, and secrets in what is answered or logged."""

import gzip
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from driftloop.access.sessions import COOKIE
from driftloop.api.app import needs
from driftloop.protocol.http import in_path

from .conftest import TOKEN, Platform

PASSWORD = "correct horse battery"
DEEP = b"[" * 200_000
JSON = {"Content-Type": "application/json"}
ESCAPES = ["..%2f..%2fstate", "%2e%2e%2f%2e%2e", "..%5c..", "%00", "%2fetc%2fpasswd", "cmapss%2f..", "x" * 3000]


def operations(platform: Platform) -> Iterator[tuple[str, str]]:
    """Every request that the public API knows: method and path, an example in the place of each name."""
    for path, methods in platform.http.get("/api/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            filled = path
            for one in operation.get("parameters", []):
                if one["in"] == "path":
                    [example] = one["schema"].get("examples") or one["examples"]
                    filled = filled.replace("{" + one["name"] + "}", str(example))
            yield method.upper(), filled


@pytest.fixture
def session(platform: Platform) -> str:
    """Somebody with the role admin has logged in; what must come with a change."""
    platform.http.app.state.door.people.add("anna", "admin", PASSWORD)  # type: ignore[attr-defined]
    assert platform.http.post("/api/v1/login", json={"name": "anna", "password": PASSWORD}).status_code == 204
    found: str = platform.get("/me")["csrf"]
    return found


def test_no_page_of_others_makes_a_browser_change_anything(platform: Platform, session: str) -> None:
    """Cross-site request forgery: each changing request, with her cookie, as a form of another page would send it."""
    changing = [one for one in operations(platform) if one[0] != "GET" and needs(*one) is not None]
    assert len(changing) > 12
    forged = [
        {}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * len(session)}, {"Origin": "https://evil.example"},
        {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"},
        {"Sec-Fetch-Site": "cross-site"},
    ]  # fmt: skip
    for method, path in changing:
        for headers in forged:
            answer = platform.http.request(method, path, content=b"{}", headers={**JSON, **headers})
            assert (answer.status_code, answer.json()["field"]) == (403, "X-CSRF-Token"), f"{method} {path} {headers}"
    assert platform.registry.moves == []
    # A look is never a change, whatever it calls itself.
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = platform.http.request(method, "/api/v1/logout", headers={"X-HTTP-Method-Override": "POST"})
        assert answer.status_code >= 400
    assert platform.get("/me")["how"] == "session"


@pytest.mark.parametrize("forged", ["mallory", "platform", "token", "local", "anna, mallory"])
def test_nobody_acts_under_another_name(platform: Platform, forged: str) -> None:
    door = platform.http.app.state.door  # type: ignore[attr-defined]
    bens = {"Authorization": f"Bearer {door.tokens.add('ben', 'operate')}"}
    headers = {**bens, "X-Driftloop-Actor": forged, "X-Forwarded-User": forged, "X-Forwarded-Groups": "admins"}
    muted = platform.http.post("/api/v1/fleets/cmapss/causes/concept/mute", json={"for_s": 60}, headers=headers)
    assert muted.status_code == 200, muted.text
    directly = platform.retrainer.post("/mute", json={"cause": "fleet_change", "for_s": 60}, headers=headers)
    assert directly.status_code == 200, directly.text
    told = [event for event in platform.parts.store.tail(10) if event["kind"] == "muted"]
    assert [event["who"] for event in told] == ["ben", "ben"]


def test_what_is_deep_is_refused_and_fails_nothing(platform: Platform) -> None:
    """JSON within JSON, as deep as a body may be long, to whoever takes a body."""
    for method, path in operations(platform):
        if method == "POST" and not path.endswith("/logout"):  # which takes no body
            answer = platform.http.post(path, content=DEEP, headers={**JSON, **platform.token})
            assert 400 <= answer.status_code < 500, f"{path}: {answer.status_code} {answer.text[:200]}"
    for http, paths in (
        (platform.retrainer, ("/alerts", "/events", "/archive/runs", "/retrain", "/schedules", "/mute", "/feedback")),
        (platform.server, ("/predict", "/explain")),
    ):
        for path in paths:
            answer = http.post(path, content=DEEP, headers={**JSON, **platform.token})
            assert 400 <= answer.status_code < 500, f"{path}: {answer.status_code} {answer.text[:200]}"


def test_a_bomb_is_not_unpacked(platform: Platform) -> None:
    bomb = gzip.compress(b" " * 200_000_000, 9)
    headers = {**JSON, **platform.token, "Content-Encoding": "gzip"}
    for http, path in (
        (platform.http, "/api/v1/fleets/cmapss/loop/retrain"),
        (platform.http, "/api/v1/login"),
        (platform.retrainer, "/retrain"),
        (platform.server, "/predict"),
    ):
        answer = http.post(path, content=bomb, headers=headers)
        assert answer.status_code in (413, 415), f"{path}: {answer.status_code} {answer.text[:200]}"


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_leads_out_of_its_folder(platform: Platform, name: str) -> None:
    for path in (
        f"/api/v1/fleets/{name}", f"/api/v1/fleets/{name}/events", f"/api/v1/fleets/cmapss/units/{name}",
        f"/api/v1/fleets/cmapss/models/{name}", f"/assets/{name}", f"/assets/vendor/{name}", f"/api/docs/{name}",
    ):  # fmt: skip
        answer = platform.http.get(path, headers=platform.token)
        assert answer.status_code in (400, 404, 414, 422, 503), f"{path}: {answer.status_code}"
        assert "root:" not in answer.text
        assert TOKEN not in answer.text


@pytest.mark.usefixtures("session")
def test_no_secret_is_answered_or_logged(platform: Platform, caplog: pytest.LogCaptureFixture) -> None:
    """Not by any look, not in the words of any refusal, and not in a log."""
    caplog.set_level(logging.DEBUG)
    door = platform.http.app.state.door  # type: ignore[attr-defined]
    bens = door.tokens.add("ben", "view")
    cookie = platform.http.cookies[COOKIE]
    secrets = {TOKEN, bens, cookie, PASSWORD, "wrong-but-secret"}
    answers: list[httpx.Response] = []
    for token in (TOKEN, bens, "wrong-but-secret"):
        for method, path in operations(platform):
            if path.endswith(("/stream", "/logout")) or (method == "DELETE" and "/tokens/" in path):
                continue
            headers = {**JSON, "Authorization": f"Bearer {token}"}
            answers.append(platform.http.request(method, path, content=b'{"x": 1}', headers=headers))
    body: dict[str, Any] = {"name": "anna", "password": "wrong-but-secret"}
    answers.append(platform.http.post("/api/v1/login", json=body))
    answers.append(platform.http.post("/api/v1/login", json={**body, "more": "wrong-but-secret"}))
    answers += [http.get("/metrics") for http in (platform.retrainer, platform.server)]
    assert len(answers) > 60
    found = [answer.request.url for answer in answers for secret in secrets if secret in answer.text]
    assert found == []
    said = "\n".join([caplog.text, *(str(record.__dict__) for record in caplog.records if "driftloop" in record.name)])
    assert [secret for secret in secrets if secret in said] == []
    folder = platform.settings.access_folder
    kept = "".join(path.read_text() for path in folder.iterdir() if path.is_file())
    assert [secret for secret in secrets if secret in kept] == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PROPFIND", "get"])
def test_no_other_method_shows_what_one_may_not_see(platform: Platform, method: str) -> None:
    """From elsewhere, with the token where only logs would see it: in the address."""
    elsewhere = {"Host": "console.example", "Origin": "https://evil.example"}
    guarded = [path for known, path in operations(platform) if known == "GET" and needs(known, path) is not None]
    assert len(guarded) > 12
    for path in guarded:
        answer = platform.http.request(method, path, headers=elsewhere, params={"access_token": TOKEN, "token": TOKEN})
        assert answer.status_code in (401, 405), f"{method} {path}"
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/fleets/cmapss/", "/platform/", "/fleets/cmapss/events/", "/login/"])
def test_no_redirect_leads_to_another_address(platform: Platform, path: str) -> None:
    """Neither to one that the request names, nor from https to http."""
    answer = platform.http.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == path.rstrip("/")
    assert platform.http.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/api/v1/fleets/", "/api/v1/me/", "//evil.example/", "//evil.example/platform/"])
def test_what_is_no_page_is_no_redirect_either(platform: Platform, path: str) -> None:
    answer = platform.http.get(f"http://127.0.0.1{path}", follow_redirects=False)
    assert answer.status_code == 404
    assert "location" not in answer.headers


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_of_dots_is_asked_for_by_that_name(name: str) -> None:
    """`/units/../rename` would be another request, in the platform's own name."""
    asked = httpx.URL("http://127.0.0.1:8700").join(f"/units/{in_path(name)}/rename")
    assert asked.raw_path == f"/units/{'%2E' * len(name)}/rename".encode()
    assert in_path("engine 7/b.1") == "engine%207%2Fb.1"


def test_a_path_gives_no_orders_to_the_terminal_of_who_reads_the_audit_log(platform: Platform) -> None:
    answer = platform.http.post("/api/v1/fleets/%1b]0;evil%07%0aforged/loop/retrain", content=b"{}", headers=JSON)
    assert answer.status_code == 401
    [line] = (platform.settings.access_folder / "audit.jsonl").read_text().splitlines()
    assert json.loads(line)["act"] == "POST /api/v1/fleets/%1B]0;evil%07%0Aforged/loop/retrain"
