"""scripts/checks.py: no file is without a check, and a check that failed is never forgotten."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import checks
import pytest
import yaml

ROOT = Path(__file__).parents[2]


def git(repository: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.test")
    return subprocess.run(
        ["git", "-C", str(repository), *who, *arguments], capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "README.md")
    return tmp_path


def commit(repository: Path, *paths: str) -> None:
    for path in paths:
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        with (repository / path).open("a") as file:
            file.write("another line\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "change")


def test_every_file_of_the_repository_has_a_check() -> None:
    tracked = git(ROOT, "ls-files").splitlines()
    assert len(tracked) > 500
    assert [path for path in tracked if not checks.checks_of([path])] == []


def test_every_pattern_matches_something() -> None:
    tracked = git(ROOT, "ls-files").splitlines()
    for name, patterns in checks.CHECKS.items():
        for pattern in patterns:
            # What may come is allowed for: any file of YAML, and the workflows.
            if pattern not in ("*.yaml",):
                assert any(checks.fnmatch.fnmatchcase(path, pattern) for path in tracked), f"{name}: {pattern}"


def test_every_check_is_a_target() -> None:
    targets = (ROOT / "Makefile").read_text()
    for name in checks.CHECKS:
        assert f"\n{name}:" in targets


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("docs/platform.md", {"unit"}),
        ("playbooks/04-minio.yml", {"lint-platform", "unit", "test-lab", "test-host"}),
        ("src/driftloop/loop/decide.py", {"lint", "unit", "test-e2e-short", "test-lab"}),
        ("tests/loop/test_decide.py", {"lint", "unit"}),
        ("tests/99-integration/loop.sh", {"lint-platform", "unit", "test-lab"}),
        ("requirements.lock", {"lint", "unit", "test-e2e-short", "test-lab"}),
        ("src/driftloop/console/assets/app.js", {"unit", "test-e2e-short"}),
        ("src/driftloop/fleets/cmapss/fleet.toml", {"lint", "unit", "test-e2e-short", "test-lab"}),
        ("notebooks/01_eda_cmapss.ipynb", {"lint", "unit"}),
        (".ci/run", {"lint", "lint-platform", "unit"}),
        ("Makefile", set(checks.CHECKS)),
    ],
)
def test_a_change_needs_the_checks_of_its_path(path: str, names: set[str]) -> None:
    assert checks.checks_of([path]) == names


def test_a_check_that_never_passed_is_needed(repository: Path) -> None:
    assert checks.needed(["lint", "unit"], repository) == ["lint", "unit"]


def test_a_check_is_needed_again_until_it_passes(repository: Path) -> None:
    for name in ("unit", "lint-platform"):
        checks.passed(name, repository)
    assert checks.needed(["unit", "lint-platform"], repository) == []
    commit(repository, "playbooks/site.yml")
    assert checks.needed(["unit", "lint-platform"], repository) == ["unit", "lint-platform"]
    checks.passed("unit", repository)
    # lint-platform failed; the next commit touches something else, and it is needed all the same.
    commit(repository, "docs/a.md")
    assert checks.needed(["unit", "lint-platform"], repository) == ["unit", "lint-platform"]
    checks.passed("unit", repository)
    assert checks.needed(["unit", "lint-platform"], repository) == ["lint-platform"]


def test_what_was_moved_away_counts_as_changed(repository: Path) -> None:
    commit(repository, "playbooks/a.yml")
    checks.passed("test-lab", repository)
    (repository / "docs").mkdir()
    git(repository, "mv", "playbooks/a.yml", "docs/a.yml")
    git(repository, "commit", "--quiet", "--message", "move")
    assert checks.needed(["test-lab"], repository) == ["test-lab"]


def test_what_was_deleted_counts_as_changed(repository: Path) -> None:
    commit(repository, "playbooks/a.yml")
    checks.passed("test-lab", repository)
    git(repository, "rm", "--quiet", "playbooks/a.yml")
    git(repository, "commit", "--quiet", "--message", "delete")
    assert checks.needed(["test-lab"], repository) == ["test-lab"]


@pytest.mark.parametrize("path", ["playbooks/ä.yml", 'playbooks/a "b".yml', "playbooks/a b\tc.yml"])
def test_a_path_is_seen_however_it_is_spelt(repository: Path, path: str) -> None:
    checks.passed("test-lab", repository)
    commit(repository, path)
    assert checks.needed(["test-lab"], repository) == ["test-lab"]


def test_a_green_commit_that_is_gone_or_of_another_branch_hides_nothing(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD").strip()
    commit(repository, "playbooks/a.yml")
    checks.passed("test-lab", repository)
    # As after a push by force: the green commit is no ancestor.
    git(repository, "reset", "--quiet", "--hard", first)
    assert checks.needed(["test-lab"], repository) == ["test-lab"]
    (repository / ".git/refs/green/test-lab").write_text("0" * 39 + "1\n")
    assert checks.needed(["test-lab"], repository) == ["test-lab"]


def test_the_first_commit_of_all_needs_everything(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    commit(tmp_path, "README.md")
    assert checks.needed(list(checks.CHECKS), tmp_path) == list(checks.CHECKS)


# --- the map, compared with what the checks themselves look at ------------------------------------------------------


def without(check: str, paths: list[str]) -> list[str]:
    """Those of the paths whose change would not need the check."""
    assert paths
    return [path for path in paths if check not in checks.checks_of([path])]


def test_what_ruff_looks_at_needs_lint() -> None:
    ruff = Path(sys.executable).with_name("ruff")
    shown = subprocess.run([ruff, "check", "--show-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert without("lint", [str(Path(line).relative_to(ROOT)) for line in shown.stdout.splitlines()]) == []


def test_what_the_linters_of_the_platform_look_at_needs_them() -> None:
    yaml_files = git(ROOT, "ls-files", "*.yml", "*.yaml", ".ansible-lint", ".yamllint").splitlines()
    shebang = "^#!(/usr/bin/env |/bin/)(ba)?sh"
    scripts = git(ROOT, "grep", "-lE", shebang, "--", "scripts", "tests", ".ci", "files", ":!*.j2").splitlines()
    assert without("lint-platform", [*yaml_files, *scripts]) == []


def imported_by(path: Path) -> set[Path]:
    """The modules beside tests/conftest.py that a test stands on, and what these stand on."""
    found: set[Path] = set()
    todo = [path]
    while todo:
        tree = ast.parse(todo.pop().read_text())
        names = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        for module in {ROOT / "tests" / f"{name}.py" for name in names}:
            if module.exists() and module not in found:
                found.add(module)
                todo.append(module)
    return found


def test_what_the_newcomers_path_stands_on_needs_it() -> None:
    stands_on = {
        path for start in ("e2e/test_newcomer.py", "conftest.py") for path in imported_by(ROOT / "tests" / start)
    }
    assert ROOT / "tests" / "messy_fleet.py" in stands_on
    assert without("test-e2e-short", [str(path.relative_to(ROOT)) for path in stands_on]) == []


def test_the_scripts_that_playbooks_and_the_lab_call_need_the_lab() -> None:
    said = git(
        ROOT, "grep", "-ohE", r"scripts/[a-z_-]+\.(py|sh)", "--", "playbooks/*.yml", "tests/lab/*.sh", "tests/_lib.sh"
    )
    called = {path for path in said.split() if (ROOT / path).is_file()}
    assert "scripts/generate_secrets.py" in called
    assert without("test-lab", sorted(called)) == []


def test_the_workflows_run_checks_that_there_are() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        for job in workflow["jobs"].values():
            for name in (
                job.get("strategy", {}).get("matrix", {}).get("check", []) if "long" in workflow["jobs"] else []
            ):
                assert name in checks.CHECKS
    plan = (ROOT / ".github" / "workflows" / "checks.yml").read_text()
    [line] = [line for line in plan.splitlines() if "checks.py needed" in line]
    names = line.partition("needed ")[2].partition(")")[0].split()
    assert set(names) == checks.CHECKS.keys() - {"test-lab", "test-host"}


def test_a_workflow_calls_targets_and_scripts_that_are_there() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert {path.stem for path in workflows} == {"checks", "nightly", "images", "weekly"}
    targets, called = (ROOT / "Makefile").read_text(), set()
    for path in workflows:
        steps = [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
        said = "\n".join(step.get("run", "") for step in steps)
        called |= set(re.findall(r"\bmake ([a-z][a-z-]*)", said))
        for script in re.findall(r"(?:^|\s)((?:scripts|files)/[\w./-]+\.(?:py|sh))", said):
            assert (ROOT / script).is_file(), f"{path.name}: {script}"
    assert called >= {"audit", "outdated", "test-lab"}
    for name in called:
        assert f"\n{name}:" in targets, name
