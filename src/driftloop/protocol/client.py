"""The client of the retrainer, for everybody who asks it or tells it something; and what the server says it serves.

Each question is written once, below, and is put by `Client` or, from asyncio, by `AsyncClient`, which share one policy
(driftloop.protocol.http): what may be sent again is sent again, what must happen once is not. All questions raise
DriftloopError with words for people.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import httpx
import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError, ExitCode, JsonError
from driftloop.protocol.events import Event
from driftloop.protocol.http import (
    GLANCE,
    JSON,
    ONCE,
    PATIENT,
    REPORTING,
    Answer,
    AsyncConnected,
    Connected,
    Patience,
    async_client,
    attempts,
    exit_code,
    in_path,
    may_change,
    tried,
    why,
)
from driftloop.protocol.progress import Progress

T = TypeVar("T")
U = TypeVar("U")

ACTOR = "X-Driftloop-Actor"
"""Header that names the person whom a process acts for."""
FOLLOW_S = 1.0
"""Pause before new events are asked for."""
START_IT = "start it with `driftloop up`, or set DRIFTLOOP_RETRAINER_URL"


class Page(NamedTuple):
    """Events in order, and the number to ask after next time."""

    events: list[Event]
    next: int


class Question(NamedTuple, Generic[T]):
    """One request, what is read from its answer, and how often it may be put."""

    method: str
    path: str
    read: Callable[[dict[str, Any]], T]
    body: bytes | None = None
    patience: Patience = ONCE
    unreachable: Callable[[str, str, str], DriftloopError] | None = None
    """What is raised where nobody answers, of (what was said, where, by whom); by default words for people."""
    refused: Callable[[httpx.Response, str], DriftloopError] | None = None
    """The same for a refusal, of (the answer, where)."""
    also: bytes = b""
    """What a refusal has in it that is an answer all the same."""

    def then(self, make: Callable[[T], U]) -> "Question[U]":
        """The same question, with something made of what is read from its answer."""
        return Question(self.method, self.path, lambda content: make(self.read(content)), *self[3:])


class Refused(DriftloopError):
    """Somebody has answered, and will not answer the same question otherwise."""


# The questions.


def _status() -> Question[dict[str, Any]]:
    return Question("GET", "/status", _whole)


def _last_event() -> Question[int]:
    return Question("GET", "/status", lambda content: int(content["last_event"]))


def _events(after: int) -> Question[Page]:
    return Question(
        "GET", f"/events?after={after}", lambda content: Page(list(content["events"]), int(content["next"]))
    )


def _changed_runs() -> Question[list[str]]:
    return Question("GET", "/feedback", lambda content: [str(run) for run in content["changed_runs"]])


def _post(path: str, body: Any, read: Callable[[dict[str, Any]], T], patience: Patience = ONCE) -> Question[T]:
    return Question("POST", path, read, msgspec.json.encode(body), patience)


def _whole(content: dict[str, Any]) -> dict[str, Any]:
    return content


def _retrain(mode: str) -> Question[dict[str, Any]]:
    return _post("/retrain", {"mode": mode}, lambda content: dict(content["attempt"]))


def _promote(version: str, reason: str) -> Question[dict[str, Any]]:
    return _post("/promote", {"version": version, "reason": reason}, _whole)


def _rollback(version: str, reason: str) -> Question[dict[str, Any]]:
    return _post("/rollback", {"from_version": version, "reason": reason}, _whole)


def _answer(question: str, word: str, reason: str) -> Question[dict[str, Any]]:
    return _post(f"/approvals/{in_path(question)}", {"answer": word, "reason": reason}, _whole)


def _add_schedule(entry: Mapping[str, Any]) -> Question[dict[str, Any]]:
    return _post("/schedules", entry, _whole)


def _cancel(name: str) -> Question[dict[str, Any]]:
    return Question("DELETE", f"/schedules/{in_path(name)}", _whole)


def _mute(cause: str, for_s: float, reason: str) -> Question[dict[str, Any]]:
    return _post("/mute", {"cause": cause, "for_s": for_s, "reason": reason}, _whole)


def _unmute(cause: str) -> Question[dict[str, Any]]:
    return Question("DELETE", f"/mute/{in_path(cause)}", _whole)


def _feedback(outcomes: Sequence[Mapping[str, Any]]) -> Question[dict[str, Any]]:
    return _post("/feedback", {"outcomes": outcomes}, _whole, PATIENT)


def _report(event: Event, patience: Patience) -> Question[int]:
    # Under one id, so that an event that is sent twice is logged once.
    body = {"time": durable.now(), "id": uuid.uuid4().hex, **event}
    return _post("/events", body, lambda content: int(content["seq"]), patience)


def _progress(progress: Progress) -> Question[dict[str, Any]]:
    return _post("/progress", progress, _whole, GLANCE)


def _model() -> Question[dict[str, Any]]:
    return Question("GET", "/model", _whole, unreachable=unreachable)


# Who puts them.


class Client(Connected):
    """The retrainer at `url`. Its methods raise DriftloopError where it cannot be reached or refuses."""

    def status(self) -> dict[str, Any]:
        """Where the loop is, what it works on and what it decided last."""
        return self.ask(_status())

    def events(self, after: int = 0) -> Page:
        """The events after number `after`, a page of them."""
        return self.ask(_events(after))

    def follow(self, after: int = 0, *, forever: bool = False) -> Iterator[Event]:
        """All events after number `after`, in order; `forever` waits for those that are still to come, and for a
        retrainer that has answered once and is away, as while it is started again."""
        answered = False
        while True:
            try:
                events, after = self.events(after)
                answered = True
            except DriftloopError as error:
                if not (forever and answered and error.exit_code == ExitCode.UNREACHABLE):
                    raise
                events = []
            yield from events
            if not events:
                if not forever:
                    return
                time.sleep(FOLLOW_S)

    def report(self, event: Event, *, patiently: bool = True) -> bool:
        """Tell of an event; True once it is on the retrainer's disk.

        False means that the retrainer could not be reached or refused it; what a retrainer misses, it finds out from
        the registry.
        """
        try:
            self.ask(_report(event, REPORTING if patiently else REPORTING._replace(tries=1)))
        except DriftloopError:
            return False
        return True

    def progress(self, progress: Progress) -> bool:
        """Tell how far a step is, once; True where the retrainer took it."""
        try:
            self.ask(_progress(progress))
        except DriftloopError:
            return False
        return True

    def add_feedback(self, outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Tell the true RUL of answered predictions; how many of them are new."""
        return self.ask(_feedback(outcomes))

    def changed_runs(self) -> list[str]:
        """The archived runs since which the labels have changed, as the concept watch knows them."""
        return self.ask(_changed_runs())

    def retrain(self, mode: str = "warm_start") -> dict[str, Any]:
        """Start a retraining; the attempt."""
        return self.ask(_retrain(mode))

    def promote(self, version: str, reason: str = "") -> dict[str, Any]:
        """Put a version into production; `model_version`, `from_version`, and whether it was so `already`."""
        return self.ask(_promote(version, reason))

    def rollback(self, version: str, reason: str = "") -> dict[str, Any]:
        """Go back from `version`, which must be in production, to the one before it; what `promote` gives."""
        return self.ask(_rollback(version, reason))

    def answer(self, question: str, word: str, reason: str = "") -> dict[str, Any]:
        """Answer the retrainer's question about a version, `approve` or `reject`; what was written down."""
        return self.ask(_answer(question, word, reason))

    def add_schedule(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Add a schedule or a watch; as it stands now."""
        return self.ask(_add_schedule(entry))

    def cancel(self, name: str) -> dict[str, Any]:
        """Take a schedule or a watch away; as it stood."""
        return self.ask(_cancel(name))

    def mute(self, cause: str, for_s: float, reason: str = "") -> dict[str, Any]:
        """Tell nobody of a cause for so many seconds."""
        return self.ask(_mute(cause, for_s, reason))

    def unmute(self, cause: str) -> dict[str, Any]:
        """Tell of a cause again."""
        return self.ask(_unmute(cause))

    def ask(self, question: Question[T]) -> T:
        """The answer to a question of somebody else's."""
        return put(self._http, question)


class AsyncClient(AsyncConnected):
    """The same from asyncio, as far as traffic generators ask."""

    async def status(self) -> dict[str, Any]:
        """Where the loop is, what it works on and what it decided last."""
        return await self.ask(_status())

    async def last_event(self) -> int:
        """The number of the newest event."""
        return await self.ask(_last_event())

    async def events(self, after: int = 0) -> Page:
        """The events after number `after`, a page of them."""
        return await self.ask(_events(after))

    async def report(self, event: Event) -> bool:
        """Tell of an event, once; True where the retrainer took it."""
        try:
            await self.ask(_report(event, REPORTING._replace(tries=1)))
        except DriftloopError:
            return False
        return True

    async def ask(self, question: Question[T]) -> T:
        """The answer to a question of somebody else's."""
        return await put_async(self._http, question)


class Server(Connected):
    """The prediction server at `url`, as far as the rest of the platform asks it."""

    def model(self) -> dict[str, Any]:
        """What it says that it serves; raises DriftloopError."""
        return put(self._http, _model()._replace(patience=GLANCE), "the server")


async def served_model(server_url: str, token: str = "") -> dict[str, Any]:
    """The same from asyncio."""
    async with async_client(server_url, token) as http:
        return await put_async(http, _model(), "the server")


# How they are put, and what is made of the answers.


def put(http: httpx.Client, question: Question[T], whom: str = "the retrainer") -> T:
    """The answer to a question; raises DriftloopError."""
    answer = tried(http, question.patience, **_request(question))
    return _read(answer, question, _where(http.base_url, question), whom)


async def put_async(http: httpx.AsyncClient, question: Question[T], whom: str = "the retrainer") -> T:
    """The same from asyncio."""
    tries = attempts(question.patience)
    pause = next(tries)
    while True:
        await asyncio.sleep(pause)
        try:
            answer: Answer = await http.request(**_request(question))
        except httpx.RequestError as error:
            answer = error
        try:
            pause = tries.send(answer)
        except StopIteration as last:
            return _read(last.value, question, _where(http.base_url, question), whom)


def _request(question: Question[Any]) -> dict[str, Any]:
    return {
        "method": question.method,
        "url": question.path,
        "content": question.body,
        "headers": JSON if question.body is not None else None,
        "timeout": question.patience.timeout,
    }


def _where(base: httpx.URL, question: Question[Any]) -> str:
    return str(base).rstrip("/") + question.path


def _read(answer: Answer, question: Question[T], where: str, whom: str) -> T:
    """What was asked for; raises DriftloopError, saying what is wrong and what to do."""
    if isinstance(answer, httpx.RequestError):
        raise (question.unreachable or _retrainer_unreachable)(why(answer), where, whom) from answer
    if not answer.is_success and not (question.also and question.also in answer.content):
        raise (question.refused or _refused)(answer, where)
    try:
        return question.read(durable.decode_json(answer.content or b"{}", dict[str, Any]))
    except (JsonError, KeyError, TypeError, ValueError) as error:
        said = str(error) if isinstance(error, JsonError) else f"something is missing in it ({error!r})"
        raise (question.unreachable or _retrainer_unreachable)(said, where, whom) from error


def _retrainer_unreachable(said: str, where: str, whom: str) -> DriftloopError:
    what = f"no usable answer from {whom}: {said}"
    return DriftloopError(what, where=where, remedy=START_IT, exit_code=ExitCode.UNREACHABLE)


def unreachable(said: str, where: str, whom: str) -> DriftloopError:
    """What is raised where a process other than the retrainer does not answer."""
    what = f"no usable answer from {whom}: {said}"
    remedy = "is the platform up? See `driftloop status`"
    return DriftloopError(what, where=where, remedy=remedy, exit_code=ExitCode.UNREACHABLE)


def _refused(answer: httpx.Response, where: str) -> DriftloopError:
    remedy = "set DRIFTLOOP_TOKEN_FILE to the platform's token" if answer.status_code == 401 else None
    # Whom a token lets in is put right elsewhere.
    kind = DriftloopError if answer.status_code in (401, 403) or may_change(answer) else Refused
    return kind(detail(answer), where=where, remedy=remedy, exit_code=exit_code(answer))


def detail(answer: httpx.Response) -> str:
    """What the body of a refusal says; its beginning where it is none of ours."""
    try:
        said = durable.decode_json(answer.content, dict[str, Any])["detail"]
        if isinstance(said, list):
            return "; ".join(f"{entry['field']}: {entry['message']}" for entry in said)
        return str(said)
    except (JsonError, KeyError, TypeError):
        return answer.text[:200] or f"answered {answer.status_code} without a word"
