"""The files of the pages, read once: their bytes, compressed bytes, media types and tags."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FOLDER = Path(__file__).with_name("assets")
MEDIA_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
"""What may be served, by suffix; anything else in the folder is not for browsers."""


@dataclass(frozen=True)
class Asset:
    """One file as it is answered."""

    content: bytes
    media_type: str

    @cached_property
    def compressed(self) -> bytes:
        """Made when it is first wanted: start-up does not wait for what nobody asks for."""
        return gzip.compress(self.content, compresslevel=9, mtime=0)

    @cached_property
    def digest(self) -> str:
        """Of its content, for its tags."""
        return hashlib.sha256(self.content).hexdigest()[:32]

    def etag(self, *, compressed: bool) -> str:
        """Its tag, another one for its compressed form."""
        return f'"{self.digest}{"-gzip" if compressed else ""}"'


def load_all(folder: Path = FOLDER) -> dict[str, Asset]:
    """All files that may be served, by their path below the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix in MEDIA_TYPES)
    return {path.relative_to(folder).as_posix(): Asset(path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in files}
