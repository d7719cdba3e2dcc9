"""What gateways, people and machines do to the service that nobody would plan for."""

import gzip
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from driftloop.fleet import tables
from driftloop.units import sending

from .conftest import CLOCK, COUNTED, Fleet, Make, row

BAD = {"pump": "b", "time": 1, "speed": "much"}


def post(fleet: Fleet, body: bytes, kind: str, **headers: str) -> Any:
    return fleet.http.post("/telemetry", content=body, headers={"Content-Type": kind, **headers})


# Names.


def test_no_name_is_taken_twice(fleet: Fleet) -> None:
    fleet.send(row("a", 1), row("b", 1), row("a", 1, flow=9.0))
    for act in ("rename", "split"):
        for name in ("b", "a"):
            answer = fleet.http.post(f"/units/a/{act}", json={"name": name})
            assert (answer.status_code, answer.json()["field"]) == (409, "name"), answer.text
    assert {one["unit"] for one in fleet.http.get("/units").json()["units"]} == {"a", "b"}


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "x" * 129, "\u202ea", "a\u200bb"])
def test_names_that_cannot_be_told_apart_or_asked_for_are_refused(fleet: Fleet, name: str) -> None:
    assert fleet.send(row(name, 1), status=422)["problems"][0]["field"] == "unit"
    fleet.send(row("a", 1))
    assert fleet.http.post("/units/a/rename", json={"name": name}).status_code == 422


@pytest.mark.parametrize("name", ["a.b.c", "e1.life2", "größe 7", "50%", "a?b#c", "тест", "a+b&c=d", "*", ">"])
def test_any_other_name_goes_all_the_way(fleet: Fleet, name: str) -> None:
    fleet.send(row(name, 1), row(name, 2))
    path = f"/units/{name.replace('%', '%25').replace('?', '%3F').replace('#', '%23')}"
    assert fleet.http.get(path).json()["unit"] == name
    assert fleet.http.post(f"{path}/events", json={"kind": "failed"}).status_code == 201
    fleet.until(lambda: fleet.http.get(path).json()["lives"][0]["archive"] == "archived")
    [run] = fleet.retrainer.runs.values()
    assert len(run["rows"]) == 2


ONE_NAME = ["Größe 7", "Gro\u0308\u00dfe 7", " Größe 7 ", "Größe  7", "Größe\u00a07", "Größe\t7"]
"""The same, as keyboards, macOS, spreadsheets and people write it."""


@pytest.mark.parametrize("name", ONE_NAME)
def test_a_unit_is_one_however_its_name_is_typed(fleet: Fleet, tmp_path: Path, name: str) -> None:
    kept, path = ONE_NAME[0], f"/units/{quote(name)}"
    fleet.send(row(kept, 1), row(name, 1), row(name, 2))
    table = f"pump,hour,speed,pressure,Flow (l/s)\n{name},2,3,1,2\n{name},3,3,1,2\n"
    assert post(fleet, table.encode(), "text/csv").json()["results"] == ["known", "stored"]
    file = tmp_path / "rows.csv"
    file.write_text(table)
    assert sending.backfill(fleet.http, [file], fleet.settings.schema)["known"] == 2
    [listed] = fleet.http.get("/units", params={"q": name}).json()["units"]
    assert listed["unit"] == kept
    fleet.until(lambda: fleet.steps(quote(name)) == [1, 2, 3])
    assert fleet.http.get(f"{path}/window").json()["unit"] == kept
    number = fleet.tell(quote(name), kind="failed", id="e")["id"]
    assert fleet.tell(quote(kept), kind="failed", id="e")["id"] == number
    fleet.until(lambda: fleet.unit(quote(kept))["lives"][0]["archive"] == "archived")
    [run] = fleet.retrainer.runs
    # As the same unit's run from a file.
    assert [one.run.run_id for one in tables.read([file], fleet.settings.schema).units] == [run]
    assert fleet.http.delete(f"{path}/events/{number}").status_code == 200
    renamed = fleet.http.post(f"{path}/rename", json={"name": f"{name} b"}).json()
    assert renamed == {"unit": f"{kept} b", "before": kept}
    assert fleet.http.post(f"/units/{quote(f'{name} b')}/rename", json={"name": name}).json()["unit"] == kept
    assert fleet.http.get(path).json()["unit"] == kept


def test_upper_and_lower_case_are_two_units(fleet: Fleet) -> None:
    assert fleet.send(row("p1", 1), row("P1", 1, flow=9.0))["results"] == ["stored", "stored"]
    assert fleet.unit("P1")["unit"] == "P1"
    assert fleet.http.get("/units").json()["total"] == 2
    assert fleet.http.get("/units/p2").status_code == 404


@pytest.mark.parametrize(("written", "name"), [(7, "7"), (7.0, "7"), ("7.0", "7"), (1e22, f"{10**22}"), (7.5, "7.5")])
def test_a_number_is_one_name_however_it_is_written(fleet: Fleet, written: Any, name: str) -> None:
    fleet.send(row(name, 1), row(written, 1))
    assert [one["unit"] for one in fleet.http.get("/units").json()["units"]] == [name]


def test_a_unit_whose_name_looks_like_anothers_later_life_has_a_run_of_its_own(fleet: Fleet) -> None:
    fleet.send(row("a", 1), row("a.life2", 1, flow=7.0))
    fleet.tell("a", kind="overhauled")
    fleet.send(row("a", 2, flow=5.0))
    fleet.tell("a", kind="failed")
    fleet.tell("a.life2", kind="failed")
    fleet.until(lambda: len(fleet.retrainer.runs) == 3)
    runs = {run["run_id"]: run["rows"] for run in fleet.retrainer.runs.values()}
    assert len({json.dumps(rows) for rows in runs.values()}) == 3


def test_three_units_under_one_name_are_split_one_by_one(make: Make) -> None:
    fleet = make()
    fleet.send(*(row("a", hour, flow=flow) for hour in (1, 2, 3) for flow in (2.0, 9.0, 5.0)))
    for name, left in (("b", 3), ("c", 0)):
        done = fleet.http.post("/units/a/split", json={"name": name}).json()
        assert (done["rows"], done["left"]) == (3, left)
        assert ("contradicting_rows" in fleet.unit("a")["flags"]) is (left > 0)
    assert fleet.http.post("/units/a/split", json={"name": "d"}).status_code == 409
    flows = {name: fleet.unit(name)["sensors"][2]["values"] for name in "abc"}
    assert flows == {"a": [2.0] * 3, "b": [9.0] * 3, "c": [5.0] * 3}
    fleet.again()
    assert {name: fleet.unit(name)["sensors"][2]["values"] for name in "abc"} == flows


def test_a_unit_that_is_erased_while_it_is_predicted_leaves_nothing(make: Make, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token of sufficient length")
    fleet = make(token_file=tmp_path / "token")
    fleet.http.headers["Authorization"] = "Bearer a token of sufficient length"
    asked, go_on = threading.Event(), threading.Event()

    def slowly(window: dict[str, Any]) -> bool:
        if window["engine_id"] == "a":
            asked.set()
            go_on.wait(60)
        return False

    fleet.server.refuses = slowly
    fleet.send(row("a", 1), row("a", 2))
    assert asked.wait(60)
    assert fleet.http.delete("/units/a").status_code == 200
    fleet.send(row("a", 1, flow=8.0))
    go_on.set()
    fleet.send(row("b", 1))
    fleet.until(lambda: fleet.steps("b") == [1] and fleet.steps("a") == [1])
    assert fleet.unit("a")["quality"]["rows"] == 1
    assert fleet.http.get("/status").json()["steps_waiting"] == 0
    fleet.again()
    assert fleet.steps("a") == [1]


# Life events.


def test_a_unit_fails_once(fleet: Fleet) -> None:
    fleet.send(row("a", 1))
    answers = []

    def fail() -> None:
        answers.append(fleet.http.post("/units/a/events", json={"kind": "failed"}).status_code)

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [201, *[409] * 7]
    fleet.until(lambda: fleet.unit("a")["lives"][0]["archive"] == "archived")
    assert fleet.retrainer.posts == 1


@pytest.mark.parametrize("file", [COUNTED, CLOCK])
def test_nothing_has_happened_tomorrow(make: Make, file: str) -> None:
    fleet = make(file)
    now = datetime.now(UTC)
    fleet.send(row("a", now.isoformat() if file == CLOCK else 1))
    for kind in ("failed", "removed", "overhauled", "installed"):
        said = fleet.tell("a", 422, kind=kind, time=(now + timedelta(days=1)).isoformat())
        assert said["field"] == "time"
        assert "ahead" in said["detail"]
    assert fleet.unit("a")["state"] == "running"
    fleet.tell("a", kind="failed", time=(now + timedelta(seconds=20)).isoformat())


def test_rows_of_a_life_that_is_over_are_kept_and_change_nothing(fleet: Fleet) -> None:
    fleet.send(row("a", 1), row("a", 2))
    fleet.until(lambda: fleet.steps("a") == [1, 2])
    fleet.tell("a", kind="failed")
    fleet.until(lambda: fleet.unit("a")["lives"][0]["archive"] == "archived")
    assert fleet.send(row("a", 3), row("a", 1), row("a", 2, flow=8.0))["results"] == ["ended", "known", "refused"]
    assert fleet.steps("a") == [1, 2]
    assert fleet.unit("a")["quality"]["after_end"] == 1
    fleet.tell("a", kind="installed")
    assert fleet.send(row("a", 1))["results"] == ["stored"]
    assert fleet.unit("a")["life"] == 2


# Bodies.


def test_a_broken_line_takes_no_other_with_it(fleet: Fleet) -> None:
    lines = [
        json.dumps(row("a", 1)),
        '{"pump": "a", "time": 2',
        "\x00",
        "[1]",
        json.dumps(BAD),
        json.dumps(row("a", 3)),
    ]
    done = post(fleet, "\n".join(lines).encode(), "application/x-ndjson").json()
    assert done["results"] == ["stored", *["refused"] * 4, "stored"]
    assert [one["row"] for one in done["problems"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("head", ["", "\ufeff"])
def test_a_table_with_semicolons_has_commas_in_its_numbers(fleet: Fleet, head: str) -> None:
    text = head + 'pump;hour;speed;pressure;Flow (l/s)\n"a;1";1;3,5;1.234,5;\n"a;1";2;3;-0,25;1e-3\n'
    assert post(fleet, text.encode(), "text/csv").json()["results"] == ["stored", "stored"]
    sensors = {one["name"]: one["values"] for one in fleet.unit("a;1")["sensors"]}
    assert sensors == {"speed": [3.5, 3.0], "pressure": [1234.5, -0.25], "flow": [None, 0.001]}


def test_a_table_whose_line_ends_were_lost_is_no_table_without_rows(fleet: Fleet) -> None:
    table = "pump,hour,speed,pressure,flow\na,1,3,1,2\na,2,3,1,2\n"
    lost = post(fleet, table.replace("\n", "").encode(), "text/csv")
    assert lost.status_code == 422
    assert "--data-binary" in lost.json()["detail"]
    assert "'flowa'" in lost.json()["detail"]
    # A gateway that has nothing to send may say so.
    assert post(fleet, table.partition("\n")[0].encode(), "text/csv").json()["rows"] == 0


def test_a_comma_in_a_number_of_a_table_with_commas_is_refused(fleet: Fleet) -> None:
    done = post(fleet, b'pump,hour,speed,pressure,flow\na,1,"3,5",1,2\na,2,3,1,2\n', "text/csv").json()
    assert done["results"] == ["refused", "stored"]
    assert done["problems"][0]["field"] == "speed"


def test_bodies_may_be_gzipped(fleet: Fleet) -> None:
    body = gzip.compress(json.dumps([row("a", 1)]).encode())
    assert post(fleet, body, "application/json", **{"Content-Encoding": "gzip"}).json()["results"] == ["stored"]
    # Several members one after the other are one text, as gzip itself reads them.
    lines = b"".join(gzip.compress(json.dumps(row("a", hour)).encode() + b"\n") for hour in (2, 3))
    said = post(fleet, lines, "application/x-ndjson", **{"Content-Encoding": "GZIP"})
    assert said.json()["results"] == ["stored", "stored"]


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b"[]")[:-5], "gzip", 400),
        (b"[]", "gzip", 400),
        (gzip.compress(b"[]") + b"more", "gzip", 400),
        (b"[]", "br", 415),
        (b"[]", "identity", 200),
        (gzip.compress(b" " * 200_000), "gzip", 413),
        (gzip.compress(gzip.compress(b"[]")), "gzip, gzip", 415),
    ],
)
def test_what_cannot_be_unpacked_is_refused_and_a_bomb_never_whole(
    make: Make, body: bytes, encoding: str, status: int
) -> None:
    fleet = make(units_body_bytes=100_000)
    answer = post(fleet, body, "application/json", **{"Content-Encoding": encoding})
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.json()["field"] in ("body", "Content-Encoding")


def test_rows_that_are_twice_in_one_body_are_kept_once(fleet: Fleet) -> None:
    rows = [row("a", 1), row("a", 1), row("a", 1, flow=9.0), row("a", 2), row("a", 1)]
    assert fleet.send(*rows)["results"] == ["stored", "known", "refused", "stored", "known"]
    fleet.until(lambda: fleet.steps("a") == [1, 2])
    assert fleet.unit("a")["quality"] == {
        "rows": 2, "backfilled": 0, "late": 0, "after_end": 0, "contradicting": 1,
    }  # fmt: skip


def test_ten_thousand_units_in_one_body(fleet: Fleet) -> None:
    body = {
        "columns": ["pump", "hour", "speed", "pressure", "flow"],
        "rows": [[f"u{at}", 1, 1.0, 2.0, 3.0] for at in range(10_000)],
    }
    done = fleet.http.post("/telemetry", json=body).json()
    assert (done["stored"], done["refused"]) == (10_000, 0)
    fleet.until(lambda: fleet.http.get("/status").json()["predictions"] == 10_000)
    assert fleet.http.get("/units", params={"limit": 1, "sort": "unit"}).json()["total"] == 10_000


@pytest.mark.parametrize("value", ["NaN", "nan", "inf", "-Infinity", 1e39, -1e300, True, [1], {"a": 1}, "1_000"])
def test_what_is_no_number_is_missing_or_refused_and_never_kept(fleet: Fleet, value: Any) -> None:
    done = fleet.http.post("/telemetry", json=[row("a", 1) | {"flow": value}])
    if str(value).lower() == "nan":
        assert done.json()["results"] == ["stored"]
        assert fleet.unit("a")["sensors"][2]["values"] == [None]
    else:
        assert (done.status_code, done.json()["problems"][0]["field"]) == (422, "flow")
        assert fleet.http.get("/units").json()["total"] == 0


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson", "a table"])
def test_numbers_that_json_does_not_have_are_refused_with_their_row_alone(fleet: Fleet, text: str, kind: str) -> None:
    rows = [json.dumps(row("a", 1)).replace("2.0", text), json.dumps(row("b", 1))]
    body = "\n".join(rows) if kind == "application/x-ndjson" else f"[{','.join(rows)}]"
    if kind == "a table":
        columns, values = list(row("a", 1)), [list(json.loads(one).values()) for one in rows]
        body = json.dumps({"columns": columns, "rows": values}).replace("Infinity", text.lstrip("-"))
        kind = "application/json"
    answer = post(fleet, body.encode(), kind)
    assert (answer.status_code, answer.json()["results"]) == (200, ["refused", "stored"])
    [problem] = answer.json()["problems"]
    assert (problem["unit"], problem["field"]) == ("a", "flow")
    assert ("send null" in problem["message"]) is (text != "1e999")
    assert [one["unit"] for one in fleet.http.get("/units").json()["units"]] == ["b"]


@pytest.mark.parametrize("hour", [1e300, -1e300, 2.0**63, 2.0**53, "1e400", -(2.0**62)])
def test_a_counter_beyond_all_counting_is_refused(fleet: Fleet, hour: Any) -> None:
    done = fleet.send(row("a", hour), status=422)
    assert done["problems"][0]["field"] == "hour"
    assert fleet.send(row("a", 1))["results"] == ["stored"]
    fleet.until(lambda: fleet.steps("a") == [1])


def test_a_counter_with_steps_of_its_own_is_bounded_too(make: Make) -> None:
    fleet = make(COUNTED.replace('column = "hour"', 'column = "hour"\nevery = "0.5"'))
    assert fleet.send(row("a", 1e300), status=422)["problems"][0]["field"] == "hour"
    assert fleet.send(row("a", 1.25), row("a", 1.3))["results"] == ["stored", "stored"]
    fleet.until(lambda: len(fleet.steps("a")) == 1)


def test_a_counter_that_jumps_has_a_gap_and_goes_on(fleet: Fleet) -> None:
    fleet.send(row("a", 1), row("a", 2))
    fleet.send(row("a", 2_000_000_000), jump=True)
    fleet.until(lambda: fleet.steps("a") == [1, 2, 2_000_000_000])
    assert len(fleet.server.windows[-1]["rows"]) <= fleet.server.window
    fleet.send(row("a", -5), jump=True)
    fleet.again()
    assert fleet.send(row("a", 2_000_000_001))["results"] == ["stored"]
    fleet.until(lambda: fleet.steps("a")[-1] == 2_000_000_001)


# Clocks.


@pytest.mark.parametrize(
    "written",
    ["2024-02-01T13:45:00Z", "2024-02-01T14:45:00+01:00", "2024-02-01 13:45:00", 1706795100, 1706795100000,
     "1706795100", "2024-02-01T08:15:00-05:30", "20240201T134500Z"],
)  # fmt: skip
def test_a_moment_is_the_same_however_it_is_written(make: Make, written: Any) -> None:
    fleet = make(CLOCK)
    fleet.send(row("a", "2024-02-01T13:45:00Z"))
    assert fleet.send(row("a", written))["results"] == ["known"]


@pytest.mark.parametrize(
    "written", ["1/2/2024 13:45", "tomorrow", "0001-01-01T00:00:00Z", "1970-01-01 00:00:07", True, -5, "2024-13-01", 12]
)
def test_a_moment_that_is_none_is_refused(make: Make, written: Any) -> None:
    fleet = make(CLOCK)
    assert fleet.send(row("a", written), status=422)["problems"][0]["field"] == "at"


def test_late_rows_of_a_step_that_is_over_are_kept_and_no_answer_changes(make: Make) -> None:
    fleet = make(CLOCK)
    start = datetime(2024, 2, 1, tzinfo=UTC)

    def at(seconds: float, flow: float = 2.0) -> dict[str, Any]:
        return row("a", (start + timedelta(seconds=seconds)).isoformat(), flow=flow)

    fleet.send(at(0), at(10), at(20))
    fleet.until(lambda: len(fleet.steps("a")) == 3)
    before = fleet.unit("a")["predictions"]
    assert fleet.send(at(11, 9.0), at(1), at(-30), at(30))["results"] == ["late", "late", "late", "stored"]
    fleet.until(lambda: len(fleet.steps("a")) == 4)
    assert fleet.unit("a")["predictions"][:3] == before
    fleet.again()
    assert fleet.unit("a")["predictions"][:3] == before
    assert len(fleet.steps("a")) == 4
    assert fleet.unit("a")["quality"]["late"] == 3


def test_answers_are_read_in_the_order_in_which_they_were_made(fleet: Fleet) -> None:
    fleet.send(*(row(unit, hour) for hour in (1, 2, 3) for unit in ("a", "b")))
    fleet.until(lambda: fleet.http.get("/status").json()["predictions"] == 6)
    found, after = [], 0
    while page := fleet.http.get("/predictions", params={"after": after, "limit": 4}).json():
        if page["next"] == after:
            break
        found += page["predictions"]
        after = page["next"]
    assert {(one["unit"], one["step"]) for one in found} == {(unit, hour) for unit in "ab" for hour in (1, 2, 3)}
    assert len(found) == 6
    assert [one["step"] for one in found if one["unit"] == "a"] == [1, 2, 3]
    assert found[0].keys() == fleet.unit("a")["predictions"][0].keys() | {"unit", "life", "made"}
    assert fleet.http.get("/predictions", params={"after": -1}).status_code == 422


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_a_number_of_four_hundred_digits_is_refused_with_its_row_alone(fleet: Fleet, kind: str) -> None:
    digits = "9" * 400
    rows = [
        f'{{"unit":"a","hour":1,"flow":{digits}}}',
        f'{{"unit":"a","hour":{digits},"flow":1}}',
        f'{{"unit":{digits},"hour":1,"flow":1}}',
        '{"unit":"a","hour":1,"flow":1}',
    ]
    body = f"[{','.join(rows)}]" if kind == "application/json" else "\n".join(rows)
    answer = fleet.http.post("/telemetry", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200
    assert answer.json()["results"] == ["refused", "refused", "refused", "stored"]
    assert [one["field"] for one in answer.json()["problems"]] == ["flow", "hour", "unit"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"unit": "a", "pump": "b", "hour": 1}, "pump"),
        ({"unit": "a", "time": 1, "hour": 2}, "hour"),
        ({"unit": "a", "hour": 1, "flow": 1.0, "Flow (l/s)": 2.0}, "Flow (l/s)"),
    ],
)
def test_what_is_said_by_two_names_must_be_the_same(fleet: Fleet, given: dict[str, Any], field: str) -> None:
    [problem] = fleet.send(given, status=422)["problems"]
    assert problem["field"] == field
    assert "another name of the same column" in problem["message"]
    same = dict.fromkeys(given, list(given.values())[-1]) | {"unit": "a"} | ({"pump": "a"} if "pump" in given else {})
    assert fleet.send(same)["stored"] == 1
    header = "pump,hour,flow,flow\n"
    answer = fleet.http.post("/telemetry", content=f"{header}a,7,1,2\na,8,1,1\n", headers={"Content-Type": "text/csv"})
    assert answer.json()["results"] == ["refused", "stored"]


@pytest.mark.parametrize("number", [0, -1, 2**31, 28489903028584472117248])
def test_an_event_of_a_number_that_no_database_has_is_refused(fleet: Fleet, number: int) -> None:
    fleet.send(row("a", 1))
    assert fleet.http.delete(f"/units/a/events/{number}").status_code == 422
