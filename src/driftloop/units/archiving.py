"""Completed runs out: each is archived through the retrainer once, with the labels of what was answered of it.

The store is the outbox: a life that has ended waits in it until the retrainer has its run, then until it has the
labels. What the retrainer refuses is kept with its reason. Runs of withdrawn events and erased units are taken back.
"""

import functools
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from driftloop.errors import DataError, DriftloopError
from driftloop.fleet import lives as life_rules
from driftloop.fleet.archive import RunConflict
from driftloop.fleet.findings import Findings
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import End, Schema, Time
from driftloop.protocol.archive_client import post_runs, withdraw_runs
from driftloop.protocol.client import Client, Refused
from driftloop.settings import Settings
from driftloop.units import loading, tables
from driftloop.units.committing import Committer
from driftloop.units.keeper import WAITING, Keeper
from driftloop.units.memory import FAILED, RUNNING

log = logging.getLogger(__name__)

LABELS, ARCHIVED, REFUSED = "labels", "archived", "refused"
PAUSE_S = 1.0
_OUTCOMES = 500
"""In one call."""
_AT_ONCE = 20
_MOST_STEPS = 100_000


class Archiver:
    """Delivers what waits in the store, in a thread of its own."""

    def __init__(self, keeper: Keeper, committer: Committer, settings: Settings) -> None:
        self._keeper, self._committer, self._settings = keeper, committer, settings
        self._stopping, self._wake = threading.Event(), threading.Event()
        self._one = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="archiver", daemon=True)
        self._swept = 0.0
        self.problem: str | None = None
        """Why nothing is delivered now."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what waits is delivered after the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def poke(self) -> None:
        """Look now."""
        self._wake.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                more = self.deliver(time.time())
                self.problem = None
            except DriftloopError as error:
                self.problem, more = str(error), False
            except Exception as error:
                log.exception("delivering failed; it is tried again")
                self.problem, more = f"{type(error).__name__}: {error}", False
            if not more:
                self._wake.wait(PAUSE_S)

    def deliver(self, now: float) -> bool:
        """Deliver some of what waits; True where more may. Raises DriftloopError where the retrainer is away."""
        with self._one:
            self._withdraw()
            lives = tables.lives
            due = (lives.c.archive == WAITING) & (lives.c.closed <= now - self._keeper.lateness)
            runs = sa.select(lives).where(due).order_by(lives.c.closed).limit(_AT_ONCE)
            labels = sa.select(lives).where(lives.c.archive == LABELS)
            with self._keeper.store.read() as connection:
                waiting, archived = connection.execute(runs).all(), connection.execute(labels).all()
            for life in waiting:
                self._archive(life)
            for life in archived:
                if self._is_answered(life):
                    self._tell_labels(life)
            self._sweep(now)
        return bool(waiting)

    # Runs.

    def _archive(self, life: Any) -> None:
        try:
            run, note = self.run_of(life)
            archived = self._post(run, confirmed=life.state == FAILED)
        except DataError as error:
            self._settle(life, archive=REFUSED, note=str(error))
            return
        after = LABELS if life.state == FAILED else ARCHIVED
        self._settle(life, archive=after, run_id=archived, note=note)

    def _post(self, run: Run, *, confirmed: bool) -> str:
        """Archive a run; the id under which its rows are archived."""
        url, token = self._settings.retrainer_url, self._settings.token
        try:
            posted = post_runs([run], url, token, confirmed=[run.run_id] if confirmed else [])
        except RunConflict:
            # The id is another unit's; the sum of the rows is nobody else's.
            other = Run(f"{run.run_id[:100]}.{run.sha256[:12]}", run.rows, censored=run.censored)
            posted = post_runs([other], url, token, confirmed=[other.run_id] if confirmed else [])
            run = other
        return posted.same_as.get(run.run_id, run.run_id)

    def run_of(self, life: Any) -> tuple[Run, str | None]:
        """The run of an ended life, and what is to be said of it; raises DataError where its rows cannot be used."""
        rows, schema, memory = tables.rows, self._keeper.memory.schema, self._keeper.memory
        wanted = sa.select(rows).where(rows.c.life == life.id, rows.c.mark.in_(tables.IN_LIFE))
        with self._keeper.store.read() as connection:
            found = connection.execute(wanted.where(rows.c.time <= life.ended).order_by(rows.c.time)).all()
        if not found:
            raise DataError("has no rows", where=life.run_id)
        place = np.arange(len(found))
        values = loading.readings_of(found, self._keeper.columns, memory)
        known = life_rules.Rows(values, place, np.zeros_like(place), np.array([one.time for one in found]), None, None)
        try:
            told = life_rules.life(known, _ended_here(schema), str(life.run_id), Findings()).rows
        except life_rules.Unusable as error:
            raise DataError(error.what, where=str(life.run_id), remedy=error.remedy) from error
        refuses = np.array([channel.missing == "refuse" for channel in schema.channels])
        gaps = np.flatnonzero(np.isnan(told[:, refuses]).any(axis=1))
        note = None
        if len(gaps):
            note = f"only the {schema.steps} behind the last one without a row are archived"
            told = told[gaps[-1] + 1 :]
        return Run(str(life.run_id), np.ascontiguousarray(told), censored=life.state != FAILED), note

    def _settle(self, life: Any, **values: Any) -> None:
        """Write down what became of a life's run, unless its end was withdrawn meanwhile."""
        lives = tables.lives
        same = (lives.c.id == life.id) & (lives.c.run_id == life.run_id) & (lives.c.archive == life.archive)

        def work(connection: Connection) -> bool:
            return bool(connection.execute(sa.update(lives).where(same).values(values)).rowcount)

        if not self._committer.do(work) and values.get("run_id"):
            take_back = {"run_id": values["run_id"], "reason": "the event that ended it was withdrawn"}
            self._committer.do(functools.partial(_execute, statement=sa.insert(tables.withdrawals).values(take_back)))

    # Labels.

    def _is_answered(self, row: Any) -> bool:
        """Whether every step of an ended life has its answer on disk, so that all labels go together."""
        memory, predictions = self._keeper.memory, tables.predictions
        with memory.lock:
            life = memory.lives.get(row.id)
            if life is None or life.ended is None:
                return True
            if life.pending or life.behind:
                return False
            sent = min(life.sent, memory.place(life, life.ended))
        newest = sa.select(sa.func.max(predictions.c.place)).where(predictions.c.life == row.id)
        with self._keeper.store.read() as connection:
            kept = connection.execute(newest).scalar()
        # Steps that a backfill passed over were never asked about.
        return sent <= row.skipped or (kept is not None and kept >= sent)

    def _tell_labels(self, life: Any) -> None:
        """Tell the true remaining life behind every answer that a model gave of a unit that has failed."""
        with self._keeper.store.read() as connection:
            outcomes = [_outcome(one, life.run_id) for one in _labelled(connection, life.id)]
        note = life.note
        try:
            with Client(self._settings.retrainer_url, self._settings.token) as retrainer:
                for start in range(0, len(outcomes), _OUTCOMES):
                    retrainer.add_feedback(outcomes[start : start + _OUTCOMES])
        except Refused as error:
            note = f"the retrainer refuses the labels: {error}"
        self._settle(life, archive=ARCHIVED, note=note)

    # Taking back.

    def _withdraw(self) -> None:
        withdrawals = tables.withdrawals
        with self._keeper.store.read() as connection:
            found = connection.execute(sa.select(withdrawals).where(withdrawals.c.done.is_(None))).all()
        for one in found:
            try:
                answer = withdraw_runs([one.run_id], [], one.reason, self._settings.retrainer_url, self._settings.token)
            except DataError as error:
                known = "no such run" not in error.what
                answer = {"refused": str(error)} if known else {"withdrawn": [], "said": "it was not archived yet"}
            values = {"done": time.time(), "answer": msgspec.json.encode(answer).decode()}
            change = sa.update(withdrawals).where(withdrawals.c.id == one.id).values(values)
            self._committer.do(functools.partial(_execute, statement=change))

    # Retention.

    def _sweep(self, now: float) -> None:
        """Delete rows and answers of lives that were archived long ago: a life at a time, so that no row waits long."""
        days = self._settings.units_keep_days
        if not days or now - self._swept < 3600:
            return
        self._swept = now
        lives, rows = tables.lives, tables.rows
        old = (lives.c.archive == ARCHIVED) & (lives.c.closed < now - days * 86400)
        wanted = sa.select(lives.c.id).where(old, sa.exists().where(rows.c.life == lives.c.id))
        with self._keeper.store.read() as connection:
            found = connection.execute(wanted).scalars().all()
        for life in found:
            self._committer.do(functools.partial(self._delete, life=life))

    def _delete(self, connection: Connection, life: int) -> None:
        # An event may have been withdrawn since it was looked for.
        known = self._keeper.memory.lives.get(life)
        if known is None or known.state == RUNNING:
            return
        self._keeper.keep_numbers(connection)
        for table in (tables.rows, tables.predictions, tables.conflicts):
            connection.execute(sa.delete(table).where(table.c.life == life))


def _execute(connection: Connection, statement: sa.Executable) -> None:
    connection.execute(statement)


def _ended_here(schema: Schema) -> Schema:
    """The fleet's rules for rows that all belong to the life, each with its time."""
    time = schema.time if schema.time.column is not None else Time(column="index")
    return msgspec.structs.replace(schema, time=time, end=End())


def _labelled(connection: Connection, life: int) -> Sequence[Any]:
    predictions = tables.predictions
    wanted = sa.select(predictions).where(
        predictions.c.life == life, predictions.c.true_rul.is_not(None), predictions.c.rul.is_not(None)
    )
    found = connection.execute(wanted.order_by(predictions.c.place).limit(_MOST_STEPS)).all()
    return [one for one in found if one.version.isdigit()]


def _outcome(one: Any, run_id: str) -> dict[str, Any]:
    answer = {"model_version": one.version, "rul": one.rul, "lower": one.low, "upper": one.high}
    answer["request_id"] = one.request_id
    return {"engine_id": run_id, "cycle": one.step, "true_rul": one.true_rul, "prediction": answer}
