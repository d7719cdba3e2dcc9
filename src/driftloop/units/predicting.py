"""Every new step of a unit is predicted once, through the prediction server, many steps in one request.

The server stays stateless: it is sent the newest rows of a unit, as many as its model looks at. While it is away, steps
wait in the store. Answers are kept in the order in which they were asked, so that after a crash it is known from where
to go on.
"""

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

import httpx
import msgspec
from sqlalchemy import Connection

from driftloop import durable
from driftloop.errors import DriftloopError, JsonError
from driftloop.protocol import windows
from driftloop.protocol.client import Server, detail
from driftloop.protocol.http import Patience, client, may_change, why
from driftloop.protocol.windows import Asked
from driftloop.units import bulk, loading, tables
from driftloop.units.committing import Committer
from driftloop.units.keeper import Keeper
from driftloop.units.memory import FAILED, Latest, Life, Pending
from driftloop.units.tables import NOTHING
from driftloop.units.tails import Tail

log = logging.getLogger(__name__)

MOST_WINDOWS = 256
MOST_BYTES = 4 * 2**20
"""Of one request."""
PATIENCE = Patience(30.0, 2.0)
LOOK_S = 0.2
KEPT_AHEAD = 2
"""Requests whose answers may be on their way to the disk while the next one is asked."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
NO_YOUTH, GAP = "no_youth", "gap"

MOST_STEP = 10**9
"""The largest step that a server takes."""

_encode = msgspec.json.Encoder().encode
_PACKED = {"Content-Type": windows.CONTENT_TYPE}


class Step(NamedTuple):
    """A step that is to be answered."""

    life: Life
    place: int
    step: int
    time: float
    flags: list[str]
    window: Asked


class Answer(msgspec.Struct):
    """What the server says of a window, as far as it is kept."""

    rul: float | None
    lower: float | None
    upper: float | None
    flags: list[str]
    model_version: str


class _Answers(msgspec.Struct):
    predictions: list[Answer]
    model_version: str


class Predictor:
    """Asks the server for whatever is due, in a thread of its own."""

    def __init__(self, keeper: Keeper, committer: Committer, server_url: str, token: str = "") -> None:
        self._keeper, self._committer, self._url, self._token = keeper, committer, server_url, token
        self._http = client(server_url, token, PATIENCE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="predictor", daemon=True)
        self.window = 0
        """Rows that the served model looks at; 0 before it was asked."""
        self.version = ""
        self.problem: str | None = "the prediction server was not asked yet"
        """Why nothing is predicted now; None where it is."""
        self.asked = self.answered = self.kept = 0
        """Requests, steps that the server answered, and steps whose answers are on disk."""
        self.under_way = 0
        """Steps that wait in memory no longer, and are not on disk yet."""
        self._keeping: deque[tuple[Future[int], int]] = deque()
        """Answers on their way to the disk, to so many steps each, in the order in which they were asked."""

    @property
    def waiting(self) -> int:
        """Steps whose answers are not on disk yet."""
        return self._keeper.memory.pending + self.under_way

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was asked and not kept is asked again."""
        self._stopping.set()
        self._keeper.memory.wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._http.close()

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def _work(self) -> None:
        memory = self._keeper.memory
        while not self._stopping.is_set():
            try:
                if not self._knows_model():
                    continue
                memory.wake.clear()
                if not self.turn(time.time()):
                    memory.wake.wait(LOOK_S)
            except Exception:
                # Nothing is lost by it: what was not kept is read from the store again.
                log.exception("predicting failed; it goes on from the store")
                self._go_back_to_the_store()

    def _go_back_to_the_store(self) -> None:
        """Forget what was asked and not kept, as soon as the store is there."""
        while not self._stopping.wait(LONGEST_PAUSE_S):
            try:
                self._read_again()
            except Exception as error:
                self.problem = f"the store cannot be used: {getattr(error, 'orig', None) or error}"
            else:
                self.problem = None
                return

    def _read_again(self) -> None:
        """Forget what was asked and not kept: it waits in the store."""
        self._keeping.clear()
        self.under_way = 0
        # Behind this nothing that was asked before is on its way to the disk.
        self._committer.do(lambda _: None)
        self._keeper.rebuild()

    def turn(self, now: float) -> bool:
        """Predict what is due, one request's worth; False where nothing is, and all answers are on disk."""
        with self._keeper.memory.lock:
            reading, steps = self._keeper.memory.reading, self._due(now)
            self.under_way += len(steps)
        answers = self._ask(steps) if steps else None
        if answers is None:
            self._settle(0)
            return False
        if any(answer.model_version != self.version for answer in answers) and self._sees_more():
            # It was given no more rows than the version before it looked at, and an answer is never given anew.
            self._settle(0)
            self._read_again()
            return True
        keep = functools.partial(self.keep, steps=steps, answers=answers, now=time.time(), reading=reading)
        self._keeping.append((self._committer.submit(keep), len(steps)))
        self._settle(KEPT_AHEAD)
        return True

    def _sees_more(self) -> bool:
        """Whether the version that has begun to answer looks at more rows than were sent; waits until that is known."""
        sent, self.window = self.window, 0
        while not self._knows_model():
            if self._stopping.is_set():
                return True  # Asked again at the next start.
        return self.window > sent

    def _settle(self, ahead: int) -> None:
        """Wait until all answers but those to the newest `ahead` requests are on disk."""
        while len(self._keeping) > ahead:
            future, steps = self._keeping.popleft()
            self.kept += future.result()
            self.under_way -= steps

    # What is due.

    def _due(self, now: float) -> list[Step]:
        memory, steps, size = self._keeper.memory, list[Step](), 0
        with memory.lock:
            lives = self._lives_due(now)
            self._read_tails([life for life in lives if not self._has_tail(life)])
            for life in lives:
                if len(steps) < MOST_WINDOWS and size < MOST_BYTES:
                    found = self._of_life(life, now, MOST_WINDOWS - len(steps), MOST_BYTES - size)
                    size += sum(len(step.window.rows) for step in found)
                    steps += found
                else:
                    memory.put_back(life)
        return steps

    def _lives_due(self, now: float) -> list[Life]:
        """The lives that are due first, about as many as one request has room for."""
        memory, lives = self._keeper.memory, dict[int, Life]()
        most = min(MOST_WINDOWS, 1 + MOST_BYTES // (self.window * len(memory.nothing)))
        while memory.due and memory.due[0][0] <= now and len(lives) < most:
            due, life_id = memory.pop_due()
            life = memory.lives.get(life_id)
            # Of a life that was to be due at several times the last word counts, once.
            if life is None or life.due != due:
                continue
            if life.pending:
                lives[life_id] = life
            else:
                # Its steps are in the store; read behind everything that is being written now.
                life.due = float("inf")
                self._committer.submit(functools.partial(self._keeper.read_on, life=life))
        return list(lives.values())

    def _of_life(self, life: Life, now: float, most: int, most_bytes: int) -> list[Step]:
        """The steps of a life that are due, so many at most, and so many bytes but for the last one."""
        memory = self._keeper.memory
        newest = max(place for place, one in life.pending.items() if one.due <= now)
        places = sorted(place for place in life.pending if place <= newest)[:most]
        if not self._has_tail(life):
            # There was no room for it beside those of others that were read with it.
            self._read_tails([life])
        tail, steps = life.tail, list[Step]()
        assert tail is not None
        for place in places:
            gap = place - life.sent - 1 if life.sent != NOTHING else 0
            anew = loading.bridge(tail, gap, memory)
            pending = memory.take(life, place)
            tail.append(loading.encoded(pending.rows, memory))
            life.sent = place
            flags = [NO_YOUTH] if memory.no_youth(life) else []
            steps.append(self._step(life, place, pending, flags + [GAP] * anew, tail))
            most_bytes -= len(steps[-1].window.rows)
            if most_bytes <= 0:
                break
        memory.keep_tail(life, tail)
        life.due = float("inf")
        memory.settle(life)
        return steps

    def _has_tail(self, life: Life) -> bool:
        return life.tail is not None and life.tail.most == self.window

    def _read_tails(self, lives: Sequence[Life]) -> None:
        """Read the newest rows of lives of which memory has none."""
        if not lives:
            return
        memory = self._keeper.memory
        with self._keeper.store.read() as connection:
            tails = loading.read_tails(connection, memory, lives, self.window, self._keeper.columns)
        for life, tail in zip(lives, tails, strict=True):
            memory.keep_tail(life, tail)

    def _step(self, life: Life, place: int, pending: Pending, flags: list[str], tail: Tail) -> Step:
        step = life.first_step + place
        number = step if 0 <= step <= MOST_STEP else None
        window = Asked(tail.content(), life.unit.name, number, f"units-{life.id}-{place}", history=pending.backfilled)
        is_clock = self._keeper.memory.schema.time.kind == "timestamp"
        moment = max(row[0] for row in pending.rows) if is_clock else pending.received
        return Step(life, place, step, moment, flags, window)

    # The server.

    def _knows_model(self) -> bool:
        """Whether the model that serves is known, and is one of this fleet; waits a little where it is not."""
        if self.window:
            return True
        try:
            with Server(self._url, self._token) as server:
                model = server.model()
            digest = model["fleet"]["digest"]
            self.window, self.version = int(model["window"]), str(model["model_version"])
        except (DriftloopError, KeyError, TypeError, ValueError) as error:
            self.problem = str(error)
        else:
            ours = self._keeper.memory.schema
            if digest == ours.digest:
                self.problem = None
                return True
            self.window = 0
            self.problem = (
                f"the server at {self._url} serves another fleet file ({model['fleet'].get('name')}, digest "
                f"{digest[:12]}, here {ours.digest[:12]}); start both with the same one"
            )
        self._stopping.wait(LONGEST_PAUSE_S if self.answered else FIRST_PAUSE_S)
        return False

    def _ask(self, steps: Sequence[Step]) -> list[Answer] | None:
        """One answer for each step; waits for a server that is away. None only where this process is to stop."""
        body = windows.encode(windows.Batch([step.window for step in steps]))
        pause = FIRST_PAUSE_S
        while not self._stopping.is_set():
            self.asked += 1
            try:
                answer = self._http.post("/predict", content=body, headers=_PACKED)
            except httpx.RequestError as error:
                self.problem = f"the server at {self._url} does not answer: {why(error)}"
            else:
                if answer.is_success:
                    found = _read(answer.content)
                    if found is not None and len(found) == len(steps):
                        self.problem, self.answered = None, self.answered + len(found)
                        return found
                    self.problem = f"the server at {self._url} answers with something else than predictions"
                elif may_change(answer) or answer.status_code == 415:
                    # A server of an earlier version takes no MessagePack; a later one follows.
                    self.problem = f"the server at {self._url} says: {detail(answer)}"
                else:
                    self.window = 0
                    if self._knows_model():
                        return self._one_by_one(steps, detail(answer))
            self._settle(0)
            self._stopping.wait(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
        return None

    def _one_by_one(self, steps: Sequence[Step], said: str) -> list[Answer] | None:
        """The answers to a request that was refused: what is refused by itself has none, and says why."""
        if len(steps) == 1:
            log.warning("the server refuses %s: %s", steps[0].window.request_id, said)
            return [Answer(None, None, None, [f"refused: {said[:300]}"], self.version)]
        half = len(steps) // 2
        first = self._ask(steps[:half])
        second = self._ask(steps[half:]) if first is not None else None
        return None if first is None or second is None else first + second

    # The store.

    def keep(
        self, connection: Connection, steps: Sequence[Step], answers: Sequence[Answer], now: float, reading: int
    ) -> int:
        """Keep the answers to steps, each once, and with its label where the unit has failed meanwhile; how many.

        Where the store was read anew since they were asked, they wait there, and are asked again.
        """
        memory, values = self._keeper.memory, []
        with memory.lock:
            if memory.reading != reading:
                return 0
            for step, answer in zip(steps, answers, strict=True):
                life = memory.lives.get(step.life.id)
                # Answers of a life rise.
                if life is None or (life.latest is not None and step.place <= life.latest.place):
                    continue
                memory.seq += 1
                flags = [*answer.flags, *step.flags]
                life.latest = Latest(
                    step.place,
                    step.step,
                    step.time,
                    answer.rul,
                    answer.lower,
                    answer.upper,
                    flags,
                    answer.model_version,
                )
                values.append(
                    {
                        "life": life.id,
                        "place": step.place,
                        "seq": memory.seq,
                        "step": step.step,
                        "time": step.time,
                        "rul": answer.rul,
                        "low": answer.lower,
                        "high": answer.upper,
                        "flags": _encode(flags).decode(),
                        "version": answer.model_version,
                        "request_id": step.window.request_id,
                        "made": now,
                        "true_rul": self._true_rul(life, step.place),
                    }
                )
            bulk.add(connection, tables.predictions, values)
        return len(values)

    def _true_rul(self, life: Life, place: int) -> float | None:
        if life.state != FAILED or life.ended is None:
            return None
        left = self._keeper.memory.place(life, life.ended) - place
        return float(left) if left >= 0 else None


def _read(content: bytes) -> list[Answer] | None:
    try:
        return durable.decode_json(content, _Answers).predictions
    except JsonError:
        return None
