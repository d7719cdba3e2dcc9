"""Measure the figures in docs/measurements.md: recovery, serving, memory, start-up, false alarms.

Every part runs the real commands as a user would and reads what they wrote; nothing is assumed. Timings depend on
the machine and on what else it does, so they are reported, never asserted.

    make bench                          everything (about 45 minutes, 30 of them healthy traffic)
    python scripts/bench.py --parts recovery,serving --seeds 3
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from driftloop import settings
from driftloop.durable import now, write_json
from driftloop.errors import DriftloopError
from driftloop.protocol.client import Client
from driftloop_bench.machine import processor

ROOT = Path(__file__).resolve().parent.parent
DRIFTLOOP = str(Path(sys.executable).with_name("driftloop"))
PARTS = ("serving", "start", "recovery", "healthy")
MIB = 2**20


def recovery(folder: Path, champion: Path, seed: int) -> dict[str, Any]:
    """One demonstration from a prepared champion; figures of its recovery_metrics.json, and peak memory by phase."""
    results = folder / f"recovery-{seed}"
    command = [DRIFTLOOP, "demo", "--labels", "at-once", "--seed", str(seed), "--results", str(results)]
    command += ["--state", str(folder / f"state-{seed}"), "--champion-state", str(champion)]
    memory, code, seconds = watched(command, folder / f"state-{seed}")
    metrics = json.loads((results / "recovery_metrics.json").read_text()) if code in (0, 1) else {}
    return {"seed": seed, "exit_code": code, "demo_s": seconds, "memory_mib": memory, "metrics": metrics}


def watched(command: list[str], state: Path) -> tuple[dict[str, float], int, float]:
    """Run a command; returns peak resident memory of its platform by the loop's state (MiB), exit code, seconds.

    Resident memory is added up over the platform's processes, so that shared libraries count several times.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    peaks: dict[str, float] = {}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(2.0):
            phase = loop_phase(state)
            peaks[phase] = max(peaks.get(phase, 0.0), platform_memory(process.pid))

    observer = threading.Thread(target=look)
    observer.start()
    code = process.wait()
    ended.set()
    observer.join()
    return {phase: round(peak) for phase, peak in peaks.items()}, code, round(time.monotonic() - started, 1)


def loop_phase(state: Path) -> str:
    """The phase that the retrainer tells; where it does not answer, the loop is idle."""
    try:
        config = settings.load(state_dir=state)
        with Client(config.retrainer_url) as retrainer:
            return str(retrainer.status()["state"])
    except (DriftloopError, KeyError):
        return "idle"


def platform_memory(demo: int) -> float:
    """Resident MiB of `driftloop up` and everything below it."""
    total = 0
    try:
        below = psutil.Process(demo).children(recursive=True)
    except psutil.NoSuchProcess:
        return 0.0
    roots = [process for process in below if command_of(process)[-2:-1] == ["up"] or "up" in command_of(process)]
    members = {member.pid: member for root in roots for member in [root, *root.children(recursive=True)]}
    for member in members.values():
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / MIB


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def healthy(folder: Path, champion: Path, minutes: float) -> dict[str, Any]:
    """Healthy traffic only: how many alarms in how many requests."""
    results = folder / "healthy"
    command = [DRIFTLOOP, "demo", "--kind", "none", "--timeout-s", str(minutes * 60), "--results", str(results)]
    command += ["--state", str(folder / "state-healthy"), "--champion-state", str(champion)]
    command += ["--no-reference", "--no-report"]
    memory, code, seconds = watched(command, folder / "state-healthy")
    metrics = json.loads((results / "recovery_metrics.json").read_text()) if code in (0, 1) else {}
    return {"exit_code": code, "seconds": seconds, "memory_mib": memory, "metrics": metrics}


def serving(folder: Path, bundle: Path | None) -> dict[str, Any]:
    """The serving benchmark's own figures."""
    output = folder / "serving.json"
    command = [sys.executable, str(ROOT / "scripts" / "bench_serving.py"), "--json", str(output)]
    subprocess.run([*command, *(["--bundle", str(bundle)] if bundle else [])], check=True, cwd=ROOT)
    return dict(json.loads(output.read_text()))


def start(folder: Path, repeats: int = 5) -> dict[str, Any]:
    """Seconds from starting `driftloop serve` to its first answer, with no registry to be found."""
    import httpx

    rows = [[0.0] * 24] * 30
    seconds = []
    for repeat in range(repeats):
        port = 18900 + repeat
        environment = os.environ | {
            "DRIFTLOOP_STATE_DIR": str(folder / f"start-{repeat}"),
            "DRIFTLOOP_MLFLOW_URL": "http://127.0.0.1:9",
        }
        began = time.monotonic()
        command = [DRIFTLOOP, "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    httpx.post(f"http://127.0.0.1:{port}/predict", json={"rows": rows}).raise_for_status()
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.monotonic() - began > 60:
                        raise
                    time.sleep(0.01)
            seconds.append(round(time.monotonic() - began, 2))
        finally:
            process.terminate()
            process.wait()
    return {"first_answer_s": seconds, "median_s": statistics.median(seconds)}


def summary(found: dict[str, Any]) -> str:
    """The figures as lines for a person."""
    lines = [f"measured {found['time']} on {found['machine']}, {found['cores']} cores"]
    runs = [run for run in found.get("recovery", []) if run["metrics"]]
    for name in ("detection_s", "core_recovery_s", "total_s", "requests_failed", "rmse_recovered", "rmse_reference"):
        values = [run["metrics"].get(name) for run in runs]
        known = [value for value in values if value is not None]
        if known:
            middle = statistics.median(known)
            lines.append(f"{name}: median {middle:g}, range {min(known):g} to {max(known):g}, of {len(values)} runs")
    for run in runs:
        lines.append(f"seed {run['seed']}: demo {run['demo_s']} s, peak MiB by phase {run['memory_mib']}")
    if "start" in found:
        lines.append(f"start to first answer: {found['start']['first_answer_s']} s")
    if "serving" in found:
        lines.append(f"serving: {json.dumps(found['serving'].get('summary', found['serving']))[:400]}")
    if "healthy" in found:
        metrics = found["healthy"]["metrics"]
        lines.append(
            f"healthy traffic: {metrics.get('requests_total')} requests, {metrics.get('requests_failed')} failed, "
            f"{metrics.get('false_alarms_before_t0')} false alarms in {found['healthy']['seconds']} s"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--seeds", type=int, default=3, help="recoveries to measure")
    parser.add_argument("--minutes", type=float, default=30, help="healthy traffic")
    parser.add_argument("--json", type=Path, default=ROOT / "data" / "drift" / "bench.json")
    parser.add_argument("--champion", type=Path, help="stopped platform with a champion; made here where missing")
    arguments = parser.parse_args()
    parts = [part.strip() for part in arguments.parts.split(",")]
    unknown = set(parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    found: dict[str, Any] = {"time": now(), "machine": processor(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="driftloop-bench-") as temporary:
        folder = Path(temporary)
        champion = arguments.champion or folder / "champion"
        if "serving" in parts:
            print("serving", flush=True)
            found["serving"] = serving(folder, None)
        if "start" in parts:
            print("start to first answer", flush=True)
            found["start"] = start(folder)
        if "recovery" in parts:
            found["recovery"] = []
            for seed in range(arguments.seeds):
                print(f"recovery, seed {seed}", flush=True)
                found["recovery"].append(recovery(folder, champion, seed))
        if "healthy" in parts:
            print(f"healthy traffic for {arguments.minutes:g} minutes", flush=True)
            found["healthy"] = healthy(folder, champion, arguments.minutes)
    write_json(arguments.json, found)
    print(summary(found))


if __name__ == "__main__":
    main()
