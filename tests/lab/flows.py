#!/usr/bin/env python3
"""Tries who reaches whom on the lab, and compares with what the NetworkPolicies say.

    flows.py KUBECTL IMAGE > TABLE      inside the lab's namespaces, as root; IMAGE does nothing and is on the node

Every pod tries every port that listens, from its own network. So does a stand-in for each kind of pod that comes and
goes (CronJobs, pipelines, workers of a study), with its labels and nothing inside, and one in a namespace without
policies. Targets are the ports of pods that answer the node, and the node's own. One line for each try; exit 1 where
one is not as it must be.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))
from policies import End, flows

STANDS_IN = "flows-stands-in"
UNPROTECTED = "default"
# Ports of the node that listen: the API server, the kubelet, and its own figures.
NODE_PORTS = (6443, 10250, 9100)
# Seconds after which a connection counts as refused: a dropped packet is sent again after one and after three.
PATIENCE_S = 5.0
# Tries every target at the same time; prints the numbers of those that let it in.
TRY = """
import json, select, socket, sys, time
targets, patience = json.loads(sys.argv[1]), float(sys.argv[2])
waiting, answered, end = {}, [], time.monotonic() + patience
for number, (host, port) in enumerate(targets):
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex((host, port))
    waiting[one.fileno()] = (one, number)
poll = select.poll()
for descriptor in waiting:
    poll.register(descriptor, select.POLLOUT)
while waiting and time.monotonic() < end:
    for descriptor, _ in poll.poll(max(0, 1000 * (end - time.monotonic()))):
        one, number = waiting.pop(descriptor)
        poll.unregister(descriptor)
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            answered.append(number)
print(json.dumps(answered))
"""


@dataclass(frozen=True)
class Pod:
    """A pod that has a network of its own."""

    name: str
    end: End
    ports: tuple[int, ...]


def main(kubectl: str, image: str) -> int:
    """Make the stand-ins, try, tell, take the stand-ins away."""
    cluster = Cluster(kubectl)
    try:
        cluster.make_stand_ins(image)
        return tell(cluster)
    finally:
        cluster.run("delete", "pods", "--all-namespaces", "--selector", f"app={STANDS_IN}", "--now", "--wait=false")


class Cluster:
    """The lab, asked by kubectl."""

    def __init__(self, kubectl: str) -> None:
        self.kubectl = kubectl

    def run(self, *arguments: str, given: str | None = None) -> str:
        """What kubectl prints; ends the program with its words where it fails."""
        done = subprocess.run([self.kubectl, *arguments], input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"flows.py: kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def items(self, kind: str) -> list[dict]:
        """All objects of a kind."""
        found: list[dict] = json.loads(self.run("get", kind, "--all-namespaces", "--output", "json"))["items"]
        return found

    def make_stand_ins(self, image: str) -> None:
        """One for every kind of pod that is not there all the time, and one where nothing is closed."""
        kinds = {(UNPROTECTED, "anybody")} | set(self._passing())
        pods = [stand_in(namespace, name, image) for namespace, name in sorted(kinds)]
        self.run("apply", "--filename", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
        self.run(
            "wait",
            "pods",
            "--all-namespaces",
            "--selector",
            f"app={STANDS_IN}",
            "--for=condition=Ready",
            "--timeout=120s",
        )

    def _passing(self) -> Iterator[tuple[str, str]]:
        for each in self.items("cronjobs"):
            labels = each["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
            yield each["metadata"]["namespace"], labels["app.kubernetes.io/name"]
        for each in self.items("jobs"):
            labels = each["spec"]["template"]["metadata"]["labels"]
            yield each["metadata"]["namespace"], labels["app.kubernetes.io/name"]
        # A policy may be for pods that nobody has made yet.
        there = {pod["metadata"].get("labels", {}).get("app.kubernetes.io/name") for pod in self.items("pods")}
        for policy in self.items("networkpolicies"):
            name = policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name")
            if name and name not in there:
                yield policy["metadata"]["namespace"], name

    def pods(self) -> list[Pod]:
        """Those that run and have a network of their own."""
        return [
            Pod(
                f"{each['metadata']['namespace']}/{each['metadata']['name']}",
                End(each["metadata"]["namespace"], each["metadata"].get("labels", {}), each["status"]["podIP"]),
                tuple(
                    port["containerPort"]
                    for container in each["spec"]["containers"]
                    for port in container.get("ports", [])
                    if port.get("protocol", "TCP") == "TCP"
                ),
            )
            for each in self.items("pods")
            if each["status"]["phase"] == "Running" and not each["spec"].get("hostNetwork")
        ]


def stand_in(namespace: str, name: str, image: str) -> dict:
    """A pod with the labels of another kind and nothing but a network."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"flows-{name}",
            "namespace": namespace,
            "labels": {"app": STANDS_IN, "app.kubernetes.io/name": name},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "nothing",
                    "image": image,
                    "imagePullPolicy": "Never",
                    "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}, "limits": {"memory": "16Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def networks() -> dict[str, Path]:
    """The network of each pod on this node, by the pod's address."""
    found = {}
    for path in Path("/run/netns").glob("cni-*"):
        shown = subprocess.run(
            ["nsenter", f"--net={path}", "ip", "-json", "-4", "address", "show", "eth0"],
            capture_output=True,
            check=False,
        )
        if shown.returncode == 0:
            found[json.loads(shown.stdout)[0]["addr_info"][0]["local"]] = path
    return found


def answering(targets: list[tuple[str, int]], network: Path | None) -> set[tuple[str, int]]:
    """Which targets answer somebody in this network; None: the node itself."""
    command = [sys.executable, "-c", TRY, json.dumps(targets), str(PATIENCE_S)]
    if network is not None:
        command = ["nsenter", f"--net={network}", *command]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {targets[number] for number in json.loads(said)}


def tell(cluster: Cluster) -> int:
    """The table, and how many lines of it are wrong."""
    policies, pods, where = cluster.items("networkpolicies"), cluster.pods(), networks()
    nodes = [
        address["address"]
        for each in cluster.items("nodes")
        for address in each["status"]["addresses"]
        if address["type"] == "InternalIP"
    ]
    ends = {(pod.end.address, port): (pod.name, pod.end) for pod in pods for port in pod.ports}
    ends |= {(node, port): ("node", End(address=node)) for node in nodes for port in NODE_PORTS}
    listening = sorted(answering(sorted(ends), None))
    with ThreadPoolExecutor(max_workers=8) as workers:
        opened = list(workers.map(lambda pod: answering(listening, where[pod.end.address]), pods))
    tries = [
        (client, ends[target], target[1], target in found)
        for client, found in zip(pods, opened, strict=True)
        for target in listening
        if ends[target][1] != client.end
    ]
    wrong = 0
    for client, (name, server), port, is_open in tries:
        as_it_must = is_open == flows(policies, client.end, server, port)
        wrong += not as_it_must
        print(f"{'open' if is_open else 'closed':7}{'' if as_it_must else 'WRONG '}{client.name} -> {name}:{port}")
    let_in = sum(is_open for *_, is_open in tries)
    closed = len(tries) - let_in
    print(f"{len(tries)} tries by {len(pods)} pods: {let_in} open, {closed} closed, {wrong} not as it must be")
    return 1 if wrong or let_in in (0, len(tries)) else 0


if __name__ == "__main__":
    began = time.monotonic()
    code = main(*sys.argv[1:])
    print(f"flows.py: tried in {time.monotonic() - began:.0f} s", file=sys.stderr)
    sys.exit(code)
