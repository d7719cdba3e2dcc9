"""What drives a prediction, and the plan, of a platform whose processes are real."""

import csv
import io
import json

import pytest
from typer.testing import CliRunner

from driftloop.api.planning import until_enough
from driftloop.cli import build
from driftloop.errors import DriftloopError

from .conftest import Platform
from .test_reads import served, wait


def serve_version_2(platform: Platform) -> None:
    """A version whose RUL is the newest reading of the first sensor, ten steps either way."""
    platform.served.publish("2", 0)
    platform.served.production = "2"
    wait(lambda: platform.server.get("/model").json()["model_version"] == "2")


def test_what_drives_a_prediction(platform: Platform) -> None:
    served(platform)
    platform.predict("pump/1 é", 9, sensor=7.0)
    told = platform.get("./drivers/pump/1 é")
    assert (told["unit"], told["step"], told["rul"], told["reference"]) == ("pump/1 é", 9, 1007.0, 1000.0)
    assert told["contributions"][0]["sensor"] == "sensor_1"
    assert sum(part["steps"] for part in told["contributions"]) + told["unexplained"] == pytest.approx(7, abs=0.02)
    assert platform.get("./drivers/other", 404)["field"] == "unit"


def test_the_plan_puts_the_unit_that_fails_first_into_the_first_slot(platform: Platform) -> None:
    serve_version_2(platform)
    for name, rul in (("ill", 12.0), ("older", 30.0), ("young", 115.0)):
        platform.predict(name, 5, sensor=rul)
    plan = platform.get("./plan", period=10, slots=[1, 1, 0], failure=8, planned=2)
    assert [(work["unit"], work["period"]) for work in plan["work"]] == [("ill", 0), ("older", 1)]
    assert (plan["running"], plan["unknown"], plan["unserved"]) == (1, [], [])
    assert plan["costs"] == {"failure": 8.0, "planned": 2.0}
    assert plan["mean_life"] == platform.server.get("/model").json()["mean_life"]
    assert [each["begins"] for each in plan["periods"]] == [0, 10, 20]
    for key, whole in (("failures", plan["expected"]), ("failures_without_plan", plan["without"])):
        assert sum(each[key] for each in plan["periods"]) == pytest.approx(whole["failures"])
    assert [round(each["removed"]) for each in plan["periods"]] == [1, 1, 0]
    assert plan["learning"]["needed"] == platform.fleet.settings.new_units
    agreed = platform.get("./plan", period=10, slots=[1, 1], agreed=["0:young"])
    assert {work["unit"]: work["period"] for work in agreed["work"]} == {"young": 0, "ill": 1}


@pytest.mark.parametrize(("slots", "length"), [([1, 1], 10), ([1] * 40, 3), ([1] * 125, 1)])
def test_a_period_is_by_default_as_long_as_the_model_sees_to_the_end_of_the_last(
    platform: Platform, slots: list[int], length: int
) -> None:
    served(platform)
    platform.predict("ill", 5)
    assert platform.server.get("/model").json()["metadata"]["cap"] == 125
    assert [each["ends"] for each in platform.get("./plan", slots=slots)["periods"]][:2] == [length, 2 * length]


@pytest.mark.parametrize(
    ("failures", "steps"),
    [([2.0, 6.0, 4.0], 25.0), ([10.0], 10.0), ([0.0, 1.0, 1.0], 150.0), ([0.0, 0.0], None), ([0.0, 10.0], 20.0)],
)
def test_enough_to_learn_from_is_there_where_the_periods_say_so(failures: list[float], steps: float | None) -> None:
    assert until_enough(failures, 10, 10) == steps


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"slots": [1] * 200}, "period"),
        ({"planned": 9, "failure": 3}, "costs"),
        ({"slots": [-1]}, "slots"),
        ({"agreed": ["ill"]}, "agreed"),
        ({"agreed": ["0:nobody"]}, "agreed"),
        ({"failure": "nan"}, "failure"),
        ({"period": 0}, "period"),
    ],
)
def test_what_cannot_be_planned_is_said(platform: Platform, asked: dict[str, object], field: str) -> None:
    served(platform)
    platform.predict("ill", 5)
    assert platform.get("./plan", 422, **asked)["field"] == field


def test_the_commands_print_tables_csv_and_json(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_version_2(platform)
    for name, rul in (("ill", 12.0), ("young", 115.0)):
        platform.predict(name, 5, sensor=rul)
    with platform.listening() as url:
        monkeypatch.setenv("DRIFTLOOP_CONSOLE_URL", url)

        def run(*arguments: str) -> str:
            result = CliRunner().invoke(build(arguments), list(arguments))
            assert result.exit_code == 0, result.output
            return result.output

        assert "ill" in run("plan", "--slots", "1,0", "--period", "20")
        rows = list(csv.DictReader(io.StringIO(run("plan", "--slots", "1", "--period", "20", "--csv"))))
        assert [(row["what"], row["unit"], row["period"]) for row in rows] == [("work", "ill", "0")]
        assert json.loads(run("plan", "--json"))["work"][0]["unit"] == "ill"
        assert "sensor_1" in run("why", "ill")
        refused = CliRunner().invoke(build(["why"]), ["why", "nobody"])
        assert isinstance(refused.exception, DriftloopError)
        assert "no server remembers rows of unit 'nobody'" in str(refused.exception)
