"""Images are pushed once, fetched for the trial and promoted by the digest that the push gave.

Against a double of skopeo
that keeps a registry in a folder, where a tag is a file with a digest.
"""

import hashlib
import io
import json
import os
from pathlib import Path

import publish_images
import pytest

SKOPEO = """#!/usr/bin/env python3
import hashlib, pathlib, sys
root = pathlib.Path(__file__).parent / "registry"
source, target = sys.argv[-2:]
def blob(digest): return root / "blobs" / digest.split(":")[1]
def place(reference): return root / reference.removeprefix("docker://").replace(":", "~")
if source.startswith("oci-archive:"):
    content = pathlib.Path(source.split(":")[1]).read_bytes()
elif "@" in source:
    path = blob(source.split("@")[1])
    if not path.exists(): sys.exit("manifest unknown")
    content = path.read_bytes()
else:
    sys.exit("a tag can be moved between the trial and the promotion: " + source)
digest = "sha256:" + hashlib.sha256(content).hexdigest()
if target.startswith("oci-archive:"):
    file, name = target.removeprefix("oci-archive:").split(":", 1)
    pathlib.Path(file).write_bytes(content); pathlib.Path(file + ".name").write_text(name)
else:
    for path, text in ((blob(digest), content), (place(target), digest.encode())):
        path.parent.mkdir(parents=True, exist_ok=True); path.write_bytes(text)
if "--digestfile" in sys.argv:
    pathlib.Path(sys.argv[sys.argv.index("--digestfile") + 1]).write_text(digest)
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "skopeo").write_text(SKOPEO)
    (tmp_path / "bin" / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin" / "registry"


def tagged(registry: Path, name: str) -> str:
    return (registry / f"r.test/driftloop/{name.replace(':', '~')}").read_text()


def test_what_was_tried_is_what_is_promoted(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("prometheus-operator-0123456789ab", "minio-ba9876543210"):
        (tmp_path / f"{name}.tar").write_text(name)
    archives = sorted(map(str, tmp_path.glob("*.tar")))
    assert publish_images.main(["push", "r.test/driftloop", *archives]) == 0
    told = capsys.readouterr().out
    digest = "sha256:" + hashlib.sha256(b"prometheus-operator-0123456789ab").hexdigest()
    assert json.loads(told)["prometheus-operator:0123456789ab"] == digest
    monkeypatch.setattr("sys.stdin", io.StringIO(told))
    assert publish_images.main(["fetch", "r.test/driftloop", str(tmp_path / "archives")]) == 0
    assert (tmp_path / "archives" / "minio-ba9876543210.tar").read_text() == "minio-ba9876543210"
    named = (tmp_path / "archives" / "minio-ba9876543210.tar.part.name").read_text()
    assert named == "localhost/driftloop/minio:ba9876543210"
    # Somebody moves the tag meanwhile: what is promoted is what has the digest all the same.
    (registry / "r.test/driftloop/minio~ba9876543210").write_text("sha256:" + "0" * 64)
    monkeypatch.setattr("sys.stdin", io.StringIO(told))
    assert publish_images.main(["promote", "r.test/driftloop"]) == 0
    assert tagged(registry, "minio:promoted") == "sha256:" + hashlib.sha256(b"minio-ba9876543210").hexdigest()
    assert tagged(registry, "prometheus-operator:promoted") == digest


def test_an_image_that_is_gone_is_not_promoted(
    registry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"minio:ba9876543210": "sha256:" + "0" * 64})))
    assert publish_images.main(["promote", "r.test/driftloop"]) == 1
    assert "skopeo ended with 1: skopeo copy" in capsys.readouterr().err
    assert not registry.exists()
    assert publish_images.main(["push", "r.test/driftloop"]) == 2
    with pytest.raises(SystemExit, match="is not named NAME-TAG"):
        publish_images.main(["push", "r.test/driftloop", "minio.tar"])
