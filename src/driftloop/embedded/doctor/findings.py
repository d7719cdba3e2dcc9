"""What a check has found."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from driftloop.errors import DriftloopError

Level = Literal["fine", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that a check has looked at; all but what is fine says what to do."""

    check: str
    level: Level
    what: str
    where: str = ""
    remedy: str = ""


def fine(check: str, what: str, where: str = "") -> Finding:
    """Nothing is wrong with it."""
    return Finding(check, "fine", what, where)


def warning(check: str, what: str, where: str, remedy: str) -> Finding:
    """It works now, and may not for long."""
    return Finding(check, "warning", what, where, remedy)


def problem(check: str, what: str, where: str, remedy: str) -> Finding:
    """It does not work, or must not stay so."""
    return Finding(check, "problem", what, where, remedy)


def of_error(check: str, error: Exception) -> Finding:
    """An error that the check came upon."""
    if isinstance(error, DriftloopError):
        return problem(check, error.what, error.where or "", error.remedy or "see `driftloop doctor --json`")
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    where = str(getattr(error, "filename", None) or "")
    return problem(check, f"cannot be looked at: {said}", where, "let this user read it")


def safely(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; an error ends this check alone, and is a finding too: what is looked at may be damaged in any
    way."""
    try:
        yield from look()
    except (DriftloopError, OSError) as error:
        yield of_error(check, error)
    except Exception as error:
        what = f"cannot be looked at: {type(error).__name__}: {error}"
        yield problem(check, what, "this check itself", "see what of the files that it reads is damaged")
