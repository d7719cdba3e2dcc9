"""Images reach every node: the tasks run for real against two containerds that only keep a list of names."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / ".venv-ansible" / "bin" / "ansible-playbook"
IMAGES = yaml.safe_load((ROOT / "inventory" / "group_vars" / "all" / "images.yml").read_text())["pulled_images"]
# `ctr images list -q [name==NAME]` and `ctr images import FILE`; an archive is a file that holds its image's name.
CONTAINERD = """#!/bin/bash
set -euo pipefail
names=$1; shift
touch "$names"
case "$*" in
  "images list -q") cat "$names" ;;
  "images list -q name=="*) grep -Fx "${4#name==}" "$names" || true ;;
  "images import "*) cat "$3" >>"$names" ;;
  *) echo "unknown: $*" >&2; exit 1 ;;
esac
"""

pytestmark = pytest.mark.skipif(not ANSIBLE.exists(), reason="scripts/setup-ansible.sh has not been run")


@pytest.fixture
def references() -> dict[str, str]:
    found: dict[str, str] = json.loads(subprocess.check_output([ROOT / "files" / "images" / "build.sh", "refs"]))
    return found


@pytest.fixture
def platform(tmp_path: Path, references: dict[str, str]) -> Path:
    """An inventory of a machine that runs Ansible and an agent that it reaches, and a bundle."""
    (tmp_path / "bundle" / "images").mkdir(parents=True)
    for name in ("minio", "postgres"):
        tag = references[name].rpartition(":")[2]
        (tmp_path / "bundle" / "images" / f"{name}-{tag}.tar").write_text(references[name] + "\n")
    grafana = IMAGES["grafana"]
    archive = f"grafana-{grafana['digest'].removeprefix('sha256:')[:12]}.tar"
    (tmp_path / "bundle" / "images" / archive).write_text(grafana["reference"] + "\n")
    (tmp_path / "ctr").write_text(CONTAINERD)
    (tmp_path / "ctr").chmod(0o755)
    hosts = {
        # Another name of the same connection: a node that is not this machine.
        name: {"ansible_connection": connection, "containerd_client": f"{tmp_path}/ctr {tmp_path}/{name}"}
        for name, connection in (("vm", "local"), ("agent", "ansible.builtin.local"))
    }
    inventory = {
        "all": {
            "children": {
                "k3s_server": {"hosts": {"vm": hosts["vm"]}},
                "k3s_agents": {"hosts": {"agent": hosts["agent"]}},
                "nodes": {"children": {"k3s_server": None, "k3s_agents": None}},
            }
        }
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (tmp_path / "group_vars").symlink_to(ROOT / "inventory" / "group_vars")
    return tmp_path


def bring(platform: Path, bundle: Path | None) -> str:
    done = subprocess.run(
        [str(ANSIBLE), "-i", str(platform / "hosts.yml"), "tests/platform/images.yml", "-e", f"bundle={bundle or ''}"],
        cwd=ROOT,
        env={
            **os.environ,
            "DRIFTLOOP_CONFIG_DIR": str(platform / "config"),
            "DRIFTLOOP_IMAGES_CACHE": str(platform / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


def on(platform: Path, node: str) -> list[str]:
    return sorted((platform / node).read_text().splitlines())


def test_every_node_gets_what_it_lacks_and_a_second_run_changes_nothing(
    platform: Path, references: dict[str, str]
) -> None:
    wanted = sorted([references["minio"], references["postgres"], IMAGES["grafana"]["reference"]])
    (platform / "agent").write_text(references["minio"] + "\n")
    first = bring(platform, platform / "bundle")
    assert on(platform, "vm") == on(platform, "agent") == wanted
    assert re.search(r"vm +: ok=\d+ +changed=[1-9]", first)
    assert "KNOWN grafana" in first
    assert "kube-state-metrics is left out" in first
    second = bring(platform, platform / "bundle")
    assert on(platform, "vm") == on(platform, "agent") == wanted
    assert re.search(r"vm +: ok=\d+ +changed=0", second)


def test_an_image_that_the_bundle_has_not_stops_the_playbook(platform: Path) -> None:
    for archive in (platform / "bundle" / "images").glob("postgres-*"):
        archive.unlink()
    with pytest.raises(AssertionError, match=r"the bundle has no .*postgres-"):
        bring(platform, platform / "bundle")


def test_what_a_component_is_said_to_be_is_what_its_image_is_built_from() -> None:
    manifests = (ROOT / "files" / "monitoring" / "manifests.yml.j2").read_text()
    images = ROOT / "files" / "images"
    for name, module in (("prometheus", r"v0\.(\d)(\d\d)\.(\d+)"), ("alertmanager", r"v(\d+)\.(\d+)\.(\d+)")):
        required = re.search(rf"prometheus/{name} {module}\b", (images / name / "go.mod").read_text())
        assert required, name
        version = ".".join(required.groups())
        assert f"image: {{{{ images['{name}'] }}}}" in manifests
        assert re.search(rf"version: v{re.escape(version)}\n  image: {{{{ images\['{name}'\]", manifests), version
        told = re.findall(r"version\.Version=(\S+)", (images / name / "go-build").read_text())
        assert told == [version, version]


def test_the_lab_runs_the_kubernetes_that_production_runs() -> None:
    versions = yaml.safe_load((ROOT / "inventory" / "group_vars" / "all" / "versions.yml").read_text())
    lab = re.search(r"k8s\.io/kubernetes v(\d+\.\d+)\.", (ROOT / "tests" / "lab" / "node" / "go.mod").read_text())
    assert lab
    assert versions["k3s_version"].startswith(f"v{lab[1]}.")


def copies_of_package() -> dict[str, str]:
    """Images that take some files of the package, and the Python that their build runs with them."""
    runs = re.compile(r"^RUN /opt/venv/bin/python -c '(.*?)'", re.MULTILINE)
    return {
        inputs.parent.name: program
        for inputs in sorted((ROOT / "files" / "images").glob("*/inputs"))
        if "src/driftloop/" in inputs.read_text()
        for program in runs.findall((inputs.parent / "Containerfile").read_text())
    }


@pytest.mark.parametrize("image", copies_of_package())
def test_an_image_that_takes_some_files_of_the_package_takes_all_that_these_import(tmp_path: Path, image: str) -> None:
    for name in (ROOT / "files" / "images" / image / "inputs").read_text().split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    before = "import sys; before = set(sys.modules)\n"
    imported = """
from importlib.metadata import packages_distributions
known = packages_distributions()
print(*{name for module in set(sys.modules) - before for name in known.get(module, [])} - {"driftloop"})"""
    done = subprocess.run(
        [sys.executable, "-c", before + copies_of_package()[image] + imported],
        env={"PYTHONPATH": str(tmp_path / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, others = done.stdout.splitlines()
    assert json.loads(said)
    locked = (ROOT / "files" / "images" / image / "requirements.lock").read_text()
    names = [name.lower().replace("_", "-") for name in others.split()]
    assert [name for name in names if not re.search(rf"^{name}==", locked, re.MULTILINE)] == []


def test_mlflow_is_such_an_image() -> None:
    assert "mlflow" in copies_of_package()
