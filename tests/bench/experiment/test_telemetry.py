"""An experiment through telemetry: a fleet behind a gateway, a recovery by failures alone, and what is told of it."""

import json
import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop.fleet.fleet_file import read as read_fleet
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop_bench.experiment import labels
from driftloop_bench.experiment.commands import succeeded
from driftloop_bench.experiment.gateway import UNANSWERED, Gateway, Stock
from driftloop_bench.experiment.recording import Plan
from driftloop_bench.experiment.recovery import SIMULATED
from driftloop_bench.experiment.run import run_experiment
from driftloop_bench.experiment.traffic import Change, Record, SentEngine, encode, read_records
from driftloop_bench.experiment.watching import Observer

from .conftest import FakePlatform

PLAN = Plan(rate=800, healthy_s=0.2, healthy_timeout_s=20, timeout_s=60, answers=300, units=10)


class FakeService(FakePlatform):
    """Keeps rows and answers them; after `enough` failures of the new fleet it recovers."""

    def __init__(self, enough: int = 3) -> None:
        super().__init__()
        self.enough = enough
        self.rows: dict[str, list[int]] = {}
        self.history: Counter[str] = Counter()
        self.failed: list[str] = []
        self.answers: list[dict[str, Any]] = []
        self.old: set[str] = set()
        self.refuses = ""

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/telemetry", self.telemetry)
        app.router.add_post("/units/{unit}/events", self.tell)
        app.router.add_get("/predictions", self.predictions)
        app.router.add_get("/units", self.listed)

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response({"last_event": len(self.events), "steps_waiting": 0, "units_behind": 0})

    async def telemetry(self, request: web.Request) -> web.Response:
        self.tokens.add(request.headers.get("Authorization"))
        body = await request.json()
        assert body["columns"] == ["unit", "cycle", *SCHEMA.columns]
        if self.refuses:
            problems = [{"row": 0, "field": "unit", "message": self.refuses}]
            return web.json_response({"refused": len(body["rows"]), "problems": problems})
        for unit, cycle, *values in body["rows"]:
            assert unit not in self.failed
            assert len(values) == SCHEMA.n_columns
            self.rows.setdefault(unit, []).append(cycle)
            if "backfill" in request.query:
                self.history[unit] += 1
            else:
                self.answer(unit, cycle)
        return web.json_response({"refused": 0, "problems": []})

    def answer(self, unit: str, step: int) -> None:
        said = {"rul": 50.0, "low": 0.0, "high": 125.0, "flags": [], "version": self.version, "made": durable.now()}
        self.answers.append({"unit": unit, "step": step, **said})
        if len(self.answers) % 50 == 0:
            self.verdict("no_drift" if self.version == "2" or not self.new() else "drift", 0.5)
        if self.new() and not self.promote_at:
            self.promote_at = 1
            self.event("alert_firing", model_version="1", starts_at=durable.now(), features=["sensor_11"])
            self.event("first_aid_refused", reason="nobody is old enough")

    def new(self) -> list[str]:
        """The units of the new fleet: those that came after the change was told of."""
        if not any(event["kind"] == "fleet_changed" for event in self.events):
            self.old = set(self.rows)
        return [unit for unit in self.rows if unit not in self.old]

    async def tell(self, request: web.Request) -> web.Response:
        unit, event = request.match_info["unit"], await request.json()
        assert event["kind"] == "failed"
        self.failed.append(unit)
        self.event("runs_archived", count=1)
        if len(set(self.new()) & set(self.failed)) == self.enough and self.version == "1":
            self.event("retraining_started", model_version="1")
            self.event("promoted", model_version="2", from_version="1")
            self.version = "2"
        return web.json_response({}, status=201)

    async def listed(self, _: web.Request) -> web.Response:
        return web.json_response({"total": 0, "units": []})

    async def predictions(self, request: web.Request) -> web.Response:
        after = int(request.query["after"])
        found = self.answers[after : after + 1000]
        return web.json_response({"predictions": found, "next": after + len(found)})


async def test_labels_come_from_failures_alone(tmp_path: Path) -> None:
    service = FakeService()
    async with service.running(tmp_path) as configured:
        recording = await run_experiment(PLAN, configured, Observer())
    assert recording.ended_by == "recovered"
    assert service.runs == []
    assert service.tokens == {"Bearer a token of sufficient length"}

    # Every unit sent its rows one after the other, told of its failure behind the last one, and made room for another.
    assert all(cycles == list(range(1, len(cycles) + 1)) for cycles in service.rows.values())
    assert [failure.unit for failure in recording.failures] == service.failed
    assert len(set(service.failed)) == len(service.failed)
    # Traffic may end between a failure and the first row of the unit that took its place.
    silent = PLAN.units + len(service.failed) - len(service.rows)
    assert 0 <= silent < PLAN.units
    assert sum(service.history.values()) > 0
    assert not set(recording.changed) & set(service.history)
    for unit in service.failed:
        lived = recording.changed.get(unit) or recording.healthy[unit.partition(".")[0]]
        assert len(service.rows[unit]) == len(lived.encoded)
    assert len(recording.records) == sum(map(len, service.rows.values())) - sum(service.history.values())
    assert all(record.ok for record in recording.records)

    outcome = labels.assess(recording)
    assert succeeded(outcome)
    # This service archives before it acknowledges a failure, which is noted when that was read.
    assert outcome.marks.first_failure >= outcome.marks.t0
    # What the service writes, it writes in whole milliseconds.
    kept = [name for name in labels.NAMES if name not in ("t_fa", "first_failure")]
    marks = [math.floor(getattr(outcome.marks, name) * 1000) for name in kept]
    assert marks == sorted(marks)
    assert outcome.metrics["missing"] == {"t_fa": "first aid was refused: nobody is old enough"}
    assert outcome.metrics["failed_units_changed_at_labels_enough"] <= service.enough
    assert outcome.metrics["decisions"] == ["first_aid_refused", "promoted"]
    paths = labels.write(outcome, tmp_path / "results")
    metrics = json.loads(paths[0].read_text())
    told = (Path(__file__).parents[3] / "docs" / "units.md").read_text()
    assert [name for name in metrics if f"`{name}`" not in told] == []
    assert metrics["steps_per_s_of_a_unit"] == 80
    assert metrics["note"] == SIMULATED
    assert SIMULATED in paths[1].read_text()
    assert "{" not in paths[1].read_text()
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert read_records(paths[3]) == recording.records
    labels.table(outcome)


async def test_rows_that_are_refused_end_the_experiment_with_the_reason(tmp_path: Path) -> None:
    service = FakeService()
    service.refuses = "is of another fleet"
    async with service.running(tmp_path) as configured:
        with pytest.raises(DriftloopError, match="is of another fleet"):
            await run_experiment(PLAN, configured, Observer())


@pytest.mark.parametrize(
    ("change", "said"), [(Change("bias"), "tried through predict"), (Change("stuck"), "tried through predict")]
)
async def test_what_cannot_go_through_telemetry_is_said_before_anything_is_sent(
    change: Change, said: str, tmp_path: Path
) -> None:
    service = FakeService()
    async with service.running(tmp_path) as configured:
        with pytest.raises(DriftloopError, match=said):
            await run_experiment(replace(PLAN, change=change), configured, Observer())
        (tmp_path / "clock.toml").write_text(
            'name = "pumps"\nunit_column = "pump"\n[time]\ncolumn = "at"\nkind = "timestamp"\nevery = "10s"\n'
            '[[sensors]]\nname = "pressure"\n'
        )
        assert read_fleet(tmp_path / "clock.toml").time.kind == "timestamp"
        clock = configured.model_copy(update={"fleet": str(tmp_path / "clock.toml")})
        with pytest.raises(DriftloopError, match="no counter"):
            await run_experiment(PLAN, type(configured)(**clock.model_dump(include={"fleet", "state_dir"})), Observer())
    assert not service.rows


# The gateway by itself.


class Memory:
    """A service that acknowledges when it is told to."""

    url = "memory"

    def __init__(self) -> None:
        self.rows: list[tuple[str, int]] = []
        self.failed: list[str] = []
        self.silent = False

    async def send_rows(self, _: list[str], rows: list[bytes]) -> None:
        found = [json.loads(row) for row in rows]
        assert len({row[0] for row in found}) == len(found)
        self.rows += [(row[0], row[1]) for row in found]

    async def fail(self, unit: str) -> None:
        self.failed.append(unit)

    async def predictions(self, after: int) -> dict[str, Any]:
        answered = [] if self.silent else self.rows
        said = {"rul": 1.0, "low": None, "high": None, "flags": [], "version": "1", "made": durable.now()}
        found = [{"unit": unit, "step": step, **said} for unit, step in answered[after:]]
        return {"predictions": found, "next": after + len(found)}


def engines(name: str, lives: list[int]) -> list[SentEngine]:
    return [encode(Run(f"{name}{at}", np.full((rows, SCHEMA.n_columns), 1.5))) for at, rows in enumerate(lives)]


def gateway(service: Memory, records: list[Record], changed: list[SentEngine], share: float = 1.0) -> Gateway:
    taken = {"old1", "new0"}
    healthy = Stock(engines("old", [5, 7, 9]), random.Random(1), changed=False, again=True, taken=taken)
    new = Stock(changed, random.Random(2), changed=True, again=False, taken=taken)
    return Gateway(
        service, SCHEMA, healthy, new, places=4, rate=1e6, share=share, seed=0, records=records,  # type: ignore[arg-type]
    )  # fmt: skip


async def turns(found: Gateway, count: int) -> None:
    for _ in range(count):
        await found._send(2, 0.0)
    await found.read_all(0.0)


async def test_units_of_the_old_fleet_come_again_under_other_names_and_those_of_the_new_one_never() -> None:
    service, records = Memory(), list[Record]()
    found = gateway(service, records, engines("new", [3, 4]))
    await turns(found, 40)
    assert not any(record.changed for record in records)
    assert {unit.partition(".")[0] for unit in service.failed} == {"old0", "old1", "old2"}
    assert len(set(service.failed)) == len(service.failed) > 3
    found.change_now()
    await turns(found, 200)
    # A name that the service knew before is another unit's.
    assert {unit for unit, _ in service.rows if unit.startswith("new")} == {"new0.2", "new1"}
    assert "old1" not in service.failed
    assert [failure.unit for failure in found.failures] == service.failed
    assert found.empty
    assert all(record.ok for record in records)
    assert records[-1].true_rul == 0


async def test_a_share_of_those_who_follow_are_new() -> None:
    found = gateway(Memory(), [], engines("new", [3] * 400), share=0.25)
    found.change_now()
    await turns(found, 3000)
    share = sum(failure.changed for failure in found.failures) / len(found.failures)
    assert 0.15 < share < 0.35


async def test_a_unit_sends_nothing_while_its_last_row_is_out() -> None:
    service, records = Memory(), list[Record]()
    found = gateway(service, records, [])
    for place in found.places:
        place.out = True
    await found._send(4, 0.0)
    assert (service.rows, found.held_back) == ([], 4)


async def test_a_row_without_an_answer_says_so() -> None:
    service, records = Memory(), list[Record]()
    service.silent = True
    await turns(gateway(service, records, []), 3)
    assert {record.error for record in records} == {UNANSWERED}
    assert not any(record.ok for record in records)
