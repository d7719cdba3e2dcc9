"""The serving benchmark runs: what it measures is no matter here."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_serving.py"


def test_the_benchmark_measures_every_server(tmp_path: Path) -> None:
    options = ["--own-client", "--connections", "2", "--seconds", "0.2", "--rounds", "1", "--json", "found.json"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert {row["server"] for row in rows} == {"driftloop", "plain_app", "plain_json_app"}
    assert all(row["rate"] > 0 and row["failed"] == 0 for row in rows)
