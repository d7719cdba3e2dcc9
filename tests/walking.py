"""Pages of docs are walked through: their commands, in their order, typed into a shell beside a real platform."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from live_platform import COMMAND, LONG_S, Platform

ROOT = Path(__file__).resolve().parents[1]
UP = re.compile(r"(?P<variables>(?:\w+=\S+ )*)driftloop up\b(?! --help)")
ELSEWHERE = re.compile(r"^(cd .* && )?(\.venv-ansible/|scripts/|make |kubectl |git |TORCH_BACKEND=\S+ make |tests/)")
"""Commands that need a cluster, a network, or a machine of their own: the lab and the targets run those."""


def commands(page: str) -> Iterator[str]:
    """What a page has one type: the blocks `sh`, and what follows `$ ` in the blocks `console`; each command whole."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        waiting = ""
        for line in block.splitlines():
            if kind == "console" and not waiting and not line.startswith("$ "):
                continue  # what was printed
            waiting += (line.removeprefix("$ ") if kind == "console" and not waiting else line) + "\n"
            try:
                words = shlex.split(waiting, comments=True)
            except ValueError:  # a quote goes on in the next line
                continue
            if waiting.endswith("\\\n"):
                continue
            if words:
                yield waiting.strip()
            waiting = ""
        assert not waiting, f"{page} has half a command: {waiting}"


def named(page: str) -> list[str]:
    """What a page says with `driftloop ...` within its sentences and tables."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(words.split()) for words in re.findall(r"`(driftloop [^`]+)`", text)]


@dataclass
class Walk:
    """Somebody who types what a page says, in a folder of her own; `said` is what each command printed."""

    page: str
    platform: Platform
    folder: Path
    names: dict[str, str | Callable[[], str]] = field(default_factory=dict)
    """What the page calls something, and what that is here."""
    before: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    """What happens in the world before a command that begins so."""
    said: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bin_ = self.folder / "bin"
        bin_.mkdir(exist_ok=True)
        starter = bin_ / "driftloop"
        starter.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
        starter.chmod(0o755)
        urls = self.platform.urls
        for host in ("localhost", "127.0.0.1"):
            own = {"server": 8500, "retrainer": 8600, "units": 8700, "console": 8400}
            self.names |= {f"{host}:{port}": urls[name].removeprefix("http://") for name, port in own.items()}
        self.environment = {
            **self.platform.environment,
            "HOME": str(self.folder / "home"),
            "PATH": f"{bin_}:{Path(sys.executable).parent}:{self.platform.environment['PATH']}",
            "NO_PROXY": "*",
        }

    def go(self) -> None:
        """Type everything; each must end well."""
        found = [line for line in commands(self.page) if not ELSEWHERE.match(line)]
        assert found, f"{self.page} has no command"
        for line in found:
            done = self.types(line)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    def types(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type one command. An `export` stays, and `driftloop up` starts the platform."""
        for beginning, happens in self.before.items():
            if line.startswith(beginning):
                happens()
        typed = line
        for name, here in self.names.items():
            if name in typed:
                typed = typed.replace(name, here if isinstance(here, str) else here())
        print(f"$ {line}" + (f"\n  (here: {typed})" if typed != line else ""))
        if exported := re.match(r"export (\w+)=(\S+)", typed):
            self.environment[exported[1]] = self.platform.environment[exported[1]] = exported[2]
            return subprocess.CompletedProcess(typed, 0, "", "")
        if up := UP.match(typed):
            self.platform.environment |= dict(one.split("=", 1) for one in up["variables"].split())
            self.platform.start()
            return subprocess.CompletedProcess(typed, 0, "", "")
        # With a line after it bash stays, and the command finds the shell that it is typed into.
        done = subprocess.run(
            ["bash", "-c", f"{typed}\nexit $?"], env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=2 * LONG_S, check=False,
        )  # fmt: skip
        print(f"  -> {done.returncode}\n{done.stdout}{done.stderr}")
        assert "Traceback" not in done.stderr
        self.said[line.split(" #", maxsplit=1)[0].strip()] = done.stdout
        return done
