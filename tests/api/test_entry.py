"""The console's door over HTTP: logging in, what each role may, tokens made and taken back, and the audit log."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from driftloop.access.limits import Failures
from driftloop.access.sessions import COOKIE, COOKIE_OF_HTTPS
from driftloop.api.app import COMPRESSED_FROM, create_app
from driftloop.settings import Settings
from live_server import local, running

from .conftest import TOKEN, Platform

PASSWORD = "correct horse battery"


def log_in(platform: Platform, name: str, password: str = PASSWORD) -> httpx.Response:
    answer: httpx.Response = platform.http.post("/api/v1/login", json={"name": name, "password": password})
    return answer


def entries(platform: Platform) -> list[dict[str, Any]]:
    answer = platform.http.get("/api/v1/audit", headers=platform.token)
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def test_on_this_machine_one_may_look(platform: Platform) -> None:
    assert platform.get("/me") == {"name": "local", "role": "view", "how": "loopback", "csrf": None}
    platform.get("/tokens", 401)
    elsewhere = platform.http.get("/api/v1/fleets", headers={"Host": "evil.example"})
    assert elsewhere.status_code == 401
    assert elsewhere.headers["content-type"] == "application/problem+json"
    assert elsewhere.headers["www-authenticate"] == "Bearer"


def test_a_person_logs_in_and_out(platform: Platform) -> None:
    people = platform.http.app.state.door.people  # type: ignore[attr-defined]
    people.add("anna", "operate", PASSWORD)
    answer = log_in(platform, "anna")
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    me = platform.get("/me")
    assert (me["name"], me["role"], me["how"]) == ("anna", "operate", "session")
    assert platform.http.post("/api/v1/logout").status_code == 403
    assert platform.http.post("/api/v1/logout", headers={"X-CSRF-Token": me["csrf"]}).status_code == 204
    assert platform.get("/me")["how"] == "loopback"


def test_the_cookie_is_for_https_where_the_browser_came_by_it(tmp_path: Path) -> None:
    app = create_app(Settings(state_dir=tmp_path, trusted_proxies="10.0.0.9"))
    app.state.door.people.add("anna", "view", PASSWORD)
    body = {"name": "anna", "password": PASSWORD}
    with local(app) as http:
        http.base_url = httpx.URL("https://127.0.0.1")
        cookie = http.post("/api/v1/login", json=body).headers["set-cookie"]
        # What browsers ask of a cookie with __Host-.
        assert cookie.startswith(f"{COOKIE_OF_HTTPS}=")
        assert {"Secure", "Path=/", "HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
        assert "domain" not in cookie.lower()
        me = http.get("/api/v1/me").json()
        assert (me["name"], me["how"]) == ("anna", "session")
        gone = http.post("/api/v1/logout", headers={"X-CSRF-Token": me["csrf"]}).headers["set-cookie"]
        assert gone.startswith(f'{COOKIE_OF_HTTPS}=""')
        assert "; Secure" in gone
        assert http.get("/api/v1/me").json()["how"] == "loopback"


def test_a_removed_person_is_out_at_once(platform: Platform) -> None:
    people = platform.http.app.state.door.people  # type: ignore[attr-defined]
    people.add("anna", "admin", PASSWORD)
    log_in(platform, "anna")
    platform.get("/tokens")
    people.remove("anna")
    platform.get("/tokens", 401)


def test_wrong_passwords_are_refused_slowed_and_told(platform: Platform) -> None:
    platform.http.app.state.door.people.add("anna", "view", PASSWORD)  # type: ignore[attr-defined]
    found = [log_in(platform, "anna", "wrong wrong wrong").status_code for _ in range(5)]
    found.append(log_in(platform, "nobody").status_code)
    assert found == [401] * 5 + [429]
    assert log_in(platform, "anna").status_code == 429
    told = [(entry["who"], entry["act"], entry["outcome"]) for entry in entries(platform)]
    assert told == [("anna", "log in", "refused: 401")] * 5
    assert "wrong wrong" not in str(entries(platform))


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Origin": "http://evil.example"}, '{"name": "anna", "password": "correct horse battery"}', 403),
        ({"Content-Type": "text/plain"}, '{"name": "anna", "password": "correct horse battery"}', 415),
        ({}, '{"name": "anna"}', 422),
        ({}, "{", 400),
        ({}, '{"name": "' + "x" * 300_000 + '"}', 413),
    ],
)
def test_a_login_that_is_none(platform: Platform, headers: dict[str, str], body: str, status: int) -> None:
    platform.http.app.state.door.people.add("anna", "view", PASSWORD)  # type: ignore[attr-defined]
    sent = {"Content-Type": "application/json", **headers}
    answer = platform.http.post("/api/v1/login", content=body, headers=sent)
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers


def test_a_token_is_made_told_once_used_and_taken_back(platform: Platform) -> None:
    wanted = {"name": "planner", "role": "view", "days": 30}
    made = platform.http.post("/api/v1/tokens", json=wanted, headers=platform.token)
    assert made.status_code == 201
    token = made.json()["token"]
    assert platform.http.post("/api/v1/tokens", json=wanted, headers=platform.token).status_code == 409
    listed = platform.http.get("/api/v1/tokens", headers=platform.token).text
    assert '"planner"' in listed
    assert token not in listed
    brings = {"Authorization": f"Bearer {token}", "Host": "console.example"}
    assert platform.http.get("/api/v1/me", headers=brings).json()["name"] == "planner"
    assert platform.http.get("/api/v1/tokens", headers=brings).status_code == 403
    # The same token at the other doors.
    assert platform.retrainer.get("/status", headers=brings).status_code == 200
    assert platform.retrainer.post("/retrain", json={}, headers=brings).status_code == 403
    assert platform.server.post("/predict", json={}, headers=brings).status_code == 403
    assert platform.http.delete("/api/v1/tokens/planner", headers=platform.token).status_code == 204
    assert platform.http.delete("/api/v1/tokens/planner", headers=platform.token).status_code == 404
    for http in (platform.http, platform.retrainer, platform.server):
        path = {platform.http: "/api/v1/me", platform.retrainer: "/status", platform.server: "/model"}[http]
        assert http.get(path, headers=brings).status_code == 401
    told = [(entry["service"], entry["who"], entry["act"], entry["outcome"]) for entry in entries(platform)]
    assert told == [
        ("console", "platform", "POST /api/v1/tokens", "done: 201"),
        ("console", "platform", "POST /api/v1/tokens", "refused: 409"),
        ("retrainer", "planner", "POST /retrain", "refused: 403"),
        ("console", "platform", "DELETE /api/v1/tokens/planner", "done: 204"),
        ("console", "platform", "DELETE /api/v1/tokens/planner", "refused: 404"),
    ]
    assert token not in str(entries(platform))
    assert TOKEN not in str(entries(platform))


def test_what_processes_report_all_day_is_no_act(platform: Platform) -> None:
    body = {"kind": "verdict", "verdict": "no_drift"}
    assert platform.retrainer.post("/events", json=body, headers=platform.token).status_code == 200
    platform.registry.add()
    gone = {"from_version": "1"}
    assert platform.retrainer.post("/rollback", json=gone, headers=platform.token).status_code == 409
    [told] = entries(platform)
    assert (told["act"], told["outcome"]) == ("POST /rollback", "refused: 409")


def test_what_cannot_be_told_is_not_done(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "state" / "access").mkdir(parents=True, exist_ok=True)
    (tmp_path / "state" / "access" / "audit.jsonl").mkdir()
    made = platform.http.post("/api/v1/tokens", json={"name": "a", "role": "view"}, headers=platform.token)
    assert made.status_code == 503
    assert platform.http.get("/api/v1/tokens", headers=platform.token).json()["tokens"] == []


def test_long_answers_are_compressed_for_who_takes_that_and_short_ones_are_not(platform: Platform) -> None:
    long = platform.http.get("/api/openapi.json")
    assert long.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in long.headers["vary"].lower()
    assert int(long.headers["content-length"]) < len(long.content) / 3
    plain = platform.http.get("/api/openapi.json", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == long.json()
    short = platform.http.get("/api/v1/me")
    assert len(short.content) < COMPRESSED_FROM
    assert "content-encoding" not in short.headers


def test_a_session_outlives_a_restart_of_the_console_and_ends_with_its_person(platform: Platform) -> None:
    platform.http.app.state.door.people.add("anna", "operate", "correct horse battery")  # type: ignore[attr-defined]
    platform.http.post("/api/v1/login", json={"name": "anna", "password": "correct horse battery"})
    cookies, csrf = dict(platform.http.cookies), platform.get("/me")["csrf"]
    with local(create_app(platform.settings), cookies=cookies) as restarted:
        me = restarted.get("/api/v1/me").json()
        assert (me["name"], me["how"], me["csrf"]) == ("anna", "session", csrf)
        restarted.app.state.door.people.remove("anna")  # type: ignore[attr-defined]
        assert restarted.get("/api/v1/me").json()["how"] == "loopback"
    # The cookie is the console's alone.
    headers = {"Cookie": f"{COOKIE}={cookies[COOKIE]}", "X-CSRF-Token": csrf}
    answer = platform.retrainer.post("/rollback", json={}, headers=headers)
    assert answer.status_code == 401


def test_a_session_is_never_the_one_that_somebody_has_laid_ready(platform: Platform) -> None:
    """Session fixation: the cookie that comes with a login counts neither before nor afterwards."""
    platform.http.app.state.door.people.add("anna", "operate", PASSWORD)  # type: ignore[attr-defined]
    platform.http.cookies.set(COOKIE, "laid-ready-by-somebody-else")
    assert platform.get("/me")["how"] == "loopback"
    answer = log_in(platform, "anna")
    first = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert first != "laid-ready-by-somebody-else"
    platform.http.cookies.clear()
    platform.http.cookies.set(COOKIE, "laid-ready-by-somebody-else")
    assert platform.get("/me")["how"] == "loopback"
    platform.http.cookies.clear()
    second = log_in(platform, "anna").headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert second != first


def test_logins_at_once_are_slowed_as_those_one_after_the_other(tmp_path: Path) -> None:
    """Else a thousand passwords are tried before the first has failed, and nobody else has a thread meanwhile."""
    app = create_app(Settings(state_dir=tmp_path))
    app.state.door.people.add("anna", "operate", PASSWORD)
    # While time stands still no pause passes, however slow the machine is.
    app.state.door.failures = Failures(lambda: 0.0)
    with running(app) as http, ThreadPoolExecutor(30) as pool:
        url = f"{http.base_url}/api/v1/login".replace("//api", "/api")
        tried = [
            pool.submit(httpx.post, url, json={"name": f"anna{at % 3 or ''}", "password": "wrong"}, trust_env=False)
            for at in range(60)
        ]
        codes = Counter(one.result().status_code for one in tried)
    assert codes == {401: Failures.FREE, 429: 60 - Failures.FREE}


def test_a_login_ends_the_session_that_the_browser_had(platform: Platform) -> None:
    """Else it would go on where nobody can log out of it any more."""
    people = platform.http.app.state.door.people  # type: ignore[attr-defined]
    people.add("anna", "operate", PASSWORD)
    people.add("ben", "view", PASSWORD)
    log_in(platform, "anna")
    annas = platform.http.cookies[COOKIE]
    log_in(platform, "ben")
    assert platform.get("/me")["name"] == "ben"
    platform.http.cookies.clear()
    assert platform.http.get("/api/v1/me", headers={"Cookie": f"{COOKIE}={annas}"}).json()["how"] == "loopback"
