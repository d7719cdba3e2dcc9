#!/usr/bin/env python3
"""Stands in for k3s in the test of playbook 02: refuses a wrong configuration, tells systemd when it is ready, answers.

It proves what the playbook writes, in which order and how often it restarts; it is not Kubernetes.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

CONFIG = Path("/etc/rancher/k3s/config.yaml")
STATE = Path("/run/k3s-double.json")
NEEDED = {"token-file", "disable", "secrets-encryption", "protect-kernel-defaults", "cluster-cidr", "service-cidr"}


def server() -> None:
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    keys = {line.split(":")[0] for line in lines if line and line[0] not in " #-"}
    if missing := NEEDED - keys:
        sys.exit(f"{CONFIG} lacks {', '.join(sorted(missing))}")
    arguments = [line.strip(" -") for line in lines if line.startswith("  - ")]
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in ("admission-control-config-file", "audit-policy-file") and not Path(value).read_text().strip():
            sys.exit(f"{value} is empty")
    if len(Path("/etc/rancher/k3s/token").read_text().strip()) < 16:
        sys.exit("the token is a placeholder")
    for setting, value in {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}.items():
        if Path("/proc/sys", setting).read_text().strip() != value:
            sys.exit(f"protect-kernel-defaults: {setting} is not {value}")
    starts = json.loads(STATE.read_text())["starts"] + 1 if STATE.exists() else 1
    STATE.write_text(json.dumps({"starts": starts, "secrets-encryption": "secrets-encryption: true" in lines}))
    kubeconfig = Path("/etc/rancher/k3s/k3s.yaml")
    kubeconfig.write_text("apiVersion: v1\nkind: Config\n", encoding="utf-8")
    kubeconfig.chmod(0o600)
    listener = socket.create_server(("0.0.0.0", 6443))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        listener.accept()[0].close()


def main(arguments: list[str]) -> None:
    if arguments == ["server"]:
        server()
    if not STATE.exists():
        sys.exit("k3s is not running")
    if arguments == ["secrets-encrypt", "status"]:
        enabled = json.loads(STATE.read_text())["secrets-encryption"]
        print("Encryption Status:", "Enabled" if enabled else "Disabled")
    elif "wait" in arguments:
        print("node/driftloop-test condition met")
    else:
        sys.exit(f"the double has no answer to {arguments}")


if __name__ == "__main__":
    main(sys.argv[1:])
