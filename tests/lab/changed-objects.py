#!/usr/bin/env python3
"""Names the Kubernetes objects that a run of playbooks changed, one a line: changed-objects.py LOG.

LOG is what ansible-playbook printed with the callback ansible.posix.json.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for play in last_document(text)["plays"]:
        for task in play["tasks"]:
            for result in task["hosts"].values():
                if result.get("changed"):
                    print("\n".join(objects(result)) or f"task: {task['task']['name']}")


def last_document(text: str) -> dict[str, Any]:
    """The callback prints a document after each playbook, and each holds the plays of those before it."""
    document: dict[str, Any] = {}
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        document, end = decoder.raw_decode(text, start)
        start = text.find("{", end)
    return document


def objects(result: dict[str, Any]) -> Iterator[str]:
    """The changed objects of a result of kubernetes.core.k8s: namespace, kind and name."""
    found = result.get("result", {})
    for each in found.get("results", [found] if "metadata" in found.get("result", found) else []):
        if each.get("changed", True):
            made = each.get("result", each)
            yield f"{made['metadata'].get('namespace', '-')} {made['kind']} {made['metadata']['name']}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
