"""What comes in from other threads: alerts, reports and runs. Each is on disk when it is acknowledged."""

from collections.abc import Mapping

import msgspec

from driftloop.loop import ends
from driftloop.loop.facts import estimated, seen
from driftloop.loop.state import Change
from driftloop.loop.worker import Worker
from driftloop.protocol import causes
from driftloop.protocol.alerts import Alert
from driftloop.protocol.events import Event
from driftloop.protocol.progress import Progress


class Inbox:
    """Takes what comes in, and wakes the worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._store = worker, worker.store

    @property
    def phase(self) -> str:
        """What the loop is doing."""
        return self._store.state.phase

    @property
    def firing(self) -> Mapping[str, list[str]]:
        """Since when alerts fire, by cause."""
        return self._store.state.firing

    def on_alert(self, alert: Alert, **kept: msgspec.Struct | None) -> str:
        """Take an alert, durably, together with what else is `kept` for it, and say what became of it.

        `queued`, `recorded` (retraining is switched off), `duplicate`, `refused` or `resolved`.
        """
        # Only what was settled before asks how many runs there are; the archive may be away.
        known = alert.firing and str(alert.cause) in self._store.state.settled
        archived = self._worker.look.total() if known else 0
        with self._store.change() as change:
            change.kept.update(kept)
            answer = self._fires(change, alert, archived) if alert.firing else _ends(change, alert)
        self._worker.poke()
        return answer

    def _fires(self, change: Change, alert: Alert, archived: int) -> str:
        cause = str(alert.cause)
        first = change.state.fires(cause, alert.starts_at)
        if first:
            change.tell(
                "alert_firing",
                # The watch reports its alert as an event too, under the same id.
                id=alert.event_id,
                model_version=alert.model_version,
                cause=cause,
                drift=alert.drift,
                starts_at=alert.starts_at,
                features=alert.features,
                n=alert.n,
                score=alert.score,
                summary=alert.summary,
            )
        answer = ends.admit(change, alert.cause, first=first, archived=archived, how=self._worker.tools.how())
        if first and not alert.cause.learnable:
            reason = f"a sensor fault ({', '.join(alert.features)}): a model must not learn it"
            change.tell("retraining_refused", model_version=alert.model_version, cause=cause, reason=reason)
        return answer

    def on_event(self, event: Event) -> Event:
        """Log what a pipeline step or the watch reports, and take notice of it; returns it as it is logged."""
        attempt = self._store.state.attempt
        if event["kind"] == "alert_resolved":
            return self._on_end(event)
        if attempt is None or event.get("run") != attempt.run:
            logged = self._store.log(event)
        else:
            with self._store.change() as change:
                change.pass_on([event])
                _notice(change, event, self._worker)
            logged = change.logged[0]
        if event["kind"] == "verdict":
            self._worker.look.seen, self._worker.look.estimate = seen(event), estimated(event)
            self._worker.poke()
        return logged

    def _on_end(self, event: Event) -> Event:
        """Take the watch's word that an alert of its own has ended.

        It says so again for a while. What comes through Alertmanager, or from a thread that was held up, may miss an
        end, or come behind it.
        """
        with self._store.change() as change:
            change.pass_on([event])
            _forget(change, str(event.get("cause")), str(event.get("starts_at")))
        self._worker.poke()
        return change.logged[0]

    def on_progress(self, progress: Progress) -> None:
        """Keep in mind how far a step of the run at hand is; another run's is let go."""
        attempt = self._store.state.attempt
        if attempt is not None and attempt.run == progress.run:
            self._worker.progress = progress

    def on_runs(self, added: list[str], *tell: Event) -> None:
        """Take notice of new completed runs: they open settled causes whose alert still fires, and end a wait."""
        worker = self._worker
        if added:
            worker.look.arrivals.note(worker.clock())
        archived = worker.look.total()
        with self._store.change() as change:
            change.pass_on(tell)
            for cause in map(causes.parse, list(change.state.firing)):
                ends.admit(change, cause, first=False, archived=archived, how=worker.tools.how())
        worker.poke()


def _ends(change: Change, alert: Alert) -> str:
    """An alert has ended; others of its cause, which began at another time, go on."""
    cause = str(alert.cause)
    if _forget(change, cause, alert.starts_at):
        change.tell(
            "alert_resolved",
            id=alert.end_id,
            model_version=alert.model_version,
            cause=cause,
            starts_at=alert.starts_at,
        )
    return "resolved"


def _forget(change: Change, cause: str, since: str) -> bool:
    """Take back that an alert fires, and what was queued for it alone; returns whether it fired."""
    if not change.state.ends(cause, since):
        return False
    if cause not in change.state.firing:
        change.state.call_off(cause)
    return True


def _notice(change: Change, event: Event, worker: Worker) -> None:
    """Write down how far the run at hand is; what it decided, the registry says."""
    attempt = change.state.attempt
    if attempt is None or event.get("run") != attempt.run or change.state.phase != "running":
        return
    match event["kind"]:
        case "step_started":
            waited = attempt.started.passed(worker.clock()) if attempt.started is not None else None
            if attempt.step is None and waited is not None:
                change.tell_of(attempt, "pipeline_started", attempt.champion, seconds=round(waited, 3))
            attempt.step = str(event.get("step"))
        case "challenger_registered":
            attempt.challenger, attempt.training = str(event.get("model_version")), str(event.get("training"))
        case "step_failed":
            attempt.problem = str(event.get("error"))
        case "waiting_for_labels":
            attempt.waiting_for = str(event.get("reason"))
