"""Rows in: what becomes of each, and what is answered."""

import re
from pathlib import Path
from typing import Any

import pytest

from driftloop.units import sending

from .conftest import CLOCK, COUNTED, REFUSING, Fleet, Make, row


def test_a_row_is_kept_and_its_step_answered(fleet: Fleet) -> None:
    assert fleet.send(row("a", 1, pressure=7.0))["results"] == ["stored"]
    fleet.until(lambda: fleet.steps("a") == [1])
    [one] = fleet.http.get("/units").json()["units"]
    assert (one["unit"], one["step"], one["rul"], one["low"], one["high"]) == ("a", 1, 93.0, 1.0, 99.0)
    assert (one["state"], one["version"], one["history_from"], one["flags"]) == ("running", "1", 1, [])


def test_the_same_row_is_known_and_another_one_at_its_time_is_refused_with_both_values(fleet: Fleet) -> None:
    fleet.send(row("a", 1))
    assert fleet.send(row("a", 1))["results"] == ["known"]
    said = fleet.send(row("a", 1, flow=9.0), status=409)
    assert said["results"] == ["refused"]
    assert said["problems"][0]["stored"] == {"flow": 2.0}
    assert said["problems"][0]["sent"] == {"flow": 9.0}
    assert said["status"] == 409
    assert fleet.unit("a")["flags"][-1] == "contradicting_rows"


def test_one_bad_row_does_not_lose_the_others(fleet: Fleet) -> None:
    bad: list[Any] = [
        {**row("a", 2), "presure": 1.0},
        {**row("a", 2), "pressure": "high"},
        {**row("a", 2), "pressure": 1e300},
        {**row("a", 2), "pressure": True},
        row("a", 2.5),
        row("a", None),
        row("", 2),
        row("a/b", 2),
        7,
    ]
    said = fleet.send(row("a", 1), *bad, row("a", 3))
    assert said["results"] == ["stored", *["refused"] * len(bad), "stored"]
    assert [problem["row"] for problem in said["problems"]] == list(range(1, len(bad) + 1))
    assert "is it 'pressure'" in said["problems"][0]["message"]
    assert [problem["field"] for problem in said["problems"]] == [
        "presure", "pressure", "pressure", "pressure", "hour", "hour", "unit", "unit", "row",
    ]  # fmt: skip


def test_json_lines_csv_and_tables_say_the_same(fleet: Fleet) -> None:
    lines = b'{"unit":"a","hour":1,"speed":3,"pressure":1,"flow":2}\nnot json\n{"unit":"a","hour":2,"Flow (l/s)":2}\n'
    answer = fleet.http.post("/telemetry", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json()["results"] == ["stored", "refused", "stored"]
    table = b"pump,hour,speed,pressure,Flow (l/s)\na,1,3,1,2\na,3,3,n/a,2\na,4,3\n"
    answer = fleet.http.post("/telemetry", content=table, headers={"Content-Type": "text/csv; charset=utf-8"})
    assert answer.json()["results"] == ["known", "stored", "refused"]
    listed = {"columns": ["unit", "time", "flow"], "rows": [["a", 2, 2.0], ["a", 5, None], ["a", 6]]}
    assert fleet.http.post("/telemetry", json=listed).json()["results"] == ["known", "stored", "refused"]
    fleet.until(lambda: fleet.steps("a") == [1, 2, 3, 5])
    assert fleet.server.windows[-1]["rows"] == [
        [None, None, 2.0], [3.0, None, 2.0], [None, None, None], [None, None, None],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"7", "application/json", 422),
        (b"a", "text/plain", 415),
        (b"x,y\n1,2\n", "text/csv", 422),
    ],
)
def test_what_holds_no_rows_is_refused_as_problem_details(fleet: Fleet, body: bytes, kind: str, status: int) -> None:
    answer = fleet.http.post("/telemetry", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_windows_are_the_newest_rows_oldest_first(fleet: Fleet) -> None:
    for hour in range(1, 8):
        fleet.send(row("a", hour, pressure=float(hour)))
    fleet.until(lambda: fleet.steps("a") == list(range(1, 8)))
    sent = [[one[1] for one in window["rows"]] for window in fleet.server.windows]
    assert sent == [[float(at) for at in range(max(1, hour - 3), hour + 1)] for hour in range(1, 8)]


def test_a_late_row_is_kept_and_marked_and_answers_stay(fleet: Fleet) -> None:
    fleet.send(row("a", 1), row("a", 2))
    fleet.until(lambda: fleet.steps("a") == [1, 2])
    fleet.send(row("a", 5))
    fleet.until(lambda: fleet.steps("a") == [1, 2, 5])
    assert fleet.send(row("a", 4))["results"] == ["late"]
    assert fleet.send(row("a", 6))["results"] == ["stored"]
    fleet.until(lambda: fleet.steps("a") == [1, 2, 5, 6])
    assert fleet.unit("a")["quality"]["late"] == 1
    assert fleet.unit("a")["steps"] == [1, 2, 4, 5, 6]


def test_where_nothing_may_be_missing_the_history_begins_anew_behind_a_gap(make: Make) -> None:
    fleet = make(REFUSING)
    fleet.send(row("a", 1), row("a", 2), row("a", 4), {"unit": "a", "time": 5, "flow": 1.0})
    fleet.until(lambda: fleet.steps("a") == [1, 2, 4])
    assert len(fleet.server.windows[-1]["rows"]) == 1
    assert fleet.unit("a")["predictions"][-1]["flags"] == ["gap"]


def at(second: float) -> str:
    return f"2024-02-01T13:{int(second // 60):02d}:{second % 60:06.3f}Z"


def test_steps_that_overtake_one_wait_for_it_together(make: Make) -> None:
    """Two senders at once: what follows on a step that waits is no reason to go on without the missing one."""
    fleet = make(units_lateness_s=3600.0)
    fleet.send(row("a", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    fleet.send(row("a", 3))
    fleet.send(row("a", 4), row("b", 1))
    fleet.until(lambda: fleet.steps("b") == [1])
    assert fleet.steps("a") == [1]
    assert fleet.send(row("a", 2))["results"] == ["stored"]
    fleet.until(lambda: fleet.steps("a") == [1, 2, 3, 4])
    assert fleet.asked() == [("a", 1), ("b", 1), ("a", 2), ("a", 3), ("a", 4)]


def test_a_step_is_predicted_once_of_all_its_rows_when_lateness_has_passed(make: Make) -> None:
    fleet = make(CLOCK, units_lateness_s=0.5)
    # Nothing is asked before all is there: on a busy machine the lateness may pass between two requests.
    fleet.server.digest, ours = "another", fleet.server.digest
    fleet.again()
    fleet.send(row("a", at(0), pressure=1.0), row("a", at(9), pressure=5.0), row("a", at(3), pressure=2.0))
    fleet.send(row("a", at(10), flow=4.0, pressure=6.0))
    fleet.server.digest = ours
    fleet.until(lambda: fleet.steps("a") == [1, 2])
    assert [[one[1] for one in window["rows"]] for window in fleet.server.windows] == [[2.0], [2.0, 6.0]]
    assert fleet.send(row("a", at(4), pressure=9.0))["results"] == ["late"]
    fleet.send(row("a", at(21)))
    fleet.until(lambda: fleet.steps("a") == [1, 2, 3])
    assert [one[1] for one in fleet.server.windows[-1]["rows"]] == [2.0, 6.0, 1.0]


def test_rows_from_the_future_are_refused(make: Make) -> None:
    fleet = make(CLOCK)
    said = fleet.send(row("a", "2999-01-01T00:00:00Z"), status=422)
    assert "ahead of this machine's clock" in said["problems"][0]["message"]
    assert fleet.send(row("a", "01/02/2024 10:00"), status=422)["problems"][0]["field"] == "at"
    assert fleet.http.get("/units/a").status_code == 404


def test_of_a_backfill_only_the_newest_step_is_predicted(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftloop.units.memory.BACKFILL_PAUSE_S", 0.3)
    fleet = make()
    # Nothing is asked before all is there: on a busy machine the pause may pass between two requests.
    fleet.server.digest, ours = "another", fleet.server.digest
    fleet.again()
    rows = [row(pump, hour, pressure=float(hour)) for hour in range(1, 400) for pump in "ab"]
    for start in range(0, len(rows), 100):
        fleet.send(*rows[start : start + 100], backfill=True)
    fleet.server.digest = ours
    fleet.until(lambda: sorted(fleet.asked()) == [("a", 399), ("b", 399)])
    fleet.send(row("a", 400, pressure=400.0))
    fleet.until(lambda: fleet.steps("a") == [399, 400])
    assert [one[1] for one in fleet.server.windows[-1]["rows"]] == [397.0, 398.0, 399.0, 400.0]
    # The server is told which of them are no traffic, and raise no alarm.
    assert [window.get("history", False) for window in fleet.server.windows] == [True, True, False]
    fleet.again()
    fleet.send(row("b", 400, pressure=400.0))
    fleet.until(lambda: fleet.steps("b") == [399, 400])
    assert len(fleet.server.windows) == 4


def test_a_server_that_is_away_loses_nothing(fleet: Fleet) -> None:
    fleet.send(row("a", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    fleet.server.away = True
    for hour in range(2, 20):
        assert fleet.send(row("a", hour, pressure=float(hour)))["results"] == ["stored"]
    assert fleet.http.get("/readyz").status_code == 200
    fleet.until(lambda: "does not answer" in fleet.http.get("/status").json()["predicting"])
    fleet.again()
    assert fleet.steps("a") == [1]
    fleet.server.away = False
    fleet.until(lambda: fleet.steps("a") == list(range(1, 20)))
    assert fleet.asked() == [("a", hour) for hour in range(1, 20)]
    assert [one[1] for one in fleet.server.windows[-1]["rows"]] == [16.0, 17.0, 18.0, 19.0]


def test_more_steps_than_memory_holds_are_read_from_the_store(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftloop.units.memory.MOST_PENDING", 5)
    monkeypatch.setattr("driftloop.units.loading._AT_ONCE", 5)
    fleet = make()
    fleet.server.away = True
    fleet.send(*(row("a", hour, pressure=float(hour)) for hour in range(1, 40)))
    fleet.server.away = False
    fleet.until(lambda: fleet.steps("a") == list(range(1, 40)))
    assert [window["rows"][-1][1] for window in fleet.server.windows] == [float(hour) for hour in range(1, 40)]


def test_steps_that_only_the_store_holds_are_not_overdue_since_1970(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driftloop.units.memory.MOST_PENDING", 5)
    monkeypatch.setattr("driftloop.units.predicting.MOST_WINDOWS", 5)
    fleet = make()
    fleet.send(row("a", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    fleet.server.away = True
    fleet.send(*(row("a", hour) for hour in range(2, 40)))
    fleet.until(lambda: "does not answer" in fleet.http.get("/status").json()["predicting"])
    assert fleet.http.get("/status").json()["units_behind"] == 1
    [overdue] = re.findall(r"^driftloop_units_overdue_seconds\S* (\S+)$", fleet.http.get("/metrics").text, re.MULTILINE)
    assert float(overdue) < 1e6


def test_a_life_that_was_to_be_read_on_when_the_store_was_read_anew_counts_once(fleet: Fleet) -> None:
    fleet.send(row("a", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    fleet.server.away = True
    fleet.send(*(row("a", hour) for hour in range(2, 9)))
    fleet.until(lambda: "does not answer" in fleet.http.get("/status").json()["predicting"])
    service = fleet.app.state.service
    before = service.memory.units["a"].life
    service.keeper.rebuild()
    service.committer.do(lambda connection: service.keeper.read_on(connection, before))
    fleet.server.away = False
    fleet.until(lambda: fleet.steps("a") == list(range(1, 9)))
    fleet.until(lambda: fleet.http.get("/status").json()["steps_waiting"] == 0)


def test_a_server_of_another_fleet_file_is_not_asked(fleet: Fleet) -> None:
    fleet.again()
    fleet.server.digest, ours = "another", fleet.server.digest
    fleet.again()
    fleet.send(row("a", 1))
    fleet.until(lambda: "serves another fleet file" in fleet.http.get("/status").json()["predicting"])
    assert fleet.server.windows == []
    fleet.server.digest = ours
    fleet.until(lambda: fleet.steps("a") == [1])


def test_another_version_may_look_at_more_rows(fleet: Fleet) -> None:
    fleet.send(*(row("a", hour) for hour in range(1, 9)))
    fleet.until(lambda: len(fleet.server.windows) == 8)
    fleet.server.version, fleet.server.window = "2", 6
    fleet.send(row("a", 9))
    fleet.until(lambda: fleet.steps("a")[-1] == 9)
    assert fleet.unit("a")["predictions"][-1]["version"] == "2"
    assert [len(window["rows"]) for window in fleet.server.windows[-2:]] == [4, 6], "asked anew before it is kept"
    fleet.server.version, fleet.server.window = "3", 2
    fleet.send(row("a", 10), row("a", 11))
    fleet.until(lambda: fleet.steps("a")[-1] == 11)
    assert [step for _, step in fleet.asked()] == [*range(1, 10), 9, 10, 11], "fewer rows change no answer"


def test_the_first_model_after_none_is_asked_with_all_that_it_looks_at(fleet: Fleet) -> None:
    """What answers while there is no model looks at one row; whoever backfills next must not be judged by one."""
    fleet.server.version, fleet.server.window = "stub", 1
    fleet.send(row("a", 1))
    fleet.until(lambda: fleet.steps("a") == [1])
    fleet.server.version, fleet.server.window = "1", 4
    fleet.send(*(row("a", hour, pressure=float(hour)) for hour in range(2, 7)), row("b", 1))
    fleet.until(lambda: fleet.steps("a") == [1, 2, 3, 4, 5, 6] and fleet.steps("b") == [1])
    kept = {(one["engine_id"], one["cycle"]): len(one["rows"]) for one in fleet.server.windows}
    assert kept == {("a", 1): 1, ("a", 2): 2, ("a", 3): 3, ("a", 4): 4, ("a", 5): 4, ("a", 6): 4, ("b", 1): 1}
    assert [one["version"] for one in fleet.unit("a")["predictions"]] == ["stub", *["1"] * 5]


def test_a_window_that_the_server_refuses_does_not_keep_others_from_an_answer(fleet: Fleet) -> None:
    fleet.server.refuses = lambda window: window["engine_id"] == "bad"
    fleet.send(row("a", 1), row("bad", 1), row("c", 1))
    fleet.until(lambda: fleet.steps("a") == fleet.steps("bad") == fleet.steps("c") == [1])
    [said] = fleet.unit("bad")["predictions"]
    assert said["rul"] is None
    assert said["flags"] == ["refused: windows: no"]


def test_columns_that_came_later_are_missing_in_earlier_rows(fleet: Fleet) -> None:
    fleet.send(row("a", 1, flow=5.0))
    fleet.until(lambda: fleet.steps("a") == [1])
    fleet.stop()
    changed = (
        (fleet.folder / "fleet.toml").read_text().replace("[[sensors]]", '[[sensors]]\nname = "heat"\n[[sensors]]', 1)
    )
    (fleet.folder / "fleet.toml").write_text(changed)
    fleet.start()
    fleet.server.digest = fleet.settings.schema.digest
    fleet.send({**row("a", 2), "heat": 8.0})
    fleet.until(lambda: fleet.steps("a") == [1, 2])
    assert fleet.server.windows[-1]["rows"] == [[3.0, None, 1.0, 5.0], [3.0, 8.0, 1.0, 2.0]]


def test_other_steps_of_time_are_refused_with_the_reason(fleet: Fleet) -> None:
    fleet.stop()
    (fleet.folder / "fleet.toml").write_text(CLOCK)
    with pytest.raises(Exception, match="counts steps as hour"):
        fleet.start()


@pytest.mark.parametrize("every", ["", 'every = "2"'])
def test_a_counter_that_jumps_far_ahead_is_refused_and_what_follows_is_not_late(make: Make, every: str) -> None:
    fleet = make(COUNTED.replace('column = "hour"', f'column = "hour"\n{every}'), units_jump_steps=100)
    width = 2 if every else 1
    for backfill in (True, False):
        said = fleet.send(row("a", width), row("a", 10**6), row("b", 10**6), backfill=backfill)
        assert said["results"][1] == "refused"
        [problem] = said["problems"]
        assert (problem["unit"], problem["field"], problem["row"]) == ("a", "hour", 1)
        assert "ahead of the newest row" in problem["message"]
        assert "jump=true" in problem["message"]
    # As far as is let through, and on.
    assert fleet.send(row("a", 101 * width), row("a", 102 * width), row("a", 200))["stored"] == 3
    # And where the counter is right.
    assert fleet.send(row("a", 10**6), jump=True)["results"] == ["stored"]
    assert fleet.send(row("a", 10**6 + 1))["results"] == ["stored"]


@pytest.mark.parametrize("every", ["", 'every = "2"\n'])
def test_a_counter_that_begins_anew_far_behind_is_refused_unless_it_is_right_or_there(make: Make, every: str) -> None:
    fleet = make(COUNTED.replace('column = "hour"', f'column = "hour"\n{every}'), units_jump_steps=100)
    width = 2 if every else 1
    fleet.send(row("a", 1000 * width))
    said = fleet.send(row("a", 1 * width), status=422)
    assert said["problems"][0]["message"] == (
        f"is 999 steps behind the newest row ({1000 * width}); 100 are let through. If it began anew with another "
        "life, tell so first (installed, overhauled). Where the counter is right, send the row with ?jump=true"
    )
    assert fleet.send(row("a", 1 * width), jump=True)["results"] == ["late"]
    # What is there is known, however far behind.
    assert fleet.send(row("a", 1 * width))["results"] == ["known"]
    # History may be of any past.
    assert fleet.send(row("a", 3 * width), backfill=True)["refused"] == 0
    fleet.tell("a", kind="overhauled")
    assert fleet.send(row("a", 1 * width, pressure=4.0))["results"] == ["stored"]


@pytest.mark.parametrize("hour", [-1, -32768, 2**31, 2**32 - 1])
def test_a_register_that_was_never_written_opens_no_life(fleet: Fleet, hour: int) -> None:
    said = fleet.send(row("a", hour), status=422)
    assert said["problems"][0]["message"] == (
        f"is {hour}, where a counter of steps hardly begins (0 to 1,000,000,000). Where it is right, send the row with "
        "?jump=true"
    )
    assert fleet.http.get("/units").json()["total"] == 0
    assert fleet.send(row("a", 120))["results"] == ["stored"]
    assert fleet.send(row("b", hour), jump=True)["results"] == ["stored"]


@pytest.mark.parametrize("year", [1970, 1980, 2000])
def test_a_clock_that_has_lost_its_time_opens_no_life_decades_ago(make: Make, year: int) -> None:
    fleet = make(CLOCK)
    said = fleet.send(row("a", f"{year}-01-02T00:10:00Z"), row("b", "2024-01-01T00:00:10Z"))
    assert said["results"] == ["refused", "stored"]
    [problem] = said["problems"]
    assert (problem["unit"], problem["field"]) == ("a", "at")
    assert "years behind this machine's clock" in problem["message"]
    assert "driftloop units backfill" in problem["message"]
    # Once the gateway has the time again, the unit's history begins where its rows do.
    fleet.send(row("a", "2024-01-01T00:00:10Z"), row("a", "2024-01-01T00:00:20Z"))
    fleet.until(lambda: len(fleet.steps("a")) == 2)
    assert [one["time"][:4] for one in fleet.unit("a")["predictions"]] == ["2024", "2024"]
    # Rows of a unit that is known say nothing of 2000 either.
    assert fleet.send(row("a", f"{year}-01-02T00:10:00Z"), status=422)["refused"] == 1


def test_rows_of_long_ago_are_history_where_somebody_says_so(make: Make) -> None:
    fleet = make(CLOCK)
    assert fleet.send(row("a", "1999-01-02T00:10:00Z"), backfill=True)["results"] == ["stored"]
    assert fleet.send(row("b", "1999-01-02T00:10:00Z"), jump=True)["results"] == ["stored"]
    fleet.stop()
    patient = make(CLOCK, units_past_days=36500.0)
    assert patient.send(row("c", "1999-01-02T00:10:00Z"))["results"] == ["stored"]


def test_of_an_earlier_life_a_row_is_known_however_far_its_counter_is_ahead(make: Make) -> None:
    fleet = make(units_jump_steps=100)
    fleet.send(*(row("a", hour) for hour in (1, 90, 180)))
    fleet.tell("a", kind="overhauled")
    fleet.send(row("a", 1, pressure=4.0))
    assert fleet.send(row("a", 180))["results"] == ["known"]
    assert fleet.send(row("a", 180, pressure=4.0), status=422)["results"] == ["refused"]


def test_a_row_of_long_before_the_first_one_says_nothing_of_where_a_history_begins(make: Make) -> None:
    fleet = make(CLOCK)
    fleet.tell("a", kind="installed", age=500, time="2024-01-01T00:00:00Z")
    at = lambda time: {"pump": "a", "at": time, "speed": 1.0, "pressure": 1.0, "flow": 1.0}  # noqa: E731
    fleet.send(at("2024-01-01T00:00:10Z"))
    before = fleet.until(lambda: fleet.unit("a")["history_from"])
    fleet.until(lambda: fleet.steps("a"))
    # A clock that began anew at the beginning of the century.
    assert fleet.send(at("2000-01-01T00:00:10Z"), jump=True)["results"] == ["late"]
    assert fleet.unit("a")["history_from"] == before == 502
    fleet.send(at("2024-01-01T00:00:20Z"))
    fleet.until(lambda: len(fleet.steps("a")) == 2)
    assert fleet.unit("a")["flags"] == ["no_youth"]
    fleet.again()
    assert fleet.unit("a")["history_from"] == before


def test_a_file_goes_in_as_history_and_each_refusal_is_told(fleet: Fleet, tmp_path: Path) -> None:
    table = tmp_path / "last-year.csv"
    table.write_text("pump,hour,speed,pressure,Flow (l/s)\na,1,3,1,2\na,2,3,1,2\na,2,3,9,2\nb,1,3,1,2\n")
    said = sending.backfill(fleet.http, [table], fleet.settings.schema)
    assert (said["rows"], said["stored"], said["refused"]) == (4, 3, 1)
    assert "contradicts" in said["problems"][0]["message"]
    again = sending.backfill(fleet.http, [table], fleet.settings.schema)
    assert (again["stored"], again["known"], again["refused"]) == (0, 3, 1)


def test_a_file_whose_rows_are_all_refused_says_why_of_each(fleet: Fleet, tmp_path: Path) -> None:
    fleet.send(row("a", 1))
    table = tmp_path / "other.csv"
    table.write_text("pump,hour,speed,pressure,Flow (l/s)\na,1,3,7,2\n")
    said = sending.backfill(fleet.http, [table], fleet.settings.schema)
    assert (said["rows"], said["refused"], len(said["problems"])) == (1, 1, 1)
