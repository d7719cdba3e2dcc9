"""scripts/move_buckets.py between two S3 servers: complete, proved, resumed where it was ended, silent in a dry run."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import move_buckets
import pytest
from botocore.exceptions import EndpointConnectionError

from ports import free_port, free_ports

BIG = bytes(range(256)) * 4096 * 20
"""20 MiB: several parts, and more than is held in memory on the way."""


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """Two S3 servers, each a process of its own."""
    pytest.importorskip("moto.server")
    ports = free_ports(2)
    servers = [
        subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
        )
        for port in ports
    ]
    yield (f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
    for server in servers:
        server.kill()
        server.wait()


def answered(s3: Any) -> list[str]:
    """Its buckets, once it answers at all."""
    end = time.monotonic() + 60
    while True:
        try:
            return move_buckets.buckets(s3)
        except EndpointConnectionError:
            assert time.monotonic() < end, "the S3 server does not come up"
            time.sleep(0.05)


@pytest.fixture
def stores(addresses: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Their clients; the first has three buckets, one of them empty, the second has nothing."""
    for side in ("FROM", "TO"):
        monkeypatch.setenv(f"MOVE_{side}_ACCESS_KEY", "key")
        monkeypatch.setenv(f"MOVE_{side}_SECRET_KEY", "secret")
    source, target = move_buckets.client(addresses[0], "FROM"), move_buckets.client(addresses[1], "TO")
    for s3 in (source, target):
        for bucket in answered(s3):
            for each in move_buckets.listed(s3, bucket):
                s3.delete_object(Bucket=bucket, Key=each.key)
            s3.delete_bucket(Bucket=bucket)
    for bucket in ("data", "empty", "models"):
        source.create_bucket(Bucket=bucket)
    source.put_object(Bucket="data", Key="a/b c+ü", Body=b"small", ContentType="text/x-test", Metadata={"run": "7"})
    source.put_object(Bucket="data", Key="none", Body=b"")
    source.put_object(Bucket="models", Key="big", Body=BIG)
    return source, target


def run(addresses: tuple[str, str], journal: Path, *more: str) -> int:
    return move_buckets.main([*addresses, "--journal", str(journal), *more])


def journalled(journal: Path) -> list[str]:
    return [json.loads(line)["key"] for line in journal.read_text().splitlines()]


def test_everything_arrives_as_it_was(
    addresses: tuple[str, str], stores: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, target = stores
    assert run(addresses, tmp_path / "j") == 0
    assert "3 of 3 objects, 20971525 bytes in all, are there" in capsys.readouterr().out
    assert move_buckets.buckets(target) == ["data", "empty", "models"]
    small = target.get_object(Bucket="data", Key="a/b c+ü")
    assert (small["Body"].read(), small["ContentType"], small["Metadata"]) == (b"small", "text/x-test", {"run": "7"})
    assert target.get_object(Bucket="models", Key="big")["Body"].read() == BIG
    # Once more: nothing is left to copy.
    assert run(addresses, tmp_path / "j") == 0
    assert "models: 0 objects to copy, 0 bytes" in capsys.readouterr().out
    assert len(journalled(tmp_path / "j")) == 3


def test_a_dry_run_writes_nothing(
    addresses: tuple[str, str], stores: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(addresses, tmp_path / "j", "--dry-run") == 0
    assert "data: 2 objects to copy, 5 bytes, and the bucket to make" in capsys.readouterr().out
    assert move_buckets.buckets(stores[1]) == []
    assert not (tmp_path / "j").exists()


@pytest.mark.usefixtures("stores")
def test_another_run_goes_on_where_one_ended(
    addresses: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, copy = [], move_buckets.copy

    def cut_off(source: Any, target: Any, found: move_buckets.Found) -> str | None:
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(found.key)
        return copy(source, target, found)

    monkeypatch.setattr(move_buckets, "copy", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(addresses, tmp_path / "j")
    with (tmp_path / "j").open("a") as journal:
        journal.write('{"bucket": "models", "key": "bi')  # the line that was being written
    copied.clear()
    assert run(addresses, tmp_path / "j") == 0
    assert copied == ["big"]
    assert journalled(tmp_path / "j") == ["a/b c+ü", "none", "big"]


def test_what_changed_meanwhile_means_another_run(
    addresses: tuple[str, str],
    stores: tuple[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, target = stores
    copy = move_buckets.copy

    def written_behind(s: Any, t: Any, found: move_buckets.Found) -> str | None:
        digest = copy(s, t, found)
        if found.key == "none":
            source.put_object(Bucket="data", Key="none", Body=b"now something")
            source.put_object(Bucket="data", Key="new", Body=b"new")
        return digest

    monkeypatch.setattr(move_buckets, "copy", written_behind)
    assert run(addresses, tmp_path / "j") == 1
    said = capsys.readouterr().out
    assert "not moved: data/none: has 0 bytes there, 13 here" in said
    assert "not moved: data/new: is not there" in said
    monkeypatch.setattr(move_buckets, "copy", copy)
    assert run(addresses, tmp_path / "j") == 0
    assert target.get_object(Bucket="data", Key="none")["Body"].read() == b"now something"


@pytest.mark.usefixtures("stores")
def test_what_arrives_damaged_is_no_success(
    addresses: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drain = move_buckets._drain
    monkeypatch.setattr(
        move_buckets, "_drain", lambda body, to=None: drain(body, to) if to is not None else ("0" * 64, 5)
    )
    assert run(addresses, tmp_path / "j") == 1
    assert "data/a/b c+ü: SHA-256 0000" in capsys.readouterr().err
    assert not (tmp_path / "j").exists() or journalled(tmp_path / "j") == []


def test_nothing_is_deleted_and_the_rest_is_named(
    addresses: tuple[str, str], stores: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, target = stores
    target.create_bucket(Bucket="data")
    target.put_object(Bucket="data", Key="older", Body=b"x")
    assert run(addresses, tmp_path / "j", "--bucket", "data") == 0
    assert "only there: data/older" in capsys.readouterr().out
    assert move_buckets.buckets(target) == ["data"]


@pytest.mark.usefixtures("stores")
def test_what_cannot_be_used_is_said(
    addresses: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(addresses, tmp_path / "j", "--bucket", "nowhere") == 2
    assert "there is no bucket nowhere; there are: data, empty, models" in capsys.readouterr().err
    assert run((addresses[0], f"http://127.0.0.1:{free_port()}"), tmp_path / "j") == 2
    assert "Could not connect" in capsys.readouterr().err
    monkeypatch.delenv("MOVE_TO_SECRET_KEY")
    with pytest.raises(SystemExit, match="MOVE_TO_SECRET_KEY is not set"):
        run(addresses, tmp_path / "j")
