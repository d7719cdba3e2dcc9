"""Tells of everything pinned what the newest version is, and until when its line is supported.

    scripts/outdated.py [--json] [--all] [--strict]

Asks the registries, each by its own client; those that cannot be reached are named. The table shows what is behind or
no longer supported, and everything with --all. Exit code 0; 1 with --strict where something's support has ended.
"""

import argparse
import datetime
import json
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from newest import Answers, Unreached, newest
from pins import ROOT, Pin, all_pins
from rich.console import Console
from rich.table import Table

STALE_DAYS = 180
"""After so many days the table of support is to be looked up again."""


@dataclass(frozen=True)
class Support:
    """Until when a line of a product is supported, and who says so."""

    until: datetime.date
    source: str


@dataclass(frozen=True)
class Row:
    """What is known of one pin."""

    pin: Pin
    newest: str
    behind: bool
    unreached: str
    until: datetime.date | None
    source: str
    ended: bool


def support(root: Path = ROOT) -> tuple[dict[tuple[str, str], Support], datetime.date]:
    """(product, line) -> support, and the day on which that was looked up."""
    told = tomllib.loads((root / "scripts" / "support.toml").read_text())
    lines = {(each["product"], each["line"]): Support(each["until"], each["source"]) for each in told["line"]}
    return lines, told["looked_up"]


def supported(pin: Pin, lines: dict[tuple[str, str], Support]) -> Support | None:
    """The longest line that the pin's version begins with."""
    version = pin.version.removeprefix("v")
    if pin.product == "prometheus":  # its module v0.313.5 is release 3.13.5
        version = re.sub(r"^0\.(\d)(\d\d)\.", r"\1.\2.", version)
    fitting = [line for product, line in lines if product == pin.product and f"{version}.".startswith(f"{line}.")]
    fitting += [line for product, line in lines if product == pin.product and version.startswith(f"{line}-")]
    return lines[pin.product, max(fitting, key=len)] if fitting else None


def rows(
    pins: Iterable[Pin], answers: Answers, unreached: Unreached, today: datetime.date, root: Path = ROOT
) -> list[Row]:
    """What is known of each pin."""
    lines, _ = support(root)
    found = []
    for pin in pins:
        answer, told = answers.get(pin), supported(pin, lines)
        found.append(
            Row(
                pin,
                newest=answer.version if answer else "",
                behind=bool(answer and answer.behind),
                unreached=unreached.get(pin, ""),
                until=told.until if told else None,
                source=told.source if told else "",
                ended=bool(told and told.until < today),
            )
        )
    return found


def as_json(found: list[Row], looked_up: datetime.date) -> str:
    """Everything, for programs."""
    listed = [
        {
            "kind": row.pin.kind,
            "name": row.pin.name,
            "pinned": row.pin.version,
            "where": row.pin.where,
            "newest": row.newest or None,
            "behind": row.behind if row.newest else None,
            "unreached": row.unreached or None,
            "support_until": row.until.isoformat() if row.until else None,
            "support_ended": row.ended if row.until else None,
            "support_source": row.source or None,
        }
        for row in found
    ]
    return json.dumps({"support_looked_up": looked_up.isoformat(), "pins": listed}, indent=1)


def as_table(found: list[Row], everything: bool) -> Table:
    """What needs a look, for people: one row for each version of each thing."""
    table = Table(
        "kind", "name", "pinned", "newest", "supported", "where", box=None, header_style="bold", pad_edge=False
    )
    for _, same in groupby(found, key=lambda row: (row.pin.kind, row.pin.name, row.pin.version)):
        row, *others = same
        if not (everything or row.behind or row.ended):
            continue
        until = "" if row.until is None else f"ended {row.until}" if row.ended else f"until {row.until}"
        where = row.pin.where + (f" and {len(others)} more" if others else "")
        style = "red" if row.ended else None
        table.add_row(
            row.pin.kind, row.pin.name, row.pin.version, row.newest or "not reached", until, where, style=style
        )
    return table


def notes(found: list[Row], looked_up: datetime.date, today: datetime.date) -> list[str]:
    """What the table cannot say."""
    said = []
    by_reason: dict[str, set[str]] = {}
    for row in found:
        if row.unreached:
            by_reason.setdefault(f"{row.pin.kind}: {row.unreached}", set()).add(row.pin.name)
    said += [f"not reached, {reason} ({', '.join(sorted(names))})" for reason, names in by_reason.items()]
    reached = [row for row in found if row.newest]
    said.append(
        f"{len(found)} pinned, {len(reached)} compared, {sum(row.behind for row in reached)} behind, "
        f"{sum(row.ended for row in found)} no longer supported (dates looked up on {looked_up}, scripts/support.toml)"
    )
    if (today - looked_up).days > STALE_DAYS:
        said.append(f"the dates of support are older than {STALE_DAYS} days: look them up again")
    return said


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="What is pinned, what the newest is, and until when it is supported.")
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument("--all", action="store_true", help="show what is up to date as well")
    parser.add_argument("--strict", action="store_true", help="exit code 1 where something's support has ended")
    options = parser.parse_args(arguments)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    pins = all_pins()
    found = rows(pins, *newest(pins), today)
    _, looked_up = support()
    if options.json:
        print(as_json(found, looked_up))
    else:
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(as_table(found, options.all))
        for note in notes(found, looked_up, today):
            console.print(note, soft_wrap=True, markup=False)
    return 1 if options.strict and any(row.ended for row in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
