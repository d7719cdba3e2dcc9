"""The machine: Python, packages, memory, language, variables, proxies."""

import importlib.metadata
import locale
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

# ONNX Runtime, which every installation has, needs it.
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from driftloop import settings
from driftloop.embedded.doctor.findings import Finding, fine, problem, warning
from driftloop.embedded.supervisor import PACKAGES

NEEDED_BYTES, COMFORTABLE_BYTES = 1 * 2**30, 2 * 2**30
"""Memory that a platform needs while it retrains, and with which nothing is tight."""
_INSTALL = "make setup, or pip install --upgrade 'driftloop[all]'"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def python() -> Iterator[Finding]:
    """Whether this is a Python that driftloop was made for."""
    wanted = SpecifierSet(importlib.metadata.metadata("driftloop")["Requires-Python"] or "")
    here = platform.python_version()
    if Version(here) in wanted:
        yield fine("python", f"Python {here}", sys.executable)
    else:
        remedy = "make the virtual environment anew with another Python"
        yield problem("python", f"Python {here} is none of {wanted}", sys.executable, remedy)


def packages(requirements: Sequence[str] | None = None) -> Iterator[Finding]:
    """Whether every package is there that the embedded platform needs, and none is below its floor.

    `requirements` are by default those of the installed driftloop. Of an extra (`driftloop[units]`) only what is
    there is looked at: what is not was left out on purpose.
    """
    given = importlib.metadata.requires("driftloop") or [] if requirements is None else requirements
    count, seen = 0, set()
    for text in given:
        wanted = Requirement(text)
        extra = wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})
        if str(wanted.name) in seen or (wanted.marker and not wanted.marker.evaluate({"extra": _extra(wanted)})):
            continue
        seen.add(wanted.name)
        try:
            found = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            if not extra:
                yield problem("packages", f"{wanted.name} is not installed", sys.prefix, _INSTALL)
            elif wanted.name in PACKAGES:
                what = f"{wanted.name} is not installed: without {PACKAGES[wanted.name]}, `driftloop up` does not start"
                yield warning("packages", what, sys.prefix, f"{_INSTALL}; nothing, where the platform is elsewhere")
            continue
        count += 1
        if not wanted.specifier.contains(found, prereleases=True):
            what = f"{wanted.name} {found} is installed, and {wanted.specifier} is needed"
            yield problem("packages", what, sys.prefix, _INSTALL)
    yield fine("packages", f"{count} of {len(seen)} packages are there and new enough", sys.prefix)


def memory(available: int | None = None) -> Iterator[Finding]:
    """Whether there is memory for a platform that retrains; `available` in bytes is by default what the kernel says."""
    left = available_bytes() if available is None else available
    if left is None:
        return
    said = f"{left / 2**30:.1f} GiB of memory are free"
    if left < NEEDED_BYTES:
        remedy = "stop something else, or give the machine or the container more"
        yield problem("memory", f"{said}; a retraining needs {NEEDED_BYTES / 2**30:.0f} GiB", "this machine", remedy)
    elif left < COMFORTABLE_BYTES:
        yield warning(
            "memory", f"{said}: little for a retraining beside the platform", "this machine", "stop something"
        )
    else:
        yield fine("memory", said)


def available_bytes(proc: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Memory that can be had: the kernel's figure, or the rest of the container's limit where that is less."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", proc.read_text())
    except OSError:
        return None
    left = int(found[1]) * 1024 if found else None
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return left
    return left if limit == "max" or left is None else min(left, max(0, int(limit) - int(used)))


def language(environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Whether names of every alphabet can be written and shown."""
    given = os.environ if environment is None else environment
    named = next((given[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if given.get(name)), "")
    remedy = "export LANG=C.UTF-8"
    if named and not _known(named):
        yield warning("locale", f"this machine has no locale {named!r}", "LC_ALL, LC_CTYPE or LANG", remedy)
    elif sys.getfilesystemencoding().lower() != "utf-8" or (sys.stdout.encoding or "utf-8").lower() != "utf-8":
        what = f"texts are {sys.stdout.encoding} here: other letters are shown as ?"
        yield warning("locale", what, named or "no LANG", remedy)
    else:
        yield fine("locale", f"texts are UTF-8 ({named or 'no LANG'})")


def variables(environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Whether a variable is named nearly as a setting is, and so changes nothing."""
    wrong = settings.misspelt(os.environ if environment is None else environment)
    for name, meant in wrong.items():
        what, remedy = f"{name} is no setting and changes nothing", f"is {meant} meant? Else unset it"
        yield warning("settings", what, "environment", remedy)
    if not wrong:
        yield fine("settings", "every variable can be read")


def proxies(urls: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Whether a proxy of the environment would come between this machine's programs and the platform's `urls`."""
    given = os.environ if environment is None else environment
    set_here = {name: value for name, value in given.items() if name.lower() in _PROXIES and value}
    for name, value in set_here.items():
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https", "socks4", "socks5", "socks5h") or not parts.hostname:
            yield problem("proxies", f"{name} is no address of a proxy", name, "write http://host:port, or unset it")
    if not set_here:
        yield fine("proxies", "no proxy is set")
        return
    past = {host.strip() for name in ("no_proxy", "NO_PROXY") for host in given.get(name, "").split(",")}
    hosts = sorted({urlsplit(url).hostname or "" for url in urls} - past - {""})
    caught = [host for host in hosts if not any(part and host.endswith(f".{part.lstrip('.')}") for part in past)]
    if caught and "*" not in past:
        what = f"curl and other programs ask a proxy for {', '.join(caught)}; driftloop's own do not"
        yield warning("proxies", what, ", ".join(set_here), f"export NO_PROXY={','.join(caught)},$NO_PROXY")
    else:
        yield fine("proxies", f"{', '.join(set_here)}; the platform is left out")


def disk(folder: Path, *, least: int, comfortable: int, what_for: str) -> Iterator[Finding]:
    """Whether the disk of a folder has room: below `least` bytes is a problem, below `comfortable` a warning."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    left = shutil.disk_usage(there).free
    said, remedy = f"{left / 2**30:.1f} GiB are free for {what_for}", "see docs/full-disk.md for what may go"
    if left < least:
        yield problem("disk", f"{said}; {least / 2**30:.1f} GiB are needed", str(folder), remedy)
    elif left < comfortable:
        yield warning("disk", said, str(folder), remedy)
    else:
        yield fine("disk", said, str(folder))


def _extra(wanted: Requirement) -> str:
    """The extra that a requirement belongs to; empty for none."""
    found = re.search(r"extra == ['\"]([^'\"]+)['\"]", str(wanted.marker or ""))
    return found[1] if found else ""


def _known(name: str) -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return True
