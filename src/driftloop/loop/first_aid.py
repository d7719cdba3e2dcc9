"""First aid, from windows in the servers' memory to a provisional version in production; docs/first-aid.md.

No step changes anything but the registry, and the alias `production` moves last: a kill before it leaves a version
that nobody serves, and one after it a version that says what it is.
"""

import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from driftloop.errors import BundleError
from driftloop.loop.judge import first_aid as judge
from driftloop.loop.judge import promotion
from driftloop.loop.judge.promotion import Tell
from driftloop.model import bundle, first_aid
from driftloop.model.bundle import CHECKPOINT, FIRST_AID, SERVING_FILES, read_metadata
from driftloop.model.registry import PRODUCTION, Registry
from driftloop.protocol.windows import UnitWindow

Read = Callable[[], Sequence[UnitWindow]]
FOLDER = "first-aid"
"""Below the loop's folder: what the champion at hand brings, and what was made of it."""


class Outcome(NamedTuple):
    """What became of an attempt to give first aid."""

    kind: Literal["made", "promoted", "waiting", "refused"]
    """`waiting`: nothing speaks against it but that windows are few or units young. `made`: it is registered."""
    reason: str
    model_version: str | None = None
    """The provisional version, where it was promoted."""
    young: bool = False
    """Of `waiting`: the fleet may be too young for it, and must age before it is looked at again."""


def give(
    registry: Registry,
    champion: str,
    read: Read,
    folder: Path,
    cause: str | None,
    report: Tell,
    *,
    asks: bool = False,
) -> Outcome:
    """Give `champion`, which must be in production, first aid from the windows that `read` finds.

    Where a person is asked first (`asks`) the provisional version is made and registered, and not put into production.
    `folder` is the loop's. Raises RegistryUnavailable and WindowsUnavailable while either is away, and
    DriftloopError where another version is in production meanwhile.
    """
    known = _known(registry, champion, folder)
    if isinstance(known, Outcome):
        return known
    tried = judge.attempt(known, read())
    if tried.kind != "given" or tried.aided is None:
        kind: Literal["waiting", "refused"] = "refused" if tried.kind == "refused" and not tried.young else "waiting"
        return Outcome(kind, tried.reason, young=tried.young)
    made = first_aid.write(known, tried.aided, known.folder.parent / "made", parent_version=champion, cause=cause)
    tags = {"training": FIRST_AID, "provisional": "true", promotion.PARENT_TAG: champion, "decision": "pending"}
    version = registry.register_beside(champion, made, {**tags, **({"cause": cause} if cause else {})})
    if asks:
        return Outcome("made", tried.reason, version)
    promotion.promote(registry, version, reason=tried.reason, cause=cause, report=report, champion=champion)
    return Outcome("promoted", tried.reason, version)


@functools.lru_cache(maxsize=1)
def _read(folder: Path, _: str) -> first_aid.Known:
    """The champion's files, opened once and not at every look; the digest says whether they are the same."""
    return first_aid.read(folder)


def _known(registry: Registry, champion: str, folder: Path) -> first_aid.Known | Outcome:
    """What first aid needs of the champion, whose files are fetched once; or why no traffic could help."""
    if registry.alias(PRODUCTION) != champion:
        return Outcome("refused", f"version {champion} is not in production")
    _forget_others(folder, champion)
    found = registry.fetch(champion, folder / FOLDER / champion / "known", (*SERVING_FILES, CHECKPOINT))
    impossible = first_aid.impossible(read_metadata(found))
    if impossible is not None:
        return Outcome("refused", impossible)
    try:
        return _read(found, bundle.digest(found))
    except BundleError as error:
        return Outcome("refused", str(error))


def _forget_others(folder: Path, champion: str) -> None:
    """Delete what is left of earlier champions, also where 0.2.0 kept it: one has a bundle, and there may be many."""
    for left in (*(folder / FOLDER).glob("*"), *folder.glob(f"{FOLDER}-*")):
        if left.name != champion:
            shutil.rmtree(left, ignore_errors=True)
