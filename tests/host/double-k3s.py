#!/usr/bin/env python3
"""Stands in for k3s in the tests of the host: refuses a wrong configuration, tells systemd when it is ready, answers.

It proves what the playbook writes, in which order and how often it restarts; it is not Kubernetes. Where machine.sh
has laid the lab's folder at /srv/lab, the lab's Kubernetes and containerd answer in its place.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/rancher/k3s/config.yaml")
STATE = Path("/run/k3s-double.json")
TOKEN = Path("/etc/rancher/k3s/token")
KUBECONFIG = Path("/etc/rancher/k3s/k3s.yaml")
LAB = Path("/srv/lab")
NEEDED = {"token-file", "disable", "secrets-encryption", "protect-kernel-defaults", "cluster-cidr", "service-cidr"}


def server() -> None:
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    require(lines, NEEDED)
    arguments = [line.strip(" -") for line in lines if line.startswith("  - ")]
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in ("admission-control-config-file", "audit-policy-file") and not Path(value).read_text().strip():
            sys.exit(f"{value} is empty")
    lab = LAB / "kubeconfig"
    KUBECONFIG.write_text(lab.read_text() if lab.exists() else "apiVersion: v1\nkind: Config\n", encoding="utf-8")
    KUBECONFIG.chmod(0o600)
    listener = socket.create_server(("0.0.0.0", 6443))
    ready({"secrets-encryption": "secrets-encryption: true" in lines})
    while True:
        admit(listener.accept()[0])


def admit(connection: socket.socket) -> None:
    """Take a node in that knows the token; others only see that something listens."""
    with connection:
        connection.settimeout(2)
        try:
            token, _, node = connection.recv(1000).decode().partition(" ")
        except TimeoutError:
            return
        if token == TOKEN.read_text().strip():
            remember({"nodes": sorted({*recall().get("nodes", []), node})})
            connection.sendall(b"welcome")


def agent() -> None:
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    require(lines, {"server", "token-file", "node-ip", "protect-kernel-defaults"})
    settings = dict(line.split(": ", 1) for line in lines if ": " in line)
    address, _, port = settings["server"].removeprefix("https://").partition(":")
    with socket.create_connection((address, int(port)), timeout=5) as connection:
        connection.sendall(f"{TOKEN.read_text().strip()} {settings['node-ip']}".encode())
        if connection.recv(100) != b"welcome":
            sys.exit(f"{settings['server']} refuses the token")
    ready({"joined": settings["server"]})
    signal.pause()


def require(lines: list[str], needed: set[str]) -> None:
    """Exit unless the configuration has these keys, a token is there, and the kernel is as a hardened kubelet asks."""
    keys = {line.split(":")[0] for line in lines if line and line[0] not in " #-"}
    if missing := needed - keys:
        sys.exit(f"{CONFIG} lacks {', '.join(sorted(missing))}")
    if len(TOKEN.read_text().strip()) < 16:
        sys.exit("the token is a placeholder")
    for setting, value in {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}.items():
        if Path("/proc/sys", setting).read_text().strip() != value:
            sys.exit(f"protect-kernel-defaults: {setting} is not {value}")


def ready(state: dict[str, Any]) -> None:
    """Count this start and tell systemd."""
    remember({"starts": recall().get("starts", 0) + 1, **state})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")


def recall() -> dict[str, Any]:
    state: dict[str, Any] = json.loads(STATE.read_text()) if STATE.exists() else {}
    return state


def remember(more: dict[str, Any]) -> None:
    STATE.write_text(json.dumps({**recall(), **more}))


def containerd(arguments: list[str]) -> None:
    """Its store of images is a list; an archive of this double holds nothing but its reference."""
    known = recall().get("images", [])
    if arguments[:2] == ["images", "list"]:
        wanted = [argument.removeprefix("name==") for argument in arguments if argument.startswith("name==")]
        print("\n".join(image for image in known if not wanted or image in wanted))
    elif arguments[:2] == ["images", "import"]:
        remember({"images": [*known, Path(arguments[2]).read_text().strip()]})
    else:
        sys.exit(f"the double of containerd has no answer to {arguments}")


def main(arguments: list[str]) -> None:
    if arguments == ["server"]:
        server()
    if arguments == ["agent"]:
        agent()
    if not STATE.exists():
        sys.exit("k3s is not running")
    if arguments == ["secrets-encrypt", "status"]:
        print("Encryption Status:", "Enabled" if recall()["secrets-encryption"] else "Disabled")
    elif LAB.exists() and arguments[:1] == ["kubectl"]:
        os.environ.setdefault("KUBECONFIG", str(KUBECONFIG))
        os.execv(LAB / "bin/kube", ["kube", *arguments])
    elif LAB.exists() and arguments[:1] == ["ctr"]:
        os.execv(LAB / "bin/ctr", ["ctr", "--address", str(LAB / "containerd.sock"), *arguments[1:]])
    elif arguments[:3] == ["ctr", "-n", "k8s.io"]:
        containerd(arguments[3:])
    elif "wait" in arguments:
        print("node/machine condition met")
    else:
        sys.exit(f"the double has no answer to {arguments}")


if __name__ == "__main__":
    name = Path(sys.argv[0]).name
    main(([name] if name in ("kubectl", "ctr") else []) + sys.argv[1:])
