"""Who is let in: by token, session, proxy, or from this machine; and who is not."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.access import files
from driftloop.access.doors import Asking, Door, TurnedAway, check_start, is_loopback
from driftloop.access.guard import of_scope
from driftloop.access.proxy import Proxies
from driftloop.access.sessions import COOKIE, COOKIE_OF_HTTPS
from driftloop.errors import DriftloopError
from driftloop.settings import Settings

OWN = "the-platforms-own-token"
PASSWORD = "correct horse battery"


def settings(folder: Path, own: bool = True, **more: Any) -> Settings:
    if own:
        (folder / "token").write_text(OWN)
    return Settings(state_dir=folder, **more)


def asking(method: str = "GET", peer: str = "10.0.0.9", host: str = "console.example:8400", **headers: str) -> Asking:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Asking(method, {"host": host, **named}, peer)


def local(method: str = "GET", host: str = "127.0.0.1:8400", **headers: str) -> Asking:
    return asking(method, "127.0.0.1", host, **headers)


def turned_away(door: Door, request: Asking, needed: Any = "view") -> int:
    with pytest.raises(TurnedAway) as caught:
        door.admit(request, needed)
    return caught.value.status


def test_on_this_machine_one_may_look_and_predict_and_needs_a_token_to_change(tmp_path: Path) -> None:
    door = Door(settings(tmp_path))
    assert door.admit(local(), "view").how == "loopback"
    assert door.admit(local("POST"), "predict").name == "local"
    assert turned_away(door, local("POST"), "operate") == 401
    assert turned_away(door, local(), "admin") == 401
    assert door.admit(local("POST", authorization=f"Bearer {OWN}"), "admin").is_platform


def test_a_prediction_on_this_machine_looks_at_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(settings(tmp_path, own=False))
    looked: list[Path] = []
    monkeypatch.setattr(files, "stamp", looked.append)
    assert door.admit(local("POST"), "predict").name == "local"
    assert looked == []
    assert door.admit(local("POST"), "operate").name == "local"
    assert looked


def test_without_any_credential_this_machine_may_operate_as_it_always_could(tmp_path: Path) -> None:
    door = Door(settings(tmp_path, own=False))
    assert door.admit(local("POST"), "operate").how == "loopback"
    assert turned_away(door, local(), "admin") == 401
    assert turned_away(door, asking()) == 401


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8400",
        "127.0.0.1.evil.example",
        "",
        "[::1",
        "10.0.0.9",
        "evil@127.0.0.1",
        "127.0.0.1/evil",
    ],
)
def test_a_name_that_was_given_this_address_lets_nobody_in(tmp_path: Path, host: str) -> None:
    """DNS rebinding: the browser connects to 127.0.0.1 and says the name of the page's own site."""
    assert turned_away(Door(settings(tmp_path)), local(host=host)) == 401


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_for", "x_real_ip", "x_forwarded_host"])
def test_what_came_through_a_proxy_is_not_from_this_machine(tmp_path: Path, header: str) -> None:
    assert turned_away(Door(settings(tmp_path)), local(**{header: "127.0.0.1"})) == 401


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}]
)
def test_a_page_of_others_changes_nothing_on_this_machine(tmp_path: Path, headers: dict[str, str]) -> None:
    door = Door(settings(tmp_path, own=False))
    assert turned_away(door, local("POST", **headers), "operate") == 403
    assert turned_away(door, local("POST", **headers), "predict") == 403
    assert door.admit(local("POST", origin="http://127.0.0.1:8400"), "operate").name == "local"


def test_a_token_does_what_its_role_may(tmp_path: Path) -> None:
    door = Door(settings(tmp_path))
    token = door.tokens.add("planner", "predict")
    brings = {"authorization": f"Bearer {token}"}
    assert door.admit(asking("POST", **brings), "predict").name == "planner"
    assert turned_away(door, asking("POST", **brings), "operate") == 403
    assert turned_away(door, asking(authorization=f"Basic {token}")) == 401
    assert door.admit(asking(authorization=f"bearer  {token}"), "view").how == "token"
    door.tokens.revoke("planner")
    assert turned_away(door, asking(**brings)) == 401


def test_a_wrong_token_is_refused_even_on_this_machine(tmp_path: Path) -> None:
    assert turned_away(Door(settings(tmp_path)), local(authorization="Bearer wrong")) == 401


def test_a_token_asks_as_often_as_it_may(tmp_path: Path) -> None:
    door = Door(settings(tmp_path))
    token = door.tokens.add("busy", "view", rate=2.0)
    brings = {"authorization": f"Bearer {token}"}
    for _ in range(4):
        door.admit(asking(**brings), "view")
    with pytest.raises(TurnedAway) as caught:
        door.admit(asking(**brings), "view")
    assert caught.value.status == 429
    assert int(caught.value.headers["Retry-After"]) >= 1


def test_tries_that_fail_are_slowed_and_a_right_token_is_not(tmp_path: Path) -> None:
    door = Door(settings(tmp_path))
    wrong = {"authorization": "Bearer wrong"}
    assert [turned_away(door, asking(**wrong)) for _ in range(8)] == [401] * 5 + [429] * 3
    assert turned_away(door, asking(peer="10.0.0.10", **wrong)) == 401
    assert door.admit(asking(authorization=f"Bearer {OWN}"), "view").is_platform
    assert door.failures.total == 6


def test_a_session_changes_nothing_without_its_csrf_token(tmp_path: Path) -> None:
    door = Door(settings(tmp_path), sessions=True)
    door.people.add("anna", "operate", PASSWORD)
    anna = door.people.find("anna")
    assert anna is not None
    assert door.sessions is not None
    cookie = {"cookie": f"other=1; {COOKIE}={door.sessions.begin(anna)}"}
    who = door.admit(asking(**cookie), "operate")
    assert (who.name, who.how) == ("anna", "session")
    assert turned_away(door, asking("POST", **cookie), "operate") == 403
    assert turned_away(door, asking("DELETE", x_csrf_token="wrong", **cookie), "operate") == 403
    assert door.admit(asking("POST", x_csrf_token=who.csrf or "", **cookie), "operate") == who
    assert turned_away(door, asking("POST", x_csrf_token=who.csrf or "", **cookie), "admin") == 403
    door.people.remove("anna")
    assert turned_away(door, asking(**cookie)) == 401


PROXY = {
    "trusted_proxies": "10.0.0.0/24, 192.168.7.7",
    "proxy_roles": "planners=view, reliability engineers=operate",
}


def test_a_trusted_proxy_says_who_is_asking(tmp_path: Path) -> None:
    door = Door(settings(tmp_path, **PROXY))
    named = {"x_forwarded_user": "anna", "x_forwarded_groups": "others,reliability engineers,planners"}
    who = door.admit(asking(x_forwarded_for="203.0.113.5, 10.0.0.3", **named), "operate")
    assert (who.name, who.role, who.how, who.address) == ("anna", "operate", "proxy", "203.0.113.5")
    assert turned_away(door, asking("POST", **named), "operate") == 403
    assert door.admit(asking("POST", x_csrf_token=who.csrf or "", **named), "operate").name == "anna"
    assert turned_away(door, asking(x_forwarded_user="ben", x_forwarded_groups="others")) == 403
    assert turned_away(door, asking(x_forwarded_groups="planners")) == 401


def test_a_person_may_have_a_role_of_their_own_that_no_group_can_give(tmp_path: Path) -> None:
    door = Door(settings(tmp_path, trusted_proxies="10.0.0.0/24", proxy_roles="planners=view,user:anna=admin"))
    named = {"x_forwarded_user": "anna", "x_forwarded_groups": "planners"}
    assert door.admit(asking(**named), "admin").role == "admin"
    for groups in ("planners,user:anna", "planners, user:anna "):
        assert door.admit(asking(x_forwarded_user="ben", x_forwarded_groups=groups), "view").role == "view"
    assert turned_away(door, asking(x_forwarded_user="ben", x_forwarded_groups="user:anna")) == 403


def _basic(words: str) -> str:
    return "Basic " + base64.b64encode(words.encode()).decode()


def test_a_proxy_that_must_prove_itself_is_not_believed_without_its_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("a password: of 25 letters\n")
    door = Door(settings(tmp_path, **PROXY, proxy_password_file=password))
    named = {"x_forwarded_user": "anna", "x_forwarded_groups": "planners"}
    right = _basic("anna:a password: of 25 letters")
    assert door.admit(asking(authorization=right, **named), "view").how == "proxy"
    for wrong in (
        "",
        "Basic",
        "Basic %%%",
        _basic("anna:"),
        _basic("a password: of 25 letters"),
        right[:-2],
        "Bearer " + right,
    ):
        assert turned_away(door, asking(authorization=wrong, **named)) in (401, 429)
    assert turned_away(door, asking(**named)) == 401
    # Nor is the password worth anything elsewhere, or without a name.
    assert turned_away(door, asking(peer="10.0.1.9", authorization=right, **named)) == 401
    assert turned_away(door, asking(authorization=right, x_forwarded_groups="planners")) == 401


def test_a_program_behind_a_proxy_that_needs_no_password_brings_its_own_token(tmp_path: Path) -> None:
    door = Door(settings(tmp_path, **PROXY))
    made = door.tokens.add("planner", "view")
    named = {"x_forwarded_user": "anna", "x_forwarded_groups": "reliability engineers"}
    assert door.who(asking(authorization=f"Bearer {made}", **named)).name == "planner"


@pytest.mark.parametrize("peer", ["10.0.1.9", "203.0.113.5", "127.0.0.1", "::1", ""])
def test_nobody_else_does(tmp_path: Path, peer: str) -> None:
    door = Door(settings(tmp_path, **PROXY))
    named = {"x_forwarded_user": "anna", "x_forwarded_groups": "reliability engineers"}
    assert turned_away(door, asking(peer=peer, host="127.0.0.1", x_forwarded_for="10.0.0.3", **named)) == 401


def test_the_csrf_token_of_one_is_not_the_others(tmp_path: Path) -> None:
    door = Door(settings(tmp_path, **PROXY))
    assert door.csrf_of("anna") != door.csrf_of("ben") != Door(settings(tmp_path)).csrf_of("ben")


@given(st.lists(st.sampled_from(["203.0.113.5", "10.0.0.3", "192.168.7.7", "forged", ""]), max_size=6))
def test_the_client_is_the_last_address_that_is_not_a_trusted_proxy(way: list[str]) -> None:
    proxies = Proxies.of("10.0.0.0/24,192.168.7.7", "U", "G", "")
    found = proxies.client("10.0.0.9", {"x-forwarded-for": ", ".join(way)})
    known = ["10.0.0.9", *reversed(way)]
    trusted = 0
    while trusted + 1 < len(known) and proxies.trusts(known[trusted]) and known[trusted + 1]:
        trusted += 1
    assert found == known[trusted]
    assert proxies.client("203.0.113.9", {"x-forwarded-for": ", ".join(way)}) == "203.0.113.9"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"trusted_proxies": "10.0.0.0/99"}, "is no address"),
        ({"proxy_roles": "planners=owner"}, "is no group and role"),
        ({"proxy_roles": "view"}, "is no group and role"),
        ({"proxy_password_file": Path("/nowhere/at all")}, "cannot be read"),
        ({"proxy_password_file": Path("/dev/null")}, "has 0 characters"),
    ],
)
def test_a_setting_that_is_not_understood_is_named(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(DriftloopError, match=said):
        Door(settings(tmp_path, **more))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1")),
        *((host, False) for host in ("0.0.0.0", "10.0.0.1", "localhost.example", "", "::")),
    ],
)
def test_what_means_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_no_process_listens_for_others_without_credentials(tmp_path: Path) -> None:
    bare = settings(tmp_path, own=False)
    check_start(bare, "127.0.0.1")
    with pytest.raises(DriftloopError, match=r"anybody who reaches.*driftloop tokens add"):
        check_start(bare, "0.0.0.0")
    Door(bare).tokens.add("a", "view")
    check_start(settings(tmp_path, own=False), "0.0.0.0")


@pytest.mark.parametrize("name", ["authorization", "host", "origin", "x-csrf-token", "x-driftloop-actor"])
def test_what_tells_who_is_asking_comes_once(tmp_path: Path, name: str) -> None:
    """Else a proxy might look at the one value, and this process at the other."""
    door = Door(settings(tmp_path))
    own = [(b"host", b"127.0.0.1:8400"), (b"authorization", f"Bearer {OWN}".encode())]
    twice = [(name.encode(), b"one"), (name.encode(), b"two")]
    scope = {"method": "GET", "headers": [*own, *twice], "client": ("127.0.0.1", 50_000)}
    assert turned_away(door, of_scope(scope)) == 400
    assert door.admit(of_scope({**scope, "headers": own}), "view").role == "admin"


def test_names_of_a_proxy_come_once_and_addresses_in_their_order(tmp_path: Path) -> None:
    door = Door(settings(tmp_path, trusted_proxies="10.0.0.9", proxy_roles="planners=view,admins=admin"))
    proxy = [(b"x-forwarded-user", b"anna"), (b"x-forwarded-groups", b"planners")]
    scope = {"method": "GET", "headers": proxy, "client": ("10.0.0.9", 50_000)}
    assert door.admit(of_scope(scope), "view").role == "view"
    for forged in [(b"x-forwarded-groups", b"admins"), (b"x-forwarded-user", b"root")]:
        assert turned_away(door, of_scope({**scope, "headers": [forged, *proxy]})) == 400
        assert turned_away(door, of_scope({**scope, "headers": [*proxy, forged]})) == 400
    way = [(b"x-forwarded-for", b"1.2.3.4"), (b"x-forwarded-for", b"5.6.7.8")]
    assert door.admit(of_scope({**scope, "headers": [*proxy, *way]}), "view").address == "5.6.7.8"
    cookies = of_scope({**scope, "headers": [(b"cookie", b"a=1"), (b"cookie", b"driftloop_session=x")]})
    assert door.session_of(cookies) == "x"


def latin(text: str) -> str:
    """As a server hands on the UTF-8 of a header."""
    return text.encode().decode("latin-1")


def test_names_and_groups_of_a_proxy_may_have_any_letters(tmp_path: Path) -> None:
    roles = "Instandhaltung Süd=operate,user:Jürgen Öztürk=admin"
    door = Door(settings(tmp_path, trusted_proxies="10.0.0.0/24", proxy_roles=roles))
    who = door.admit(asking(x_forwarded_user=latin("Zoë"), x_forwarded_groups=latin("Instandhaltung Süd")), "operate")
    assert (who.name, who.role) == ("Zoë", "operate")
    assert door.admit(asking(x_forwarded_user=latin("Jürgen Öztürk")), "admin").name == "Jürgen Öztürk"


@pytest.mark.parametrize("name", ["an\u200bna", "anna\u202e", "\u2060anna", "an\x00na", "anna\x85"])
def test_a_name_that_only_looks_like_anothers_has_no_role(tmp_path: Path, name: str) -> None:
    door = Door(settings(tmp_path, trusted_proxies="10.0.0.0/24", proxy_roles="user:anna=admin,planners=view"))
    assert turned_away(door, asking(x_forwarded_user=latin(name), x_forwarded_groups="planners")) == 403


def test_over_https_a_cookie_counts_that_no_neighbour_can_lay_ready(tmp_path: Path) -> None:
    """A page of another host of the same domain may set a cookie for the domain, but none with __Host-."""
    door = Door(settings(tmp_path), sessions=True)
    door.people.add("mallory", "view", PASSWORD)
    mallory = door.people.find("mallory")
    assert mallory is not None
    assert door.sessions is not None
    value = door.sessions.begin(mallory)
    laid = {"host": "console.example", "cookie": f"{COOKIE}={value}"}
    assert turned_away(door, Asking("GET", laid, "10.0.0.9", https=True)) == 401
    own = {"host": "console.example", "cookie": f"{COOKIE}=other; {COOKIE_OF_HTTPS}={value}"}
    assert door.admit(Asking("GET", own, "10.0.0.9", https=True), "view").name == "mallory"
    assert turned_away(door, Asking("GET", own, "10.0.0.9")) == 401


def test_whether_a_browser_came_by_https_a_trusted_proxy_says_and_nobody_else(tmp_path: Path) -> None:
    door = Door(settings(tmp_path, trusted_proxies="10.0.0.9"))
    assert door.by_https(asking(x_forwarded_proto="https"))
    assert not door.by_https(asking(x_forwarded_proto="http"))
    assert not door.by_https(asking())
    assert not door.by_https(asking(peer="10.0.0.10", x_forwarded_proto="https"))
    assert door.by_https(Asking("GET", {"x-forwarded-proto": "http"}, "10.0.0.10", https=True))


def test_who_was_let_in_and_still_may_costs_no_rate_and_guesses_nothing(tmp_path: Path) -> None:
    door = Door(settings(tmp_path))
    token = door.tokens.add("busy", "view", rate=1.0)
    brings = asking(authorization=f"Bearer {token}")
    assert [door.admits(brings, "view") for _ in range(20)] == [True] * 20
    assert not door.admits(brings, "operate")
    for _ in range(2):
        door.admit(brings, "view")
    assert turned_away(door, brings) == 429
    assert door.admits(brings, "view")
    door.tokens.revoke("busy")
    assert not door.admits(brings, "view")
    assert door.failures.total == 0
