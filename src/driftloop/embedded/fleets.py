"""Which fleets a platform has, and the place of each: its folder, and ports that stay the same at every start."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from driftloop import fleets, places, settings
from driftloop.embedded.supervisor import port_is_free
from driftloop.errors import DriftloopError
from driftloop.places import Place, Places
from driftloop.settings import Settings

FOLDER = "fleets"
"""Folder, in the state folder, with the state of every fleet but the first."""
_TRIES = 1000
_OWN = ("server_url", "retrainer_url", "units_url")
"""Addresses that each fleet has for itself."""


def assign(base: Settings, wanted: Sequence[str], known: Places | None) -> Places:
    """The places of the fleets `wanted` (names or paths), which are to be started, and of those known before.

    A fleet keeps its place. A new one gets the state folder itself where it is the first, or else a folder in it, and
    free ports: alone in a folder of its own, exactly those of the settings. Raises DriftloopError for two fleets of one
    name and for settings that several fleets cannot share.
    """
    before = dict(known.fleets) if known is not None else {}
    if known is None and any((base.state_dir / name).exists() for name in ("loop", "archive", "serving")):
        # State of a version that knew one fleet.
        before["cmapss"] = Place(fleet="cmapss", folder=".", **{field: getattr(base, field) for field in _OWN})
    chosen = _by_name(base, wanted)
    alone = len(chosen) == 1
    if base.model_name and not alone:
        raise DriftloopError(
            f"{len(chosen)} fleets cannot share one model name",
            where=f"DRIFTLOOP_MODEL_NAME = {base.model_name}",
            remedy="unset it: each fleet has a name of its own, rul-<fleet>",
        )
    found = dict(before)
    for name, fleet in chosen.items():
        old = before.get(name)
        folder = old.folder if old else _folder(name, alone, found)
        exact = alone and folder == "."
        # The ports of fleets that are not started now stay theirs.
        taken = {_port(url) for other, place in found.items() if other != name for url in _urls(place)}
        urls = {}
        for field in _OWN:
            url = getattr(base, field)
            kept = getattr(old, field, "")
            if kept and not (exact and field in base.model_fields_set):
                url = kept
            elif not exact:
                url = _free(url, taken)
            taken.add(_port(url))
            urls[field] = url
        found[name] = Place(fleet=fleet, folder=folder, **urls)
    same = known is not None and "mlflow_url" not in base.model_fields_set
    return Places(mlflow_url=known.mlflow_url if same and known else base.mlflow_url, up=tuple(chosen), fleets=found)


def running(base: Settings, known: Places) -> dict[str, Settings]:
    """The settings of every fleet that is started, by name."""
    return {name: settings.of_fleet(base, known, name) for name in known.up}


def _by_name(base: Settings, wanted: Sequence[str]) -> dict[str, str]:
    """Fleet file or built-in name of each fleet, by its name."""
    found: dict[str, str] = {}
    for given in wanted:
        fleet = settings.from_environment(**{**base.model_dump(include=base.model_fields_set), "fleet": given}).fleet
        name = fleets.load(fleet).name
        if name in found and not places.same(found[name], fleet):
            raise DriftloopError(
                f"two fleets are called {name!r}: {found[name]} and {fleet}",
                where="--fleet",
                remedy="change `name` in one of the files",
            )
        found[name] = fleet
    return found


def _folder(name: str, alone: bool, found: dict[str, Place]) -> str:
    if alone and not any(place.folder == "." for place in found.values()):
        return "."
    return f"{FOLDER}/{name}"


def _urls(place: Place) -> list[str]:
    return [url for url in (getattr(place, field) for field in _OWN) if url]


def _port(url: str) -> int:
    return urlsplit(url).port or 0


def _free(url: str, taken: set[int]) -> str:
    """`url` with the first free port from its own upwards."""
    parts = urlsplit(url)
    first = parts.port or 1024
    for port in range(first, min(first + _TRIES, 65536)):
        if port not in taken and port_is_free(parts.hostname or "127.0.0.1", port):
            return f"{parts.scheme}://{parts.hostname}:{port}"
    raise DriftloopError(
        f"no port from {first} to {first + _TRIES} is free", where=url, remedy="set another to start from"
    )
