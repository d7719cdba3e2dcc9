"""What the repository pins, read from where it is pinned: no version is written twice."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
LOCKS = (
    "requirements.lock",
    "requirements-ansible.lock",
    "requirements-audit.lock",
    "files/host/dev-env.lock",
    "files/host/platform-venv.lock",
    "files/images/mlflow/requirements.lock",
)
VERSIONS = "inventory/group_vars/all/versions.yml"
IMAGES = "inventory/group_vars/all/images.yml"
VENDOR = "src/driftloop/console/assets/vendor/vendor.toml"
# Go modules whose product support.toml knows.
PRODUCTS = {
    "github.com/prometheus/prometheus": "prometheus",
    "github.com/minio/minio": "minio",
    "k8s.io/kubernetes": "kubernetes",
}
# Where releases of what is downloaded are tagged, by the name it has here.
HELM = "https://github.com/helm/helm"
K3S = "https://github.com/k3s-io/k3s"
KFP = "https://github.com/kubeflow/pipelines"


@dataclass(frozen=True, order=True)
class Pin:
    """One thing at one version. `source` is what its registry is asked about: a package, a module, an address."""

    kind: str  # python, go, npm, debian, ubuntu, image, release, action
    name: str
    version: str
    where: str
    source: str
    product: str = ""  # in support.toml; empty: nobody publishes until when it is supported


def all_pins(root: Path = ROOT) -> list[Pin]:
    """Everything pinned, in order, each once."""
    readers = (python, go, npm, debian, images, releases, actions)
    return sorted({pin for reader in readers for pin in reader(root)})


def python(root: Path) -> Iterator[Pin]:
    for lock in LOCKS:
        for name, version in re.findall(r"(?m)^([a-z0-9][\w.-]*)==([^\s;\\]+)", (root / lock).read_text()):
            yield Pin("python", name, version, lock, name, "ansible-core" if name == "ansible-core" else "")
    needed = tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest = re.search(r">=\s*([\d.]+)", needed)
    assert oldest, f"pyproject.toml: requires-python = {needed!r} names no oldest version"
    yield Pin("release", "python", oldest[1], "pyproject.toml", "https://github.com/python/cpython", "python")


def modules(root: Path) -> Iterator[Path]:
    """Every go.mod, of images, the lab and our tools."""
    for folder in ("files/images", "tests/lab", "scripts/go"):
        yield from sorted((root / folder).rglob("go.mod"))


def go(root: Path) -> Iterator[Pin]:
    for path in modules(root):
        text, where = path.read_text(), str(path.relative_to(root))
        required = dict(re.findall(r"(?m)^(?:require)?\s+(\S+/\S+) (v\S+)", text))
        direct = set(re.findall(r"(?m)^(?:require)?\s+(\S+/\S+) v\S+$", text))
        for package in re.findall(r"(?m)^(?:tool)?\s+(\S+/\S+)$", text):
            direct.add(max((name for name in required if f"{package}/".startswith(f"{name}/")), key=len))
        for name in direct:
            # Kubernetes' own parts are replaced by those of its release.
            if not name.startswith("k8s.io/") or name == "k8s.io/kubernetes":
                yield Pin("go", name, required[name], where, name, PRODUCTS.get(name, ""))


def npm(root: Path) -> Iterator[Pin]:
    for entry in tomllib.loads((root / VENDOR).read_text())["file"]:
        yield Pin("npm", entry["package"], entry["version"], VENDOR, entry["package"])


def debian(root: Path) -> Iterator[Pin]:
    for path in sorted((root / "files" / "images").glob("*/debootstrap")):
        suite = path.read_text().split()[0]
        yield Pin("debian", "debian", suite, str(path.relative_to(root)), suite, "debian")
    for path in sorted((root / "files" / "images").glob("*/Containerfile")):
        for version in set(re.findall(r"\bpostgresql(?:-client)?-(\d+)\b", path.read_text())):
            where = str(path.relative_to(root))
            yield Pin("release", "postgresql", version, where, "https://github.com/postgres/postgres", "postgresql")


def images(root: Path) -> Iterator[Pin]:
    for name, image in yaml.safe_load((root / IMAGES).read_text())["pulled_images"].items():
        repository, _, version = image["reference"].rpartition(":")
        yield Pin("image", name, version, IMAGES, repository, name if name == "grafana" else "")


def releases(root: Path) -> Iterator[Pin]:
    told = yaml.safe_load((root / VERSIONS).read_text())
    yield Pin("release", "k3s", told["k3s_version"], VERSIONS, K3S, "kubernetes")
    yield Pin("release", "kubeflow-pipelines", str(told["kfp_version"]), VERSIONS, KFP)
    for tool in told["tools"]:
        address = urlsplit(tool["url"])
        owner = "/".join(address.path.split("/")[1:3])
        source = HELM if tool["name"] == "helm" else f"https://{address.netloc}/{owner}"
        yield Pin("release", tool["name"], tool["version"], VERSIONS, source, "helm" if tool["name"] == "helm" else "")
    machine = yaml.safe_load((root / "inventory/group_vars/all/defaults.yml").read_text())["hetzner_image"]
    yield Pin(
        "ubuntu", "ubuntu", machine.removeprefix("ubuntu-"), "inventory/group_vars/all/defaults.yml", machine, "ubuntu"
    )


def actions(root: Path) -> Iterator[Pin]:
    for path in sorted((root / ".github" / "workflows").glob("*.yml")):
        for name, version in re.findall(r"uses: ([\w.-]+/[\w.-]+)@(\S+)", path.read_text()):
            yield Pin("action", name, version, str(path.relative_to(root)), f"https://github.com/{name}")
