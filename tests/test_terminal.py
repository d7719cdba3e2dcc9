"""What people read in a terminal of 40 columns: nothing is cut, nothing runs over, nothing is left out."""

import ast
import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import driftloop
from driftloop.drift import commands as drift_commands
from driftloop.drift.verdict import FeatureVerdict, Verdict
from driftloop.embedded import status
from driftloop.loop.api import scheduling
from driftloop.protocol.answers import Contribution
from driftloop.protocol.platform_answers import Drivers, MaintenancePlan
from driftloop.terminal import fitted, screen
from driftloop.units import commands as units_commands
from driftloop.units.plan import commands as plan_commands

SOURCE = Path(driftloop.__file__).parent
SOURCES = sorted(SOURCE.rglob("*.py"))
NARROW = 40
WIDE = 160


def table_of(text: str) -> Table:
    table = Table(text)
    table.add_row(text)
    return table


def rendered(table: Table, width: int) -> str:
    console = Console(width=width, markup=False, file=open(os.devnull, "w", encoding="utf-8"), record=True)  # noqa: PTH123, SIM115
    console.print(fitted(table, console))
    console.file.close()
    return console.export_text()


def check(text: str) -> None:
    """Every line fits, but for those with a path, which a terminal wraps and people copy; and none was cut."""
    assert text.strip()
    assert "…" not in text
    assert [line for line in text.splitlines() if len(line.rstrip()) > NARROW and "state in " not in line] == []


def words(text: str) -> set[str]:
    return set(re.findall(r"[\w.:/%-]+", text))


STATUS: dict[str, Any] = {
    "components": {
        f"pumps/{name}": {
            "state": "ready", "pid": 12345, "memory_mib": 234.5, "restarts": 1, "url": f"http://127.0.0.1:85{at:02}",
        }
        for at, name in enumerate(("server", "retrainer", "watch", "units"))
    },
    "memory_mib": 1234.0,
    "fleets": {"pumps": {"model": {"model_version": "3"}, "loop": {"state": "idle"}, "last_verdict": None}},
}  # fmt: skip


def test_status() -> None:
    narrow, wide = rendered(status.table(STATUS), NARROW), rendered(status.table(STATUS), WIDE)
    check(narrow)
    assert words(narrow) >= words(wide) - {"component"}


def test_a_table_as_wide_as_the_terminal_cuts_no_cell() -> None:
    components = {f"scada-export-of-a-plant/{name}": part for name, part in (
        (name.partition("/")[2], part) for name, part in STATUS["components"].items())}  # fmt: skip
    text = rendered(status.table({**STATUS, "components": components}), 80)
    assert "┃ component" in text
    assert "…" not in text
    cells = ["".join(line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│"))]
    assert all(name in cells[0] for name in components)


def test_a_terminal_with_room_gets_a_table() -> None:
    assert "┃ component" in rendered(status.table(STATUS), 100)
    small = Table("role", "runs")
    small.add_row("train", "7")
    assert "┃ role" in rendered(small, NARROW)


def test_brackets_of_names_are_no_markup() -> None:
    table = Table("name", "what", "more" * 12, title="of [k]")
    table.add_row("a[bold]b[/x]", "c [psi]", "d")
    for width in (NARROW, WIDE):
        text = rendered(table, width)
        assert all(name in text for name in ("a[bold]b[/x]", "c [psi]", "of [k]"))


def _plan(unit: str, unknown: list[str]) -> MaintenancePlan:
    one = {
        "unit": unit, "rul": 41, "lower": 30, "upper": 60, "period": 0, "risk_before": 0.01, "risk_if_left": 0.4,
        "saves": 1.5, "why": "it fails",
    }  # fmt: skip
    found = {
        "work": [one], "unserved": [one], "run_on": [], "unknown": unknown, "running": 9, "costs": {}, "mean_life": 200,
        "periods": [{"period": 0, "begins": 0, "ends": 10, "slots": 1}],
        "expected": {"failures": 1, "planned": 1, "cost": 2}, "without": {"failures": 2, "planned": 0, "cost": 3},
        "learning": {"failures": 1, "failures_without_plan": 2, "needed": 20},
    }  # fmt: skip
    return msgspec.convert(found, MaintenancePlan)


def test_a_name_in_csv_is_no_formula(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = _plan("=cmd|'/c calc'!A1", ["+1", "e1", "-2", "@x"])
    monkeypatch.setattr(plan_commands, "_ask", lambda *_: found)
    plan_commands.plan(as_csv=True)
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line["unit"] for line in lines] == ["'=cmd|'/c calc'!A1"] * 2 + ["'+1", "e1", "'-2", "'@x"]


@pytest.fixture
def said(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints that asks a platform."""
    monkeypatch.setenv("COLUMNS", str(NARROW))
    monkeypatch.setattr(units_commands, "_OUT", Console(width=NARROW, highlight=False, markup=False))
    monkeypatch.setattr(drift_commands, "_out", Console(width=NARROW, markup=False))
    unit = {
        "unit": "compressor-north-[/17]", "state": "running", "step": 160, "rul": 41.5, "low": 30.25, "high": 60.125,
        "last_seen": "2026-01-31T12:00:00.000Z", "version": "12", "flags": ["held:pressure", "provisional"],
    }  # fmt: skip
    if request.param == "list":
        monkeypatch.setattr(units_commands, "_ask", lambda *_, **__: {"total": 1, "units": [unit]})
        units_commands.list_(limit=50, offset=0)
    elif request.param == "schedules":
        entry = {
            "name": "weekly-on-monday", "act": "retrain", "mode": "warm_start", "every_s": None, "cron": "0 3 * * 1",
            "next": "2026-01-31T12:00:00.000Z", "last": None, "firing": True,
        }  # fmt: skip
        monkeypatch.setattr(scheduling, "asking", lambda: _Answering({"schedules": [entry], "muted": []}))
        scheduling.list_()
    elif request.param == "plan":
        monkeypatch.setattr(plan_commands, "_ask", lambda *_: _plan("compressor-north-[/17]", ["compressor-west-3"]))
        plan_commands.plan()
    elif request.param == "why":
        part = {"sensor": "discharge temperature of the second stage", "unit": "°C", "steps": -12.5}
        drivers = Drivers(
            rul=41.0, reference=80.0, method="m", contributions=[msgspec.convert(part, Contribution)], unexplained=0.1,
            model_version="12", unit="c", step=160,
        )  # fmt: skip
        monkeypatch.setattr(plan_commands, "_ask", lambda *_: drivers)
        plan_commands.why("compressor-north-[/17]")
    else:
        drift_commands._show("12", _verdict())
    return capsys.readouterr().out


class _Answering:
    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    def __enter__(self) -> "_Answering":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self) -> dict[str, Any]:
        return self._status


def _verdict() -> Verdict:
    feature = FeatureVerdict(
        feature="discharge temperature", psi=0.31, threshold_psi=0.1, ks=0.2, threshold_ks=0.1, shift=1.5,
        threshold_shift=0.5, score=3.1, spread=1.0, threshold_spread=2.0, psi_plain=0.4,
    )  # fmt: skip
    return Verdict(
        verdict="drift", n=500, min_n=300, score=3.1, features=[feature], blamed=["discharge temperature"],
        kind="fleet_change", stuck=[], mixture={"0": 1.0}, ages={}, age_shift=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("said", ["list", "schedules", "plan", "why", "drift"], indirect=True)
def test_what_a_platform_answers(said: str) -> None:
    check(said)


@pytest.mark.parametrize(
    "arguments",
    [["data", "info"], ["archive", "list", "--location", "none"], ["tokens", "list"], ["people", "list"], ["doctor"],
     ["status"], ["fleet", "show", "--fleet", "fleet.toml"]],
)  # fmt: skip
def test_commands(tmp_path: Path, arguments: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLOOP_")}
    environment |= {
        "COLUMNS": str(NARROW), "DRIFTLOOP_STATE_DIR": "state", "DRIFTLOOP_SIMULATOR_ENGINES": "3", "CMAPSS_DIR": "",
    }  # fmt: skip
    del environment["CMAPSS_DIR"]
    (tmp_path / "fleet.toml").write_text(
        'name = "pumps"\n[[settings]]\nname = "speed_of_the_main_shaft"\nunit = "1/min"\n[[sensors]]\n'
        'name = "discharge_temperature_of_the_second_stage"\nunit = "°C"\ndescription = "measured behind the cooler"\n'
    )

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "driftloop.cli", *arguments]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.PIPE
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    if arguments[0] == "tokens":
        run("tokens", "add", "gateway-of-the-northern-hall", "--role", "predict")
    shown = run(*arguments)
    check(shown)
    if arguments[0] == "tokens":
        assert "gateway-of-the-northern-hall" in shown
    if arguments == ["data", "info"]:
        assert {"FD001", "FD002", "FD003", "FD004"} <= words(shown)


ORDERS = "anna\x1b[2J\x1b]0;title\x07\r\x9b31m\x7fjunk"


@pytest.mark.parametrize("wrapped", [str, lambda text: Text(text, style="bold"), table_of, Panel])
def test_what_others_wrote_gives_the_terminal_no_orders(wrapped: Any) -> None:
    with io.StringIO() as file:
        console = screen(file=file, width=200, force_terminal=True, color_system="truecolor")
        console.print(wrapped(ORDERS), style="red")
        said = file.getvalue()
    assert "junk" in said
    assert "\x1b[1;31m" in said or "\x1b[31m" in said, "its own colours stay"
    own = re.sub(r"\x1b\[[\d;]*m", "", said)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", own), ascii(own)


def test_every_command_prints_where_nobody_gives_orders() -> None:
    """And where brackets in names are no markup: on a `screen`, and on no terminal of another kind."""
    named = {kind: calls_of(kind) for kind in ("Console", "Screen", "screen")}
    assert named["Console"] == []
    [made] = named["Screen"]
    assert "markup=False" in made
    assert len(named["screen"]) > 10
    assert not [one for one in named["screen"] if "markup" in one]


def calls_of(name: str) -> list[str]:
    """How the product calls something, wherever it does."""
    return [
        ast.unparse(call)
        for path in SOURCES
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name
    ]
