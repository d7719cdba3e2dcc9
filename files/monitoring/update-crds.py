#!/usr/bin/env python3
"""Writes crds.yml: the operator's CustomResourceDefinitions, at the version of its image, without their descriptions.

Usage: update-crds.py; needs Go, which fetches the operator's module and checks it against go.sum.
"""

import json
import subprocess
from pathlib import Path

import yaml

KINDS = (
    "alertmanagerconfigs",
    "alertmanagers",
    "podmonitors",
    "probes",
    "prometheuses",
    "prometheusrules",
    "servicemonitors",
)
MODULE = "github.com/prometheus-operator/prometheus-operator"
HERE = Path(__file__).parent


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


def main() -> None:
    module = json.loads(
        subprocess.check_output(
            ["go", "mod", "download", "-json", MODULE], cwd=HERE.parent / "images" / "prometheus-operator"
        )
    )
    folder = Path(module["Dir"]) / "example" / "prometheus-operator-crd"
    definitions = [
        without_descriptions(yaml.load((folder / f"monitoring.coreos.com_{kind}.yaml").read_text(), Loader))
        for kind in KINDS
    ]
    head = f"# {MODULE} {module['Version']}, Apache License 2.0; made by update-crds.py.\n"
    (HERE / "crds.yml").write_text(head + yaml.safe_dump_all(definitions, sort_keys=True, width=4096))


if __name__ == "__main__":
    main()
