#!/usr/bin/env python3
"""Writes the CustomResourceDefinitions that components bring along, without their descriptions: files/NAME/crds.yml.

Usage: crds.py NAME...; needs Go, which fetches the module at the version of the image and checks it against go.sum.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]


class Definitions(NamedTuple):
    """Where kinds are defined: the folder of an image, a module that it is built from, a folder of that, its files."""

    image: str
    module: str
    folder: str
    files: tuple[str, ...]


OPERATOR = Definitions(
    "prometheus-operator",
    "github.com/prometheus-operator/prometheus-operator",
    "example/prometheus-operator-crd",
    tuple(
        f"monitoring.coreos.com_{kind}.yaml"
        for kind in (
            "alertmanagerconfigs",
            "alertmanagers",
            "podmonitors",
            "probes",
            "prometheuses",
            "prometheusrules",
            "servicemonitors",
        )
    ),
)
# Its controllers insist on every kind that they know, used or not.
FLUX = [
    Definitions("flux", f"github.com/fluxcd/{controller}", "config/crd/bases", ("*.yaml",))
    for controller in ("source-controller", "kustomize-controller")
]
COMPONENTS = {"monitoring": [OPERATOR], "gitops": FLUX}
# So that they go when an addition does.
LABELS = {"gitops": {"driftloop/addition": "gitops"}}


class Loader(yaml.CSafeLoader):
    """Reads a bare `=` as the text that it is in YAML 1.2."""


Loader.add_constructor("tag:yaml.org,2002:value", Loader.construct_yaml_str)


def without_descriptions(node: object) -> object:
    """The same schema without its prose; a property that is called `description` is an object and stays."""
    if isinstance(node, dict):
        return {
            key: without_descriptions(value)
            for key, value in node.items()
            if not (key == "description" and isinstance(value, str))
        }
    return [without_descriptions(value) for value in node] if isinstance(node, list) else node


def labelled(definition: dict[str, dict[str, object]], labels: dict[str, str]) -> object:
    return definition | {"metadata": definition["metadata"] | {"labels": labels}} if labels else definition


def main(names: list[str]) -> None:
    if not names or not set(names) <= COMPONENTS.keys():
        sys.exit(f"{__doc__}\nThere are: {' '.join(COMPONENTS)}")
    for name in names:
        head, definitions = [], []
        for each in COMPONENTS[name]:
            module = json.loads(
                subprocess.check_output(
                    ["go", "mod", "download", "-json", each.module], cwd=ROOT / "files" / "images" / each.image
                )
            )
            head.append(f"# {each.module} {module['Version']}, Apache License 2.0; made by scripts/crds.py.\n")
            folder = Path(module["Dir"]) / each.folder
            for path in [path for pattern in each.files for path in sorted(folder.glob(pattern))]:
                definitions.append(labelled(yaml.load(path.read_text(), Loader), LABELS.get(name, {})))
        text = yaml.safe_dump_all(map(without_descriptions, definitions), sort_keys=True, width=4096)
        (ROOT / "files" / name / "crds.yml").write_text("".join(head) + text)


if __name__ == "__main__":
    main(sys.argv[1:])
