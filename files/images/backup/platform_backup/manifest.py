"""What a backup says of itself, and the reasons for which one is refused."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

FORMAT = 1
NAME = "manifest.json"


class Refused(Exception):
    """A backup that is not taken or not restored, and why; nothing has been touched."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One encrypted file."""

    name: str
    kind: str
    """`database`, `bucket`, `folder` or `secrets`."""
    of: str
    """Which database, bucket or folder."""
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a backup holds."""

    version: str
    """Of the platform that was backed up."""
    created: str
    parts: tuple[Part, ...]
    figures: Mapping[str, Any]
    """What a restored platform must show: the champion, numbers of objects."""


def write(manifest: Manifest) -> str:
    """The manifest as JSON, with a digest of itself."""
    body = {"format": FORMAT, **dataclasses.asdict(manifest)}
    return json.dumps({**body, "digest": _digest(body)}, indent=1, sort_keys=True)


def read(text: str, where: str) -> Manifest:
    """The manifest of a backup; Refused where it is damaged or of a newer format."""
    try:
        body = json.loads(text)
        digest, form = body.pop("digest"), body.pop("format")
        if not isinstance(form, int) or form > FORMAT:
            raise Refused(
                f"{where} has format {form}; this platform reads up to {FORMAT}: restore it with a newer version"
            )
        if digest != _digest({"format": form, **body}):
            raise Refused(f"{where} is damaged: it does not have the digest that it names")
        parts = tuple(Part(**part) for part in body.pop("parts"))
        return Manifest(parts=parts, **body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{where} is damaged: {type(error).__name__}: {error}") from error


def refuse_newer(manifest: Manifest, installed: str, where: str) -> None:
    """Refuse a backup of a newer version than the one that is installed."""
    if _ordered(manifest.version) > _ordered(installed):
        raise Refused(
            f"{where} is of version {manifest.version}, and {installed} is installed:"
            f" install {manifest.version} or newer first"
        )


def _ordered(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    if found is None:
        raise Refused(f"{version!r} is no version")
    return tuple(map(int, found[0].split(".")))


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
