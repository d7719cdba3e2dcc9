"""The fleets of this platform, and the processes of each: asked over HTTP, never read from their folders."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import msgspec

from driftloop import durable, places
from driftloop import settings as settings_
from driftloop.access.files import Stamp, stamp
from driftloop.api.problems import Problem
from driftloop.api.tail import Tail
from driftloop.errors import DriftloopError, JsonError, RegistryUnavailable
from driftloop.model.registry import Registry
from driftloop.protocol import answers, windows
from driftloop.protocol.client import ACTOR
from driftloop.protocol.http import GLANCE, JSON, Patience, client, why
from driftloop.settings import Settings

ASKING = Patience(10.0, 2.0)
"""Of a page that waits."""
ACTING = Patience(60.0, 2.0)
"""Of a person who has asked for something to be done."""

_MOST_FIGURES = 1000


class Fleet:
    """One fleet: its settings, and its processes. Any number of threads may use it."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.settings = name, settings
        self.registry = Registry(settings.mlflow_url, settings.model)
        self._retrainer = client(settings.retrainer_url, settings.token, ASKING)
        self._server = client("", settings.token, ASKING)
        self._figures: dict[str, dict[str, float]] = {}
        self.tail = Tail(self.ask)

    def start(self) -> None:
        """Follow its events from now on."""
        self.tail.start()

    def close(self) -> None:
        """Close the connections."""
        self.tail.stop()
        self.registry.close()
        self._retrainer.close()
        self._server.close()

    def ask(self, path: str, **parameters: Any) -> dict[str, Any]:
        """What the retrainer answers to GET `path`; raises Problem where it does not."""
        return _answer(lambda: self._retrainer.get(path, params=parameters), "retrainer")

    def act(self, method: str, path: str, body: bytes, actor: str) -> dict[str, Any]:
        """Have the retrainer do something for `actor`; its answer. Raises Problem where it refuses."""
        headers = {ACTOR.encode(): actor.encode(), b"Content-Type": b"application/json"}
        return _answer(
            lambda: self._retrainer.request(method, path, content=body, headers=headers, timeout=ACTING.timeout),
            "retrainer",
        )

    def server(self, path: str) -> dict[str, Any]:
        """What the prediction server answers to GET `path`; raises Problem where it does not."""
        return _answer(lambda: self._server.get(self.settings.server_url + path), "server")

    def kept(self, path: str, **parameters: Any) -> dict[str, Any] | None:
        """What the service that keeps units answers to GET `path`; None where the fleet has none. Raises Problem."""
        if "units_url" not in self.settings.model_fields_set:
            return None
        url = self.settings.units_url + path
        return _answer(lambda: self._server.get(url, params=parameters, timeout=GLANCE.timeout), "units")

    def change_units(self, method: str, path: str, body: bytes, actor: str) -> dict[str, Any]:
        """Have the service that keeps units do something for `actor`; its answer. Raises Problem where it refuses."""
        if "units_url" not in self.settings.model_fields_set:
            raise Problem(409, "fleet", f"{self.name} keeps no units: rows go to its prediction server alone")
        headers = {ACTOR.encode(): actor.encode(), b"Content-Type": b"application/json"}
        url = self.settings.units_url + path
        return _answer(
            lambda: self._server.request(method, url, content=body, headers=headers, timeout=ACTING.timeout), "units"
        )

    def model(self) -> dict[str, Any] | None:
        """What the server says that it serves; None where it does not answer."""
        try:
            return self.server("/model")
        except Problem:
            return None

    def figures(self, run_id: str) -> dict[str, float]:
        """The figures of a training, which never change: asked of the registry once."""
        if run_id not in self._figures:
            found: dict[str, float] = in_registry(self, lambda registry: registry.figures(run_id))
            while len(self._figures) >= _MOST_FIGURES:
                self._figures.pop(next(iter(self._figures)), None)
            self._figures[run_id] = found
        return self._figures[run_id]

    def newest(self) -> dict[str, answers.Answer]:
        """The newest answer of each unit, of all replicas."""
        return answers.newest_of(found.units for found in self._of_replicas({}, answers.Newest))

    def of_unit(self, unit: str, *, explained: bool = False) -> answers.OfUnit:
        """What the replicas remember of one unit; its window, and what drives the answer to it, of whoever has the
        newest."""
        asked = {"unit": unit, **({"explained": "yes"} if explained else {})}
        found = list(self._of_replicas(asked, answers.OfUnit))
        said = sorted((answer for one in found for answer in one.answers), key=lambda answer: answer.time)
        newest = max(found, key=lambda one: (bool(one.sensors), -1 if one.step is None else one.step))
        return answers.OfUnit(unit, said, newest.sensors, newest.step, newest.drivers)

    def explain(self, rows: Sequence[Sequence[float | None]]) -> dict[str, Any]:
        """What drives the server's answer to the rows of one unit; raises Problem."""
        url, body = f"{self.settings.server_url}/explain", msgspec.json.encode({"rows": rows})
        return _answer(lambda: self._server.post(url, content=body, headers=JSON, timeout=ACTING.timeout), "server")

    def bands(self, rows: Sequence[Sequence[float | None]]) -> list[answers.Band]:
        """The sensors of rows of one unit with the bands of their regimes; raises Problem, as for rows with a value
        missing that this fleet's must have."""
        url, body = self.settings.server_url + answers.BANDS, msgspec.json.encode({"rows": rows})
        content = _content(functools.partial(self._server.post, url, content=body, headers=JSON), "server")
        return durable.decode_json(content, answers.Bands).sensors

    def _of_replicas(self, parameters: dict[str, str], kind: type[Any]) -> Iterator[Any]:
        """What each replica answers; raises Problem where none does."""
        problem: Problem | None = None
        answered = False
        for url in windows.replicas(self.settings.replicas_url or self.settings.server_url):
            where = url + answers.PATH
            try:
                content = _content(functools.partial(self._server.get, where, params=parameters), "server")
                yield durable.decode_json(content, kind)
                answered = True
            except Problem as error:
                problem = error
            except JsonError as error:
                problem = Problem(503, "server", f"answers with something else than units: {error.what}")
        if problem is not None and not answered:
            raise problem


class Fleets:
    """All fleets by name; read anew when `driftloop up` has changed what there is."""

    def __init__(self, base: Settings) -> None:
        self.base = base
        self._guard = threading.Lock()
        self._read: Stamp = None
        self._known: dict[str, Fleet] = {}

    def all(self) -> dict[str, Fleet]:
        """Every fleet that is up, by name."""
        with self._guard:
            now = stamp(self.base.state_dir / places.FILE)
            if not self._known or now != self._read:
                self._update(self._wanted())
                self._read = now
            return dict(self._known)

    def get(self, name: str) -> Fleet:
        """One fleet; Problem 404 where there is none of this name."""
        found = self.all()
        if name not in found:
            raise Problem(404, "fleet", f"there is no fleet {name[:60]!r}, but {', '.join(found)}")
        return found[name]

    def close(self) -> None:
        """Close all connections."""
        with self._guard:
            self._update({})

    def _wanted(self) -> dict[str, Settings]:
        known = places.read(self.base.state_dir)
        if known is None:
            return {self.base.schema.name: self.base}
        return {name: settings_.of_fleet(self.base, known, name) for name in known.up}

    def _update(self, wanted: dict[str, Settings]) -> None:
        for name in [name for name, fleet in self._known.items() if wanted.get(name) != fleet.settings]:
            self._known.pop(name).close()
        for name, settings in wanted.items():
            if name not in self._known:
                self._known[name] = Fleet(name, settings)
                self._known[name].start()


def in_registry(fleet: Fleet, ask: Callable[[Registry], Any]) -> Any:
    """What the registry answers; Problem where it does not."""
    try:
        return ask(fleet.registry)
    except RegistryUnavailable as error:
        raise Problem(503, "registry", error.what) from error
    except DriftloopError as error:
        raise Problem(404, "version", error.what) from error


def _content(ask: Callable[[], httpx.Response], whom: str) -> bytes:
    try:
        answer = ask()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Problem(503, whom, f"does not answer: {why(error)}") from error
    if answer.is_success:
        return answer.content
    raise Problem.of(answer, whom)


def _answer(ask: Callable[[], httpx.Response], whom: str) -> dict[str, Any]:
    try:
        return durable.decode_json(_content(ask, whom), dict[str, Any])
    except JsonError as error:
        raise Problem(503, whom, f"answers with something else: {error.what}") from error
