"""What is in an image: Debian's packages, Python's packages, the modules of Go programs; read out of its OCI archive.

The archive is only read: no container, no root, no program of the image is needed.
"""

import email.parser
import gzip
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

DPKG = re.compile(r"^var/lib/dpkg/(status|status\.d/[^/]+)$")
WHEEL = re.compile(r"\.(dist-info/METADATA|egg-info/PKG-INFO)$")
BUILD_INFO = b"\xff Go buildinf:"
SMALLEST_PROGRAM = 200_000
"""No program of Go is smaller, in bytes."""
CHUNK = 1 << 20


class NoImageError(Exception):
    """The file is no OCI archive that can be read; the text says why."""


@dataclass(frozen=True, order=True)
class Part:
    """One package or module of an image."""

    kind: str  # deb, pypi, golang
    name: str
    version: str
    licence: str = ""
    architecture: str = ""


@dataclass(frozen=True)
class Image:
    """An image's name and when it was made, as its archive says, and its parts."""

    name: str
    created: str
    digest: str
    parts: tuple[Part, ...]


def read(archive: Path) -> Image:
    """The image in an OCI archive. Raises `NoImageError`."""
    try:
        with tarfile.open(archive) as packed:
            return _read(packed)
    except (tarfile.TarError, KeyError, ValueError, OSError, EOFError) as error:
        raise NoImageError(f"{archive}: is no OCI archive: {error}") from error


def _read(packed: tarfile.TarFile) -> Image:
    [entry, *_] = _json(packed, "index.json")["manifests"]
    manifest = _json(packed, _blob(entry["digest"]))
    config = _json(packed, _blob(manifest["config"]["digest"]))
    found: dict[str, tuple[Part, ...]] = {}
    for layer in manifest["layers"]:
        _apply(packed, layer, found)
    name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "")
    parts = tuple(sorted({part for several in found.values() for part in several}))
    return Image(name, config.get("created", ""), entry["digest"], parts)


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _json(packed: tarfile.TarFile, name: str) -> Any:
    return json.load(_member(packed, name))


def _member(packed: tarfile.TarFile, name: str) -> IO[bytes]:
    file = packed.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file


def _apply(packed: tarfile.TarFile, layer: dict[str, Any], found: dict[str, tuple[Part, ...]]) -> None:
    """What a layer adds, replaces and takes away, by the path of the file that tells of it."""
    file = _member(packed, _blob(layer["digest"]))
    plain = gzip.GzipFile(fileobj=file) if layer["mediaType"].endswith("gzip") else file
    if layer["mediaType"].endswith("zstd"):
        raise ValueError(f"a layer is compressed with zstd, which this program does not read: {layer['digest']}")
    # A layer's own additions stay, whatever it takes away of those below it.
    added: dict[str, tuple[Part, ...]] = {}
    with tarfile.open(fileobj=plain, mode="r|") as tree:
        for member in tree:
            path = member.name.removeprefix("./").lstrip("/")
            folder, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                _take_away(found, folder)
            elif name.startswith(".wh."):
                _take_away(found, f"{folder}/{name[4:]}".lstrip("/"))
            elif member.isfile():
                content = tree.extractfile(member)
                assert content is not None
                _take_away(found, path)
                added[path] = tuple(_parts(path, member, content))
            elif not member.isdir():
                _take_away(found, path)
    found |= {path: parts for path, parts in added.items() if parts}


def _take_away(found: dict[str, tuple[Part, ...]], path: str) -> None:
    for known in [each for each in found if each == path or each.startswith(f"{path}/")]:
        del found[known]


def _parts(path: str, member: tarfile.TarInfo, content: IO[bytes]) -> Iterator[Part]:
    if DPKG.match(path):
        yield from debian(content.read().decode(errors="replace"))
    elif WHEEL.search(path):
        yield from python(content.read().decode(errors="replace"))
    elif member.mode & 0o111 and member.size >= SMALLEST_PROGRAM:
        yield from go(content)


def debian(status: str) -> Iterator[Part]:
    """The installed packages of dpkg's list."""
    for paragraph in re.split(r"\n\s*\n", status):
        fields = dict(re.findall(r"(?m)^(Package|Status|Version|Architecture): (.*)$", paragraph))
        if fields.get("Status", "install ok installed").endswith(" installed") and "Version" in fields:
            yield Part("deb", fields["Package"], fields["Version"], architecture=fields.get("Architecture", ""))


def python(metadata: str) -> Iterator[Part]:
    """The package that a wheel's METADATA tells of."""
    told = email.parser.Parser().parsestr(metadata, headersonly=True)
    if told["Name"] and told["Version"]:
        licence = (told["License-Expression"] or "").strip()
        yield Part("pypi", re.sub(r"[-_.]+", "-", told["Name"]).lower(), told["Version"], licence)


def go(content: IO[bytes]) -> Iterator[Part]:
    """The modules that a program was built from, as its compiler wrote them into it; nothing for other programs."""
    info = _build_info(content)
    if info is None:
        return
    version, modules = info
    yield Part("golang", "stdlib", version.removeprefix("go"))
    for line in modules.splitlines():
        kind, *fields = line.split("\t")
        if kind in ("mod", "dep") and len(fields) >= 2 and fields[1] != "(devel)":
            yield Part("golang", fields[0], fields[1])


def _build_info(content: IO[bytes]) -> tuple[str, str] | None:
    """(version of Go, list of modules) of a program that was built by Go 1.18 or later."""
    window = content.read(CHUNK)
    if not window.startswith(b"\x7fELF"):
        return None
    while True:
        more = content.read(CHUNK)
        at = window.find(BUILD_INFO)
        while at >= 0:
            if (found := _told(window[at:] + more)) is not None:
                return found
            # Programs that can read it hold the mark as a text, too.
            at = window.find(BUILD_INFO, at + 1)
        if not more:
            return None
        # What is looked for may lie across the two.
        window = window[-len(BUILD_INFO) :] + more


def _told(data: bytes) -> tuple[str, str] | None:
    """What stands behind the mark, where it is the compiler's."""
    if len(data) < 64 or not data[15] & 2:
        return None
    version, at = _text(data, 32)
    if not version.startswith((b"go1", b"devel")):
        return None
    modules, _ = _text(data, at)
    # Between two marks of 16 bytes.
    return version.decode(), modules[16:-16].decode(errors="replace")


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    """A text with its length before it, as a number of seven bits a byte; and where it ends."""
    length = shift = 0
    while True:
        byte = data[at]
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return data[at : at + length], at + length
