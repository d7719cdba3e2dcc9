"""Sending completed runs to the retrainer, which archives them, and asking it what it has."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from driftloop.errors import DataError, DriftloopError, ExitCode
from driftloop.fleet.archive import RunConflict
from driftloop.fleet.runs import Run
from driftloop.protocol.client import START_IT, Question, detail, put
from driftloop.protocol.http import PATIENT, client, exit_code

_BATCH_BYTES = 2 * 2**20
_FIRST_PAUSE_S = PATIENT.first_pause_s
_RUNS = "/archive/runs"


@dataclass
class Posted:
    """What became of the runs: archived now, or known already with the same rows."""

    added: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    same_as: dict[str, str] = field(default_factory=dict)
    """For known runs that came under another id, the one under which their rows are archived."""


def post_runs(
    runs: Sequence[Run],
    url: str,
    token: str = "",
    progress: Callable[[int, int], None] | None = None,
    confirmed: Collection[str] = (),
) -> Posted:
    """Send completed runs to `POST /archive/runs` in batches; returns when all of them are archived.

    Where there are several batches, all are looked at before the first is archived. `progress` is called with the runs
    archived so far and in all; `confirmed` are the ids of runs of which somebody knows that the unit failed. A call
    that gets no answer is repeated, which is safe, since a run is archived once. Raises RunConflict for an id that is
    taken by other rows, DataError for a run that is refused, and DriftloopError where the retrainer cannot be reached;
    the batches before stay archived, and all runs may simply be sent again.
    """
    posted = Posted()
    with _client(url, token) as http:
        if sum(1 for _ in batches(runs, confirmed)) > 1:
            for body, _ in batches(runs, confirmed, only_check=True):
                _ask(http, "POST", _RUNS, body)
        for body, count in batches(runs, confirmed):
            answer = _ask(http, "POST", _RUNS, body)
            posted.added += answer.get("added", [])
            posted.known += answer.get("known", [])
            posted.same_as |= answer.get("same_as", {})
            if progress is not None:
                progress(len(posted.added) + len(posted.known), len(runs))
            if count > len(answer.get("added", [])) + len(answer.get("known", [])):
                raise DriftloopError(f"acknowledged fewer than the {count} runs that were sent", where=url)
    return posted


def withdraw_runs(
    run_ids: Sequence[str], sha256: Sequence[str], reason: str, url: str, token: str = ""
) -> dict[str, Any]:
    """Take runs back, by id or by the SHA-256 of their rows; returns what `POST /archive/withdraw` answers."""
    body = msgspec.json.encode({"runs": list(run_ids), "sha256": list(sha256), "reason": reason})
    with _client(url, token) as http:
        return _ask(http, "POST", "/archive/withdraw", body)


def archived_runs(url: str, token: str = "") -> list[dict[str, Any]]:
    """The archived runs as the retrainer lists them: `run_id` and `role` of each."""
    with _client(url, token) as http:
        listed: list[dict[str, Any]] = _ask(http, "GET", _RUNS)["runs"]
    return listed


def deal_roles(run_ids: Sequence[str], least: Mapping[str, int]) -> Question[Mapping[str, str]]:
    """The question for the roles of units whose runs need not be archived yet; they are dealt and written down."""
    body = msgspec.json.encode({"run_ids": list(run_ids), "least": dict(least)})
    return Question("POST", "/archive/roles", lambda answer: dict(answer["roles"]), body, PATIENT, None, _refused)


def dealt_roles(run_ids: Sequence[str], least: Mapping[str, int], url: str, token: str = "") -> Mapping[str, str]:
    """What `deal_roles` answers."""
    with _client(url, token) as http:
        return put(http, deal_roles(run_ids, least))


def batches(
    runs: Sequence[Run], confirmed: Collection[str] = (), *, only_check: bool = False
) -> Iterator[tuple[bytes, int]]:
    """Bodies of `POST /archive/runs`, each about 2 MiB at most, and the number of runs in each."""
    end = b'],"only_check":true}' if only_check else b"]}"
    parts: list[bytes] = []
    for run in runs:
        part = msgspec.json.encode(
            {
                "run_id": run.run_id,
                "rows": run.rows.tolist(),  # a missing value becomes null
                **({"censored": True} if run.censored else {}),
                **({"confirmed": True} if run.run_id in confirmed else {}),
            }
        )
        if parts and sum(map(len, parts)) + len(part) > _BATCH_BYTES:
            yield b'{"runs":[' + b",".join(parts) + end, len(parts)
            parts = []
        parts.append(part)
    if parts:
        yield b'{"runs":[' + b",".join(parts) + end, len(parts)


def post_batch(body: bytes) -> Question[dict[str, Any]]:
    """The question that archives a batch."""
    return _question("POST", _RUNS, body)


def _client(url: str, token: str) -> httpx.Client:
    return client(url, token, PATIENT)


def _ask(http: httpx.Client, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
    return put(http, _question(method, path, body))


def _question(method: str, path: str, body: bytes | None) -> Question[dict[str, Any]]:
    patience = PATIENT._replace(first_pause_s=_FIRST_PAUSE_S)
    unreachable = _runs_unsent if (method, path) == ("POST", _RUNS) else None
    return Question(method, path, lambda content: content, body, patience, unreachable, _refused)


def _runs_unsent(said: str, where: str, whom: str) -> DriftloopError:
    what = f"{whom} cannot be reached: {said}"
    remedy = f"{START_IT}; then send all runs again"
    return DriftloopError(what, where=where, remedy=remedy, exit_code=ExitCode.UNREACHABLE)


def _refused(answer: httpx.Response, where: str) -> DriftloopError:
    if answer.status_code in (401, 403):
        remedy = "set DRIFTLOOP_TOKEN_FILE to the platform's token" if answer.status_code == 401 else None
        return DriftloopError(detail(answer), where=where, remedy=remedy, exit_code=ExitCode.REFUSED)
    if answer.status_code == 409:
        return RunConflict(detail(answer), where=where)
    if answer.status_code >= 500:
        what = f"the retrainer answered {answer.status_code} {answer.text[:200]}"
        return DriftloopError(what, where=where, remedy=f"{START_IT}; then try again", exit_code=ExitCode.UNREACHABLE)
    what = f"refused the runs ({answer.status_code}): {detail(answer)}"
    return DataError(what, where=where, exit_code=exit_code(answer))
