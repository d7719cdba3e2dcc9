"""What a program may do by the public API: each act is sent once, needs a role, and stands in the audit log.

The words and defaults are those of the methods of driftloop.client.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from driftloop.protocol.client import Question
from driftloop.protocol.http import in_path
from driftloop.protocol.life_events import Kind
from driftloop.protocol.platform import act, get
from driftloop.protocol.platform_answers import Act, Archived, Happened, Moved, NewToken, Token, Withdrawn
from driftloop.protocol.roles import Role

Mode = Literal["warm", "full"]
T = TypeVar("T")

Written = dict[str, Any]
"""What the loop wrote down."""


def retrain(fleet: str, mode: Mode = "warm", reason: str = "") -> Question[Written]:
    """Start a retraining; the attempt."""
    return _act(fleet, "loop/retrain", {"mode": mode, "reason": reason}, Written)


def first_aid(fleet: str, reason: str = "") -> Question[Written]:
    """Grow the served model's regimes from traffic, without labels; what came of it."""
    return _act(fleet, "loop/first-aid", {"reason": reason}, Written)


def promote(fleet: str, version: str, reason: str = "", *, from_version: str | None = None) -> Question[Moved]:
    """Put a version into production; refused where `from_version`, which you saw there, is no longer there."""
    seen = {} if from_version is None else {"from_version": from_version}
    return _act(fleet, f"models/{in_path(version)}/promote", {"reason": reason, **seen}, Moved)


def rollback(fleet: str, from_version: str, reason: str = "") -> Question[Moved]:
    """Go back from the version that you saw in production to the one before it. Asked again it does nothing."""
    return _act(fleet, "models/rollback", {"from_version": from_version, "reason": reason}, Moved)


def answer(fleet: str, approval: str, word: Literal["approve", "reject"], reason: str = "") -> Question[Written]:
    """Answer what `loop().approval` asks, by its `id`."""
    return _act(fleet, f"approvals/{in_path(approval)}/{word}", {"reason": reason}, Written)


def mute(fleet: str, cause: str, for_s: float, reason: str = "") -> Question[Written]:
    """Tell nobody of a cause, such as `fleet_change:3`, or of a kind of causes, for so many seconds."""
    return _act(fleet, f"causes/{in_path(cause)}/mute", {"for_s": for_s, "reason": reason}, Written)


def unmute(fleet: str, cause: str) -> Question[Written]:
    """Tell of a cause again."""
    return _act(fleet, f"causes/{in_path(cause)}/mute", None, Written, "DELETE")


def add_schedule(fleet: str, entry: Mapping[str, Any]) -> Question[Written]:
    """Add a schedule or a watch, or change the one of its name: `name`, `act`, and `every_s` or `cron`."""
    return _act(fleet, "schedules", entry, Written)


def cancel_schedule(fleet: str, name: str) -> Question[Written]:
    """Cancel a schedule or a watch."""
    return _act(fleet, f"schedules/{in_path(name)}", None, Written, "DELETE")


def archive(fleet: str, runs: Sequence[Mapping[str, Any]], *, only_check: bool = False) -> Question[Archived]:
    """Archive completed runs, all or none: each with `run_id` and `rows`, and where it applies `censored` or
    `confirmed`. With `only_check`, say what would be refused."""
    return _act(fleet, "runs", {"runs": runs, "only_check": only_check}, Archived)


def withdraw(fleet: str, runs: Sequence[str], reason: str = "") -> Question[Withdrawn]:
    """Take runs back by their ids, and say which versions have learnt from them."""
    return _act(fleet, "runs/withdraw", {"runs": runs, "reason": reason}, Withdrawn)


def tell(
    fleet: str, unit: str, kind: Kind, *, time: str | None = None, step: float | None = None,
    age: int | Literal["unknown"] | None = None, note: str = "", id: str | None = None,
) -> Question[Happened]:  # fmt: skip
    """Tell what has happened to a unit, by default now; with an `id` of the sender's it may be told again."""
    said = {"kind": kind, "time": time, "step": step, "age": age, "note": note, "id": id}
    body = {name: value for name, value in said.items() if value is not None}
    return _act(fleet, f"units/{in_path(unit)}/events", body, Happened)


def take_back(fleet: str, unit: str, event: int, reason: str = "") -> Question[Happened]:
    """Withdraw a life event by its `id` in the list of the unit: its life goes on."""
    return _act(fleet, f"units/{in_path(unit)}/events/{event}", {"reason": reason}, Happened, "DELETE")


def rename(fleet: str, unit: str, name: str) -> Question[Written]:
    """Give a unit another name."""
    return _act(fleet, f"units/{in_path(unit)}/rename", {"name": name}, Written)


def split(fleet: str, unit: str, name: str) -> Question[Written]:
    """Make a unit of its own, `name`, of the rows that contradicted those of this one."""
    return _act(fleet, f"units/{in_path(unit)}/split", {"name": name}, Written)


def tokens() -> Question[list[Token]]:
    """Named tokens; nobody is told a secret again."""
    return get("/tokens", list[Token], "tokens")


def add_token(name: str, role: Role, *, days: float | None = 90.0, rate: float | None = None) -> Question[NewToken]:
    """Make a token for a program, of so many days (None: without an end) and requests in a second."""
    body = {"name": name, "role": role, "days": days, **({} if rate is None else {"rate": rate})}
    return act("POST", "/tokens", body, NewToken)


def revoke_token(name: str) -> Question[None]:
    """Refuse a token with its next request."""
    return act("DELETE", f"/tokens/{in_path(name)}", None, Written).then(lambda _: None)


def audit(after: int = 0, limit: int = 100) -> Question[list[Act]]:
    """The newest acts, or those behind the number `after`, oldest first."""
    return get(f"/audit?after={after}&limit={limit}", list[Act], "entries")


def _act(
    fleet: str, path: str, body: Mapping[str, Any] | None, kind: type[T], method: Literal["POST", "DELETE"] = "POST"
) -> Question[T]:
    return act(method, f"/fleets/{in_path(fleet)}/{path}", body, kind)
