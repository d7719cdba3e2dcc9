"""Exit codes: one definition, and every command keeps it."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.core import TyperGroup
from typer.main import get_command

import driftloop
from driftloop import cli
from driftloop.errors import DriftloopError, ExitCode, RegistryUnavailable
from driftloop.protocol.http import exit_code
from ports import free_port

SOURCE = Path(driftloop.__file__).parent.parent


def commands() -> Iterator[list[str]]:
    """Every command with its subcommands, as words."""
    for name in cli.COMMANDS:
        found = get_command(cli.build([name])).commands[name]  # type: ignore[attr-defined]
        if isinstance(found, TyperGroup):
            yield from ([name, below] for below in found.commands)
        else:
            yield [name]


def test_every_exit_in_the_code_is_one_of_the_table() -> None:
    bare = []
    for path in [*SOURCE.glob("driftloop/**/*.py"), *SOURCE.glob("driftloop_bench/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("typer.Exit", "sys.exit", "SystemExit"):
                said = [part for given in node.args for part in _said(given)]
                bare += [f"{path}:{node.lineno}" for part in said if isinstance(part, ast.Constant)]
    assert bare == []


def _said(given: ast.expr) -> list[ast.expr]:
    """The values that an argument may have; a signal's number plus 128, as shells do, is none of the table."""
    return [given.body, given.orelse] if isinstance(given, ast.IfExp) else [given]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_a_wrong_option_is_an_error_of_who_calls(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words, "--no-such-option"]) == ExitCode.ERROR
    assert "No such option" in capsys.readouterr().err


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_help_is_done(words: list[str]) -> None:
    assert cli.main([*words, "--help"]) == ExitCode.DONE


ASKING = [
    ["retrain"], ["promote", "3"], ["rollback", "3"], ["approve", "3-ab"], ["reject"], ["schedules", "list"],
    ["schedules", "cancel", "a"], ["mute", "fleet_change"], ["unmute", "fleet_change"], ["events"], ["archive", "list"],
    ["archive", "withdraw", "run-1"], ["units", "list"], ["units", "show", "a"], ["units", "status"],
    ["units", "event", "a", "failed"], ["plan"],
    ["why", "a"], ["drift", "check", "--seconds", "0"], ["drift", "report"],
]  # fmt: skip


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_nobody_answers(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DRIFTLOOP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    for part in ("CONSOLE", "MLFLOW", "SERVER", "RETRAINER", "UNITS"):
        monkeypatch.setenv(f"DRIFTLOOP_{part}_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("driftloop.protocol.http.time.sleep", lambda _: None)
    assert cli.main(words) == ExitCode.UNREACHABLE


def test_what_is_not_up_not_there_or_refused_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    for part in ("CONSOLE", "MLFLOW", "SERVER", "RETRAINER", "UNITS"):
        monkeypatch.setenv(f"DRIFTLOOP_{part}_URL", f"http://127.0.0.1:{free_port()}")
    assert cli.main(["status"]) == ExitCode.NO
    assert cli.main(["tokens", "revoke", "nobodys"]) == ExitCode.MISSING
    assert cli.main(["tokens", "add", "gateway", "--role", "predict"]) == ExitCode.DONE
    assert cli.main(["tokens", "add", "gateway", "--role", "predict"]) == ExitCode.REFUSED
    assert cli.main(["fleet", "check", "--fleet", str(tmp_path / "none.toml")]) == ExitCode.ERROR


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("DRIFTLOOP_STATE_DIR", str(tmp_path))
    monkeypatch.setattr("driftloop.embedded.status.collect", interrupted)
    assert cli.main(["status"]) == ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, ExitCode.MISSING), (401, ExitCode.REFUSED), (403, ExitCode.REFUSED), (409, ExitCode.REFUSED),
     (422, ExitCode.REFUSED), (429, ExitCode.UNREACHABLE), (500, ExitCode.UNREACHABLE), (503, ExitCode.UNREACHABLE)],
)  # fmt: skip
def test_what_an_answer_means(status: int, code: ExitCode) -> None:
    assert exit_code(httpx.Response(status)) == code


def test_an_error_brings_its_code() -> None:
    assert DriftloopError("x").exit_code == ExitCode.ERROR == 2
    assert RegistryUnavailable("x").exit_code == ExitCode.UNREACHABLE
    assert DriftloopError("x", exit_code=ExitCode.MISSING).exit_code == 4
    assert all(code.meaning for code in ExitCode)
