"""The objects that the playbooks apply, rendered without a cluster."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / ".venv-ansible" / "bin" / "ansible-playbook"
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}

Manifest = dict[str, Any]

skip_without_ansible = pytest.mark.skipif(not ANSIBLE.exists(), reason="scripts/setup-ansible.sh has not been run")


def render(folder: Path, **variables: Any) -> list[Manifest]:
    """The objects with these variables of the inventory."""
    out = folder / "manifests.yml"
    done = subprocess.run(
        [str(ANSIBLE), "tests/platform/render.yml", "-e", json.dumps({"out": str(out), **variables})],
        cwd=ROOT,
        env={**os.environ, "DRIFTLOOP_CONFIG_DIR": str(out.parent / "config")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    found = [each for each in yaml.safe_load_all(out.read_text()) if each]
    assert len(found) > 60
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, str, Manifest, Manifest]]:
    """(name, namespace, labels, pod spec) of everything that makes pods."""
    for each in [*manifests, *(pipeline_of(each) for each in manifests if "job.yml" in each.get("data", {}))]:
        spec = each.get("spec", {})
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        template = spec.get("template") if each["kind"] in WORKLOADS else None
        if template is not None:
            yield (
                each["metadata"]["name"],
                each["metadata"]["namespace"],
                template["metadata"]["labels"],
                template["spec"],
            )


def environment(pod: Manifest, manifests: list[Manifest]) -> dict[str, Any]:
    """What the one container of a pod is told: the ConfigMaps that it reads, and its own variables above them."""
    [container] = pod["containers"]
    data = {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}
    told: dict[str, Any] = {}
    for source in container.get("envFrom", []):
        told |= data[source["configMapRef"]["name"]]
    return told | {each["name"]: each.get("value", each.get("valueFrom")) for each in container.get("env", [])}


def pipeline_of(config: Manifest) -> Manifest:
    """The Job that the retrainer will make from the template in a ConfigMap."""
    job: Manifest = yaml.safe_load(config["data"]["job.yml"])
    job["metadata"]["name"] = job["metadata"]["labels"]["app.kubernetes.io/name"]
    return job
