"""Tokens and people as they are kept: hashed, changed under other processes' eyes, ended in time."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop.access import sessions
from driftloop.access import tokens as tokens_
from driftloop.access.people import People
from driftloop.access.roles import ROLES, highest, may
from driftloop.access.sessions import Sessions
from driftloop.access.tokens import OWN, Tokens
from driftloop.errors import DriftloopError, JsonError

PASSWORD = "correct horse battery"


def test_roles_may_what_they_may_and_no_more() -> None:
    allowed = {role: {needed for needed in ROLES if may(role, needed)} for role in ROLES}
    assert allowed == {
        "view": {"view"},
        "predict": {"view", "predict"},
        "operate": {"view", "operate"},
        "admin": set(ROLES),
    }
    assert highest([]) is None
    assert highest(["view", "operate", "predict"]) == "operate"


def test_a_token_is_kept_as_its_hash_alone(tmp_path: Path) -> None:
    token = Tokens(tmp_path).add("planner", "view")
    assert len(token) >= 43
    content = (tmp_path / "tokens.json").read_text()
    assert token not in content
    assert token.removeprefix("driftloop_") not in content
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    found = Tokens(tmp_path).find(token)
    assert found is not None
    assert (found.name, found.role) == ("planner", "view")


def test_another_process_sees_each_change_with_its_next_look(tmp_path: Path) -> None:
    here, there = Tokens(tmp_path), Tokens(tmp_path, own="the-platforms-own-token")
    assert there.find("nothing") is None
    token = here.add("a", "operate")
    assert there.find(token) is not None
    second = here.rotate("a")
    assert there.find(token) is None
    assert there.find(second) is not None
    third = here.rotate("a", overlap_s=60)
    assert there.find(second) is not None
    assert there.find(third) is not None
    here.revoke("a")
    assert there.find(third) is None
    own = there.find("the-platforms-own-token")
    assert own is not None
    assert (own.name, own.role, own.rate) == (OWN, "admin", None)
    assert here.find("the-platforms-own-token") is None


def test_a_token_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Tokens(tmp_path)
    token = known.add("a", "view", days=2)
    assert known.find(token) is not None
    assert known.any
    later = tokens_.time.time() + 2 * 86_400 + 1
    monkeypatch.setattr(tokens_.time, "time", lambda: later)
    assert known.find(token) is None
    assert not known.any
    assert known.list()[0]["expired"] is True


@given(st.text(max_size=80))
def test_no_other_text_is_a_token(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "some-tokens"
    known = Tokens(folder)
    if not known.list():
        known.add("a", "admin")
    assert known.find(text) is None


@pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65, OWN, "-a", "ä"])
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DriftloopError, match="cannot be the name"):
        Tokens(tmp_path).add(name, "view")
    with pytest.raises(DriftloopError, match="cannot be the name"):
        People(tmp_path).add(name, "view", PASSWORD)
    assert not (tmp_path / "tokens.json").exists()


def test_names_are_given_once(tmp_path: Path) -> None:
    known = Tokens(tmp_path)
    known.add("a", "view")
    with pytest.raises(DriftloopError, match="there is a token 'a'"):
        known.add("a", "view")
    with pytest.raises(DriftloopError, match="there is no token 'b'"):
        known.revoke("b")


def test_tokens_made_at_once_are_all_kept(tmp_path: Path) -> None:
    threads = [threading.Thread(target=Tokens(tmp_path).add, args=(f"t{at}", "view")) for at in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one["name"] for one in Tokens(tmp_path).list()} == {f"t{at}" for at in range(12)}


def test_a_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    token = Tokens(tmp_path).add("a", "admin")
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(JsonError, match=r"tokens\.json"):
        Tokens(tmp_path).find(token)


def test_a_password_is_kept_as_scrypt_alone(tmp_path: Path) -> None:
    known = People(tmp_path)
    known.add("anna", "operate", PASSWORD)
    known.add("ben", "view", PASSWORD)
    kept = json.loads((tmp_path / "people.json").read_text())["people"]
    assert PASSWORD not in json.dumps(kept)
    assert kept[0]["scrypt"] != kept[1]["scrypt"]
    person = known.check("anna", PASSWORD)
    assert person is not None
    assert person.role == "operate"
    assert known.check("anna", PASSWORD + "x") is None
    assert known.check("nobody", PASSWORD) is None


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_a_password_must_be_long_enough(tmp_path: Path, password: str) -> None:
    with pytest.raises(DriftloopError, match="from 12 to 1024 characters"):
        People(tmp_path).add("anna", "view", password)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_when_idle_when_old_and_with_the_person(tmp_path: Path) -> None:
    people, clock = People(tmp_path), Clock()
    people.add("anna", "view", PASSWORD)
    anna = people.find("anna")
    assert anna is not None
    sessions = Sessions(tmp_path, people, idle_s=100, longest_s=250, clock=clock)

    value = sessions.begin(anna)
    for clock.now in (90.0, 180.0, 250.0):
        assert sessions.find(value) is not None
    clock.now = 251.0
    assert sessions.find(value) is None

    value = sessions.begin(anna)
    clock.now -= 10  # set back
    assert sessions.find(value) is None
    clock.now += 10

    value = sessions.begin(anna)
    clock.now += 101
    assert sessions.find(value) is None

    value = sessions.begin(anna)
    People(tmp_path).set_password("anna", PASSWORD + "!")
    assert sessions.find(value) is None

    again = people.find("anna")
    assert again is not None
    value = sessions.begin(again)
    assert sessions.find(value) is not None
    People(tmp_path).remove("anna")
    assert sessions.find(value) is None


def test_a_session_ends_by_logging_out(tmp_path: Path) -> None:
    people = People(tmp_path)
    people.add("anna", "view", PASSWORD)
    anna = people.find("anna")
    assert anna is not None
    sessions = Sessions(tmp_path, people, idle_s=100, longest_s=100)
    one, other = sessions.begin(anna), sessions.begin(anna)
    sessions.end(one)
    assert sessions.find(one) is None
    assert sessions.find(other) is not None
    assert sessions.find("") is None


def test_a_session_outlives_a_restart_and_its_file_lets_nobody_in(tmp_path: Path) -> None:
    people = People(tmp_path)
    people.add("anna", "view", PASSWORD)
    anna = people.find("anna")
    assert anna is not None
    value = Sessions(tmp_path, people, idle_s=100, longest_s=100).begin(anna)
    found = Sessions(tmp_path, People(tmp_path), idle_s=100, longest_s=100).find(value)
    assert found is not None
    again = Sessions(tmp_path, People(tmp_path), idle_s=100, longest_s=100).find(value)
    assert again is not None
    assert (found[0].name, found[1]) == ("anna", again[1])
    path = tmp_path / sessions.FILE
    content = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert value not in content
    assert found[1] not in content
    [key] = json.loads(content)["sessions"]
    assert Sessions(tmp_path, people, idle_s=100, longest_s=100).find(key) is None


def test_sessions_are_bounded_and_the_idlest_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people, clock = People(tmp_path), Clock()
    people.add("anna", "view", PASSWORD)
    anna = people.find("anna")
    assert anna is not None
    monkeypatch.setattr(sessions, "MOST", 3)
    kept = Sessions(tmp_path, people, idle_s=1000, longest_s=1000, clock=clock)
    values = []
    for clock.now in (0.0, 1.0, 2.0):
        values.append(kept.begin(anna))
    clock.now = 200.0
    assert kept.find(values[0]) is not None
    values.append(kept.begin(anna))
    assert [kept.find(value) is not None for value in values] == [True, False, True, True]


def test_that_a_session_is_used_is_written_down_now_and_then(tmp_path: Path) -> None:
    people, clock = People(tmp_path), Clock()
    people.add("anna", "view", PASSWORD)
    anna = people.find("anna")
    assert anna is not None
    kept = Sessions(tmp_path, people, idle_s=3600, longest_s=36_000, clock=clock)
    value = kept.begin(anna)
    before = (tmp_path / sessions.FILE).stat().st_mtime_ns
    for clock.now in (10.0, 30.0, 59.0):
        assert kept.find(value) is not None
    assert (tmp_path / sessions.FILE).stat().st_mtime_ns == before
    clock.now = 61.0
    assert kept.find(value) is not None
    assert (tmp_path / sessions.FILE).stat().st_mtime_ns > before
