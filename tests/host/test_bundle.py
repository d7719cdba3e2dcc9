"""scripts/bundle: what it packs, what it refuses, and how it goes on. Programs that fetch are scripts that answer."""

import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LOCK = """# a comment
alpha==1.0 \\
    --hash=sha256:aa
beta==2.0 ; python_full_version < '3.12' \\
    --hash=sha256:bb \\
    --hash=sha256:bc
gamma==3.0 ; platform_machine == 'aarch64' \\
    --hash=sha256:cc
"""
# Copies what stands under the last part of the address, or fails.
CURL = """#!/bin/bash
while [[ $1 != --output ]]; do shift; done
cp "{store}/${{3##*/}}" "$2"
"""
SKOPEO = """#!/bin/bash
printf '%s\\n' "$*" >>{log}
target=${{@: -1}}; target=${{target#oci-archive:}}
echo image >"${{target%%:*}}"
"""


@pytest.fixture(scope="module")
def bundle() -> ModuleType:
    for needed in ("jinja2", "packaging"):
        pytest.importorskip(needed)
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("bundle")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs lie that are found before the machine's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def web(programs: Path, tmp_path: Path) -> Path:
    """What `curl` finds."""
    store = tmp_path / "web"
    store.mkdir()
    program(programs, "curl", CURL.format(store=store))
    return store


@pytest.fixture
def packed(tmp_path: Path, bundle: ModuleType) -> Path:
    folder = tmp_path / "bundle"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.tar").write_text("a")
    (folder / "b with spaces").write_text("b")
    assert bundle.write_sums(folder) == 2
    return folder


def test_a_bundle_that_is_as_it_was_packed_verifies(bundle: ModuleType, packed: Path) -> None:
    assert bundle.verify(packed) == 2
    assert bundle.main(["--verify", str(packed)]) == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "images" / "a.tar").write_text("x"), "images/a.tar differs"),
        (lambda folder: (folder / "images" / "a.tar").unlink(), "images/a.tar is missing"),
        (lambda folder: (folder / "new").write_text("x"), "new is not listed"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "missing or cannot be read"),
        (lambda folder: (folder / "SHA256SUMS").write_text(""), "is empty"),
        (lambda folder: (folder / "SHA256SUMS").write_text("nonsense\n"), "cannot be read"),
    ],
)
def test_a_bundle_that_is_not_is_refused_and_named(bundle, packed, spoil, said, capsys) -> None:  # type: ignore[no-untyped-def]
    spoil(packed)
    assert bundle.main(["--verify", str(packed)]) == 1
    assert said in capsys.readouterr().err


def test_what_was_left_half_done_is_removed(bundle: ModuleType, packed: Path) -> None:
    (packed / "images" / "b.tar.part").write_text("half")
    assert bundle.write_sums(packed) == 2
    assert not (packed / "images" / "b.tar.part").exists()


def download(bundle: ModuleType, content: bytes) -> object:
    return bundle.Download("thing 1", "https://example.test/thing", hashlib.sha256(content).hexdigest(), "thing-1")


def test_a_download_is_kept_once_it_is_there(bundle: ModuleType, web: Path, tmp_path: Path) -> None:
    (web / "thing").write_bytes(b"right")
    bundle.fetch(download(bundle, b"right"), tmp_path / "to")
    assert (tmp_path / "to" / "thing-1").read_bytes() == b"right"
    (web / "thing").unlink()
    bundle.fetch(download(bundle, b"right"), tmp_path / "to")


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(
    bundle: ModuleType, web: Path, tmp_path: Path
) -> None:
    (web / "thing").write_bytes(b"altered")
    with pytest.raises(bundle.Refused, match="not the file that was pinned"):
        bundle.fetch(download(bundle, b"right"), tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_download_without_a_checksum_is_refused(bundle: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(bundle.Refused, match=r"no checksum of thing 1 in .*versions\.yml"):
        bundle.fetch(bundle.Download("thing 1", "https://example.test/thing", "", "thing-1"), tmp_path)


def test_every_binary_of_the_inventory_has_an_address_and_a_name(bundle: ModuleType) -> None:
    for arch in bundle.MACHINES:
        found = list(bundle.binaries(bundle.variables("versions"), arch))
        assert [each.what.split()[0] for each in found][:2] == ["k3s", "helm"]
        assert all(each.url.startswith("https://") and "{" not in each.url for each in found)
        assert len({each.name for each in found}) == len(found)
        assert bundle.k3s_images(bundle.variables("versions"), arch).name == f"k3s-airgap-images-{arch}.tar.zst"


@pytest.mark.parametrize(
    ("python", "arch", "names"),
    [
        ("3.11.7", "amd64", ["alpha==1.0", "beta==2.0"]),
        ("3.12.3", "amd64", ["alpha==1.0"]),
        ("3.12.3", "arm64", ["alpha==1.0", "gamma==3.0"]),
    ],
)
def test_packages_are_those_of_the_machines_python(
    bundle: ModuleType, python: str, arch: str, names: list[str]
) -> None:
    lines = bundle.requirements_for(LOCK, python, arch).splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == names
    assert all(" ; " not in line for line in lines)


def test_one_package_is_split_off_with_all_its_hashes(bundle: ModuleType) -> None:
    own, others = bundle.split(bundle.requirements_for(LOCK, "3.11.7", "amd64"), "beta==2.0")
    assert own == "beta==2.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:bc\n"
    assert others == "alpha==1.0 \\\n    --hash=sha256:aa\n"


def test_published_images_are_packed_under_containerds_names(
    bundle: ModuleType, programs: Path, tmp_path: Path
) -> None:
    program(programs, "skopeo", SKOPEO.format(log=tmp_path / "log"))
    bundle.pull("docker.io/alpine:3.23", "docker.io/alpine:3.23", tmp_path / "images" / "a.tar", "arm64")
    assert (tmp_path / "images" / "a.tar").read_text() == "image\n"
    said = (tmp_path / "log").read_text()
    assert "--override-arch arm64 docker://docker.io/alpine:3.23" in said
    assert said.rstrip().endswith(":docker.io/library/alpine:3.23")
    bundle.pull("docker.io/alpine:3.23", "docker.io/alpine:3.23", tmp_path / "images" / "a.tar", "arm64")
    assert len((tmp_path / "log").read_text().splitlines()) == 1, "what is packed already is not pulled again"


def test_every_image_that_is_pulled_has_the_name_that_containerd_looks_for(bundle: ModuleType) -> None:
    for image in bundle.variables("images")["pulled_images"].values():
        assert bundle.kfp_manifests.known_as(image["reference"]) == image["reference"]


def test_kubeflow_is_packed_from_what_kustomize_renders(
    bundle: ModuleType, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_kfp_manifests import RENDERED

    (tmp_path / "rendered").write_text(RENDERED)
    program(programs, "kustomize", f'#!/bin/bash\n[[ $2 == *env/* ]] && cat {tmp_path}/rendered || echo "# nothing"\n')
    program(programs, "skopeo", SKOPEO.format(log=tmp_path / "log"))
    monkeypatch.setattr(sys, "argv", ["bundle"])
    folder = tmp_path / "bundle"
    assert bundle.main(["--only", "kfp", str(folder)]) == 0
    names = (folder / "kfp" / "images.txt").read_text().split()
    assert "docker.io/library/mysql:8.4" in names
    for name in names:
        archive = name.replace("/", "_").replace(":", "_").replace("@", "_")
        assert (folder / "images" / f"kfp-{archive}.tar").is_file()
    assert bundle.verify(folder) == len(names) + 2


def test_a_rendered_file_that_is_not_understood_is_not_packed(
    bundle: ModuleType, programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(
        programs, "kustomize", "#!/bin/bash\necho 'apiVersion: v1'; echo 'kind: Service'; echo 'metadata: {name: a}'\n"
    )
    assert bundle.main(["--only", "kfp", str(tmp_path / "bundle")]) == 1
    assert "names have changed" in capsys.readouterr().err
    assert not list((tmp_path / "bundle" / "kfp").glob("*.yaml"))


def test_nasas_data_is_packed_by_checksum(
    bundle: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CMAPSS_DIR", raising=False)
    assert bundle.main(["--only", "cmapss", str(tmp_path / "bundle")]) == 0
    assert "the platform will use the simulator" in capsys.readouterr().out
    monkeypatch.setenv("CMAPSS_DIR", str(tmp_path))
    (tmp_path / "train_FD001.txt").write_text("not NASA's")
    assert bundle.main(["--only", "cmapss", str(tmp_path / "bundle")]) == 1
    assert "is not NASA's file" in capsys.readouterr().err


def test_arguments_that_make_no_sense_are_refused(bundle: ModuleType, tmp_path: Path) -> None:
    for wrong in (["--only", "everything"], ["--python", "3"], ["--arch", "riscv"]):
        with pytest.raises(SystemExit) as refused:
            bundle.main([*wrong, str(tmp_path)])
        assert refused.value.code == 2
