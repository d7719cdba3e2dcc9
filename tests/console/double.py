"""A stand-in for the public API, for what a real platform shows only rarely: nothing at all, errors, ten thousand
units, a person who waits, names that look like markup. It answers in the API's shapes from one `World` that a test may
change.
"""

# ruff: noqa: E501 (tables of made-up answers)

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from driftloop.api.app import HEADERS
from driftloop.api.planning import fitting, shown
from driftloop.console import pages
from driftloop.units.plan.costs import Costs
from driftloop.units.plan.slots import Unit, Wanted, make_plan

BODY = Body()
PAST = {"approve": "approved", "reject": "rejected"}
MARKUP = "<script>alert(1)</script>"
ODD_NAMES = {
    7: MARKUP,
    8: "<b>x",
    9: "محرك-الطائرة-٩",
    10: "press 3 / line B?#%41",
    11: "unbroken" * 24,
    12: "エンジン十二号",
    13: "-",
}
"""What units are called too, by their place in the list; the others are engines with a number."""
FLAGS = ("unseen_regime", "short_history", "held:s11")
SENSORS = ("T24", "T30", "T50", "P30", "Nf", "Nc", "Ps30", "phi", "BPR", "htBleed")


@dataclass
class World:
    """What the double knows of one fleet, and who looks."""

    units: int = 128
    me: dict[str, Any] = field(
        default_factory=lambda: {"name": "anna", "role": "admin", "how": "session", "csrf": "not-a-secret"}
    )
    state: str = "awaiting_approval"
    busy: bool = True
    """Whether anything ever happened: models, events, verdicts."""
    sensors: int = 10
    fleets: tuple[str, ...] = ("cmapss", "pumps")
    broken: set[str] = field(default_factory=set)
    """Ends of paths that are answered with 503."""
    answered: tuple[str, str] | None = None
    """Who answered the approval, and how."""
    champion: str = "3"
    unanswered: int = 0
    """Of a unit's newest steps, those that nothing was predicted for."""
    events: list[dict[str, Any]] = field(default_factory=list)
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    gone: set[str] = field(default_factory=set)
    """Parts of the fleet that do not answer."""
    away: bool = False
    """Whether the stream is refused, as by a proxy while the platform restarts."""
    connections: int = 0
    asked_with: list[str | None] = field(default_factory=list)
    """The Last-Event-ID of each connection to the stream."""

    def tell(self, event: str, **detail: Any) -> None:
        """Something happens."""
        at = time_text(datetime.now(UTC))
        self.events.append({"seq": len(self.events) + 1, "time": at, "event": event, "who": None, **detail})


def time_text(at: datetime) -> str:
    """RFC 3339 with Z."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(seconds: float) -> str:
    """So many seconds before now."""
    return time_text(datetime.now(UTC) - timedelta(seconds=seconds))


def problem(status: int, title: str, detail: str, **more: str) -> JSONResponse:
    """Problem details."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(content, status, media_type="application/problem+json")


def story(world: World) -> None:
    """The events of a recovery that waits for a person."""
    seen = [
        ("alert_firing", 900, {"cause": "fleet_change:3", "model_version": "3"}),
        ("waiting_for_labels", 890, {"cause": "fleet_change:3", "reason": "20 completed runs are needed, 0 are new"}),
        ("first_aid_promoted", 850, {"model_version": "4", "reason": "grown by 2 regimes from 500 requests"}),
        ("runs_archived", 620, {"count": 40, "who": "import"}),
        ("retraining_started", 610, {"cause": "fleet_change:3", "mode": "warm_start"}),
        ("step_started", 605, {"step": "train"}),
        ("gate_decided", 380, {"model_version": "5", "reason": "better on new engines: RMSE 13.10 instead of 38.42"}),
        ("approval_needed", 370, {"model_version": "5", "reason": "a person approves each new model"}),
        ("muted", 200, {"cause": "sensor_fault:3", "who": "ben", "reason": "sensor exchanged on Tuesday"}),
    ]
    for kind, seconds, detail in seen:
        world.tell(kind, **detail)
        world.events[-1]["time"] = ago(seconds)


def unit_name(index: int) -> str:
    """The names are in the order of the lower bound."""
    return ODD_NAMES.get(index, f"engine-{index + 1:05d}")


def unit(index: int, units: int) -> dict[str, Any]:
    """One row of the list."""
    low = 125 * index / units
    width = 12 + 18 * math.sin(index * 1.7) ** 2
    rul = min(125.0, low + width / 2)
    flags = [FLAGS[index % 3]] if index % 11 == 3 else []
    return {
        "unit": unit_name(index), "last_seen": ago(3 + index % 50), "step": 40 + (index * 37) % 180,
        "rul": round(rul, 1), "low": round(low, 1), "high": round(min(125.0, low + width), 1), "flags": flags,
        "version": "3",
    }  # fmt: skip


def create(world: World) -> FastAPI:  # noqa: PLR0915 (a table of routes)
    """The double with the real pages."""
    app = FastAPI()
    app.include_router(pages.router())

    @app.middleware("http")
    async def policy(request: Request, call_next: Any) -> Response:
        path = request.url.path
        if path.startswith("/api/") and any(path.endswith(end) for end in world.broken):
            answer: Response = problem(503, "Service Unavailable", "does not answer (ConnectError)", field="retrainer")
        else:
            answer = await call_next(request)
        answer.headers.update(HEADERS)
        return answer

    def fleet(name: str) -> dict[str, Any]:
        return {
            "name": name, "description": "Turbofan engines (NASA C-MAPSS): 3 settings, 21 sensors", "unit": "engine",
            "step": "cycle", "state": world.state if world.busy else "idle",
            "waits_for": "a person to approve or reject model 5" if world.busy and world.state == "awaiting_approval" else None,
            "champion": world.champion if world.busy else None, "provisional": world.busy and world.champion == "4",
            "verdict": "drift" if world.busy else None, "units": None if "units" in world.gone else world.units, "settings": [], "sensors": [{"name": "T24", "unit": "°R", "description": "total temperature at the outlet of the LPC"}],
            "first_due": {k: unit(0, world.units)[k] for k in ("unit", "rul", "low", "high")} if world.units else None,
            "cap": 125, "least_units": 20, "away": sorted(world.gone),
        }  # fmt: skip

    api = "/api/v1"

    @app.get(f"{api}/me")
    def me() -> dict[str, Any]:
        return world.me

    @app.post(f"{api}/login")
    def login(body: dict[str, str] = BODY) -> Response:
        if body["password"] != "right password":
            return problem(401, "Not signed in", "name or password is wrong")
        world.me = {"name": body["name"], "role": "operate", "how": "session", "csrf": "x"}
        return Response(status_code=204)

    @app.get(f"{api}/fleets")
    def fleets() -> dict[str, Any]:
        return {"fleets": [fleet(name) for name in world.fleets]}

    @app.get(f"{api}/fleets/{{name}}")
    def one(name: str) -> Any:
        if name not in world.fleets:
            return problem(404, "No such fleet", f"there is no fleet {name}; there are {', '.join(world.fleets)}")
        return fleet(name)

    @app.get(f"{api}/fleets/{{name}}/units")
    def units(
        sort: str = "low", order: str = "asc", q: str = "", flag: str = "", offset: int = 0, limit: int = 100
    ) -> Any:
        rows = [unit(index, world.units) for index in range(world.units)]
        flags = Counter(one for row in rows for one in row["flags"])
        found = [row for row in rows if q.lower() in row["unit"].lower() and (not flag or flag in row["flags"])]
        found.sort(key=lambda row: row[sort], reverse=order == "desc")
        return {"total": len(found), "units": found[offset : offset + limit], "flags": flags}

    @app.get(f"{api}/fleets/{{name}}/units/{{unit_id:path}}")
    def one_unit(unit_id: str) -> Any:
        index = next((i for i in range(world.units) if unit_name(i) == unit_id), None)
        if index is None:
            return problem(404, "No such unit", f"no readings of {unit_id} were seen")
        steps = list(range(60, 160))
        expected = [min(125.0, 190 - step + 6 * math.sin(step / 5)) for step in steps]
        wave = [math.sin(step / 3) + 0.6 * math.sin(step / 1.3) for step in steps]
        sensors = [
            {
                "name": name, "unit": "°R" if name.startswith("T") else None,
                "values": [round(642 + w * 0.3 + (i * (i % 3) / 90 if k == 2 else 0), 3) for i, w in enumerate(wave)],
                "low": [641.4 - 0.2 * (step % 6 == 0) for step in steps] if k < 8 else None,
                "high": [642.7 + 0.2 * (step % 6 == 0) for step in steps] if k < 8 else None,
            }
            for k, name in enumerate((*SENSORS, *(f"sensor-{n}" for n in range(len(SENSORS), world.sensors))))
        ]  # fmt: skip
        row = unit(index, world.units)
        return {
            "unit": unit_id, "last_seen": row["last_seen"], "flags": row["flags"], "version": "3", "steps": steps,
            "predictions": [
                {"time": ago(160 - s), "step": s, "rul": round(r, 1), "low": max(0.0, round(r - 13, 1)),
                 "high": min(125.0, round(r + 15, 1)), "flags": [], "version": "3"}
                for s, r in zip(steps[: len(steps) - world.unanswered], expected, strict=False)
            ],
            "sensors": sensors,
        }  # fmt: skip

    @app.get(f"{api}/fleets/{{name}}/drivers/{{unit_id:path}}")
    def drivers(unit_id: str) -> dict[str, Any]:
        steps = [-31.4, -22.0, -9.3, 6.1, -4.4, 0.8, 0.0, 0.0, 0.0, 0.0]
        parts = [
            {"sensor": n, "unit": "°R" if n.startswith("T") else "", "steps": s}
            for n, s in zip(SENSORS, steps, strict=True)
        ]
        return {
            "unit": unit_id, "step": 159, "rul": 41.0, "reference": 101.2, "method": "integrated gradients",
            "contributions": parts, "unexplained": 0.0, "model_version": "3",
        }  # fmt: skip

    @app.get(f"{api}/fleets/{{name}}/plan")
    def plan(
        period: int | None = None,
        failure: float = 5,
        planned: float = 1,
        slots: Annotated[list[int], Query()] = [1],  # noqa: B006
    ) -> Any:
        if planned >= failure:
            return problem(
                422, "Unprocessable Content", "a failure costs more than planned work, or planning cannot pay"
            )
        known = [
            Unit(r["unit"], r["rul"], r["low"], r["high"]) for r in (unit(i, world.units) for i in range(world.units))
        ]
        asked = Wanted(
            costs=Costs(failure, planned), mean_life=205.0, cap=125, period=period or fitting(125, len(slots)),
            slots=tuple(slots), run_on=1,
        )  # fmt: skip
        return {**shown(make_plan(known, asked), asked, 20), "unknown": ["engine-09999"]}

    @app.get(f"{api}/fleets/{{name}}/loop")
    def loop() -> dict[str, Any]:
        if not world.busy:
            return {
                "state": "idle", "since": ago(60), "waits_for": None, "attempt": None, "causes": [], "marks": [],
                "progress": None, "approval": None, "error": None, "estimate": None, "promotion": "automatic",
            }  # fmt: skip
        times = {"T0": 912, "T1": 900, "T_FA": 849, "T2": 610}
        if world.answered and world.answered[1] == "approve":
            times |= {"T_RT": 30, "T4": 29}
        waiting = world.state == "awaiting_approval"
        return {
            "state": world.state, "since": ago(370),
            "waits_for": "a person to approve or reject model 5" if waiting else None,
            "attempt": {"cause": "fleet_change:3", "mode": "warm_start", "challenger": "5", "started_at": ago(610)},
            "causes": [
                {"cause": "fleet_change:3", "since": ago(900), "muted_until": None},
                {"cause": "sensor_fault:3", "since": ago(300), "muted_until": time_text(datetime.now(UTC) + timedelta(hours=4)),
                 "who": "ben", "reason": "sensor exchanged on Tuesday"},
            ],
            "marks": [{"mark": m, "time": ago(times[m]) if m in times else None, "event": None}
                      for m in ("T0", "T1", "T_FA", "T2", "T_RT", "T4", "T5")],
            "progress": {"step": "train", "done": 17, "of": 40, "loss": 0.0213, "seconds_left": 95}
            if world.state == "running" else None,
            "approval": waiting_approval() if waiting else None,
            "error": {"rmse": 13.4, "coverage": 0.91, "units": 42},
            "schedules": [{"name": "stale", "act": "overdue", "every_s": 60, "cron": None, "next": ago(-60), "last": ago(1),
                           "days": 30, "firing": True, "who": "ben"}, {"name": "monday", "act": "retrain", "every_s": None, "cron": "0 3 * * 1", "next": ago(-86_400),
                           "last": None, "mode": "warm", "who": "anna"}],
            "estimate": {"rmse": 31.2, "low": 24.0, "high": 39.5, "known": True}, "promotion": "approve",
        }  # fmt: skip

    def waiting_approval() -> dict[str, Any]:
        return {
            "id": "5-1a2b3c4d", "version": "5", "champion": world.champion, "since": ago(370),
            "deadline": time_text(datetime.now(UTC) + timedelta(hours=8)), "after_deadline": "wait",
            "reasons": ["better on new engines: RMSE 13.10 instead of 38.42 (bound of the difference -22.31, below 0)",
                        "not worse on old engines: RMSE 12.61 instead of 12.48 (bound +0.61, +1.87 allowed)"],
        }  # fmt: skip

    @app.get(f"{api}/fleets/{{name}}/schedules")
    def schedules() -> dict[str, Any]:
        return {"schedules": loop().get("schedules", [])}

    @app.get(f"{api}/fleets/{{name}}/verdict")
    def verdict() -> dict[str, Any]:
        if not world.busy:
            return {
                "verdict": None,
                "since": None,
                "requests": 0,
                "features": [],
                "sensor_faults": [],
                "false_alarms": None,
                "as_of": None,
                "silent": False,
            }
        features = [
            {"name": name, "psi": round(2.4 / (1 + k) ** 1.4, 3), "threshold": 0.31, "score": 8 / (1 + k) ** 1.4,
             "drifted": 8 / (1 + k) ** 1.4 > 1,
             "blamed": k < 2}
            for k, name in enumerate(("setting_1", "setting_2", *SENSORS))
        ]  # fmt: skip
        return {
            "verdict": "drift", "since": ago(900), "requests": 500, "features": features, "false_alarms": {"requests_per_false_alarm": 200_000},
            "sensor_faults": [{"sensor": "T30", "what": "has said 1580.23 for 41 readings"}],
            "as_of": ago(200 if "watch" in world.gone else 2), "silent": "watch" in world.gone,
        }  # fmt: skip

    @app.get(f"{api}/fleets/{{name}}/models")
    def models(offset: int = 0, limit: int = 50) -> dict[str, Any]:
        found = [model(version) for version in ("5", "4", "3", "2", "1")] if world.busy else []
        return {"total": len(found), "models": found[offset : offset + limit]}

    def model(version: str) -> dict[str, Any]:
        kinds = {
            "1": ("full", None),
            "2": ("warm", "1"),
            "3": ("warm", "1"),
            "4": ("first aid", "3"),
            "5": ("warm", "3"),
        }
        reasons = {"2": ["not shown to be better on new engines: RMSE 14.90 instead of 14.72"],
                   "5": waiting_approval()["reasons"], "4": ["grown by 2 regimes from 500 requests"]}  # fmt: skip
        kind, parent = kinds[version]
        states = {"1": "archived", "2": "rejected", "3": "previous", "4": "archived", "5": "challenger"}
        return {
            "version": version, "alias": ["production"] if version == world.champion else [], "created": ago(90_000 / int(version)),
            "kind": kind, "parent": parent, "state": "champion" if version == world.champion else states[version],
            "figures": {"rmse": 13.1 - int(version) / 10, "coverage": 0.9}, "reasons": reasons.get(version, []),
        }  # fmt: skip

    @app.get(f"{api}/fleets/{{name}}/models/{{version}}")
    def one_model(version: str) -> dict[str, Any]:
        return {
            **model(version), "learnt_from": {"runs": 180 + 20 * int(version)},
            "by_domain": [{"domain": "old", "rmse": 12.61, "champion_rmse": 12.48, "coverage": 0.903, "units": 15},
                          {"domain": "new", "rmse": 13.10, "champion_rmse": 38.42, "coverage": 0.88, "units": 12}]
            if version == "5" else [],
            "compared_with": "3" if version == "5" else None,
            "gate": [{"what": "RMSE on new units", "challenger": 13.1, "champion": 38.42, "difference": [-28.1, -22.31], "limit": 0.0, "passed": True},
                     {"what": "RMSE on old units", "challenger": 12.61, "champion": 12.48, "difference": [-0.4, 0.61], "limit": 1.87, "passed": True}]
            if version == "5" else [],
            "shadow": {"answers": 100, "passed": True, "reasons": [], "note": None, "p99_ms": {"champion": 0.31, "challenger": 0.33},
                       "differences": [{"by": "all", "group": "all", "answers": 100, "mean": -21.4, "mean_absolute": 23.9},
                                       {"by": "age", "group": "0 to 50", "answers": 42, "mean": -9.8, "mean_absolute": 11.2}]}
            if version == "5" else None,
        }  # fmt: skip

    @app.get(f"{api}/fleets/{{name}}/runs")
    def runs(role: str = "", q: str = "", offset: int = 0, limit: int = 100) -> dict[str, Any]:
        if not world.busy:
            return {"total": 0, "roles": {}, "runs": [], "refused": []}
        names = ("train", "train", "train", "calibrate", "gate", "early_stop", "live")
        found = [
            {"run_id": f"FD001-{index:03d}", "role": names[index % 7], "rows": 140 + (index * 53) % 200, "censored": index % 17 == 0,
             "withdrawn": {"time": ago(4000), "reason": "test bench, not in service"} if index == 5 else None}
            for index in range(1, 261)
        ]  # fmt: skip
        roles = {name: sum(row["role"] == name for row in found) for name in dict.fromkeys(names)}
        found = [row for row in found if q in row["run_id"] and role in ("", row["role"])]
        refused = [{"time": ago(7000), "count": 2, "runs": ["FD001-900", "FD001-901"]}]
        return {"total": len(found), "roles": roles, "runs": found[offset : offset + limit], "refused": refused}

    @app.post(f"{api}/fleets/{{name}}/runs/withdraw")
    def withdraw(body: dict[str, Any] = BODY) -> dict[str, Any]:
        world.tell("runs_withdrawn", count=len(body["runs"]), who=world.me["name"], reason=body["reason"])
        return {}

    @app.get(f"{api}/fleets/{{name}}/events")
    def events(q: str = "", event: str = "", before: int | None = None, limit: int = 100) -> dict[str, Any]:
        found = [
            e
            for e in world.events
            if (f"-{e['event']}" != event if event.startswith("-") else event in ("", e["event"]))
            and q.lower() in json.dumps(e).lower()
        ]
        found = [e for e in found if before is None or e["seq"] < before]
        return {"events": found[-limit:], "first": 1 if world.events else None, "last": len(world.events)}

    @app.get(f"{api}/events/stream")
    async def stream(request: Request, fleet: str = "") -> Response:
        world.asked_with.append(request.headers.get("last-event-id"))
        if world.away:
            return problem(502, "Bad gateway", "the platform restarts")
        last = request.headers.get("last-event-id")
        known = int(last.rpartition(":")[2]) if last else len(world.events)

        async def told() -> AsyncIterator[str]:
            sent, cut = known, world.cut
            world.connections += 1
            try:
                yield ": hello\n\n"
                while not cut.is_set():
                    for event in world.events[sent:]:
                        yield f"id: {fleet}:{event['seq']}\nevent: event\ndata: {json.dumps(event)}\n\n"
                    sent = len(world.events)
                    await asyncio.sleep(0.03)
            finally:
                world.connections -= 1

        return StreamingResponse(told(), media_type="text/event-stream")

    @app.post(f"{api}/fleets/{{name}}/approvals/{{key}}/{{answer}}")
    def approve(answer: str, body: dict[str, Any] = BODY) -> Any:
        if world.me["role"] not in ("operate", "admin"):
            return problem(403, "Not allowed", "this needs the role operate; yours is view")
        if world.answered:
            who, how = world.answered
            return problem(409, "Already answered", f"model 5 was {PAST[how]} by {who}: looks right to me")
        world.answered = (world.me["name"], answer)
        world.state, world.champion = "verifying", "5" if answer == "approve" else world.champion
        world.tell("approval_answered", who=world.me["name"], model_version="5", reason=body["reason"])
        return {}

    @app.post(f"{api}/fleets/{{name}}/models/{{act}}")
    def change_models(act: str, body: dict[str, Any] = BODY) -> Any:
        if act != "rollback":
            return problem(404, "No such act", act)
        if body["from_version"] != world.champion:
            return {"model_version": world.champion, "from_version": body["from_version"], "already": True}
        world.champion = "3"
        world.tell("rolled_back", who=world.me["name"], model_version="3", reason=body["reason"])
        return {"model_version": "3", "from_version": "5", "already": False}

    @app.get(f"{api}/platform")
    def platform() -> dict[str, Any]:
        names = [("console", None, 8400), ("mlflow", None, 5000), ("server", "cmapss", 8000), ("retrainer", "cmapss", 8100),
                 ("watch", "cmapss", None)]  # fmt: skip
        return {
            "version": "0.2.0", "started": ago(5000), "fleets": ["cmapss", "pumps"], "telemetry": None,
            "components": [
                {"name": name, "fleet": of, "state": "down" if name == "watch" else "ready", "since": ago(4990),
                 "address": f"http://127.0.0.1:{port}" if port else None, "memory_bytes": 180_000_000, "restarts": 0,
                 "message": "ended with code 1; starts again in 2 s" if name == "watch" else None}
                for name, of, port in names
            ],
        }  # fmt: skip

    @app.get(f"{api}/tokens")
    def tokens() -> Any:
        if world.me["role"] != "admin":
            return problem(403, "Not allowed", "this needs the role admin")
        return {"tokens": [{"name": "gateway", "role": "predict", "created": ago(400_000), "expires": None}]}

    @app.post(f"{api}/tokens", status_code=201)
    def add_token(body: dict[str, Any] = BODY) -> dict[str, Any]:
        return {"name": body["name"], "role": body["role"], "token": "drift-0123456789"}

    @app.get(f"{api}/audit")
    def audit() -> dict[str, Any]:
        return {"entries": [{"seq": 1, "time": ago(200), "service": "console", "who": "ben", "role": "operate", "how": "session",
                             "address": "10.0.0.7", "act": "POST /api/v1/fleets/cmapss/causes/sensor_fault:3/mute", "outcome": "done: 200"}]}  # fmt: skip

    return app
