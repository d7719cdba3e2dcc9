"""The retrainer over HTTP: alerts, completed runs, events, and what people may ask for by hand.

Bodies are read and decoded here rather than by FastAPI, so that they are bounded, decoded once, and refused with
the name of the field; their schemas for the OpenAPI document are made from the same types.
"""

import fcntl
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI, Response
from fastapi.concurrency import run_in_threadpool

from driftloop import __version__, documentation
from driftloop.access.audit import Audit
from driftloop.access.doors import LOOKING, Door
from driftloop.access.guard import Guard, plainly
from driftloop.access.roles import PROBES
from driftloop.errors import DataError, DriftloopError, ExitCode
from driftloop.fleet.archive import Archive, RunConflict, open_archive
from driftloop.fleet.roles import ROLES
from driftloop.loop import migration, schedules, status
from driftloop.loop.api import answered, bodies, events, people, posts
from driftloop.loop.api.doors import Doors
from driftloop.loop.api.metrics import Metrics
from driftloop.loop.calendar import Calendar, LiveError
from driftloop.loop.feedback import Conflict, FeedbackLog
from driftloop.loop.inbox import Inbox
from driftloop.loop.jobs.choice import choose_backend
from driftloop.loop.jobs.local import Backend
from driftloop.loop.judge import withdrawal
from driftloop.loop.judge.concept import ConceptWatch
from driftloop.loop.worker import Worker
from driftloop.model.registry import Registry
from driftloop.notify.teller import Teller
from driftloop.protocol import alerts
from driftloop.protocol.problems import refusal
from driftloop.protocol.progress import Progress
from driftloop.protocol.roles import Role
from driftloop.settings import Settings, load


class Service:
    """The parts of a running retrainer, and the thread that works."""

    def __init__(self, settings: Settings, *, backend: Backend | None = None) -> None:
        folder = settings.state_dir / "loop"
        self.settings = settings
        self._lock = _lock(folder)
        self.registry = Registry(settings.mlflow_url, settings.model)
        self.archive: Archive = open_archive(settings.archive_location, settings.schema)
        self.doors = Doors(self.archive)
        self.store = migration.open_store(folder, settings.keep_events)
        self.feedback = FeedbackLog(self.store)
        self.concept = ConceptWatch(
            folder / "concept", self.registry, self.archive, self.feedback, self.store, settings.schema
        )
        self.worker = Worker(
            settings,
            folder,
            self.store,
            self.registry,
            self.archive,
            backend or choose_backend(settings, folder / "pipelines"),
            changed_runs=self.concept.changed_runs,
        )
        self.inbox = Inbox(self.worker)
        self.calendar = Calendar(self.worker, self._live_error)
        self.teller = Teller(
            self.store,
            settings.notify_file,
            settings.schema.name,
            settings.docs_url,
            cool_down_s=settings.notify_cool_down_s,
            muted=lambda cause: schedules.is_muted(self.store.state.muted, cause, self.worker.clock()),
        )
        self.metrics = Metrics(self.worker, self.archive, self.concept)
        self._threads = [
            threading.Thread(target=self.worker.work, name="worker", daemon=True),
            threading.Thread(target=self.concept.work, args=(self.inbox,), name="concept-watch", daemon=True),
            threading.Thread(target=self.calendar.work, name="calendar", daemon=True),
            threading.Thread(target=self.teller.work, name="teller", daemon=True),
        ]

    @property
    def alive(self) -> bool:
        """Whether the worker and what works beside it do."""
        return all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Start the worker and what works beside it."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the worker and whatever it runs; what was under way goes on at the next start."""
        self.concept.stop()
        self.calendar.stop()
        self.teller.stop()
        self.worker.stop()
        for thread in self._threads:
            thread.join(timeout=10)
        self.registry.close()
        self.store.close()
        os.close(self._lock)

    def _live_error(self) -> LiveError | None:
        """How wrong the model in production is: by completed engines where there are any."""
        live, estimate = self.concept.live_rmse(), self.worker.look.estimate
        if live is not None:
            return LiveError(*live, "live")
        if estimate is None or estimate[1].rmse is None:
            return None
        return LiveError(estimate[0], estimate[1].rmse, "estimated")

    def _estimate(self) -> dict[str, Any] | None:
        """The estimate from traffic, beside what completed engines say where there are any."""
        found, live = self.worker.look.estimate, self.concept.live_rmse()
        if found is None:
            return None
        version, estimate = found
        shown: dict[str, Any] = {"model_version": version, **msgspec.to_builtins(estimate)}
        if live is None or live[0] != version or estimate.low is None or estimate.high is None:
            return {**shown, "live": None}
        return {**shown, "live": {"rmse": live[1], "inside": estimate.low <= live[1] <= estimate.high}}

    def add_runs(self, body: bytes) -> dict[str, Any]:
        """Archive completed runs, all or none, and tell the loop."""
        arrived = bodies.runs(body, self.archive.schema)
        try:
            self._refuse_doubtful(arrived)
            if arrived.only_check:
                return {"added": [], "known": []}
            kept = self.archive.keep(arrived.runs)
        except RunConflict as error:
            raise refusal(409, "runs", str(error)) from error
        except DataError as error:
            raise refusal(503, "archive", str(error)) from error
        self.feedback.add_runs(one.run_id for one, run in zip(kept, arrived.runs, strict=True) if not run.censored)
        pairs = list(zip(arrived.runs, kept, strict=True))
        new = [run.run_id for run, one in pairs if one.is_new]
        known = [run.run_id for run, one in pairs if not one.is_new]
        same = {run.run_id: one.run_id for run, one in pairs if one.run_id != run.run_id}
        roles = _counts(self.archive.roles_of(new).values()) if new else {}
        told = [{"kind": "runs_archived", "count": len(new), "roles": roles}] if new else []
        # Also where all were known: whoever got no answer sends them again, and the loop may not have heard of them.
        self.inbox.on_runs(new, *told)
        answer: dict[str, Any] = {"added": new, "known": known}
        if same:
            answer["same_as"] = same
        return answer

    def deal_roles(self, body: bytes) -> dict[str, Any]:
        """Deal and write down the roles of units, whose runs need not be archived yet."""
        posted = bodies.decode(body, bodies.PostedUnits)
        unknown = sorted(posted.least.keys() - ROLES.keys())
        if unknown:
            raise refusal(422, "least", f"there is no role {unknown[0][:40]!r}; there are {', '.join(ROLES)}")
        least = self.archive.schema.least | posted.least
        try:
            known = status.known_roles(self.worker)
            return {"roles": self.archive.deal(posted.run_ids, known=known, least=least, always=True)}
        except DataError as error:
            raise refusal(503, "archive", str(error)) from error

    def withdraw(self, body: bytes) -> dict[str, Any]:
        """Take runs back, and say which versions have learnt from them."""
        posted = bodies.decode(body, bodies.PostedWithdrawal)
        if not posted.runs and not posted.sha256:
            raise refusal(422, "runs", "names no run")
        try:
            chosen = sorted({*posted.runs, *self.archive.archived_as(posted.sha256).values()})
            if not chosen:
                raise refusal(404, "sha256", "none of these runs is archived")
            gone = self.archive.withdraw(chosen, posted.reason)
        except DataError as error:
            if error.exit_code == ExitCode.MISSING:
                raise refusal(404, "runs", str(error)) from error
            raise refusal(503, "archive", str(error)) from error
        affected = withdrawal.affected(self.registry, chosen)
        if gone:
            self.store.append(
                "runs_withdrawn",
                count=len(gone),
                runs=gone[:100],
                reason=posted.reason or None,
                versions=list(affected.versions),
            )
            self.concept.on_withdrawn()
        return {"withdrawn": gone, "before": sorted(set(chosen) - set(gone)), **affected.plain()}

    def _refuse_doubtful(self, arrived: bodies.Arrived) -> None:
        """Raise Problem where runs do not look like ones that have failed, and nobody says that they did."""
        doubts = self.doors.doubts(arrived.runs, arrived.confirmed)
        if not doubts:
            return
        self.store.append("runs_refused", count=len(doubts), runs=[doubt.run_id for doubt in doubts[:100]])
        first, unit = doubts[0], self.archive.schema.unit
        at = [run.run_id for run in arrived.runs].index(first.run_id)
        more = f"; {len(doubts) - 1} more of {len(arrived.runs)} runs are doubtful too" if len(doubts) > 1 else ""
        raise refusal(
            422,
            f"runs[{at}]",
            f"run {first.run_id} does not look like the life of a failed {unit}: {first.reason}{more} (if they did "
            'fail, say so: "confirmed": true, or `driftloop archive add --failed`; if they were taken out before, '
            '"censored": true, or `--censored`)',
        )

    def add_feedback(self, body: bytes) -> dict[str, Any]:
        """Take true RULs of answered predictions, all or none; on disk when this returns."""
        found = answered.outcomes(body, self.settings.state_dir / "inference")
        try:
            new = self.feedback.add(found)
        except Conflict as error:
            raise refusal(409, "outcomes", str(error)) from error
        return {"added": new, "known": len(found) - new}

    def status(self) -> dict[str, Any]:
        """Everything a person wants to know about the loop, and what completed engines say of the model."""
        return {
            **status.status(self.worker),
            "concept": self.concept.status(),
            **self.concept.promise(),
            "estimate": self._estimate(),
            "notify": self.teller.shown(),
        }

    def add_event(self, body: bytes) -> dict[str, Any]:
        """Log what the watch or a pipeline step reports, and tell the loop."""
        return {"seq": self.inbox.on_event(bodies.event(body))["seq"]}

    def take_progress(self, body: bytes) -> dict[str, Any]:
        """Take notice of how far a step is."""
        self.inbox.on_progress(bodies.decode(body, Progress))
        return {}

    def take_alerts(self, body: bytes) -> dict[str, Any]:
        """Take a webhook; every alert of ours in it is on disk when this returns, and the others are named.

        Alertmanager does not repeat what is refused: one alert that cannot be used must not take others with it.
        """
        try:
            found = alerts.read_webhook(body, self.settings.schema.name)
        except alerts.Unusable as error:
            raise refusal(422, error.where or "body", error.what) from error
        try:
            taken = [{"cause": str(each.cause), "result": self.inbox.on_alert(each)} for each in found.ours]
        except DataError as error:
            raise refusal(503, "archive", str(error)) from error
        others = [{"field": other.where, "message": other.what} for other in found.others]
        return {"alerts": taken, **({"others": others} if others else {})}


def create_app(settings: Settings | None = None, *, backend: Backend | None = None) -> FastAPI:
    """The retrainer's application; its worker lives as long as the application does."""
    config = settings or load()
    service = Service(config, backend=backend)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await run_in_threadpool(service.stop)

    app = FastAPI(
        title="driftloop retrainer",
        version=__version__,
        summary="Alerts and completed runs in, better models out.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    bodies.handle_errors(app)
    _add_posts(app, service)
    _add_gets(app, service)
    events.add(app, service.store)
    app.router.routes += documentation.routes("/docs")
    app.add_middleware(
        Guard,
        door=Door(config),
        audit=Audit(config.access_folder, "retrainer"),
        needs=needs,
        refuse=plainly,
        quiet=("/alerts", "/events", "/progress"),
    )
    return app


def needs(method: str, path: str) -> Role | None:
    """The role that each request needs: nothing for what probes and Prometheus ask."""
    if path in PROBES:
        return None
    return "view" if method in LOOKING else "operate"


def _add_posts(app: FastAPI, service: Service) -> None:
    config = service.settings

    def post(path: str, body: Any, limit: int, act: Callable[[bytes], Any], about: str) -> None:
        posts.add(app, path, body, limit, lambda asked: act(asked.body), about)

    post("/alerts", alerts.Webhook, bodies.MAX_SMALL_BODY, service.take_alerts, "Alertmanager's webhook, version 4")
    posted_runs = bodies.posted_runs(config.schema)
    post("/archive/runs", posted_runs, config.max_archive_bytes, service.add_runs, "Archive completed runs")
    post("/archive/roles", bodies.PostedUnits, config.max_archive_bytes, service.deal_roles, "Deal the roles of units")
    post("/archive/withdraw", bodies.PostedWithdrawal, bodies.MAX_SMALL_BODY, service.withdraw, "Take runs back")
    post("/feedback", bodies.PostedFeedback, bodies.MAX_SMALL_BODY, service.add_feedback, "Tell the true RUL")
    post("/events", None, bodies.MAX_SMALL_BODY, service.add_event, "Report an event")
    post("/progress", Progress, bodies.MAX_SMALL_BODY, service.take_progress, "Tell how far a pipeline's step is")
    people.add(app, service.worker, service.calendar)


def _add_gets(app: FastAPI, service: Service) -> None:
    @app.get("/archive/runs", responses=bodies.UNAVAILABLE)
    def archived() -> dict[str, Any]:
        """The archived runs, sorted by id."""
        try:
            roles = service.archive.roles_of(service.archive.run_ids())
        except DataError as error:
            raise refusal(503, "archive", str(error)) from error
        return {"runs": [{"run_id": run_id, "role": role} for run_id, role in roles.items()]}

    @app.get("/archive/roles", responses=bodies.UNAVAILABLE)
    def dealt() -> dict[str, Any]:
        """The roles that were dealt; of any other unit the hash of its id decides."""
        try:
            return {"roles": service.archive.roles()}
        except DataError as error:
            raise refusal(503, "archive", str(error)) from error

    @app.get("/archive/withdrawn", responses=bodies.UNAVAILABLE)
    def withdrawn() -> dict[str, Any]:
        """The runs that were taken back, when and why."""
        try:
            gone = service.archive.withdrawn()
        except DataError as error:
            raise refusal(503, "archive", str(error)) from error
        return {
            "runs": [{"run_id": name, "time": one.time, "reason": one.reason} for name, one in sorted(gone.items())]
        }

    @app.get("/feedback")
    def feedback() -> dict[str, Any]:
        """What completed engines say of the model in production, and the runs since which labels have changed."""
        return {**service.concept.status(), "changed_runs": service.concept.changed_runs()}

    @app.get("/status")
    def status() -> dict[str, Any]:
        """Where the loop is, what it works on, what it decided last, and how true the model's predictions are."""
        return service.status()

    @app.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/healthz", responses=bodies.UNAVAILABLE)
    def healthz() -> dict[str, str]:
        """Whether the worker is alive."""
        if not service.alive:
            raise refusal(503, "worker", "has ended")
        return {"status": "ok"}

    @app.get("/readyz", responses=bodies.UNAVAILABLE)
    def readyz() -> dict[str, str]:
        """Whether the registry has been reached and what an earlier retrainer left is in order."""
        if not service.worker.ready:
            raise refusal(503, "registry", service.worker.blocked or "starting")
        return {"status": "ready"}


def _counts(roles: Iterable[str]) -> dict[str, int]:
    counts = Counter(roles)
    return {role: counts[role] for role in sorted(counts)}


def _lock(folder: Path) -> int:
    """Lock the loop's folder for this process; the kernel releases it however the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise DriftloopError(
            "another retrainer works on this folder", where=str(folder), remedy="stop it, or set DRIFTLOOP_STATE_DIR"
        ) from error
    return handle
