"""Life events: what ends, what is archived and labelled, and what can be taken back."""

from pathlib import Path
from typing import Any

import pytest

from driftloop.access.tokens import Tokens

from .conftest import CLOCK, COUNTED, REFUSING, Fleet, Make, row
from .test_telemetry import at


def lived(fleet: Fleet, unit: str, hours: int, first: int = 1) -> None:
    """Let a unit live and be answered."""
    fleet.send(*(row(unit, hour, pressure=float(hour)) for hour in range(first, first + hours)))
    fleet.until(lambda: fleet.steps(unit)[-1:] == [first + hours - 1])


def archived(fleet: Fleet, unit: str, life: int = 1) -> dict[str, Any]:
    """The life as soon as the retrainer has all of it."""
    found: dict[str, Any] = fleet.until(
        lambda: next(
            (
                one
                for one in fleet.unit(unit)["lives"]
                if one["life"] == life and one["archive"] in ("archived", "refused")
            ),
            None,
        )
    )
    return found


def test_a_failed_unit_is_archived_once_and_its_answers_get_their_labels(fleet: Fleet) -> None:
    lived(fleet, "a", 5)
    event = fleet.tell("a", kind="failed", note="seized", who="ann")
    assert (event["kind"], event["who"], event["note"], event["life"]) == ("failed", "ann", "seized", 1)
    life = archived(fleet, "a")
    assert (life["run"], life["archive"], life["state"]) == ("a", "archived", "failed")
    assert fleet.retrainer.runs["a"]["rows"] == [[3.0, float(hour), 2.0] for hour in range(1, 6)]
    assert fleet.retrainer.runs["a"]["confirmed"] is True
    assert "censored" not in fleet.retrainer.runs["a"]
    assert [one["true_rul"] for one in fleet.unit("a")["predictions"]] == [4.0, 3.0, 2.0, 1.0, 0.0]
    assert {key: one["true_rul"] for key, one in fleet.retrainer.outcomes.items()} == {
        ("a", step): 5.0 - step for step in range(1, 6)
    }
    assert fleet.http.get("/units").json()["total"] == 0
    assert fleet.http.get("/units", params={"state": "failed"}).json()["total"] == 1
    assert fleet.send(row("a", 6))["results"] == ["ended"]
    fleet.tell("a", kind="failed", status=409)


def test_a_removed_unit_is_censored_and_never_failed(fleet: Fleet) -> None:
    lived(fleet, "a", 5)
    fleet.tell("a", kind="removed", step=3)
    archived(fleet, "a")
    assert fleet.retrainer.runs["a"]["censored"] is True
    assert "confirmed" not in fleet.retrainer.runs["a"]
    assert len(fleet.retrainer.runs["a"]["rows"]) == 3
    assert fleet.retrainer.outcomes == {}
    assert {one["true_rul"] for one in fleet.unit("a")["predictions"]} == {None}


def test_an_overhaul_begins_a_new_life(fleet: Fleet) -> None:
    lived(fleet, "a", 4)
    fleet.tell("a", kind="overhauled")
    lived(fleet, "a", 3)
    assert fleet.unit("a")["life"] == 2
    fleet.tell("a", kind="failed")
    assert archived(fleet, "a", 2)["run"] == "a.life2"
    assert fleet.retrainer.runs["a"]["censored"] is True
    assert len(fleet.retrainer.runs["a.life2"]["rows"]) == 3
    assert fleet.steps("a", life=1) == [1, 2, 3, 4]


def test_a_retrainer_that_is_away_gets_every_run_once_when_it_is_back(fleet: Fleet) -> None:
    fleet.retrainer.away = True
    for unit in "abc":
        lived(fleet, unit, 3)
        fleet.tell(unit, kind="failed")
    fleet.until(lambda: fleet.http.get("/status").json()["archiving"] != "yes")
    fleet.again()
    assert fleet.retrainer.runs == {}
    fleet.retrainer.away = False
    for unit in "abc":
        assert archived(fleet, unit)["archive"] == "archived"
    assert sorted(fleet.retrainer.runs) == ["a", "b", "c"]
    assert len(fleet.retrainer.outcomes) == 9


def test_what_the_retrainer_refuses_says_why(fleet: Fleet) -> None:
    fleet.retrainer.refuses = "no such life"
    lived(fleet, "a", 3)
    fleet.tell("a", kind="removed")
    life = archived(fleet, "a")
    assert life["archive"] == "refused"
    assert "no such life" in life["note"]


@pytest.mark.parametrize("status", [403, 503])
def test_labels_wait_for_a_retrainer_that_may_answer_otherwise_later(fleet: Fleet, status: int) -> None:
    fleet.retrainer.labels = status
    lived(fleet, "a", 3)
    fleet.tell("a", kind="failed")
    fleet.until(lambda: "not now" in fleet.http.get("/status").json()["archiving"])
    assert fleet.unit("a")["lives"][0]["archive"] == "labels"
    fleet.retrainer.labels = 200
    assert archived(fleet, "a")["note"] is None
    assert len(fleet.retrainer.outcomes) == 3


def test_labels_that_the_retrainer_refuses_are_told_no_more(fleet: Fleet) -> None:
    fleet.retrainer.labels = 422
    lived(fleet, "a", 3)
    fleet.tell("a", kind="failed")
    life = archived(fleet, "a")
    assert life["archive"] == "archived"
    assert "refuses the labels" in life["note"]


def test_a_run_whose_id_is_taken_by_other_rows_gets_another(fleet: Fleet) -> None:
    fleet.retrainer.runs["a"] = {"run_id": "a", "rows": [[0.0, 0.0, 0.0]]}
    lived(fleet, "a", 3)
    fleet.tell("a", kind="failed")
    run = archived(fleet, "a")["run"]
    assert run.startswith("a.")
    assert len(fleet.retrainer.runs[run]["rows"]) == 3
    assert {engine for engine, _ in fleet.retrainer.outcomes} == {run}


def test_a_wrong_failure_is_taken_back_and_what_learnt_from_it_is_named(fleet: Fleet) -> None:
    lived(fleet, "a", 3)
    number = fleet.tell("a", kind="failed")["id"]
    archived(fleet, "a")
    fleet.send(row("a", 4, pressure=4.0))
    answer = fleet.http.delete(f"/units/a/events/{number}", params={"reason": "it was the gauge"})
    assert answer.status_code == 200
    said = answer.json()["withdrawn"]
    assert said["run"] == "a"
    assert said["learnt_from"]["versions"] == ["7"]
    assert fleet.retrainer.withdrawn == {"a": "it was the gauge"}
    fleet.until(lambda: fleet.steps("a") == [1, 2, 3, 4])
    assert {one["true_rul"] for one in fleet.unit("a")["predictions"]} == {None}
    assert fleet.http.delete(f"/units/a/events/{number}").status_code == 409
    fleet.tell("a", kind="failed")
    assert archived(fleet, "a")["run"] == "a.again1"
    assert len(fleet.retrainer.runs["a.again1"]["rows"]) == 4


def test_an_overhaul_that_never_was_is_taken_back_while_its_life_has_no_rows(fleet: Fleet) -> None:
    lived(fleet, "a", 3)
    first = fleet.tell("a", kind="overhauled")["id"]
    assert fleet.http.delete(f"/units/a/events/{first}").status_code == 200
    lived(fleet, "a", 1, first=4)
    assert fleet.unit("a")["life"] == 1


@pytest.mark.parametrize("file", [COUNTED, CLOCK])
def test_an_overhaul_that_never_was_is_taken_back_with_what_came_behind_it(make: Make, file: str) -> None:
    fleet = make(file)
    when = (lambda hour: at(10 * hour)) if file == CLOCK else lambda hour: hour
    rows = {hour: row("a", when(hour), pressure=float(hour)) for hour in range(1, 10)}
    fleet.send(*(rows[hour] for hour in (1, 2, 3)))
    fleet.until(lambda: len(fleet.steps("a")) == 3)
    number = fleet.tell("a", kind="overhauled", **({"time": at(31)} if file == CLOCK else {}))["id"]
    fleet.until(lambda: fleet.unit("a")["lives"][0]["archive"] == "archived")
    fleet.send(rows[4], rows[5], {**rows[4], "flow": 9.0})
    fleet.until(lambda: len(fleet.steps("a")) == 2)
    fleet.server.away = True
    fleet.send(rows[6])
    assert fleet.http.delete(f"/units/a/events/{number}").json()["withdrawn"]["run"] == "a"
    fleet.server.away = False
    fleet.send(rows[7])
    for _ in range(2):
        fleet.until(lambda: fleet.steps("a") == [1, 2, 3, 4, 5, 6, 7])
        found = fleet.unit("a")
        assert (found["life"], found["state"], len(found["lives"])) == (1, "running", 1)
        assert found["quality"]["rows"] == 7
        assert found["quality"]["contradicting"] == 1
        assert [one["life"] for one in found["life_events"]] == [1]
        fleet.again()
    # The window goes on over what was an end.
    assert [one[1] for one in fleet.server.windows[-1]["rows"]] == [4.0, 5.0, 6.0, 7.0]
    fleet.tell("a", kind="failed")
    fleet.until(lambda: len(fleet.retrainer.runs.get("a.again1", {"rows": []})["rows"]) == 7)
    fleet.until(lambda: len(fleet.retrainer.outcomes) == 7)
    assert {cycle: one["true_rul"] for (_, cycle), one in fleet.retrainer.outcomes.items()} == {
        step: 7.0 - step for step in range(1, 8)
    }


def test_what_belongs_to_another_life_is_not_taken_back(fleet: Fleet) -> None:
    lived(fleet, "a", 3)
    first = fleet.tell("a", kind="overhauled")["id"]
    lived(fleet, "a", 1)
    said = fleet.http.delete(f"/units/a/events/{first}")
    assert (said.status_code, "do not follow" in said.json()["detail"]) == (409, True)
    second = fleet.tell("a", kind="overhauled")["id"]
    assert "newest event of its life 3" in fleet.http.delete(f"/units/a/events/{first}").json()["detail"]
    assert fleet.http.delete(f"/units/a/events/{second}").status_code == 200
    assert fleet.unit("a")["life"] == 2


def test_an_installation_that_never_was_leaves_the_life_before_as_it_ended(fleet: Fleet) -> None:
    lived(fleet, "a", 3)
    fleet.tell("a", kind="failed")
    archived(fleet, "a")
    number = fleet.tell("a", kind="installed")["id"]
    assert fleet.unit("a")["state"] == "running"
    assert fleet.http.delete(f"/units/a/events/{number}").json()["withdrawn"]["run"] is None
    for _ in range(2):
        found = fleet.unit("a")
        assert (found["state"], found["life"], len(found["lives"])) == ("failed", 1, 1)
        assert [one["withdrawn"] is None for one in found["life_events"]] == [True, False]
        fleet.again()
    assert fleet.retrainer.withdrawn == {}
    fleet.tell("a", kind="installed")
    lived(fleet, "a", 1)
    assert fleet.unit("a")["life"] == 2


def test_rows_of_a_life_before_that_come_again_are_no_rows_of_this_one(fleet: Fleet) -> None:
    lived(fleet, "a", 4)
    fleet.tell("a", kind="failed")
    fleet.tell("a", kind="installed")
    last = row("a", 4, pressure=4.0)
    assert fleet.send(last)["results"] == ["known"]
    assert fleet.send(row("a", 1, pressure=7.0), row("a", 2, pressure=8.0))["results"] == ["stored"] * 2
    # Those at times that the new life has, too; others there contradict it.
    again = [row("a", 1, pressure=1.0), row("a", 2, pressure=2.0), row("a", 2, pressure=9.0), last]
    assert fleet.send(*again)["results"] == ["known", "known", "refused", "known"]
    # What follows on the newest row is the new life's, whatever it reads.
    assert fleet.send(row("a", 3, pressure=3.0), last)["results"] == ["stored", "stored"]
    assert fleet.unit("a", life=1)["quality"]["rows"] == fleet.unit("a")["quality"]["rows"] == 4


@pytest.mark.parametrize(("age", "step", "since"), [(None, 1, 1), (100, 101, 101), ("unknown", 1, None)])
def test_installed_units_tell_their_age(make: Make, age: Any, step: int, since: int | None) -> None:
    fleet = make(CLOCK)
    fleet.tell("a", kind="installed", time=at(0), **({"age": age} if age is not None else {}))
    fleet.send(row("a", at(0)), row("a", at(30)))
    fleet.until(lambda: fleet.steps("a") == [step, step + 3])
    assert fleet.unit("a")["history_from"] == since
    flags = fleet.unit("a")["predictions"][-1]["flags"]
    assert ("no_youth" in flags) is (since != 1)
    fleet.again()
    assert fleet.unit("a")["history_from"] == since


def test_a_counter_tells_the_age_by_itself(fleet: Fleet) -> None:
    lived(fleet, "a", 2, first=57)
    assert fleet.unit("a")["history_from"] == 57
    assert fleet.unit("a")["predictions"][0]["flags"] == ["no_youth"]


def test_an_event_that_is_sent_twice_under_one_id_is_one(fleet: Fleet) -> None:
    lived(fleet, "a", 3)
    first = fleet.tell("a", kind="failed", id="ticket-7")
    assert fleet.tell("a", kind="failed", id="ticket-7") == first
    assert len(fleet.unit("a")["life_events"]) == 1
    fleet.tell("a", kind="removed", id="ticket-7", status=409)


def test_the_end_rule_of_the_fleet_file_closes_a_life_by_itself(make: Make) -> None:
    fleet = make(COUNTED + '[end]\nsensor = "flow"\nbelow = 1.0\nholds = "2 of 3 rows"\n')
    flows = [5.0, 0.5, 5.0, 5.0, 0.6, 5.0, 0.7, 5.0]
    fleet.send(*(row("a", hour, flow=flow) for hour, flow in enumerate(flows[:5], 1)))
    said = fleet.send(*(row("a", hour, flow=flow) for hour, flow in enumerate(flows[5:], 6)))
    assert said["results"] == ["stored", "stored", "ended"]
    archived(fleet, "a")
    assert [one[2] for one in fleet.retrainer.runs["a"]["rows"]] == flows[:5]
    [event] = fleet.unit("a")["life_events"]
    assert (event["kind"], event["note"]) == ("failed", "the fleet file's end rule")
    assert fleet.unit("a")["predictions"][-1]["true_rul"] == 0.0


def test_a_column_that_says_failed_closes_a_life(make: Make) -> None:
    fleet = make(COUNTED + '[end]\ncolumn = "broken"\n')
    fleet.send(row("a", 1), {**row("a", 2), "broken": "no"}, {**row("a", 3), "broken": True}, row("a", 4))
    archived(fleet, "a")
    assert len(fleet.retrainer.runs["a"]["rows"]) == 3


def test_a_unit_that_goes_on_after_it_failed_begins_its_next_life_where_the_fleet_file_says_so(make: Make) -> None:
    fleet = make(COUNTED + '[end]\ncolumn = "broken"\nafter = "new_life"\n')
    broken = {3: True, 4: True, 7: True}
    rows = [{**row("a", hour), "broken": broken.get(hour, False)} for hour in range(1, 10)]
    assert fleet.send(*rows)["results"] == ["stored"] * 3 + ["ended"] + ["stored"] * 5
    archived(fleet, "a")
    unit = fleet.unit("a")
    assert [(life["life"], life["state"]) for life in unit["lives"]] == [(1, "failed"), (2, "failed"), (3, "running")]
    assert {name: len(run["rows"]) for name, run in fleet.retrainer.runs.items()} == {"a": 3, "a.life2": 3}
    assert fleet.steps("a") == [1, 2]
    assert fleet.unit("a")["predictions"][0]["flags"] == []
    fleet.again()
    assert [life["life"] for life in fleet.unit("a")["lives"]] == [1, 2, 3]
    assert fleet.send(rows[8])["results"] == ["known"]


def test_behind_a_gap_that_nothing_may_fill_only_the_rest_is_archived(make: Make) -> None:
    fleet = make(REFUSING)
    fleet.send(row("a", 1), row("a", 3), row("a", 4))
    fleet.tell("a", kind="failed")
    life = archived(fleet, "a")
    assert len(fleet.retrainer.runs["a"]["rows"]) == 2
    assert "behind the last one" in life["note"]


def test_a_unit_is_renamed(fleet: Fleet) -> None:
    lived(fleet, "a", 2)
    fleet.send(row("c", 1))
    assert fleet.http.post("/units/a/rename", json={"name": "c"}).status_code == 409
    assert fleet.http.post("/units/a/rename", json={"name": "b"}).json() == {"unit": "b", "before": "a"}
    lived(fleet, "b", 1, first=3)
    fleet.again()
    assert fleet.steps("b") == [1, 2, 3]
    assert fleet.http.get("/units/a").status_code == 404


def test_two_units_under_one_name_are_split(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftloop.units.memory.BACKFILL_PAUSE_S", 0.1)
    fleet = make()
    lived(fleet, "a", 3)
    fleet.send(*(row("a", hour, pressure=50.0) for hour in (1, 2, 3)), status=409)
    assert fleet.http.get("/units", params={"flag": "contradicting_rows"}).json()["total"] == 1
    assert fleet.http.post("/units/a/split", json={"name": "b"}).json()["rows"] == 3
    fleet.until(lambda: fleet.steps("b") == [3])
    assert fleet.unit("b")["sensors"][1]["values"] == [50.0, 50.0, 50.0]
    assert fleet.http.get("/units", params={"flag": "contradicting_rows"}).json()["total"] == 0
    assert fleet.http.post("/units/a/split", json={"name": "c"}).status_code == 409


def test_an_erased_unit_is_gone_and_its_run_taken_back(make: Make, tmp_path: Any) -> None:
    fleet = make()
    lived(fleet, "a", 3)
    fleet.tell("a", kind="failed")
    archived(fleet, "a")
    (tmp_path / "token").write_text("a-token-of-sixteen-characters")
    fleet.again()
    assert fleet.http.delete("/units/a").status_code == 401
    fleet.http.headers["Authorization"] = "Bearer a-token-of-sixteen-characters"
    assert fleet.http.delete("/units/a", params={"reason": "asked to"}).json()["runs_withdrawn"] == ["a"]
    fleet.until(lambda: fleet.retrainer.withdrawn == {"a": "asked to"})
    assert fleet.http.get("/units/a").status_code == 404
    fleet.again()
    fleet.http.headers["Authorization"] = "Bearer a-token-of-sixteen-characters"
    assert fleet.http.get("/units", params={"state": "all"}).json()["total"] == 0
    lived(fleet, "a", 2)


def test_events_of_units_that_nobody_knows_are_refused(fleet: Fleet) -> None:
    fleet.tell("x", kind="failed", status=404)
    fleet.tell("x", kind="lost", status=422)
    fleet.tell("x", kind="failed", age=3, status=422)
    fleet.tell("x", kind="installed", time="yesterday", status=422)


def test_changes_need_a_token_where_there_is_one(make: Make, tmp_path: Any) -> None:
    (tmp_path / "token").write_text("a-token-of-sixteen-characters")
    fleet = make()
    changing = ["POST /telemetry", "POST /units/a/events", "DELETE /units/a", "POST /units/a/rename"]
    for changes in [*changing, "POST /units/a/split", "DELETE /units/a/events/1"]:
        method, path = changes.split()
        answer = fleet.http.request(method, path, content=b"{}")
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert fleet.http.get("/units").status_code == 200


def test_a_gateway_sends_rows_and_ends_no_life_by_hand_and_the_platform_says_for_whom_it_acts(
    make: Make, tmp_path: Any
) -> None:
    (tmp_path / "token").write_text("a-token-of-sixteen-characters")
    fleet = make()
    made = Tokens(fleet.settings.access_folder, fleet.settings.token).add("gateway", "predict")
    gateway = {"Authorization": f"Bearer {made}"}
    assert fleet.http.post("/telemetry", json=row("a", 1), headers=gateway).status_code == 200
    assert fleet.http.post("/units/a/events", json={"kind": "failed"}, headers=gateway).status_code == 403
    platform = {"Authorization": f"Bearer {fleet.settings.token}", "X-Driftloop-Actor": "ann"}
    said = fleet.http.post("/units/a/events", json={"kind": "failed", "who": "bob"}, headers=platform)
    assert said.json()["who"] == "ann"
    audit = (fleet.settings.access_folder / "audit.jsonl").read_text()
    assert "/units/a/events" in audit
    assert "/telemetry" not in audit


@pytest.mark.parametrize("how", ["erased", "withdrawn"])
def test_what_is_taken_back_before_it_was_archived_takes_no_run_of_a_renamed_unit_with_it(
    make: Make, tmp_path: Path, how: str
) -> None:
    (tmp_path / "token").write_text("a token of sufficient length")
    fleet = make(token_file=tmp_path / "token")
    fleet.http.headers["Authorization"] = "Bearer a token of sufficient length"
    fleet.send(row("a", 1), row("a", 2))
    fleet.tell("a", kind="failed")
    fleet.until(lambda: fleet.unit("a")["lives"][0]["archive"] == "archived")
    fleet.http.post("/units/a/rename", json={"name": "b"})
    # Another unit of that name ends while the retrainer is away.
    fleet.retrainer.away = True
    fleet.send(row("a", 1, pressure=5.0))
    event = fleet.tell("a", kind="failed")
    waiting = fleet.unit("a")["lives"][0]["run"]
    if how == "erased":
        assert fleet.http.delete("/units/a").json()["runs_withdrawn"] == [waiting]
    else:
        assert fleet.http.delete(f"/units/a/events/{event['id']}").status_code == 200
    fleet.retrainer.away = False
    fleet.until(lambda: fleet.retrainer.withdrawn)
    assert list(fleet.retrainer.withdrawn) == [waiting]
    assert waiting != fleet.unit("b")["lives"][0]["run"] == "a"


@pytest.mark.parametrize(("file", "times"), [(COUNTED, [5, 6]), (CLOCK, [at(5), at(15)])])
def test_an_end_that_came_before_the_first_row_is_taken_back(make: Make, file: str, times: list[Any]) -> None:
    fleet = make(file)
    fleet.tell("a", kind="installed", age="unknown")
    ended = fleet.tell("a", kind="removed")["id"]
    column = "hour" if file is COUNTED else "at"
    rows = [{**row("a", 0), column: time} for time in times]
    for one in rows:
        one.pop("time")
    assert fleet.send(*rows)["results"] == ["ended", "ended"]
    assert fleet.http.delete(f"/units/a/events/{ended}").status_code == 200
    assert fleet.unit("a")["state"] == "running"
    fleet.until(lambda: fleet.steps("a"))
