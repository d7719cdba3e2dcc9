"""The drift watch: read the traffic, judge it, raise and end alerts, report; again and again, or once."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from driftloop import durable
from driftloop.drift import estimating
from driftloop.drift.alerts import read_alert, read_ended, save_alerts
from driftloop.drift.calibration import ENGINES, LONG, QUICK
from driftloop.drift.exporter import Exporter
from driftloop.drift.few_units import Units
from driftloop.drift.live_error import Estimate
from driftloop.drift.production import Production, WatchedModel
from driftloop.drift.source import Source, Window
from driftloop.drift.verdict import (
    CONFIRMATIONS,
    DRIFT,
    ENDS_BELOW,
    NOT_ENOUGH_DATA,
    WITHOUT_DRIFT,
    Streak,
    Verdict,
    judge,
)
from driftloop.errors import DriftloopError
from driftloop.protocol.alerts import Alert, alertmanager_alerts, webhook
from driftloop.protocol.alerts import summary as in_words
from driftloop.protocol.causes import FLEET_CHANGE, SENSOR_FAULT
from driftloop.protocol.outbox import Outbox
from driftloop.settings import Settings

log = logging.getLogger(__name__)

REPEAT_S = 5.0
"""An alert that fires and an unchanged verdict are reported again this often."""
END_S = 600.0
"""How long the end of an alert is told again: the message may be lost with this process, or an older one come last."""
ASK_S = 10.0
"""How long the registry is not asked what is in production while nothing says that this has changed."""
_BLAMED_SHOWN = 8


class Watch:
    """One watch; `check` is one turn. State that must survive is `state.json` in `folder`."""

    def __init__(
        self,
        settings: Settings,
        production: Production,
        source: Source,
        outbox: Outbox,
        *,
        folder: Path,
        exporter: Exporter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._production, self._source, self._outbox = settings, production, source, outbox
        self._path, self._exporter, self._clock = folder / "state.json", exporter, clock
        self._model: WatchedModel | None = None
        self._window: Window | None = None
        self._verdict: Verdict | None = None
        """On what the window holds; None where it was not judged yet."""
        self._reported: tuple[str | None, str] | None = None
        self._reported_at = self._sent_at = self._ask_at = float("-inf")
        self._streak = Streak()
        self.estimate: Estimate | None = None
        """How wrong the model in production probably is; None where there is nothing to look at."""
        self._source_up = True
        self.alert = read_alert(self._path, settings.schema.name)
        self._ended = read_ended(self._path, settings.schema.name)
        """The alert that ended last."""
        self._ended_at, self._end_told_at = self._clock(), float("-inf")
        self._saved = True
        if self.alert is not None:
            # The event may not have left before the restart; its id keeps it from being logged twice.
            self._announce(self.alert)

    def run(self, stopping: threading.Event) -> None:
        """Check every `watch_interval_s` until `stopping` is set."""
        while not stopping.is_set():
            started = self._clock()
            self.check()
            stopping.wait(max(0.0, self._settings.watch_interval_s - (self._clock() - started)))

    def check(self) -> Verdict | None:
        """Read, judge and report once; None where there is nothing to judge (no model, or no server)."""
        verdict, reason = self._judge()
        if verdict is not None and self._model is not None:
            self._decide(verdict, self._model.version)
        if self.alert is not None and self._clock() - self._sent_at >= REPEAT_S:
            self._send(self.alert)
        now = self._clock()
        if self._ended is not None and now - self._ended_at < END_S and now - self._end_told_at >= REPEAT_S:
            self._tell_end(self._ended)
        if not self._saved:
            self._save()
        self._report(verdict, reason)
        if self._exporter is not None:
            self._exporter.show(
                self._model.version if self._model else "",
                verdict,
                self.alert,
                source_up=self._source_up,
                registry_up=self._production.up,
                dropped=self._outbox.dropped,
                estimate=self.estimate,
            )
        return verdict

    def _judge(self) -> tuple[Verdict | None, str | None]:
        model = self._look()
        if model is None:
            self._follow(None)
            return None, self._production.problem or "no model is in production"
        if self._model is None or model.version != self._model.version:
            self._follow(model)
        assert self._window is not None
        try:
            new = self._window.add(self._source.read(model.version))
        except DriftloopError as error:
            if self._source_up:
                log.warning("traffic cannot be read: %s", error)
            self._source_up = False
            return None, str(error)
        self._source_up = True
        if new or self._verdict is None:
            self._verdict = self._judge_window(model, self._window)
        return self._verdict, None

    def _judge_window(self, model: WatchedModel, window: Window) -> Verdict:
        newest, held, quick = window.newest(), window.held(), window.newest(QUICK)
        split = model.baseline.binner.split
        counts, newest_of_all = split(newest.bins), split(quick.bins)
        units = Units(newest.units, held.units, quick.units)
        verdict = judge(counts, model.baseline, split(held.bins), newest.quality, held.quality, newest_of_all, units)
        sending = min(ENGINES, newest.units or ENGINES)
        self.estimate = estimating.estimate([counts, newest_of_all], model.baseline, verdict, sending)
        return verdict

    def _look(self) -> WatchedModel | None:
        """What is in production. A registry works for an answer longer than all else that a look costs: while the
        servers go on serving what is watched, it is asked rarely."""
        current = self._production.current
        if current is not None and self._source.served == current.version and self._clock() < self._ask_at:
            return current
        self._ask_at = self._clock() + ASK_S
        return self._production.look()

    def _follow(self, model: WatchedModel | None) -> None:
        """Begin a window for `model`: one version's counts are never mixed with another's."""
        self._model = model
        self._window = self._verdict = self.estimate = None
        self._streak = Streak()
        if model is not None:
            self._window = new_window(model, self._settings.watch_window)
        if self.alert is not None and (model is None or self.alert.model_version != model.version):
            self._end()

    def _decide(self, verdict: Verdict, version: str) -> None:
        self._streak = self._streak.then(verdict.kind)
        if self.alert is None:
            if self._streak.alarms:
                self._begin(verdict, version)
        elif verdict.verdict in WITHOUT_DRIFT and verdict.score < ENDS_BELOW:
            self._end()
        elif verdict.verdict == DRIFT:
            self.alert = msgspec.structs.replace(self.alert, n=verdict.n, score=verdict.score)
            turned = self.alert.drift == SENSOR_FAULT and verdict.kind == FLEET_CHANGE
            if turned and self._streak.checks >= CONFIRMATIONS:
                self._end()
                self._begin(verdict, version)

    def _begin(self, verdict: Verdict, version: str) -> None:
        drift, features = verdict.kind or FLEET_CHANGE, verdict.blamed[:_BLAMED_SHOWN]
        self.alert = Alert(
            firing=True,
            drift=drift,
            model_version=version,
            starts_at=durable.now(),
            features=features,
            n=verdict.n,
            score=verdict.score,
            summary=in_words(drift, version, _in_words(features, verdict)),
            fleet=self._settings.schema.name,
        )
        self._save()
        log.warning("%s", self.alert.summary)
        self._announce(self.alert)
        self._send(self.alert)
        if self._exporter is not None:
            self._exporter.alarmed(self.alert)

    def _end(self) -> None:
        alert, self.alert = self.alert, None
        if alert is None:
            return
        self._ended = ended = msgspec.structs.replace(alert, firing=False, ends_at=durable.now())
        self._ended_at = self._clock()
        self._save()
        log.info("the drift alert of model version %s has ended", ended.model_version)
        self._tell_end(ended)
        self._send(ended)

    def _tell_end(self, ended: Alert) -> None:
        # Beside Alertmanager, which loses an end where the same alert begins anew before it has passed it on.
        self._end_told_at = self._clock()
        self._event({"kind": "alert_resolved", "id": ended.end_id, **_identity(ended), "ends_at": ended.ends_at})

    def _announce(self, alert: Alert) -> None:
        self._event(
            {"kind": "alert_firing", "id": alert.event_id, **_identity(alert), "n": alert.n, "score": alert.score}
        )

    def _send(self, alert: Alert) -> None:
        self._sent_at = self._clock()
        # By its beginning too: the end of one alert must not be replaced by the beginning of the next.
        key = f"{alert.cause}:{alert.starts_at}"
        if self._settings.alertmanager_url:
            url = f"{self._settings.alertmanager_url.rstrip('/')}/api/v2/alerts"
            # A watch that dies must not end the alert before it is back.
            self._outbox.put(url, alertmanager_alerts(alert, lasts_s=12 * REPEAT_S), key)
        else:
            self._outbox.put(f"{self._settings.retrainer_url.rstrip('/')}/alerts", webhook(alert), key)

    def _report(self, verdict: Verdict | None, reason: str | None) -> None:
        version = self._model.version if self._model else None
        said = (version, verdict.verdict if verdict else NOT_ENOUGH_DATA)
        if said == self._reported and self._clock() - self._reported_at < REPEAT_S:
            return
        self._reported, self._reported_at = said, self._clock()
        event: dict[str, Any] = {"kind": "verdict", "model_version": version, "verdict": said[1]}
        if verdict is None:
            self._event({**event, "n": 0, "reason": reason})
        else:
            answered = self._window.answered if self._window is not None else None
            estimated = msgspec.to_builtins(self.estimate) if self.estimate is not None else None
            self._event({**event, **summary(verdict), "answered": answered, "estimate": estimated})

    def _event(self, event: dict[str, Any]) -> None:
        known = {name: value for name, value in event.items() if value is not None}
        self._outbox.event(self._settings.retrainer_url, known)

    def _save(self) -> None:
        """Keep the alerts; where the disk is full they are told of all the same, and kept as soon as there is room."""
        try:
            save_alerts(self._path, self.alert, self._ended)
        except OSError as error:
            if self._saved:
                log.warning("%s cannot be written, and is tried again: %s", self._path, error)
            self._saved = False
        else:
            self._saved = True


def new_window(model: WatchedModel, size: int) -> Window:
    """A window for a model's traffic: `size` requests, or as many as `no_drift` needs; LONG of them are held."""
    quality = model.baseline.quality
    columns = quality.columns if quality is not msgspec.UNSET else ()
    return Window(model.baseline.binner, max(size, model.baseline.min_n), LONG, columns)


def check_once(
    model: WatchedModel,
    source: Source,
    *,
    size: int,
    seconds: float,
    interval_s: float,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Verdict:
    """Collect until the window is full or `seconds` have passed, and judge; raises SourceUnavailable.

    What a server has answered before counts where it fits into the window (Window.add).
    """
    window = new_window(model, size)
    size = max(size, model.baseline.min_n)
    end = clock() + seconds
    while True:
        window.add(source.read(model.version))
        seen = window.newest()
        binner = model.baseline.binner
        left = end - clock()
        if left <= 0 or int(np.add.reduceat(seen.bins, binner.offsets).min()) >= size:
            return judge(binner.split(seen.bins), model.baseline, quality=seen.quality, units=Units(seen.units))
        wait(min(interval_s, left))


def summary(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the event's fields: everything but the figures of each feature, of which the worst are kept.

    Where there were no requests at all, there are no figures.
    """
    fields: dict[str, Any] = {"verdict": verdict.verdict, "n": verdict.n, "min_n": verdict.min_n}
    if not verdict.n:
        return fields
    worst = sorted(verdict.features, key=lambda feature: -feature.score)[:_BLAMED_SHOWN]
    return {
        **fields,
        "units": verdict.units,
        "score": verdict.score,
        "drift": verdict.kind,
        "blamed": verdict.blamed,
        "stuck": verdict.stuck,
        "faults": [msgspec.to_builtins(fault) for fault in verdict.faults],
        "mixture": verdict.mixture,
        "ages": verdict.ages,
        "age_shift": verdict.age_shift,
        "psi_max": max(feature.psi for feature in verdict.features),
        "psi_plain_max": max(feature.psi_plain for feature in verdict.features),
        "worst": {
            f.feature: {
                "psi": f.psi,
                "ks": f.ks,
                "shift": f.shift,
                "spread": f.spread,
                "score": f.score,
                "threshold_psi": f.threshold_psi,
            }
            for f in worst
        },
    }


def _in_words(features: list[str], verdict: Verdict) -> list[str]:
    """What is blamed, with what is wrong where that is known."""
    known: dict[str, str] = {}
    for fault in verdict.faults:
        known.setdefault(fault.feature, fault.words)
    return [known.get(feature, feature) for feature in features]


def _identity(alert: Alert) -> dict[str, Any]:
    return {
        "model_version": alert.model_version,
        "cause": str(alert.cause),
        "drift": alert.drift,
        "starts_at": alert.starts_at,
        "features": alert.features,
    }
