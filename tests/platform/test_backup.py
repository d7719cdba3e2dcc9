"""What backs the platform up, in a folder and with age itself; databases and buckets are doubles.

The lab does it for real (tests/lab/test.sh restore).
"""

import io
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from platform_backup import __main__ as program
from platform_backup import manifest as manifests
from platform_backup import parts, streams
from platform_backup.cluster import at_rest
from platform_backup.manifest import Manifest, Part, Refused
from platform_backup.places import Bucket, Folder

ROOT = Path(__file__).parents[2]
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed (apt-get install age)")


class FakeS3:
    """A store in a dictionary, as far as boto3 is asked; lists in pages of two."""

    def __init__(self, **buckets: dict[str, bytes]) -> None:
        self.buckets = {name: dict(content) for name, content in buckets.items()}

    def get_paginator(self, _: str) -> "FakeS3":
        return self

    def paginate(self, Bucket: str, Prefix: str = "", Delimiter: str = "") -> Iterator[dict[str, Any]]:
        keys = sorted(key for key in self.buckets[Bucket] if key.startswith(Prefix))
        if Delimiter:
            tops = sorted({Prefix + key.removeprefix(Prefix).split("/")[0] + "/" for key in keys})
            yield {"CommonPrefixes": [{"Prefix": top} for top in tops]}
            return
        for first in range(0, max(1, len(keys)), 2):
            yield {"Contents": [{"Key": key} for key in keys[first : first + 2]]} if keys else {}

    def list_objects_v2(self, Bucket: str, Prefix: str, MaxKeys: int) -> dict[str, Any]:
        return {"Contents": [{"Key": key} for key in sorted(self.buckets[Bucket]) if key.startswith(Prefix)][:MaxKeys]}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        content = self.buckets[Bucket][Key]
        return {"Body": io.BytesIO(content), "ContentLength": len(content), "ContentType": "text/x-made-up"}

    def upload_fileobj(self, content: Any, bucket: str, key: str, ExtraArgs: Any = None) -> None:  # noqa: ARG002
        self.buckets[bucket][key] = content.read()

    def delete_object(self, Bucket: str, Key: str) -> None:
        self.buckets[Bucket].pop(Key, None)


class FakeCluster:
    """Objects that sleep and wake; pods end a look later."""

    def __init__(self, **lasting: int) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.lasting = lasting

    def scale(self, *what: Any) -> None:
        self.done.append(("scale", *what))

    def suspend(self, *what: Any) -> None:
        self.done.append(("suspend", *what))

    def pods(self, _: str, name: str) -> list[str]:
        left = self.lasting.get(name, 0)
        self.lasting[name] = left - 1
        return [f"{name}-0"] if left > 0 else []


@pytest.fixture
def identity(tmp_path: Path) -> tuple[Path, str]:
    """The file with a key, and whom age encrypts for."""
    import age_key

    path = tmp_path / "keys" / "backup-key"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "age_key.py"), str(path)], capture_output=True, text=True, check=True
    )
    assert age_key.recipient(age_key.content_of(path.read_text().splitlines()[1])) == done.stdout.strip()
    return path, done.stdout.strip()


def whole(**changes: Any) -> Manifest:
    parts_ = (Part("database-mlflow.age", "database", "mlflow", "0" * 64, 5),)
    return Manifest(
        **{"version": "0.1.0", "created": "2026-11-29T13:00:00Z", "parts": parts_, "figures": {}, **changes}
    )


# The manifest.


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert manifests.read(manifests.write(whole()), "b") == whole()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda body: {**body, "version": "0.0.1"}, "is damaged"),
        (lambda body: {**body, "parts": []}, "is damaged"),
        (lambda body: {**body, "format": 2}, "has format 2; this platform reads up to 1"),
        (lambda body: {name: body[name] for name in body if name != "digest"}, "is damaged"),
        (lambda _: [], "is damaged"),
    ],
)
def test_a_manifest_that_was_altered_is_refused(spoil: Any, said: str) -> None:
    with pytest.raises(Refused, match=said):
        manifests.read(json.dumps(spoil(json.loads(manifests.write(whole())))), "b/manifest.json")


@pytest.mark.parametrize("length", [0, 10, 200])
def test_a_manifest_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(Refused, match="is damaged"):
        manifests.read(manifests.write(whole())[:length], "b/manifest.json")


@pytest.mark.parametrize(
    ("made", "installed", "taken"),
    [("0.1.0", "0.1.0", True), ("0.1.0", "0.2.0", True), ("0.10.0", "0.9.0", False), ("1.0.0", "0.9.9", False)],
)
def test_a_backup_of_a_newer_version_is_refused(made: str, installed: str, taken: bool) -> None:
    if taken:
        manifests.refuse_newer(whole(version=made), installed, "b")
    else:
        with pytest.raises(Refused, match=f"of version {made}, and {installed} is installed"):
            manifests.refuse_newer(whole(version=made), installed, "b")


# Parts through age.


@needs_age
def test_what_was_kept_comes_back(tmp_path: Path, identity: tuple[Path, str]) -> None:
    place = Folder(tmp_path)
    content = b"secret rows " * 100_000
    part = streams.keep(place, "b", "database", "mlflow", identity[1], lambda to: to.write(content))
    assert b"secret rows" not in (tmp_path / "b" / part.name).read_bytes()
    streams.check(place, "b", part)
    with streams.opened(place, "b", part, str(identity[0])) as found:
        assert found.read() == content


@needs_age
def test_a_damaged_part_is_refused_by_name(tmp_path: Path, identity: tuple[Path, str]) -> None:
    place = Folder(tmp_path)
    part = streams.keep(place, "b", "database", "mlflow", identity[1], lambda to: to.write(b"x" * 1000))
    path = tmp_path / "b" / part.name
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(Refused, match=r"database-mlflow\.age is damaged"):
        streams.check(place, "b", part)
    path.write_bytes(kept[:-1])
    with pytest.raises(Refused, match="is damaged"):
        streams.check(place, "b", part)
    path.unlink()
    with pytest.raises(Refused, match="is missing"):
        streams.check(place, "b", part)


@needs_age
def test_another_key_is_refused_before_anything_is_touched(tmp_path: Path, identity: tuple[Path, str]) -> None:
    place = Folder(tmp_path)
    part = streams.keep(place, "b", "secrets", "all", identity[1], lambda to: to.write(b"x"))
    other = tmp_path / "other"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "age_key.py"), str(other)], check=True, capture_output=True)
    with pytest.raises(Refused, match=r"the key does not open b/secrets-all\.age"):
        streams.opens(place, "b", part, str(other))


@needs_age
def test_a_producer_that_fails_leaves_no_part(tmp_path: Path, identity: tuple[Path, str]) -> None:
    def fails(to: Any) -> None:
        to.write(b"half of it")
        raise Refused("pg_dump of mlflow failed")

    with pytest.raises(Refused, match="pg_dump of mlflow failed"):
        streams.keep(Folder(tmp_path), "b", "database", "mlflow", identity[1], fails)


@needs_age
def test_a_recipient_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is `nobody` a recipient"):
        streams.keep(Folder(tmp_path), "b", "database", "mlflow", "nobody", lambda _: None)


def test_keys_are_what_age_itself_makes(identity: tuple[Path, str]) -> None:
    if shutil.which("age-keygen") is None:
        pytest.skip("age is not installed")
    said = subprocess.run(["age-keygen", "-y", str(identity[0])], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == identity[1]
    assert identity[0].stat().st_mode & 0o777 == 0o600


def test_a_key_is_made_once_and_never_anew(identity: tuple[Path, str]) -> None:
    before = identity[0].read_text()
    command = [sys.executable, str(ROOT / "scripts" / "age_key.py"), str(identity[0])]
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (again.stdout.strip(), again.stderr) == (identity[1], "")
    assert identity[0].read_text() == before
    identity[0].write_text(before.replace("Q", "P", 1)[:-2] + "Q\n")
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 1


# Buckets and folders.


def packed(produce: Any) -> io.BytesIO:
    to = io.BytesIO()
    produce(to)
    to.seek(0)
    return to


def test_a_bucket_becomes_exactly_what_it_was() -> None:
    objects = {"archive/a": b"1", "archive/ä b": b"22", "x": b"", "backups/dump": b"no"}
    counted: list[int] = []
    content = packed(parts.pack_bucket(FakeS3(data=objects), "data", ("backups/",), counted.append))
    there = FakeS3(data={"archive/a": b"other", "new": b"gone", "backups/theirs": b"kept"})
    assert parts.unpack_bucket(there, "data", ("backups/",), content) == 3
    assert counted == [3]
    assert there.buckets["data"] == {"archive/a": b"1", "archive/ä b": b"22", "x": b"", "backups/theirs": b"kept"}


def test_a_folder_becomes_exactly_what_it_was_and_its_database_is_whole(tmp_path: Path) -> None:
    folder, other = tmp_path / "loop", tmp_path / "other"
    for each in (folder / "kept", folder / "bundles", other / "bundles", other / "old"):
        each.mkdir(parents=True)
    (folder / "kept" / "a").write_text("a")
    (folder / "bundles" / "big").write_text("left out")
    (other / "bundles" / "theirs").write_text("kept")
    (other / "old" / "gone").write_text("gone")
    writing = sqlite3.connect(folder / "loop.db", isolation_level=None)
    writing.execute("PRAGMA journal_mode=WAL")
    writing.execute("CREATE TABLE events (n)")
    writing.executemany("INSERT INTO events VALUES (?)", [(n,) for n in range(100)])
    # Not in the file yet, but in the log beside it; and another transaction is open.
    assert (folder / "loop.db-wal").stat().st_size > 0
    writing.execute("BEGIN")
    writing.execute("INSERT INTO events VALUES (-1)")
    parts.unpack_folder(other, ("bundles",), packed(parts.pack_folder(folder, ("bundles",))))
    writing.execute("ROLLBACK")
    assert sorted(path.relative_to(other).as_posix() for path in other.rglob("*") if path.is_file()) == [
        "bundles/theirs",
        "kept/a",
        "loop.db",
    ]
    assert sqlite3.connect(other / "loop.db").execute("SELECT count(*), min(n) FROM events").fetchone() == (100, 0)


def test_a_database_that_is_damaged_is_not_backed_up(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "loop.db") as db:
        db.execute("CREATE TABLE events (n)")
        db.executemany("INSERT INTO events VALUES (?)", [("x" * 500,) for _ in range(100)])
    content = bytearray((tmp_path / "loop.db").read_bytes())
    content[4096:8192] = b"\xff" * 4096
    (tmp_path / "loop.db").write_bytes(content)
    with pytest.raises((Refused, sqlite3.DatabaseError)):
        packed(parts.pack_folder(tmp_path, ()))


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_old_backups_are_forgotten_and_what_was_begun_before_them(tmp_path: Path, kind: str) -> None:
    store = FakeS3(far={})
    place = Folder(tmp_path) if kind == "folder" else Bucket(store, "far", "home/of/it")
    for name in ("b1", "b2", "b3", "b4"):
        place.put(name, "part", io.BytesIO(b"x"))
        place.put(name, manifests.NAME, io.BytesIO(b"{}"))
    for name in ("b0", "b35", "b9"):
        place.put(name, "part", io.BytesIO(b"x"))
    assert program.forget(place, 2) == ["b0", "b1", "b2", "b35"]
    assert place.names() == ["b3", "b4", "b9"]
    assert place.get("b4", "part").read() == b"x"
    assert program.find(place, "newest") == "b4"
    with pytest.raises(Refused, match=r"there is no backup b9 \(it was never finished"):
        program.find(place, "b9")
    with pytest.raises(Refused, match="there is no backup b1; there are: b3, b4"):
        program.find(place, "b1")


# Rest.

SCALED = [["serving", "statefulsets", "driftloop-retrainer"], ["mlflow", "deployments", "mlflow"]]
SUSPENDED = [["serving", "drift-report"]]
AWAKE = [
    ("scale", "mlflow", "deployments", "mlflow", 1),
    ("scale", "serving", "statefulsets", "driftloop-retrainer", 1),
    ("suspend", "serving", "drift-report", False),
]


def test_nobody_writes_during_a_backup_and_everybody_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    cluster = FakeCluster(mlflow=2)
    with at_rest(cluster, SCALED, SUSPENDED):  # type: ignore[arg-type]
        assert cluster.done == [
            ("suspend", "serving", "drift-report", True),
            ("scale", "serving", "statefulsets", "driftloop-retrainer", 0),
            ("scale", "mlflow", "deployments", "mlflow", 0),
        ]
        assert cluster.lasting["mlflow"] < 0
    assert cluster.done[3:] == AWAKE


def test_everybody_wakes_where_it_fails_or_somebody_does_not_rest() -> None:
    cluster = FakeCluster()
    with pytest.raises(KeyError), at_rest(cluster, SCALED, SUSPENDED):  # type: ignore[arg-type]
        raise KeyError
    assert cluster.done[3:] == AWAKE
    cluster = FakeCluster(mlflow=10**9)
    with pytest.raises(Refused, match="do not end within -1 s: mlflow-0"), at_rest(cluster, SCALED, SUSPENDED, -1):  # type: ignore[arg-type]
        pytest.fail("it went on")
    assert cluster.done[3:] == AWAKE


# Refusals of the whole.


@pytest.fixture
def platform(tmp_path: Path) -> program.Platform:
    (tmp_path / "backups").mkdir()
    return program.Platform(
        {
            "version": "0.1.0", "buckets": ["data"], "databases": ["mlflow"],
            "folders": {"loop": str(tmp_path / "loop")}, "leave_out": {"keys": [], "folders": []},
            "target": {"bucket": "", "folder": str(tmp_path / "backups")},
        }
    )  # fmt: skip


def kept(platform: program.Platform, name: str, manifest: Manifest) -> None:
    platform.place.put(name, manifests.NAME, io.BytesIO(manifests.write(manifest).encode()))
    for part in manifest.parts:
        platform.place.put(name, part.name, io.BytesIO(b"hello"))


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        (whole(version="9.0.0"), "of version 9.0.0, and 0.1.0 is installed"),
        (whole(), "database-mlflow.age is damaged"),
        (whole(parts=(Part("x.age", "database", "strange", "0" * 64, 5),)), "a database 'strange' that this platform"),
        (whole(parts=(Part("x.age", "engine", "mlflow", "0" * 64, 5),)), "a engine 'mlflow' that this platform"),
    ],
)
def test_a_restore_is_refused_with_its_reason_before_anybody_rests(
    platform: program.Platform, monkeypatch: pytest.MonkeyPatch, manifest: Manifest, said: str
) -> None:
    kept(platform, "b", manifest)
    monkeypatch.setattr(platform, "resting", lambda: pytest.fail("something was touched"))
    monkeypatch.setattr(platform, "store", lambda: pytest.fail("something was touched"))
    with pytest.raises(Refused, match=said):
        program.restore(platform, "b")
