"""Two platforms on one cluster: the playbooks with other namespaces touch nothing of the first."""

import json
import re
from pathlib import Path

from rendered import Manifest, render, skip_without_ansible

pytestmark = skip_without_ansible
NAMESPACES = ("storage", "mlflow", "kubeflow", "monitoring", "serving", "gitops", "logs", "doors")


def objects(manifests: list[Manifest]) -> set[tuple[str, str, str]]:
    """Kind, namespace and name of each."""
    return {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in manifests}


def test_no_object_belongs_to_both(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = render(tmp_path / "first")
    second = render(tmp_path / "second", namespaces={name: f"pumps-{name}" for name in NAMESPACES}, node_exporter=False)
    assert objects(first) & objects(second) == set()
    # No address, selector or argument of the second names a namespace of the first.
    told = json.dumps(second)
    named = rf'"kubernetes.io/metadata.name": "({"|".join(NAMESPACES)})"|//[a-z-]+\.({"|".join(NAMESPACES)})[:."/]'
    assert re.findall(named, json.dumps(first))
    assert re.findall(named, told) == []
    assert "node-exporter" not in {name for _, _, name in objects(second)}
