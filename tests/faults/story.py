"""What happens around the fault in every case: traffic, completed runs, and in the end what must be true."""

import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import psutil

from driftloop import durable
from driftloop.embedded import guard
from driftloop.fleet.archive import open_archive
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.model.registry import PRODUCTION
from driftloop_bench.experiment.traffic import Record, failed
from live_platform import LONG_S, Platform, Traffic

RATE, WINDOW = 20.0, 50
"""Requests a second; rows in each, at least as many as the model looks at."""
TIMEOUT_S = 120.0
"""Faults are about lost requests, not about slow ones."""
SETTLED = ("idle", "cooling_down")


class Story:
    """Traffic of `fleet` in front of `platform` while the context lasts, and a book of what was promised."""

    def __init__(self, platform: Platform, fleet: Sequence[Run]) -> None:
        self.platform = platform
        self.traffic = Traffic(platform, fleet, rate=RATE, window=WINDOW, timeout_s=TIMEOUT_S)
        self.acknowledged: dict[str, str] = {}
        """SHA-256 of every run that the retrainer said it had archived."""
        self._outages: list[tuple[float, float]] = []
        self._promoted = _promotions(platform)

    def __enter__(self) -> Self:
        self.traffic.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.traffic.stop()

    # What happens.

    def post(self, runs: Sequence[Run], *, at_once: int = 20) -> None:
        """Send completed runs until every one is acknowledged, as a sender does who gets no answer."""
        for start in range(0, len(runs), at_once):
            some = runs[start : start + at_once]
            body = msgspec.json.encode({"runs": [{"run_id": run.run_id, "rows": run.rows.tolist()} for run in some]})
            self.platform.wait(lambda body=body, some=some: self._posted(body, some), "the runs to be archived")

    def _posted(self, body: bytes, runs: Sequence[Run]) -> bool:
        try:
            answer = self.platform.post("/archive/runs", body)
        except httpx.HTTPError:
            return False
        if answer.status_code != 200:
            return False
        assert set(answer.json()["added"]) | set(answer.json()["known"]) == {run.run_id for run in runs}
        self.acknowledged.update({run.run_id: run.sha256 for run in runs})
        return True

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """The server is away inside, and answers again afterwards: only then may requests fail."""
        before = time.time()
        yield
        self.platform.wait(lambda: self.platform.get("server", "/readyz"), "the server to be back")
        self._outages.append((before, time.time()))

    def until(self, phase: str) -> None:
        """Wait until the loop is in `phase`: a step of the pipeline, or something that follows it."""
        self.platform.wait(lambda: PHASES[phase](self.platform), f"the phase {phase}")

    def settled(self, cause: str = "fleet_change:1") -> dict[str, Any]:
        """Wait until `cause` is decided and nothing more is under way; returns the decision."""
        return dict(self.platform.wait(lambda: _decision(self.platform, cause), f"a decision on {cause}", 2 * LONG_S))

    # What must be true.

    def check(self, *, moved: bool) -> None:
        """Check every invariant; `moved`: whether the alias `production` must have moved, once, to a new version."""
        platform = self.platform
        production = platform.wait(platform.production, "the registry")
        versions = {version.version: version for version in platform.registry.versions()}
        aliases = platform.registry.aliases()
        platform.registry.fetch(production, platform.state.parent / "checked" / production)  # compares the digest
        platform.wait(lambda: platform.served() == production, "the server to serve what is in production")
        answered = self._answers_after_now()
        assert {record.version for record in answered} == {production}
        self.traffic.stop()

        assert (production != "1") == moved
        assert set(aliases) - {"previous"} == {PRODUCTION}
        assert aliases.get("previous") == ("1" if moved else None)
        decisions = {v.version: v.tags.get("decision") for v in versions.values() if v.version != "1"}
        assert all(decision in ("promoted", "rejected", "abandoned") for decision in decisions.values()), decisions
        assert [version for version, decision in decisions.items() if decision == "promoted"] == [production] * moved
        assert all(v.tags.get("decision_reason") for v in versions.values() if v.version != "1")

        self._check_events(production if moved else None)
        self._check_archive()
        lost = [record for record in failed(self.traffic.records) if not self._excused(record)]
        assert not lost, f"{len(lost)} of {len(self.traffic.records)} requests failed, first: {lost[:3]}"
        assert _rests(platform.loop())

    def _answers_after_now(self, count: int = 20) -> list[Record]:
        """The next answers to requests that are sent from now on."""
        now = time.time()
        records = self.traffic.records

        def newest() -> list[Record]:
            return [record for record in records if record.sent > now and record.ok]

        return list(self.platform.wait(lambda: newest() if len(newest()) >= count else None, "answers"))

    def _excused(self, record: Record) -> bool:
        return any(start - TIMEOUT_S <= record.sent <= end and record.answered >= start for start, end in self._outages)

    def _check_events(self, promoted: str | None) -> None:
        events = self.platform.events()
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), "events were lost or repeated"
        # Another verdict may have come in between.
        assert self._events_over_http()[: len(events)] == events
        assert _promotions(self.platform) - self._promoted == Counter([promoted] if promoted else [])
        assert not [event for event in events if event["kind"] == "rolled_back"]
        identities = [event["id"] for event in events if "id" in event]
        assert len(identities) == len(set(identities)), "a report that was sent twice was logged twice"
        # Every retraining ends in something: a failure of its own, a decision, or another start that resumes it.
        runs = [event for event in events if event["kind"] == "retraining_started"]
        for run, following in itertools.zip_longest(runs, runs[1:]):
            ends = [event for event in events if event.get("run") == run["run"] and event["kind"] in ENDS]
            assert ends or (following is not None and following.get("resumed")), f"{run} has no end"

    def _events_over_http(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = self.platform.get("retrainer", f"/events?after={found[-1]['seq'] if found else 0}")
            assert answer is not None
            if not answer["events"]:
                return found
            found += answer["events"]

    def _check_archive(self) -> None:
        archive = open_archive(self.platform.settings.archive_location, SCHEMA)
        for run_id, sha256 in self.acknowledged.items():
            assert archive.read(run_id).sha256 == sha256


ENDS = ("retraining_failed", "promoted", "rejected", "waiting_for_labels")


def _promotions(platform: Platform) -> Counter[str]:
    return Counter(event["model_version"] for event in platform.of_kind("promoted"))


def _rests(status: dict[str, Any]) -> bool:
    """Whether nothing is under way; after a rejection the loop waits for more labels."""
    waits = status.get("state") == "waiting_for_labels" and status["attempt"]["archived"] > 0
    return waits or (status.get("state") in SETTLED and not status["queue"])


def _decision(platform: Platform, cause: str) -> dict[str, Any] | None:
    status = platform.loop()
    if not _rests(status):
        return None
    return next((item for item in reversed(status["history"]) if item["cause"] == cause), None)


def _step(name: str) -> Callable[[Platform], Any]:
    return lambda platform: platform.of_kind("step_started", step=name)


def _alias_moved(platform: Platform) -> bool:
    return platform.production() not in (None, "1")


PHASES: dict[str, Callable[[Platform], Any]] = {
    "collect": _step("collect"),
    "train": _step("train"),
    "evaluate": _step("evaluate"),
    # Between the gate's decision, the pipeline's last word, and the move of the alias.
    "promote": lambda platform: platform.of_kind("gate_decided"),
    # While the gate still judges, or after it.
    "shadow": lambda platform: platform.of_kind("challenger_registered"),
    "awaiting_approval": lambda platform: platform.loop().get("state") == "awaiting_approval",
    "alias_moved": _alias_moved,
    "verifying": lambda platform: platform.loop().get("state") == "verifying",
}


def steps_of(platform: Platform) -> list[int]:
    """The process that runs the pipeline's steps; none where none runs."""
    return processes_with(platform, "driftloop.loop.jobs.driver")


def below(pids: Sequence[int]) -> list[int]:
    """The processes that these have started."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return found


def processes_with(platform: Platform, text: str) -> list[int]:
    """The platform's processes with `text` in their command."""
    found = []
    for pid in guard.marked_processes(str(platform.state)):
        with contextlib.suppress(psutil.Error):
            if text in " ".join(psutil.Process(pid).cmdline()):
                found.append(pid)
    return found


def alert(kind: str = "fleet_change", version: str = "1", since: str | None = None) -> dict[str, Any]:
    """One alert of Alertmanager's webhook."""
    labels = {"alertname": "DriftloopDrift", "model_version": version, "kind": kind, "features": "sensor_11"}
    return {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": "drift", "n": "500", "score": "9"},
        "startsAt": since or durable.now(),
    }


def webhook(*alerts: dict[str, Any]) -> dict[str, Any]:
    """Alertmanager's webhook, version 4."""
    return {"version": "4", "status": "firing", "alerts": list(alerts)}


def state_of_watch(platform: Platform) -> dict[str, Any]:
    """The watch's own durable state; empty where it has none yet."""
    for path in Path(platform.state).rglob("state.json"):
        if path.parent.name == "watch":
            return dict(msgspec.json.decode(path.read_bytes()))
    return {}
