#!/usr/bin/env python3
"""Asks Prometheus what every panel of every dashboard asks; what returns nothing must be named here with its reason.

Usage: panels.py KUBECTL...      after the loop has closed once; KUBECTL is the client with its arguments

Prints each query without data, and exits with 1 where one is not named.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

DASHBOARDS = Path(__file__).resolve().parents[2] / "files" / "monitoring" / "dashboards"
PROMETHEUS = "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query?query="
EMPTY = {
    # What the query names: what it needs.
    "kube_": "kube-state-metrics, whose image is pulled",
    "container_": "cAdvisor's figures of containers, which the lab's kubelet does not tell",
    "kubelet_volume_": "figures of volumes, which the lab's provisioner does not tell",
    "driftloop_report_": "a drift report, which is made every hour",
    "driftloop_live_": "true remaining lives of completed engines, which nobody tells in the lab",
}


def queries() -> list[tuple[str, str]]:
    """(dashboard and panel, query) of every target."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                query = re.sub(r"\$__(rate_)?interval", "1m", target["expr"]).replace("$__range", "1h")
                query = re.sub(r"=~?\"\$\w+\"", '=~".*"', query)
                found.append((f"{board['title']}: {panel.get('title') or panel['id']}", query))
    return found


def main(kubectl: list[str]) -> int:
    wrong = empty = 0
    asked = queries()
    for where, query in asked:
        answer = subprocess.run(
            [*kubectl, "get", "--raw", PROMETHEUS + quote(query, safe="")], capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            print(f"{where}: cannot be asked: {answer.stderr.strip()[:200]}: {query}")
            wrong += 1
            continue
        result = json.loads(answer.stdout)["data"]["result"]
        if result and any(sample["value"][1] != "NaN" for sample in result):
            continue
        empty += 1
        reason = next((why for name, why in EMPTY.items() if name in query), None)
        print(f"{where}: {'needs ' + reason if reason else 'NO DATA'}: {query}")
        wrong += reason is None
    print(f"{len(asked) - empty} of {len(asked)} queries have data, {wrong} are empty without a reason")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
