"""The command line: a quick list of commands, rooms imported only when needed, errors for people."""

import subprocess
import sys

import pytest

from driftloop import __version__, cli
from driftloop.errors import DriftloopError


def loaded_by(arguments: list[str]) -> set[str]:
    """Top-level modules and rooms that a command imports."""
    program = f"import sys\nfrom driftloop.cli import main\nmain({arguments!r})\nprint('LOADED', *sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED ")[2].split())


def test_the_help_lists_every_command_and_imports_no_room() -> None:
    done = subprocess.run([sys.executable, "-m", "driftloop.cli", "--help"], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in cli.COMMANDS)
    assert not {name for name in loaded_by(["--help"]) if name.startswith("driftloop.")} - {
        "driftloop.cli",
        "driftloop.completion",
        "driftloop.environment",
        "driftloop.errors",
    }


def test_the_server_needs_neither_torch_nor_mlflow() -> None:
    loaded = loaded_by(["serve", "--help"])
    assert "driftloop.serving.commands" in loaded
    assert not loaded & {"torch", "mlflow", "matplotlib", "pandas", "kfp", "driftloop_bench", "driftloop.training"}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_exists(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert "Usage: driftloop" in capsys.readouterr().out


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"driftloop {__version__}\n"


def test_an_unknown_command_is_an_error_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fly"]) == 2
    assert "fly" in capsys.readouterr().err


def test_an_error_for_people_is_one_message_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise DriftloopError("the shelf is empty", where="[archive]", remedy="fill it")

    monkeypatch.setattr("driftloop.embedded.commands.settings.from_environment", fail)
    assert cli.main(["status"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "[archive]: the shelf is empty (fill it)\n"
    assert shown.out == ""
