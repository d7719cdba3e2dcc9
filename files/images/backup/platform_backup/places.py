"""Where backups are kept: a folder, or a prefix of a bucket."""

import shutil
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from platform_backup.manifest import NAME

HALF = ".half"


class Place(Protocol):
    """Backups by name, each some files."""

    def names(self) -> list[str]:
        """Every backup, complete or not, oldest first."""

    def has(self, backup: str, file: str) -> bool:
        """Whether a file is there."""

    def put(self, backup: str, file: str, content: BinaryIO) -> None:
        """Keep a file; it has its name only once it is whole."""

    def get(self, backup: str, file: str) -> BinaryIO:
        """A file to read."""

    def remove(self, backup: str) -> None:
        """Remove a backup."""


class Folder:
    """Backups as folders of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.is_dir() and path.name != "lost+found")

    def has(self, backup: str, file: str) -> bool:
        return (self.root / backup / file).is_file()

    def put(self, backup: str, file: str, content: BinaryIO) -> None:
        path = self.root / backup / file
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(path.name + HALF)
        with half.open("wb") as to:
            shutil.copyfileobj(content, to, 1 << 20)
        half.rename(path)

    def get(self, backup: str, file: str) -> BinaryIO:
        return (self.root / backup / file).open("rb")

    def remove(self, backup: str) -> None:
        # The manifest first: what is left of an interrupted removal is no backup.
        (self.root / backup / NAME).unlink(missing_ok=True)
        shutil.rmtree(self.root / backup)


class Bucket:
    """Backups as prefixes of a bucket; `client` is boto3's."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = client, bucket, prefix.strip("/")

    def names(self) -> list[str]:
        start = f"{self._prefix}/" if self._prefix else ""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start, Delimiter="/")
        found = (each["Prefix"] for page in pages for each in page.get("CommonPrefixes", []))
        return sorted(prefix.removeprefix(start).rstrip("/") for prefix in found)

    def has(self, backup: str, file: str) -> bool:
        found = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self._key(backup, file), MaxKeys=1)
        return any(each["Key"] == self._key(backup, file) for each in found.get("Contents", []))

    def put(self, backup: str, file: str, content: BinaryIO) -> None:
        self._s3.upload_fileobj(content, self._bucket, self._key(backup, file))

    def get(self, backup: str, file: str) -> BinaryIO:
        body: BinaryIO = self._s3.get_object(Bucket=self._bucket, Key=self._key(backup, file))["Body"]
        return body

    def remove(self, backup: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=self._key(backup, NAME))
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._key(backup, ""))
        for page in pages:
            for each in page.get("Contents", []):
                self._s3.delete_object(Bucket=self._bucket, Key=each["Key"])

    def _key(self, backup: str, file: str) -> str:
        return "/".join(part for part in (self._prefix, backup) if part) + f"/{file}"
