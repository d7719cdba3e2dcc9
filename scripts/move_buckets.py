"""Copies every bucket of one object store to another, and proves that all of it arrived.

    scripts/move_buckets.py FROM TO [--bucket NAME]... [--dry-run] [--journal FILE]

FROM and TO are addresses such as http://127.0.0.1:9000. Keys come from the environment: MOVE_FROM_ACCESS_KEY,
MOVE_FROM_SECRET_KEY, MOVE_TO_ACCESS_KEY, MOVE_TO_SECRET_KEY.

Every object is read from FROM, written to TO with its metadata, and read back from TO: its SHA-256 there is the one it
had when it was read. What was proved is written to the journal, so that another run goes on where one ended, and copies
again only what has changed at FROM since. In the end both stores are listed again and compared object by object.
Nothing is deleted at FROM or at TO; what TO has in addition is named. Whoever writes should rest meanwhile
(docs/object-store.md): what was written after its bucket was listed is found in the end, and means another run.

Exit code 0: everything is there, proved; 1: something is not, or another run is needed; 2: a store cannot be used.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

CHUNK = 1 << 20
IN_MEMORY = 16 << 20
"""Objects up to this size are held in memory on their way, larger ones in a temporary file."""


@dataclass(frozen=True, order=True)
class Found:
    """An object as a store lists it."""

    bucket: str
    key: str
    size: int
    etag: str

    @property
    def place(self) -> tuple[str, str]:
        return self.bucket, self.key


class Journal:
    """What was proved to have arrived, one line of JSON each; a last line that was cut off counts for nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrived: dict[tuple[str, str], tuple[int, str]] = {}
        whole = path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []
        for line in whole:
            told = json.loads(line)
            self._arrived[told["bucket"], told["key"]] = (told["size"], told["etag"])
        if path.exists():
            path.write_bytes(b"".join(line + b"\n" for line in whole))
        path.parent.mkdir(parents=True, exist_ok=True)

    def has(self, found: Found) -> bool:
        """Whether this very object, unchanged since, is known to have arrived."""
        return self._arrived.get(found.place) == (found.size, found.etag)

    def add(self, found: Found, digest: str) -> None:
        told = {"bucket": found.bucket, "key": found.key, "size": found.size, "etag": found.etag, "sha256": digest}
        with self.path.open("a") as file:
            file.write(json.dumps(told) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._arrived[found.place] = (found.size, found.etag)


def client(address: str, side: str) -> Any:
    """A store's client, with the key that the environment has for this side."""
    names = f"MOVE_{side}_ACCESS_KEY", f"MOVE_{side}_SECRET_KEY"
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        sys.exit(f"move_buckets: {missing[0]} is not set: export the key of {address}")
    return boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=os.environ[names[0]],
        aws_secret_access_key=os.environ[names[1]],
        # Stores other than Amazon's trip over the checksums that boto3 adds since 1.36.
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"max_attempts": 5, "mode": "standard"},
            s3={"addressing_style": "path"},
        ),
    )


def buckets(s3: Any) -> list[str]:
    return sorted(each["Name"] for each in s3.list_buckets()["Buckets"])


def listed(s3: Any, bucket: str) -> Iterator[Found]:
    """The objects of a bucket."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", []):
            yield Found(bucket, each["Key"], each["Size"], each["ETag"])


def copy(source: Any, target: Any, found: Found) -> str | None:
    """Copy an object and read it back. Its SHA-256; None where it went or changed meanwhile.

    Raises `ClientError` where a store refuses, `ValueError` where what arrived is not what was sent.
    """
    try:
        answer = source.get_object(Bucket=found.bucket, Key=found.key)
    except source.exceptions.NoSuchKey:
        return None
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as kept:
        sent, size = _drain(answer["Body"], kept)
        if answer["ETag"] != found.etag or size != found.size:
            return None
        kept.seek(0)
        extra = {"Metadata": answer["Metadata"]} | {
            name: answer[name] for name in ("ContentType", "ContentEncoding", "CacheControl") if answer.get(name)
        }
        target.upload_fileobj(kept, found.bucket, found.key, ExtraArgs=extra)
    arrived, _ = _drain(target.get_object(Bucket=found.bucket, Key=found.key)["Body"])
    if arrived != sent:
        raise ValueError(f"{found.bucket}/{found.key}: SHA-256 {arrived} arrived where {sent} was sent")
    return sent


def _drain(body: Any, to: IO[bytes] | None = None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := body.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if to is not None:
            to.write(chunk)
    return digest.hexdigest(), size


def compare(source: Any, target: Any, names: list[str], journal: Journal) -> tuple[list[str], list[str], int, int]:
    """(what is wrong, what TO has in addition, objects, bytes), by listing both stores again."""
    wrong, surplus, objects, total = [], [], 0, 0
    there = set(buckets(target))
    for bucket in names:
        own = {each.key: each for each in listed(source, bucket)}
        other = {each.key: each for each in listed(target, bucket)} if bucket in there else {}
        for key, each in own.items():
            if key not in other:
                wrong.append(f"{bucket}/{key}: is not there")
            elif other[key].size != each.size:
                wrong.append(f"{bucket}/{key}: has {other[key].size} bytes there, {each.size} here")
            elif not journal.has(each):
                wrong.append(f"{bucket}/{key}: has changed since it was copied")
        surplus += [f"{bucket}/{key}" for key in other if key not in own]
        objects += len(own)
        total += sum(each.size for each in own.values())
    return wrong, surplus, objects, total


def move(source: Any, target: Any, chosen: list[str], journal: Journal, *, dry_run: bool) -> int:
    """Copy what is not known to have arrived, then compare. The exit code."""
    missing = [name for name in chosen if name not in buckets(source)]
    if missing:
        print(
            f"move_buckets: there is no bucket {missing[0]}; there are: {', '.join(buckets(source))}", file=sys.stderr
        )
        return 2
    names = chosen or buckets(source)
    there = set(buckets(target))
    for bucket in names:
        waiting = [each for each in listed(source, bucket) if not journal.has(each)]
        size = sum(each.size for each in waiting)
        new = "" if bucket in there else ", and the bucket to make"
        print(f"{bucket}: {len(waiting)} objects to copy, {size} bytes{new}")
        if dry_run:
            continue
        if bucket not in there:
            target.create_bucket(Bucket=bucket)
        for each in waiting:
            digest = copy(source, target, each)
            if digest is not None:
                journal.add(each, digest)
    if dry_run:
        return 0
    wrong, surplus, objects, total = compare(source, target, names, journal)
    for line in wrong:
        print(f"not moved: {line}")
    for line in surplus:
        print(f"only there: {line}")
    print(
        f"{objects - len(wrong)} of {objects} objects, {total} bytes in all, are there with the SHA-256 they have here"
    )
    return 1 if wrong else 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Copies every bucket of one object store to another, and proves it.")
    parser.add_argument("source", metavar="FROM", help="address of the store that is left")
    parser.add_argument("target", metavar="TO", help="address of the store that is moved to")
    parser.add_argument("--bucket", action="append", default=[], help="this bucket alone; may be given several times")
    parser.add_argument("--dry-run", action="store_true", help="say what would be copied, and write nothing")
    parser.add_argument("--journal", type=Path, default=Path("build/move-buckets.jsonl"), help="what has arrived")
    options = parser.parse_args(arguments)
    source, target = client(options.source, "FROM"), client(options.target, "TO")
    try:
        return move(source, target, options.bucket, Journal(options.journal), dry_run=options.dry_run)
    except ValueError as error:
        print(f"move_buckets: {error}", file=sys.stderr)
        return 1
    except (ClientError, BotoCoreError) as error:
        print(f"move_buckets: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
