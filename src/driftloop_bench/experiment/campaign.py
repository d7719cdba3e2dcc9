"""A campaign: the experiment repeated over kinds of change, shares and seeds, each on a fresh platform.

What makes a platform fresh is not known here: a case is run by a command, `driftloop demo` unless another is
given, which brings up a platform, runs one experiment on it and leaves the results in a folder.
"""

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftloop import durable
from driftloop.errors import DriftloopError
from driftloop_bench.experiment.figures import draw_campaign
from driftloop_bench.experiment.recovery import SIMULATED
from driftloop_bench.experiment.results import METRICS

OUTPUT = "output.log"
CASES, TABLE, SUMMARY, PICTURE = "campaign.json", "campaign.csv", "campaign_summary.md", "campaign.png"
KINDS = ("fleet", "bias", "stuck", "none")
FIELDS = (
    "kind", "share", "seed", "detected", "detection_s", "core_recovery_s", "total_s", "recovered", "as_wanted",
    "decision", "false_alarms", "requests_total", "requests_failed", "rmse_drifted", "rmse_recovered",
    "ratio_upper_bound", "data_source", "error",
)  # fmt: skip
CASE_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Case:
    """One experiment of a campaign."""

    kind: str
    share: float
    seed: int
    subset: str = "FD002"
    sensor: int = 11
    sigmas: float = 2.0
    rate: float = 100.0

    @property
    def name(self) -> str:
        """Name of the folder for its results."""
        return f"{self.kind}-{self.share * 100:g}-{self.seed}"

    def options(self, results: Path) -> list[str]:
        """The case as options of the case command."""
        return [
            "--kind", self.kind, "--share", f"{self.share:g}", "--seed", str(self.seed), "--subset", self.subset,
            "--sensor", str(self.sensor), "--sigmas", f"{self.sigmas:g}", "--rate", f"{self.rate:g}",
            "--results", str(results),
        ]  # fmt: skip


def cases(kinds: Iterable[str], shares: Iterable[float], seeds: Iterable[int], **common: Any) -> list[Case]:
    """Every combination; raises DriftloopError for a kind or share that does not exist."""
    kinds, shares, seeds = list(kinds), list(shares), list(seeds)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise DriftloopError(f"unknown kinds {', '.join(unknown)}", remedy=f"choose of {', '.join(KINDS)}")
    if wrong := [share for share in shares if not 0 < share <= 1]:
        raise DriftloopError(f"shares of {wrong} do not exist", remedy="give percentages above 0 and up to 100")
    return [Case(kind, share, seed, **common) for kind in kinds for share in shares for seed in seeds]


def demo_command(folder: Path) -> list[str]:
    """What runs a case unless another command is given: a demonstration on a copy of one prepared champion."""
    here = (folder / "campaign").resolve()
    return [
        sys.executable, "-m", "driftloop.cli", "demo", "--no-report", "--labels", "at-once",
        "--champion-state", str(here / "champion"), "--state", str(here / "platform"),
    ]  # fmt: skip


def run_cases(
    chosen: Sequence[Case], folder: Path, command: Sequence[str], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run every case by `command` and its options; a case that has results already is not repeated."""
    rows = []
    for number, case in enumerate(chosen, start=1):
        results = (folder / "campaign" / case.name).resolve()
        error = ""
        if not (results / METRICS).exists():
            results.mkdir(parents=True, exist_ok=True)
            with (results / OUTPUT).open("wb") as log:
                try:
                    done = subprocess.run(
                        [*command, *case.options(results)],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                        timeout=CASE_LIMIT_S, check=False,
                    )  # fmt: skip
                    if done.returncode not in (0, 1):
                        error = f"exit code {done.returncode}: {_last_line(results / OUTPUT)}"
                except subprocess.TimeoutExpired:
                    error = f"longer than {CASE_LIMIT_S:g} s"
        row = row_of(case, results, error)
        rows.append(row)
        say(f"{number}/{len(chosen)} {case.name}: {_tell(row)}")
    return rows


def row_of(case: Case, results: Path, error: str = "") -> dict[str, Any]:
    """One line of the campaign's table, from the results of a case."""
    row: dict[str, Any] = dict.fromkeys(FIELDS)
    row.update(kind=case.kind, share=case.share, seed=case.seed, error=error or None)
    try:
        metrics = json.loads((results / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        row["error"] = error or "left no results"
        return row
    row.update({name: metrics[name] for name in FIELDS if name in metrics})
    row["detected"] = metrics["t1"] is not None
    row["false_alarms"] = metrics["false_alarms_before_t0"]
    row["as_wanted"] = {
        "fleet": metrics["recovered"],
        "none": metrics["false_alarms_before_t0"] == 0,
    }.get(case.kind, row["detected"] and metrics["t2"] is None)
    return row


def write_campaign(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write the campaign as JSON, CSV, Markdown and a picture; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write_json(folder / CASES, list(rows))
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    durable.write_atomically(folder / TABLE, text.getvalue().encode())
    durable.write_atomically(folder / SUMMARY, summary(rows).encode())
    draw_campaign(rows, folder / PICTURE)
    return [folder / name for name in (CASES, TABLE, SUMMARY, PICTURE)]


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """The campaign as a Markdown table, one line for each kind and share."""
    lines = ["# Campaign", ""]
    if any(row["data_source"] == "simulated" for row in rows):
        lines += [f"> **{SIMULATED}**", ""]
    lines += [
        "A miss is a change without an alert, a false alarm an alert before T0. Wanted is recovery (T5) from a new "
        "fleet, and from a sensor fault an alert without a retraining. Times are medians over the cases that have "
        "them, with their range.",
        "",
        "| Kind | Share | Cases | Missed | False alarms | As wanted | Detection T1-T0 (s) | Core recovery T4-T1 (s) "
        "| Total T5-T0 (s) | Failed requests |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, share in dict.fromkeys((row["kind"], row["share"]) for row in rows):
        mine = [row for row in rows if (row["kind"], row["share"]) == (kind, share)]
        done = [row for row in mine if row["detected"] is not None]
        missed = sum(not row["detected"] for row in done) if kind != "none" else 0
        broken = f" ({len(mine) - len(done)} without results)" if len(done) < len(mine) else ""
        lines.append(
            f"| {kind} | {share:.0%} | {len(mine)}{broken} | {missed} | {sum(row['false_alarms'] for row in done)} "
            f"| {sum(bool(row['as_wanted']) for row in done)} | {_range(done, 'detection_s')} "
            f"| {_range(done, 'core_recovery_s')} | {_range(done, 'total_s')} "
            f"| {sum(row['requests_failed'] for row in done)} |"
        )
    return "\n".join([*lines, ""])


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _range(rows: Sequence[dict[str, Any]], field: str) -> str:
    values = sorted(row[field] for row in rows if row[field] is not None)
    if not values:
        return "-"
    middle = (values[(len(values) - 1) // 2] + values[math.ceil((len(values) - 1) / 2)]) / 2
    return f"{middle:.1f} ({values[0]:.1f} to {values[-1]:.1f})"


def _tell(row: dict[str, Any]) -> str:
    if row["detected"] is None:
        return str(row["error"])
    if not row["detected"]:
        return "not detected"
    wanted = "as wanted" if row["as_wanted"] else "not as wanted"
    return f"detected after {row['detection_s']:.1f} s, {row['decision']}, {wanted}"
