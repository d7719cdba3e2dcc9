"""`driftloop doctor`: look at everything, print what was found."""

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from driftloop.embedded.doctor.examine import examine
from driftloop.embedded.doctor.findings import Finding
from driftloop.errors import ExitCode
from driftloop.terminal import screen

_LOOK = {"fine": ("ok", "green"), "warning": ("look", "yellow"), "problem": ("MEND", "bold red")}


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out what is fine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find what is wrong with this machine or a running platform, and say how to mend it. Exit code 1: a problem.

    It changes nothing. Beside a stopped platform it looks at the machine and at what is on disk.
    """
    found: list[Finding] = []
    console = screen(highlight=False)
    for finding in examine():
        found.append(finding)
        if not as_json and not (quiet and finding.level == "fine"):
            console.print(_line(finding), soft_wrap=False)
    counts = Counter(finding.level for finding in found)
    if as_json:
        shown = [asdict(finding) for finding in found if not (quiet and finding.level == "fine")]
        typer.echo(
            json.dumps({"problems": counts["problem"], "warnings": counts["warning"], "findings": shown}, indent=1)
        )
    else:
        console.print(f"{counts['problem']} to mend, {counts['warning']} to look at, {counts['fine']} fine")
    raise typer.Exit(ExitCode.NO if counts["problem"] else ExitCode.DONE)


def _line(finding: Finding) -> Text:
    word, style = _LOOK[finding.level]
    line = Text.assemble((f"{word:<5}", style), f"{finding.check}: {finding.what}")
    if finding.level == "fine":
        line.append(f"  {finding.where}" if finding.where else "", "dim")
    else:
        line.append(f"\n      {finding.where}" if finding.where else "", "dim")
        line.append(f"\n      -> {finding.remedy}")
    return line
