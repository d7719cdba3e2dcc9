"""The documents: links lead somewhere, and what they name (commands, options, targets, settings) is there."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from driftloop import cli
from driftloop.settings import Settings, variable

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]
)
IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]
# Settings of shells, scripts and images, which are not read by settings.py.
OTHERS = {
    "DRIFTLOOP_BUILD_CA", "DRIFTLOOP_CI_LAB", "DRIFTLOOP_CONFIG_DIR", "DRIFTLOOP_SCREENSHOTS", "DRIFTLOOP_LAB_RESULTS",
    "DRIFTLOOP_UPGRADE_FROM",
}  # fmt: skip


def prose(text: str) -> str:
    """The text without code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def code(text: str) -> Iterator[str]:
    """Every line of code, fenced or between words, without comments of a shell."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from (line.partition(" #")[0] for line in block.replace("\\\n", " ").splitlines())
    yield from re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


@cache
def anchors(path: Path) -> set[str]:
    """What a link to a part of this page may name, as GitHub makes it of headings."""
    text = path.read_text(encoding="utf-8")
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", plain, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, part = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (part and path.suffix == ".md" and part not in anchors(path)):
            lost.append(target)
    assert lost == []


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@cache
def command(words: tuple[str, ...]) -> Any:
    """A command by its words; a group where there are more, None where there is none."""
    if words[0] not in cli.COMMANDS:
        return None
    found = get_command(cli.build([words[0]])).commands[words[0]]  # type: ignore[attr-defined]
    for word in words[1:]:
        found = found.commands.get(word) if isinstance(found, TyperGroup) else None
    return found


def options(found: Any) -> set[str]:
    own = {name for one in found.params for name in (*one.opts, *one.secondary_opts)}
    return own | {"--help", "--fleet"}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_target_of_make_is_there(page: Path) -> None:
    named = {
        name
        for line in code(page.read_text(encoding="utf-8"))
        for name in re.findall(r"(?:^|[\s=])make ([a-z][a-z0-9-]*)\b", line)
    }
    assert named - targets() == set()


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_and_its_options_are_there(page: Path) -> None:
    wrong = []
    for line in code(page.read_text(encoding="utf-8")):
        for call in re.findall(r"(?:^|[\s`(])driftloop ((?:(?!driftloop )[^|;&)<>])*)", line):
            words = call.replace('"', " ").replace("'", " ").split()
            while words and words[0].startswith("--"):
                words = words[2:] if words[0] == "--fleet" else words[1:]
            if not words or not re.fullmatch(r"[a-z][a-z-]*,?", words[0]):
                continue
            found = command((words[0].rstrip(","),))
            if isinstance(found, TyperGroup) and len(words) > 1 and re.fullmatch(r"[a-z][a-z-]*", words[1]):
                found = command((words[0], words[1]))
            if found is None:
                wrong.append(call)
            elif not isinstance(found, TyperGroup):
                given = [word.partition("=")[0].rstrip(",.") for word in words if re.match(r"--[a-z]", word)]
                wrong += [f"{call}: {name}" for name in given if name not in options(found)]
    assert wrong == []


def test_every_command_that_the_console_names_is_there() -> None:
    scripts = (ROOT / "src" / "driftloop" / "console" / "assets" / "js").rglob("*.js")
    said = {
        words for path in scripts for words in re.findall(r"driftloop ([a-z]+(?: [a-z]+)?)", path.read_text("utf-8"))
    }
    named = [tuple(words.split()) for words in said if words.split()[0] in cli.COMMANDS]
    assert len(named) > 1
    wrong = [words for words in named if isinstance(command(words[:1]), TyperGroup) and command(words) is None]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_setting_is_there(page: Path) -> None:
    known = set(map(variable, Settings.model_fields))
    named = set(re.findall(r"\bDRIFTLOOP_[A-Z][A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
    assert named - known - OTHERS == set()


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\(([^)#]+)", index))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")} - {"README.md"}
    assert there - named == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_alert_names_a_section_of_the_runbooks() -> None:
    files = [ROOT / "files" / part / "rules.yml" for part in ("monitoring", "logs")]
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    named = {
        rule["alert"]: rule["annotations"]["runbook"].partition("#") for group in groups for rule in group["rules"]
    }
    assert len(named) > 5
    assert {page for page, _, _ in named.values()} == {"docs/runbooks.md"}
    assert {part for _, _, part in named.values()} <= anchors(ROOT / "docs" / "runbooks.md")
