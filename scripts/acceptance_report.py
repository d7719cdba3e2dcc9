"""The report of `make acceptance`: the same in JSON and in Markdown."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

from acceptance_steps import ROOT, STEPS


def write_report(folder: Path, state: dict[str, Any]) -> None:
    """Write report.json and report.md."""
    told = report(state)
    for name, text in (("report.json", json.dumps(told, indent=1) + "\n"), ("report.md", as_markdown(told))):
        half = folder / f"{name}.part"
        half.write_text(text)
        half.rename(folder / name)


def report(state: dict[str, Any]) -> dict[str, Any]:
    """What is known, with nothing that is secret."""
    steps = [
        {"name": step.name, "what": step.what, **state["steps"].get(step.name, {"outcome": "not yet"})}
        for step in STEPS
    ]
    done = all(step["outcome"] in ("ok", "left out") for step in steps)
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain").splitlines()),
        "machine": state["chosen"]["machine"],
        "from": state["chosen"]["from"],
        "controller": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "accepted": done,
        "steps": steps,
    }


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def as_markdown(told: dict[str, Any]) -> str:
    """The report for people."""
    lines = [
        "# Acceptance",
        "",
        f"{'Accepted' if told['accepted'] else 'Not accepted'}: commit `{told['commit']}`"
        + (f" with {told['changed_files']} files changed" if told["changed_files"] else "")
        + (f", installed over `{told['from']}`" if told["from"] else ""),
        f"on {told['machine']}, from {told['controller']}.",
        "",
        "| step | outcome | seconds | showed |",
        "| --- | --- | --- | --- |",
    ]
    for step in told["steps"]:
        showed = step.get("why") or ", ".join(f"{name} {value}" for name, value in step.get("showed", {}).items())
        cell = str(showed).replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {step['what']} | {step['outcome']} | {step.get('seconds', '')} | {cell} |")
    return "\n".join(lines) + "\n"
