"""What a pod's program may import, its image has: what only a developer's machine has fails on a cluster alone."""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import grimp
from packaging.requirements import Requirement
from rendered import ROOT, Manifest, pods, skip_without_ansible

from driftloop.cli import COMMANDS

IMAGES = ROOT / "files" / "images"
OURS = ("server", "drift", "trainer", "units")
"""Images with the package in them."""
NOT_ON_A_CLUSTER = {
    ("driftloop.drift.commands", "server", "evidently"): "the watch makes no report",
    ("driftloop.drift.commands", "server", "pandas"): "the watch makes no report",
    ("driftloop.drift.commands", "server", "boto3"): "the watch reads no archive",
    ("driftloop.drift.commands", "server", "botocore"): "the watch reads no archive",
    ("driftloop.units.commands", "units", "paho"): "whoever sends rows over MQTT does it from elsewhere",
    ("driftloop.units.commands", "units", "pyarrow"): "whoever sends a file of rows does it from elsewhere",
    ("driftloop.units.commands", "units", "boto3"): "completed runs are archived through the retrainer",
    ("driftloop.units.commands", "units", "botocore"): "completed runs are archived through the retrainer",
}
"""What a command's module can import and its pod never does, and why."""
BEFORE_A_SCRIPT = re.compile(r"python3 (/\S+\.py)")


@functools.cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("driftloop", include_external_packages=True, exclude_type_checking_imports=True)


@functools.cache
def named_in(module: str) -> set[str]:
    """Modules that a module names as text, for others to import: `driftloop.serving.app:create_app`."""
    path = ROOT / "src" / Path(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    texts = {each.value for each in ast.walk(ast.parse(source.read_text())) if isinstance(each, ast.Constant)}
    ours = {text.partition(":")[0] for text in texts if isinstance(text, str) and text.startswith("driftloop.")}
    return ours & graph().modules


def imported(module: str) -> set[str]:
    """Every package of others that a module of ours can come to import, in a function or at once."""
    found: set[str] = set()
    # Another process that is started by the command line is another pod's, or says which module it is.
    seen = {"driftloop.cli"}
    ahead = [module]
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.partition(".")[0] != "driftloop":
            found.add(name)
            continue
        ahead += graph().find_modules_directly_imported_by(name) | named_in(name)
        if "." in name:
            ahead.append(name.rpartition(".")[0])
    return found - sys.stdlib_module_names


def extras(image: str) -> list[str]:
    return re.findall(r"--extra (\w+)", (IMAGES / f"{image}-packages" / "Containerfile").read_text())


@functools.cache
def distributions(image: str) -> set[str]:
    """Names of what is installed in an image: the package's own needs with the image's extras, and theirs."""
    found: set[tuple[str, str]] = set()
    ahead = [("driftloop", extra) for extra in ("", *extras(image))]
    while ahead:
        name, extra = ahead.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for line in metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                ahead += [(plain(need.name), each) for each in ("", *need.extras)]
    return {name for name, _ in found}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def owners() -> dict[str, set[str]]:
    """The distributions that each package comes from."""
    return {package: set(map(plain, names)) for package, names in metadata.packages_distributions().items()}


def lacking(packages: set[str], image: str) -> set[str]:
    return {package for package in packages if not owners().get(package, set()) & distributions(image)}


def programs(pod: Manifest) -> Iterator[tuple[str, str]]:
    """(image, program) of a pod: a module of ours, or the path of a script."""
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        image = container["image"].partition(":")[0].rpartition("/")[2]
        if image not in OURS:
            continue
        command, args = container.get("command", []), container.get("args", [])
        line = " ".join(map(str, command or ["driftloop", *args]))
        for name in re.findall(r"driftloop ([a-z]+)", line):
            yield image, COMMANDS[name].module
        yield from ((image, module) for module in re.findall(r"-m (driftloop\.\S+)", line.replace(",", " ")))
        yield from ((image, script) for script in BEFORE_A_SCRIPT.findall(line))


def imported_by_script(source: str) -> set[str]:
    found: set[str] = set()
    for each in ast.walk(ast.parse(source)):
        names = [alias.name for alias in each.names] if isinstance(each, ast.Import) else []
        if isinstance(each, ast.ImportFrom) and each.module:
            below = [f"{each.module}.{alias.name}" for alias in each.names]
            names = [name for name in below if name in graph().modules] or [each.module]
        for name in names:
            found |= imported(name) if name in graph().modules else {name.partition(".")[0]}
    return found - sys.stdlib_module_names


@skip_without_ansible
def test_what_a_pod_imports_is_in_its_image(manifests: list[Manifest]) -> None:
    scripts = {
        name: source
        for each in manifests
        if each["kind"] == "ConfigMap"
        for name, source in each.get("data", {}).items()
        if name.endswith(".py")
    }
    missing: list[str] = []
    used: set[tuple[str, str, str]] = set()
    seen: set[tuple[str, str]] = set()
    for pod, _, _, spec in pods(manifests):
        for image, program in programs(spec):
            seen.add((image, program))
            is_script = program.startswith("/")
            needs = imported_by_script(scripts[Path(program).name]) if is_script else imported(program)
            for package in sorted(lacking(needs, image)):
                if (program, image, package) in NOT_ON_A_CLUSTER:
                    used.add((program, image, package))
                else:
                    missing.append(f"{pod}: {program} may import {package}, which the image {image} has not")
    assert {image for image, _ in seen} == set(OURS), seen
    assert len(seen) >= 10, seen
    assert missing == []
    assert used == set(NOT_ON_A_CLUSTER), "these are no longer needed"


def test_a_package_that_an_image_lacks_is_seen() -> None:
    assert "scipy" in imported("driftloop.api.commands")
    assert "onnxruntime" in imported("driftloop.serving.commands")
    assert lacking({"scipy", "numpy", "torch"}, "server") == {"scipy", "torch"}
    assert lacking({"scipy", "torch"}, "units") == {"torch"}


def test_what_backs_up_needs_debians_packages_alone() -> None:
    files = [*(IMAGES / "backup" / "platform_backup").glob("*.py"), ROOT / "files" / "gitops" / "upload.py"]
    needs = set().union(*(imported_by_script(file.read_text()) for file in files)) - {"platform_backup"}
    installed = re.findall(r"python3-(\w+)", (IMAGES / "backup" / "Containerfile").read_text())
    assert needs <= {*installed, "botocore"}  # boto3's own need
