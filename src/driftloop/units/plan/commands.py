"""`driftloop plan` and `driftloop why`: ask the console's API, print what it says."""

import csv
import sys
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.table import Table

from driftloop import completion, settings
from driftloop.errors import DriftloopError
from driftloop.protocol import platform
from driftloop.protocol.client import Question, put
from driftloop.protocol.http import client
from driftloop.protocol.platform_answers import MaintenancePlan, Work
from driftloop.settings import Settings
from driftloop.terminal import fitted, screen

T = TypeVar("T")

_FIELDS = ("what", "period", "unit", "rul", "lower", "upper", "risk_before", "risk_if_left", "saves", "why")


def plan(
    failure: Annotated[float, typer.Option(help="What a failure costs, in any currency.")] = 5.0,
    planned: Annotated[float, typer.Option(help="What planned work on a unit costs.")] = 1.0,
    period: Annotated[
        int | None,
        typer.Option(min=1, help="Length of a period in steps of the fleet; by default 10, or as the model sees."),
    ] = None,
    slots: Annotated[
        str, typer.Option(help="Units that can be worked on in each period, the first beginning now: 2,2,0,1.")
    ] = "1,1,1,1,1,1",
    agreed: Annotated[
        list[str] | None, typer.Option(metavar="PERIOD:UNIT", help="Work that is agreed already; again for more.")
    ] = None,
    run_on: Annotated[int, typer.Option(min=0, help="Units that are to run until they fail, to learn from.")] = 0,
    mean_life: Annotated[
        float | None, typer.Option(help="Mean life in steps; by default that of learnt units.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Which unit to work on in which slot, and why: the plan that costs least by what is known of each unit."""
    configured = settings.load()
    if not all(part.strip().isdecimal() and len(part) < 10 for part in slots.split(",")):
        raise DriftloopError(
            f"{slots[:60]!r} are no numbers of slots", where="--slots", remedy="write one for each period: 2,2,0,1"
        )
    found = _ask(
        configured,
        platform.plan(
            configured.schema.name, failure=failure, planned=planned, period=period,
            slots=[int(part) for part in slots.split(",")], agreed=agreed or [], run_on=run_on, mean_life=mean_life,
        ),
    )  # fmt: skip
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    elif as_csv:
        rows = csv.DictWriter(sys.stdout, _FIELDS, extrasaction="ignore", lineterminator="\n")
        rows.writeheader()
        for what in ("work", "unserved", "run_on"):
            rows.writerows(
                {"what": what, **msgspec.structs.asdict(one), "unit": as_text(one.unit)} for one in getattr(found, what)
            )
        rows.writerows({"what": "unknown", "unit": as_text(unit)} for unit in found.unknown)
    else:
        _show(found, configured)


def as_text(name: str) -> str:
    """A name in a table that a spreadsheet may open: behind an apostrophe where that would take it for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def why(
    unit: Annotated[str, typer.Argument(help="Name of a unit in service.", autocompletion=completion.units)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What drives the prediction of one unit: by how many steps each sensor moves its RUL."""
    configured = settings.load()
    found = _ask(configured, platform.drivers(configured.schema.name, unit))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    steps = configured.schema.steps
    at = "" if found.step is None else f" at {configured.schema.step} {found.step}"
    average = f"an average {configured.schema.unit} has {found.reference:.1f}"
    title = f"{unit}{at}: RUL {found.rul:.1f} {steps}; {average}"
    table = Table("sensor", steps, title=title)
    for part in found.contributions:
        name = f"{part.sensor} ({part.unit})" if part.unit else part.sensor
        table.add_row(name, f"{part.steps:+.1f}")
    console = screen(highlight=False)
    console.print(fitted(table, console))
    console.print(f"{found.unexplained:+.2f} {steps} are not explained ({found.method})")


def _ask(configured: Settings, question: Question[T]) -> T:
    """What the console answers; raises DriftloopError in words for people."""
    with client(configured.console_url, configured.token) as asking:
        return put(asking, question, "the console")


def _show(found: MaintenancePlan, configured: Settings) -> None:
    console, schema = screen(highlight=False), configured.schema
    table = Table("period", schema.unit, f"RUL ({schema.steps})", "fails before", "fails if left", "saves")
    for one in found.work:
        at = next(period for period in found.periods if period.period == one.period)
        _add(table, f"{one.period} ({at.begins} to {at.ends})", one)
    for one in found.unserved:
        _add(table, "no slot left", one)
    for one in found.run_on:
        _add(table, "runs on, to learn", one)
    console.print(fitted(table, console))
    console.print(fitted(_by_period(found, schema.steps), console))
    planned, without, learning = found.expected, found.without, found.learning
    console.print(f"{found.running} {schema.units} are best left alone.")
    if found.unknown:
        console.print(f"Nothing is known of {', '.join(found.unknown[:20])}: look at them.")
    console.print(
        f"Expected failures: {planned.failures:.2f} with the plan, {without.failures:.2f} without; "
        f"expected costs {planned.cost:.2f} and {without.cost:.2f}."
    )
    until = learning.steps_until_enough
    enough = "never" if until is None else f"in about {until:,.0f} {schema.steps}"
    console.print(
        f"Planned work teaches nothing: at this rate of failures the {learning.needed} that a retraining needs are "
        f"there {enough}."
    )


def _by_period(found: MaintenancePlan, steps: str) -> Table:
    """What is to be expected in each period, of which the failures alone teach."""
    table = Table(f"{steps} from now", "slots", "taken out", "failures", "without a plan", "failures until then")
    until = 0.0
    for one in found.periods:
        until += one.failures
        figures = (one.removed, one.failures, one.failures_without_plan, until)
        table.add_row(f"{one.begins} to {one.ends}", str(one.slots), *(f"{each:.2f}" for each in figures))
    return table


def _add(table: Table, when: str, one: Work) -> None:
    rul = f"{one.rul:.0f} ({one.lower:.0f} to {one.upper:.0f})"
    table.add_row(when, one.unit, rul, f"{one.risk_before:.0%}", f"{one.risk_if_left:.0%}", f"{one.saves:.2f}")
