"""`fleets.json` in a state folder: the fleets that share it, with the folder and the addresses of each.

`driftloop up` writes it; every command reads in it where the fleet that it is meant for is.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from driftloop import durable
from driftloop.errors import DriftloopError

FILE = "fleets.json"
_REMEDY = "correct it, or delete it: `driftloop up` writes it anew, and gives out ports anew"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one fleet is."""

    fleet: str
    """A built-in fleet's name, or the path of its file."""
    folder: str
    """Folder of its state within the state folder; `.` for the fleet that was there first."""
    server_url: str
    retrainer_url: str
    units_url: str = ""
    """Empty where an earlier version wrote the file."""


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """All fleets that were ever started with this state folder, by name."""

    mlflow_url: str
    up: tuple[str, ...]
    """Those that were started last."""
    fleets: dict[str, Place]


def read(state_dir: Path) -> Places | None:
    """What `up` wrote into this folder; None where it never did. Raises JsonError for a file that is damaged, and
    DriftloopError where the folder is none."""
    if state_dir.exists() and not state_dir.is_dir():
        raise DriftloopError(
            "the state folder is no folder",
            where=str(state_dir),
            remedy="move it away, or choose another one with DRIFTLOOP_STATE_DIR",
        )
    try:
        found = durable.read_json(state_dir / FILE, Places, remedy=_REMEDY)
    except FileNotFoundError:
        return None
    if missing := [name for name in found.up if name not in found.fleets]:
        raise DriftloopError(f"has no place for {missing[0]}", where=str(state_dir / FILE), remedy=_REMEDY)
    return found


def write(state_dir: Path, places: Places) -> None:
    """Keep it for the commands and for the next `up`."""
    durable.write_json(state_dir / FILE, msgspec.to_builtins(places))


def choose(places: Places, wanted: str | None) -> str:
    """Name of the fleet that is meant by a name or a path; without one, of the only fleet that was started.

    Raises DriftloopError with the list where several were started and none is named, and for one that has no place.
    """
    if wanted is None:
        if len(places.up) == 1:
            return places.up[0]
        raise DriftloopError(
            f"several fleets share this platform: {listed(places.up)}",
            where="--fleet",
            remedy=f"name one, for example `driftloop --fleet {places.up[0]} status`",
        )
    for name, place in places.fleets.items():
        if wanted == name or same(wanted, place.fleet):
            return name
    raise DriftloopError(
        f"there is no fleet {wanted!r} on this platform, but {listed(sorted(places.fleets))}",
        where="--fleet",
        remedy="name one of these, start the other with `driftloop up --fleet FILE`, or set DRIFTLOOP_STATE_DIR",
    )


def listed(names: Iterable[str]) -> str:
    """Names for people."""
    return ", ".join(names)


def same(one: str, other: str) -> bool:
    """Whether two names or paths mean the same fleet file; the folder of a file means the file."""
    return one == other or _file(one) == _file(other)


def _file(fleet: str) -> Path:
    path = Path(fleet)
    return (path / "fleet.toml" if path.is_dir() else path).absolute()
