"""What `make acceptance` does on a machine, step by step; each says what it showed, or why it failed."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ANSIBLE = ROOT / ".venv-ansible" / "bin" / "ansible-playbook"
DRIFTLOOP = ROOT / ".venv" / "bin" / "driftloop"
SITE = "playbooks/site.yml"
WRONG = re.compile(r"^(\[ERROR\]|FAIL |fatal: (?!\[)|\w*[Ee]rror:)")
"""How Ansible, the suite and others begin a line that says what is wrong."""
PATIENCE_S = 60
"""How long a tunnel may take to open."""


PROGRAMS = ("ssh", "ssh-keygen", "git", "kubectl", "jq", "curl")


def missing_program() -> str:
    """Of the programs that the steps call, one that is not here; empty where all are."""
    return next((name for name in PROGRAMS if shutil.which(name) is None), "")


class FailedError(Exception):
    """A step did not do what it must; the text says what and where to look."""


@dataclass
class Place:
    """The machine, and the folder in which everything about the run is kept."""

    folder: Path
    machine: str | None
    ssh_key: Path | None
    old: str | None
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def login(self) -> str:
        return self.machine or f"root@{self.known['address']}"

    @property
    def key(self) -> Path | None:
        return self.ssh_key if self.machine else self.folder / "key"

    def ssh_options(self) -> list[str]:
        """A machine that is new has a key that nobody knows; one that has changed it is refused."""
        hosts = f"UserKnownHostsFile={self.folder / 'known_hosts'}"
        options = ["-o", hosts, "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes"]
        return [*options, *(["-i", str(self.key)] if self.key else [])]

    def inventory(self, checkout: Path) -> Path:
        """An inventory of this one machine, beside a checkout's variables."""
        user, _, host = self.login.rpartition("@")
        told: dict[str, Any] = {"ansible_host": host, "ansible_connection": "ssh"}
        if user:
            told["ansible_user"] = user
        if self.key:
            told["ansible_ssh_private_key_file"] = str(self.key)
        told["ansible_ssh_common_args"] = " ".join(self.ssh_options()[:4])
        nodes = {"children": {"k3s_server": None, "k3s_agents": None}}
        hosts = {"k3s_server": {"hosts": {"vm": told}}, "k3s_agents": {"hosts": {}}, "nodes": nodes}
        path = self.folder / f"inventory-{'here' if checkout == ROOT else checkout.name}" / "hosts.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"all": {"children": hosts}}))
        variables = path.parent / "group_vars"
        variables.unlink(missing_ok=True)
        variables.symlink_to(checkout / "inventory" / "group_vars")
        return path


def execute(place: Place, name: str, command: list[str], *, folder: Path = ROOT, **environment: str) -> str:
    """A program's output, kept as NAME.log. Raises `FailedError` with what it says is wrong."""
    log = place.folder / f"{name}.log"
    env = os.environ | {"DRIFTLOOP_CONFIG_DIR": str(place.folder / "secrets"), "ANSIBLE_NOCOLOR": "1"} | environment
    with log.open("w") as to:
        done = subprocess.run(command, cwd=folder, env=env, stdout=to, stderr=subprocess.STDOUT, check=False)
    said = log.read_text(errors="replace")
    if done.returncode != 0:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = " / ".join([line for line in lines if WRONG.search(line)][-3:] or lines[-3:])
        raise FailedError(f"{Path(command[0]).name} ended with {done.returncode}: {last[-400:]} (all of it: {log})")
    return said


def play(place: Place, name: str, playbook: str, *more: str, folder: Path = ROOT, **environment: str) -> str:
    inventory = ["--inventory", str(place.inventory(folder))]
    return execute(place, name, [str(ANSIBLE), *inventory, playbook, *more], folder=folder, **environment)


def recap(said: str) -> dict[str, int]:
    """What Ansible's last lines add up to."""
    counts = re.findall(r"(?m)^vm\s+:.*?\bok=(\d+)\s+changed=(\d+).*?\bfailed=(\d+)", said)
    if not counts:
        raise FailedError("Ansible's output has no recap of the machine")
    return dict(
        zip(("ok", "changed", "failed"), (sum(map(int, each)) for each in zip(*counts, strict=True)), strict=True)
    )


# --- The steps ------------------------------------------------------------------------------------------------------


def rent(place: Place) -> dict[str, Any]:
    key = place.folder / "key"
    if not key.exists():
        execute(place, "key", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "acceptance", "-f", str(key)])
    said = execute(place, "machine", [str(ANSIBLE), "playbooks/hetzner.yml", *_rented(place)])
    found = re.search(r"ansible_host: ([0-9.]+)", said)
    if not found:
        raise FailedError(f"playbooks/hetzner.yml named no address (all of it: {place.folder / 'machine.log'})")
    place.known["address"] = found[1]
    return {"address": found[1]}


def _rented(place: Place) -> list[str]:
    return ["-e", f"hetzner_name={place.known['rented']}", "-e", f"hetzner_public_key={place.folder / 'key'}.pub"]


def reach(place: Place) -> dict[str, Any]:
    asked = '. /etc/os-release; echo "$PRETTY_NAME"; uname -r; nproc; free -m | awk "/^Mem/ {print \\$2}"'
    said = execute(place, "reach", ["ssh", *place.ssh_options(), place.login, asked]).strip().splitlines()
    system, kernel, cores, memory = said[-4:]
    if "Ubuntu" not in system:
        raise FailedError(f"{place.login} runs {system}: the platform is for Ubuntu")
    return {"system": system, "kernel": kernel, "cores": int(cores), "memory_mb": int(memory)}


def install(place: Place) -> dict[str, Any]:
    if place.old is None:
        return recap(play(place, "install", SITE))
    checkout = place.folder / "old"
    if not checkout.exists():
        execute(place, "checkout", ["git", "worktree", "add", "--force", "--detach", str(checkout), place.old])
    shown = recap(play(place, "install", SITE, folder=checkout, ANSIBLE_CONFIG=str(checkout / "ansible.cfg")))
    return {"version": place.old, **shown}


def upgrade(place: Place) -> dict[str, Any]:
    return recap(play(place, "upgrade", SITE))


def unchanged(place: Place) -> dict[str, Any]:
    shown = recap(play(place, "unchanged", SITE))
    if shown["changed"] != 0:
        raise FailedError(f"{shown['changed']} tasks changed something the second time (see unchanged.log)")
    return shown


def suite(place: Place, name: str = "suite") -> dict[str, Any]:
    with kubernetes(place) as environment:
        said = execute(place, name, [str(ROOT / "tests" / "run-all.sh")], **environment)
    return counted(said)


def counted(said: str) -> dict[str, Any]:
    found = re.search(r"(?m)^(\d+) passed, (\d+) failed, (\d+) skipped$", said)
    if not found:
        raise FailedError("the suite did not say what it found (see suite.log)")
    return dict(zip(("passed", "failed", "skipped"), map(int, found.groups()), strict=True))


def loop(place: Place) -> dict[str, Any]:
    results = place.folder / "recovery"
    shutil.rmtree(results, ignore_errors=True)
    with kubernetes(place) as cluster:
        scripts = place.folder / "observability"
        play(place, "scripts", "playbooks/00-bootstrap-scripts.yml", "-e", f"observability_dir={scripts}", **cluster)
        forward = str(scripts / "port-forward-all.sh")
        tunnels = {"DRIFTLOOP_PORT_FORWARD_DIR": str(place.folder / "forward")}
        environment = cluster | tunnels | _services(place, cluster)
        execute(place, "forward", [forward, "start"], **environment)
        try:
            command = [str(DRIFTLOOP), "experiment", "--results", str(results), "--timeout-s", "1800"]
            execute(place, "loop", command, **environment)
        finally:
            execute(place, "forward-stop", [forward, "stop"], **environment)
    told = json.loads((results / "recovery_metrics.json").read_text())
    if not told["recovered"] or told["requests_failed"]:
        raise FailedError(f"recovered: {told['recovered']}, {told['requests_failed']} requests failed (see recovery/)")
    wanted = ("detection_s", "core_recovery_s", "total_s", "requests_failed", "requests_total", "data_source")
    return {name: told[name] for name in wanted}


def _services(place: Place, environment: dict[str, str]) -> dict[str, str]:
    """Where the experiment finds the platform, and the file of its token: none stands in an argument."""
    token = place.folder / "secrets" / "token"
    token.parent.mkdir(parents=True, exist_ok=True)
    command = [
        "kubectl",
        "-n",
        "serving",
        "get",
        "secret",
        "retrainer-token",
        "-o",
        "go-template={{.data.token|base64decode}}",
    ]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FailedError(f"the retrainer's token cannot be read: {done.stderr.strip()[-300:]}")
    token.touch(mode=0o600)
    token.write_text(done.stdout)
    ports = {"SERVER": 8500, "RETRAINER": 8600, "MLFLOW": 5500}
    told = {f"DRIFTLOOP_{name}_URL": f"http://127.0.0.1:{port}" for name, port in ports.items()}
    return told | {"DRIFTLOOP_TOKEN_FILE": str(token), "DRIFTLOOP_STATE_DIR": str(place.folder / "experiment")}


def backup(place: Place) -> dict[str, Any]:
    return recap(play(place, "backup", "playbooks/backup.yml"))


def restore(place: Place) -> dict[str, Any]:
    return recap(play(place, "restore", "playbooks/restore.yml"))


@contextlib.contextmanager
def kubernetes(place: Place) -> Iterator[dict[str, str]]:
    """The variables with which kubectl reaches the machine's API server, through a tunnel that ends with the block."""
    command = "sudo -n cat /etc/rancher/k3s/k3s.yaml"
    done = subprocess.run(
        ["ssh", *place.ssh_options(), place.login, command], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise FailedError(f"k3s' kubeconfig cannot be read on {place.login}: {done.stderr.strip()[-300:]}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kubeconfig = place.folder / "secrets" / "kubeconfig"
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(done.stdout.replace("127.0.0.1:6443", f"127.0.0.1:{port}"))
    forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{port}:127.0.0.1:6443"]
    tunnel = subprocess.Popen(["ssh", *place.ssh_options(), *forward, place.login], stderr=subprocess.DEVNULL)
    try:
        _opens(port, tunnel)
        yield {"KUBECONFIG": str(kubeconfig), "DRIFTLOOP_KUBECTL": "kubectl"}
    finally:
        tunnel.terminate()
        tunnel.wait()


def _opens(port: int, tunnel: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and tunnel.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise FailedError("the tunnel to the API server does not open")


def clean_up(place: Place) -> None:
    """Remove what the run made: the rented machine, the checkout of the old version."""
    checkout = place.folder / "old"
    if checkout.exists():
        execute(place, "checkout-removed", ["git", "worktree", "remove", "--force", str(checkout)])
    if place.known.get("rented"):
        execute(
            place, "removed", [str(ANSIBLE), "playbooks/hetzner.yml", "-e", "hetzner_state=absent", *_rented(place)]
        )
        print(f"acceptance: {place.known['rented']} is removed")


@dataclass(frozen=True)
class Step:
    """One step: what it is for people, what it does, and why it may be left out (empty: it is not)."""

    name: str
    what: str
    do: Callable[[Place], dict[str, Any]]
    left_out: Callable[[Place], str] = lambda _: ""


def _given(place: Place) -> str:
    return f"{place.machine} was there" if place.machine else ""


def _no_old(place: Place) -> str:
    return "" if place.old else "no older version was named (--from)"


STEPS = (
    Step("machine", "rent a machine", rent, _given),
    Step("reach", "reach it, and see what it is", reach),
    Step("install", "install the platform", install),
    Step("upgrade", "install this version over the older one", upgrade, _no_old),
    Step("unchanged", "the same again, which changes nothing", unchanged),
    Step("suite", "ask every fact about the platform", suite),
    Step("loop", "change the fleet under traffic: it recovers by itself", loop),
    Step("backup", "back everything up", backup),
    Step("restore", "restore it", restore),
    Step("suite-after", "ask every fact once more", partial(suite, name="suite-after")),
)
