"""Sending completed runs to the retrainer, which archives them, and asking it what it has."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from driftloop.errors import DataError, DriftloopError
from driftloop.fleet.archive import RunConflict
from driftloop.fleet.runs import Run

_BATCH_BYTES = 2 * 2**20
_TRIES, _FIRST_PAUSE_S = 4, 0.5


@dataclass
class Posted:
    """What became of the runs: archived now, or known already with the same rows."""

    added: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)


def post_runs(
    runs: Sequence[Run], url: str, token: str = "", progress: Callable[[int, int], None] | None = None
) -> Posted:
    """Send completed runs to `POST /archive/runs` in batches; returns when all of them are archived.

    `progress` is called with the runs archived so far and in all. A call that gets no answer is repeated, which
    is safe, since a run is archived once. Raises RunConflict for an id that is taken by other rows, DataError for
    a run that is refused, and DriftloopError where the retrainer cannot be reached; the batches before stay
    archived, and all runs may simply be sent again.
    """
    posted = Posted()
    with _client(url, token) as http:
        for body, count in batches(runs):
            answer = _ask(http, "POST", "/archive/runs", body)
            posted.added += answer.get("added", [])
            posted.known += answer.get("known", [])
            if progress is not None:
                progress(len(posted.added) + len(posted.known), len(runs))
            if count > len(answer.get("added", [])) + len(answer.get("known", [])):
                raise DriftloopError(f"acknowledged fewer than the {count} runs that were sent", where=url)
    return posted


def archived_runs(url: str, token: str = "") -> list[dict[str, Any]]:
    """The archived runs as the retrainer lists them: `run_id` and `role` of each."""
    with _client(url, token) as http:
        listed: list[dict[str, Any]] = _ask(http, "GET", "/archive/runs")["runs"]
    return listed


def batches(runs: Sequence[Run]) -> Iterator[tuple[bytes, int]]:
    """Bodies of `POST /archive/runs`, each about 2 MiB at most, and the number of runs in each."""
    parts: list[bytes] = []
    for run in runs:
        part = msgspec.json.encode({"run_id": run.run_id, "rows": run.rows.tolist()})
        if parts and sum(map(len, parts)) + len(part) > _BATCH_BYTES:
            yield b'{"runs":[' + b",".join(parts) + b"]}", len(parts)
            parts = []
        parts.append(part)
    if parts:
        yield b'{"runs":[' + b",".join(parts) + b"]}", len(parts)


def _client(url: str, token: str) -> httpx.Client:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    # Proxies named in the environment are for the world outside; the retrainer is part of the platform.
    return httpx.Client(base_url=url, headers=headers, timeout=httpx.Timeout(60.0, connect=5.0), trust_env=False)


def _ask(http: httpx.Client, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            answer = http.request(method, path, content=body)
        except httpx.TransportError as error:
            failure = f"cannot be reached: {error or type(error).__name__}"
            continue
        if answer.status_code < 500:
            return _content(answer)
        failure = f"answered {answer.status_code} {answer.text[:200]}"
    remedy = "start it with `driftloop up`, or set DRIFTLOOP_RETRAINER_URL; then send all runs again"
    raise DriftloopError(f"the retrainer {failure}", where=str(http.base_url), remedy=remedy)


def _content(answer: httpx.Response) -> dict[str, Any]:
    where = str(answer.url)
    if answer.status_code in (401, 403):
        raise DriftloopError("the token is missing or wrong", where=where, remedy="set DRIFTLOOP_TOKEN_FILE")
    if answer.status_code == 409:
        raise RunConflict(_detail(answer), where=where, remedy="give the run another id, or leave it out")
    if answer.status_code != 200:
        raise DataError(f"refused the runs ({answer.status_code}): {_detail(answer)}", where=where)
    content: dict[str, Any] = answer.json()
    return content


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
        if isinstance(detail, list):
            return "; ".join(f"{entry['field']}: {entry['message']}" for entry in detail)
        return str(detail)
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
