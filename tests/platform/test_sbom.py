"""Bills of materials: an image's contents are found as its last layer leaves them, and are told as CycloneDX says."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import image_contents
import pytest
from image_contents import Part

ROOT = Path(__file__).parents[2]
AUDIT = ROOT / ".venv-audit" / "bin" / "python"
DPKG = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41-12

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
WHEEL = "Metadata-Version: 2.4\nName: Ruamel_Yaml\nVersion: 0.18\nLicense-Expression: MIT\n\nA text.\nName: other\n"
SITE = "opt/venv/lib/python3.13/site-packages"


def tar(**files: bytes) -> bytes:
    to = io.BytesIO()
    with tarfile.open(fileobj=to, mode="w") as packed:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            packed.addfile(member, io.BytesIO(content))
    return to.getvalue()


def archive(path: Path, *layers: dict[str, bytes], media: str = "application/vnd.oci.image.layer.v1.tar") -> Path:
    """An OCI archive of an image with these layers."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    config = blob(json.dumps({"created": "2026-11-29T10:11:12.123456789Z"}).encode())
    told = [blob(tar(**layer)) | {"mediaType": media} for layer in layers]
    manifest = blob(json.dumps({"config": config, "layers": told}).encode())
    name = {"org.opencontainers.image.ref.name": "localhost/driftloop/server:0123456789ab"}
    index = json.dumps({"manifests": [manifest | {"annotations": name}]}).encode()
    path.write_bytes(tar(**{"index.json": index, **blobs}))
    return path


def test_packages_of_debian_and_python_are_found(tmp_path: Path) -> None:
    found = image_contents.read(
        archive(
            tmp_path / "a.tar",
            {"./var/lib/dpkg/status": DPKG.encode(), f"{SITE}/ruamel_yaml-0.18.dist-info/METADATA": WHEEL.encode()},
        )
    )
    assert found.name == "localhost/driftloop/server:0123456789ab"
    assert found.parts == (
        Part("deb", "libc6", "2.41-12", architecture="amd64"),
        Part("pypi", "ruamel-yaml", "0.18", "MIT"),
    )


def test_what_a_later_layer_takes_away_or_replaces_is_not_there(tmp_path: Path) -> None:
    old, new = DPKG.encode(), DPKG.replace("2.41-12", "2.42").encode()
    wheel = {f"{SITE}/{name}.dist-info/METADATA": f"Name: {name}\nVersion: 1\n".encode() for name in ("a", "b")}
    layers = [{"var/lib/dpkg/status": old, **wheel}, {"var/lib/dpkg/status": new, f"{SITE}/.wh.a.dist-info": b""}]
    found = image_contents.read(archive(tmp_path / "a.tar", *layers)).parts
    assert [(part.name, part.version) for part in found] == [("libc6", "2.42"), ("b", "1")]
    layers.append({f"{SITE}/.wh..wh..opq": b"", f"{SITE}/c.dist-info/METADATA": b"Name: c\nVersion: 2\n"})
    found = image_contents.read(archive(tmp_path / "b.tar", *layers)).parts
    assert [part.name for part in found] == ["libc6", "c"]


@pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go compiler")
def test_modules_of_a_go_program_are_those_that_go_tells(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "part").mkdir(parents=True)
    # The mark stands in this program as a text, too: it is not the compiler's.
    (source / "go.mod").write_text(
        "module own.test\n\ngo 1.24\n\nrequire example.test/part v1.2.3\n\nreplace example.test/part => ./part\n"
    )
    (source / "main.go").write_text(
        'package main\n\nimport "example.test/part"\n\nfunc main() { println(part.Mark, "\\xff Go buildinf:") }\n'
    )
    (source / "part" / "go.mod").write_text("module example.test/part\n\ngo 1.24\n")
    (source / "part" / "part.go").write_text('package part\n\nvar Mark = "\\xff Go buildinf:"\n')
    subprocess.run(["go", "build", "-o", "program", "."], cwd=source, check=True)
    program = (source / "program").read_bytes()
    told = subprocess.check_output(["go", "version", str(source / "program")], text=True).split()[-1]
    found = image_contents.read(archive(tmp_path / "a.tar", {"bin/program": program, "bin/sh": b"#!" * 200_000})).parts
    assert found == (
        Part("golang", "example.test/part", "v1.2.3"),
        Part("golang", "stdlib", told.removeprefix("go")),
    )


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"nothing of the kind")
    with pytest.raises(image_contents.NoImageError, match=r"a\.tar: is no OCI archive"):
        image_contents.read(tmp_path / "a.tar")
    (tmp_path / "b.tar").write_bytes(tar(**{"index.json": b"{}"}))
    with pytest.raises(image_contents.NoImageError, match="manifests"):
        image_contents.read(tmp_path / "b.tar")
    archive(tmp_path / "c.tar", {"a": b""}, media="application/vnd.oci.image.layer.v1.tar+zstd")
    with pytest.raises(image_contents.NoImageError, match="zstd"):
        image_contents.read(tmp_path / "c.tar")


@pytest.mark.skipif(not AUDIT.exists(), reason="scripts/setup-audit.sh has not been run")
def test_the_bill_is_cyclonedx_and_always_the_same(tmp_path: Path) -> None:
    archive(tmp_path / "a.tar", {"var/lib/dpkg/status": DPKG.encode(), f"{SITE}/x.dist-info/METADATA": WHEEL.encode()})
    command = [str(AUDIT), str(ROOT / "scripts" / "sbom.py"), str(tmp_path / "a.tar")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 deb, 1 pypi, 0 golang" in said.stdout
    assert said.stderr == ""
    first = (tmp_path / "a.cdx.json").read_bytes()
    subprocess.run(command, capture_output=True, check=True)
    assert (tmp_path / "a.cdx.json").read_bytes() == first
    told = json.loads(first)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert told["metadata"]["component"]["version"] == "0123456789ab"
    assert told["metadata"]["timestamp"].startswith("2026-11-29T10:11:12")
    assert sorted(each["purl"] for each in told["components"]) == [
        "pkg:deb/debian/libc6@2.41-12?arch=amd64",
        "pkg:pypi/ruamel-yaml@0.18",
    ]
    (tmp_path / "b.tar").write_bytes(b"")
    failed = subprocess.run([*command, str(tmp_path / "b.tar")], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "b.tar: is no OCI archive" in failed.stderr
