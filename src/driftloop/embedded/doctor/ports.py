"""Ports: whether the platform has those it needs, and if somebody else has, who."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from driftloop.embedded import guard
from driftloop.embedded.doctor.findings import Finding, fine, problem
from driftloop.embedded.supervisor import port_is_free
from driftloop.settings import Settings

_LISTENING = "0A"


def addresses(base: Settings, fleets: Mapping[str, Settings]) -> dict[str, str]:
    """The addresses of an embedded platform's parts, by the setting that says where each is."""
    found = {"DRIFTLOOP_CONSOLE_URL": base.console_url}
    for name, one in fleets.items():
        prefix = f"{name}: " if len(fleets) > 1 else ""
        found |= {
            "DRIFTLOOP_MLFLOW_URL": one.mlflow_url,
            f"{prefix}DRIFTLOOP_SERVER_URL": one.server_url,
            f"{prefix}DRIFTLOOP_RETRAINER_URL": one.retrainer_url,
            f"{prefix}DRIFTLOOP_UNITS_URL": one.units_url,
        }
    return found


def taken(named: Mapping[str, str], state_dir: Path) -> Iterator[Finding]:
    """Which of these addresses somebody listens at who is no process of the platform with this state folder."""
    own = set(guard.marked_processes(str(state_dir.resolve())))
    clear = 0
    for setting, url in named.items():
        parts = urlsplit(url)
        if not parts.port or port_is_free(parts.hostname or "127.0.0.1", parts.port):
            clear += 1
            continue
        holders = listeners(parts.port)
        if holders and set(holders) <= own:
            clear += 1
            continue
        who = ", ".join(f"process {pid} ({_name(pid)})" for pid in holders) or "a process that this user may not see"
        remedy = f"stop it, or set {setting.rpartition(' ')[2]} to another port"
        yield problem("ports", f"port {parts.port} is taken by {who}", f"{setting} = {url}", remedy)
    yield fine("ports", f"{clear} of {len(named)} ports are free, or the platform's own")


def listeners(port: int) -> list[int]:
    """The processes that listen at a port of this machine, as far as this user may see them."""
    wanted = {f"socket:[{inode}]" for inode in _sockets(port)}
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(_target(link) in wanted for link in entry.iterdir()):
                found.append(int(entry.parent.name))
    return sorted(found)


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


def _sockets(port: int) -> list[str]:
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                parts = line.split()
                if parts[3] == _LISTENING and int(parts[1].rpartition(":")[2], 16) == port:
                    found.append(parts[9])
    return found


def _name(pid: int) -> str:
    """What a process is called: its own word, without arguments, which may hold secrets."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"
