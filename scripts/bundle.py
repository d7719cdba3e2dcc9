"""Packs everything that site.yml would download into one folder, for a machine without a network:

    scripts/bundle DIRECTORY
    ansible-playbook playbooks/site.yml -e bundle=DIRECTORY

What is in DIRECTORY already and has the right checksum is kept, so that an interrupted run goes on where it was.
SHA256SUMS lists every file; `--verify` checks them all.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import kfp_manifests
import yaml
from packaging.markers import Marker

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = ROOT / "inventory" / "group_vars" / "all"
SUMS = "SHA256SUMS"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
PART = ".part"
KFP = "https://github.com/kubeflow/pipelines/manifests/kustomize"


class Refused(Exception):
    """What cannot be packed, and why."""


class Download(NamedTuple):
    """A file on the web, pinned."""

    what: str
    url: str
    checksum: str
    name: str


class Target(NamedTuple):
    """The machine that the bundle is for, and the folder it is packed into."""

    folder: Path
    arch: str
    python: str


def say(text: str) -> None:
    print(f"bundle: {text}", flush=True)


# Checksums.


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has(path: Path, checksum: str) -> bool:
    return path.is_file() and digest(path) == checksum


def files_of(folder: Path) -> list[str]:
    """Every file of a bundle but its list, by name."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != SUMS)


def write_sums(folder: Path) -> int:
    """Remove what was left half done, list the rest; returns how many files there are."""
    for path in folder.rglob(f"*{PART}"):
        path.unlink()
    lines = [f"{digest(folder / name)}  {name}\n" for name in files_of(folder)]
    (folder / f"{SUMS}{PART}").write_text("".join(lines), encoding="utf-8")
    (folder / f"{SUMS}{PART}").rename(folder / SUMS)
    return len(lines)


def verify(folder: Path) -> int:
    """Refuse a bundle that is not as it was packed; returns how many files it has."""
    try:
        listed = dict(
            reversed(line.split("  ", 1)) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()
        )
    except (OSError, ValueError) as error:
        raise Refused(f"{folder / SUMS} is missing or cannot be read: {error}") from error
    if not listed:
        raise Refused(f"{folder / SUMS} is empty")
    there = files_of(folder)
    wrong = [
        *(f"{name} is missing" for name in sorted(listed.keys() - there)),
        *(f"{name} is not listed in {SUMS}" for name in there if name not in listed),
        *(f"{name} differs from {SUMS}" for name in there if name in listed and digest(folder / name) != listed[name]),
    ]
    if wrong:
        raise Refused("\n  ".join([f"{folder} is not as it was packed:", *wrong]))
    return len(listed)


def run(*command: str | Path, **options: Any) -> str:
    """A program's output; refuses where it fails."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=False, **options)
    if done.returncode != 0:
        raise Refused(f"{command[0]} failed with code {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def fetch(download: Download, folder: Path) -> None:
    """Download a file where it is not there yet; refuses one that was not pinned."""
    if not re.fullmatch("[0-9a-f]{64}", download.checksum):
        raise Refused(f"no checksum of {download.what} in inventory/group_vars/all/versions.yml")
    path = folder / download.name
    if has(path, download.checksum):
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    run("curl", "--fail", "--location", "--silent", "--show-error", "--retry", "3", "--output", part, download.url)
    if not has(part, download.checksum):
        part.unlink()
        raise Refused(
            f"{download.url} has another checksum than {download.checksum}: it is not the file that was pinned"
        )
    part.rename(path)


# What the inventory pins.


def variables(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INVENTORY / f"{name}.yml").read_text(encoding="utf-8"))
    return found


def binaries(versions: dict[str, Any], arch: str) -> Iterator[Download]:
    """k3s and the tools."""
    version = versions["k3s_version"]
    url = _rendered(versions["k3s_url"], versions, arch)
    yield Download(f"k3s {version}", url, versions["k3s_sha256"][arch], f"k3s-{version}-{arch}")
    for tool in versions["tools"]:
        name = f"{tool['name']}-{tool['version']}-{arch}.tar.gz"
        what = f"{tool['name']} {tool['version']}"
        yield Download(what, _rendered(tool["url"], versions, arch), tool["sha256"][arch], name)


def k3s_images(versions: dict[str, Any], arch: str) -> Download:
    """The images that k3s itself runs."""
    url = _rendered(versions["k3s_images_url"], versions, arch)
    return Download("k3s' own images", url, versions["k3s_images_sha256"][arch], url.rpartition("/")[2])


def _rendered(text: str, versions: dict[str, Any], arch: str) -> str:
    return jinja2.Environment(autoescape=False).from_string(text).render({**versions, "architecture": arch}).strip()


def requirements_for(lock: str, python: str, arch: str) -> str:
    """A lock's lines that hold for the machine's Python, not for this one's: pip itself cannot tell the two apart."""
    target = {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "platform_machine": MACHINES[arch],
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    kept = []
    for entry in re.split(r"\n(?=\S)", lock):
        requirement, _, hashes = entry.partition(" \\\n")
        name, _, marker = requirement.partition(" ; ")
        if name.strip() and not name.startswith("#") and (not marker or Marker(marker).evaluate(target)):
            kept.append(f"{name} \\\n{hashes.rstrip()}\n")
    return "".join(kept)


def split(requirements: str, name: str) -> tuple[str, str]:
    """The entry of one package, `NAME==VERSION`, and all others."""
    entries = re.split(r"(?<=\n)(?=\S)", requirements)
    own = [entry for entry in entries if entry.split(" ", 1)[0] == name]
    return "".join(own), "".join(entry for entry in entries if entry not in own)


# The parts.


def pack_binaries(target: Target) -> None:
    for download in binaries(variables("versions"), target.arch):
        fetch(download, target.folder / "binaries")
        say(download.what)


def pack_wheels(target: Target) -> None:
    wheels = target.folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", wheels)
    for lock in sorted((ROOT / "files" / "host").glob("*.lock")):
        sources = _download_wheels(pip, requirements_for(lock.read_text(), target.python, target.arch), target, lock)
        named = f", {', '.join(sources)} as source" if sources else ""
        say(f"packages of {lock.name} for Python {target.python}{named}")
    # What builds the source on the machine.
    run(*pip, "setuptools", "wheel")


def _download_wheels(pip: tuple[str | Path, ...], requirements: str, target: Target, lock: Path) -> list[str]:
    """Fetch wheels, and by the same hash as source what exists as source only; returns the names of those."""
    listed = target.folder / f"requirements{PART}"
    exact = ("--require-hashes", "--no-deps", "--requirement", str(listed))
    of_target = ("--python-version", target.python, "--implementation", "cp", "--only-binary", ":all:")
    sources: dict[str, str] = {}
    while True:
        listed.write_text(requirements)
        done = subprocess.run([*map(str, pip), *of_target, *exact], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        absent = re.search(r"^ERROR: No matching distribution found for ([^= ]+==\S+)", done.stderr, re.MULTILINE)
        if absent is None or absent[1] in sources:
            raise Refused(f"the packages of {lock.name} cannot be downloaded:\n{done.stderr.strip()}")
        sources[absent[1]], requirements = split(requirements, absent[1])
    if sources:
        listed.write_text("".join(sources.values()))
        run(*pip, *exact)
    return list(sources)


def pack_images(target: Target) -> None:
    images = target.folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    # Only those that run: the others are what they are built from.
    running = [path.parent.name for path in sorted((ROOT / "files" / "images").glob("*/Containerfile"))]
    for name in running:
        if not re.search("^ENTRYPOINT", (ROOT / "files" / "images" / name / "Containerfile").read_text(), re.MULTILINE):
            continue
        archive = Path(run(ROOT / "files" / "images" / "build.sh", "archive", name).splitlines()[-1])
        _link(archive, images / archive.name)
        say(f"image {name}")
    for name, image in variables("images")["pulled_images"].items():
        by_digest = f"{image['reference'].rpartition(':')[0]}@{image['digest']}"
        archive = images / f"{name}-{image['digest'].removeprefix('sha256:')[:12]}.tar"
        pull(by_digest, image["reference"], archive, target.arch)
    say("bills of materials of the images")
    run(ROOT / "scripts" / "setup-audit.sh")
    run(ROOT / ".venv-audit" / "bin" / "python", ROOT / "scripts" / "sbom.py", *sorted(images.glob("*.tar")))
    k3s = k3s_images(variables("versions"), target.arch)
    if k3s.checksum:
        fetch(k3s, images)
    else:
        say(
            f"k3s' own images are left out: fill k3s_images_sha256.{target.arch} in versions.yml from the release's"
            f" sha256sum-{target.arch}.txt"
        )


def pull(source: str, reference: str, archive: Path, arch: str) -> None:
    """Pack a published image under the name that containerd looks for."""
    name = kfp_manifests.known_as(reference)
    if archive.is_file() and archive.stat().st_size > 0:
        say(f"image {name}")
    elif shutil.which("skopeo") is None:
        say(f"image {name} is left out: install skopeo and run again")
    else:
        archive.parent.mkdir(parents=True, exist_ok=True)
        part = archive.with_name(archive.name + PART)
        part.unlink(missing_ok=True)
        run("skopeo", "copy", "--quiet", "--override-arch", arch, f"docker://{source}", f"oci-archive:{part}:{name}")
        part.rename(archive)
        say(f"image {name}")


def _link(source: Path, to: Path) -> None:
    """A second name of the same file, where the file system can: several gigabytes."""
    if to.exists() and to.samefile(source):
        return
    to.unlink(missing_ok=True)
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)


def pack_kfp(target: Target) -> None:
    version = variables("versions")["kfp_version"]
    rendered = target.folder / "kfp" / f"kfp-{version}.yaml"
    if not rendered.is_file():
        rendered.parent.mkdir(parents=True, exist_ok=True)
        for program in ("kustomize", "git"):
            if shutil.which(program) is None:
                raise Refused(f"{program} is needed to render Kubeflow Pipelines")
        parts = [
            run("kustomize", "build", f"{KFP}/{part}?ref={version}")
            for part in ("cluster-scoped-resources", "env/platform-agnostic")
        ]
        part = rendered.with_name(rendered.name + PART)
        part.write_text("\n---\n".join(parts))
        kfp_manifests.adapt(kfp_manifests.read(part), kfp_manifests.Store("check", "9000", "check", "check"), 1, 1)
        part.rename(rendered)
    names = kfp_manifests.image_names(kfp_manifests.read(rendered))
    listing = rendered.parent / "images.txt"
    listing.write_text("".join(f"{name}\n" for name in names))
    say(f"Kubeflow Pipelines {version}, {len(names)} images listed in {listing}")
    for name in names:
        pull(name, name, target.folder / "images" / f"kfp-{re.sub('[/:@]', '_', name)}.tar", target.arch)


def pack_cmapss(target: Target) -> None:
    given = os.environ.get("CMAPSS_DIR")
    if not given:
        say("NASA's data is left out: CMAPSS_DIR is not set; the platform will use the simulator")
        return
    folder = target.folder / "cmapss"
    folder.mkdir(parents=True, exist_ok=True)
    for line in (ROOT / "files" / "host" / "cmapss.sha256").read_text().splitlines():
        checksum, name = line.split()
        if not has(Path(given) / name, checksum):
            raise Refused(f"{Path(given) / name} is missing or is not NASA's file")
        if not has(folder / name, checksum):
            shutil.copyfile(Path(given) / name, folder / name)
    say("NASA's data")


PARTS = {
    "binaries": pack_binaries,
    "wheels": pack_wheels,
    "images": pack_images,
    "kfp": pack_kfp,
    "cmapss": pack_cmapss,
}
EXPLAINED = """parts:
  binaries   k3s and the tools, checked against inventory/group_vars/all/versions.yml
  wheels     Python packages of files/host/*.lock, by hash, for the machine's Python
  images     what the platform builds (files/images/build.sh) or pulls (needs skopeo), and k3s' own images
  kfp        Kubeflow Pipelines: rendered manifests and their images (needs kustomize and git; skopeo for the images)
  cmapss     NASA's data from CMAPSS_DIR, by checksum
"""


def _python(text: str) -> str:
    if not re.fullmatch(r"3\.\d+\.\d+", text):
        raise argparse.ArgumentTypeError(f"the machine's version, such as 3.12.3, not {text!r}")
    return text


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bundle",
        description=__doc__,
        epilog=EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="PART", help="pack this part; may be repeated"
    )
    parser.add_argument("--arch", choices=MACHINES, default="amd64", help="of the machine (%(default)s)")
    parser.add_argument("--python", type=_python, default="3.12.3", help="of the machine (%(default)s, Ubuntu 24.04's)")
    parser.add_argument("--verify", action="store_true", help="check every file of the bundle, and pack nothing")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.verify:
            say(f"{verify(chosen.directory)} files are as they were packed")
            return 0
        chosen.directory.mkdir(parents=True, exist_ok=True)
        target = Target(chosen.directory.resolve(), chosen.arch, chosen.python)
        for part in chosen.only or PARTS:
            PARTS[part](target)
        say(f"{write_sums(target.folder)} files in {target.folder}")
    except (Refused, kfp_manifests.Refused, OSError, KeyError, yaml.YAMLError) as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
