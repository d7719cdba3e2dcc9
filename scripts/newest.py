"""The newest version of what is pinned: each registry is asked by its own client (uv, go, npm, git, skopeo and others).

A client that is missing, or that cannot reach its registry, is a reason to say so and no failure: what the others say
is told all the same.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from packaging.version import Version
from pins import ROOT, Pin

PATIENCE_S = 60
"""Longest that one question may take: a registry behind a closed door often says nothing at all."""


@dataclass(frozen=True)
class Newest:
    """What a registry says of a pin."""

    version: str
    behind: bool


Answers = dict[Pin, Newest]
Unreached = dict[Pin, str]


class NotReachedError(Exception):
    """A client is missing or its registry does not answer; the text says which and why."""


def newest(pins: Iterable[Pin], root: Path = ROOT) -> tuple[Answers, Unreached]:
    """What each registry says, and why those say nothing that were not reached."""
    answers: Answers = {}
    unreached: Unreached = {}
    for group in _groups(pins):
        try:
            answers |= ASK[group[0].kind](group, root)
        except NotReachedError as why:
            unreached |= dict.fromkeys(group, str(why))
    return answers, unreached


def _groups(pins: Iterable[Pin]) -> list[list[Pin]]:
    """Pins that are asked about in one go: those that one failure says everything about."""
    groups: dict[tuple[str, str], list[Pin]] = {}
    hosts = {"release", "action", "image"}
    for pin in pins:
        host = urlsplit(pin.source).netloc or pin.source.split("/", maxsplit=1)[0]
        key = host if pin.kind in hosts else pin.where if pin.kind == "go" else ""
        groups.setdefault((pin.kind, key), []).append(pin)
    return list(groups.values())


def _asked(command: list[str], said: str = "", folder: Path | None = None, **environment: str) -> str:
    """A client's answer."""
    if shutil.which(command[0]) is None:
        raise NotReachedError(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            command,
            input=said,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            timeout=PATIENCE_S,
            env=os.environ | environment,
        )
    except subprocess.TimeoutExpired as error:
        raise NotReachedError(f"{command[0]} got no answer within {PATIENCE_S} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise NotReachedError(f"{command[0]}: {lines[-1].strip()}")
    return done.stdout


def _python(pins: list[Pin], _root: Path) -> Answers:
    """Without their dependencies each package resolves to its own newest, on every Python that the project supports."""
    names = sorted({pin.source for pin in pins})
    options = ["--no-deps", "--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--quiet"]
    said = _asked(["uv", "pip", "compile", *options, "-"], "\n".join(names))
    served: dict[str, Version] = {}
    for name, version in re.findall(r"(?m)^([a-z0-9][\w.-]*)==([^\s;]+)", said):
        served[name] = max(Version(version), served.get(name, Version("0")))
    # A package may stand in a lock twice, for older and newer Pythons: the newer one is what counts.
    own: dict[tuple[str, str], Version] = {}
    for pin in pins:
        key = (pin.where, pin.name)
        own[key] = max(Version(pin.version), own.get(key, Version("0")))
    return {
        pin: Newest(str(served[pin.source]), own[pin.where, pin.name] < served[pin.source])
        for pin in pins
        if pin.source in served
    }


def _go(pins: list[Pin], root: Path) -> Answers:
    folder = (root / pins[0].where).parent
    said = _asked(["go", "list", "-m", "-e", "-u", "-json", *(pin.source for pin in pins)], folder=folder)
    told = {}
    decoder, rest = json.JSONDecoder(), said.strip()
    while rest:
        module, end = decoder.raw_decode(rest)
        told[module["Path"]], rest = module, rest[end:].strip()
    failed = [module["Error"]["Err"] for module in told.values() if "Error" in module]
    if failed:
        raise NotReachedError(f"go: {failed[0].splitlines()[0]}")
    return {
        pin: Newest(told[pin.source].get("Update", told[pin.source])["Version"], "Update" in told[pin.source])
        for pin in pins
    }


def _npm(pins: list[Pin], _root: Path) -> Answers:
    found = {
        name: json.loads(_asked(["npm", "view", name, "version", "--json"])) for name in {pin.source for pin in pins}
    }
    return {pin: Newest(found[pin.source], Version(pin.version) < Version(found[pin.source])) for pin in pins}


def _git(pins: list[Pin], _root: Path) -> Answers:
    found: Answers = {}
    for pin in pins:
        tags = _asked(["git", "ls-remote", "--tags", "--refs", pin.source], GIT_TERMINAL_PROMPT="0")
        names = [line.split("refs/tags/")[1] for line in tags.splitlines()]
        found |= _of_tags(pin, names)
    return found


def _skopeo(pins: list[Pin], _root: Path) -> Answers:
    found: Answers = {}
    for pin in pins:
        found |= _of_tags(pin, json.loads(_asked(["skopeo", "list-tags", f"docker://{pin.source}"]))["Tags"])
    return found


def _of_tags(pin: Pin, tags: Iterable[str]) -> Answers:
    own = _numbers(pin.version, pin.name)
    assert own, f"{pin.name}: {pin.version} is not a version that can be compared"
    # Truncated to what is pinned: an action at v4 follows every 4.x.
    released = [numbers[: len(own)] for tag in tags if (numbers := _numbers(tag, pin.name))]
    if not released:
        raise NotReachedError(f"{pin.source} has no tag that is a release")
    last = max(released)
    return {pin: Newest(".".join(map(str, last)), own < last)}


def _numbers(tag: str, name: str) -> tuple[int, ...]:
    """Of a released version's tag (v1.2.3, REL_17_2, kustomize/v5.8.0, v1.36.5+k3s1) the numbers; of others none."""
    found = re.fullmatch(rf"(?:{re.escape(name)}/)?(?:v|REL_?)?(\d+(?:[._]\d+)*)(?:\+k3s(\d+))?", tag)
    return tuple(map(int, [*re.split(r"[._]", found[1]), *([found[2]] if found[2] else [])])) if found else ()


def _distribution(pins: list[Pin], _root: Path) -> Answers:
    command = {"debian": ["debian-distro-info", "--stable"], "ubuntu": ["ubuntu-distro-info", "--lts", "--release"]}
    last = _asked(command[pins[0].kind]).split()[0]
    return {pin: Newest(last, pin.version != last) for pin in pins}


ASK: dict[str, Callable[[list[Pin], Path], Answers]] = {
    "python": _python,
    "go": _go,
    "npm": _npm,
    "debian": _distribution,
    "ubuntu": _distribution,
    "release": _git,
    "action": _git,
    "image": _skopeo,
}
