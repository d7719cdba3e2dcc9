"""Which checks a change needs, by a map from paths. A check is a target of the Makefile.

    scripts/checks.py needed [CHECK...]     the checks that HEAD needs, as JSON; of these, or of all
    scripts/checks.py passed CHECK          remember that HEAD has passed a check

Each check is compared with the last commit that passed *it* (`refs/green/CHECK`): one that failed is needed again by
every later commit until it passes, whatever that commit changes. A check that never passed is needed.
"""

import fnmatch
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


# How each check is called, and with what: a slip there shows in none but its own.
CALLED = ("Makefile", "scripts/checks.py")
PYTHON = (
    "pyproject.toml",
    "requirements.lock",
    "scripts/setup.sh",
    "scripts/python.sh",
    "src/driftloop/*.py",
    "src/driftloop/*.toml",
    "src/driftloop/*.json",
    "src/driftloop_bench/pyproject.toml",
)
PLATFORM = (
    "playbooks/*",
    "inventory/*",
    "files/*",
    "ansible.cfg",
    "requirements-ansible.*",
    "requirements.yml",
    ".ansible-lint",
    ".yamllint",
    "scripts/setup-ansible.sh",
    "scripts/python.sh",
    "scripts/shell.sh",
)
# For which paths; `*` stands for any part of a path.
CHECKS = {
    "lint": (
        *CALLED,
        "*.py",
        "*.ipynb",
        "*.toml",
        "requirements.lock",
        "scripts/*",
        ".ci/*",
        ".github/*",
        ".gitignore",
    ),
    "lint-platform": (*CALLED, *PLATFORM, "*.sh", "*.yml", "*.yaml", "scripts/*", "tests/lab/*", ".ci/*", ".github/*"),
    "unit": (
        *CALLED,
        *PYTHON,
        *PLATFORM,
        "src/*",
        "tests/*",
        "data/*",
        "examples/*",
        "notebooks/*",
        "docs/*",
        "*.md",
        "scripts/*",
        ".ci/*",
        ".github/*",
        "LICENSE",
        ".gitignore",
        ".dvc*",
        "requirements-audit.*",
        ".secrets.baseline",
    ),
    "test-e2e-short": (
        *CALLED,
        *PYTHON,
        "src/*",
        "tests/e2e/*",
        "tests/conftest.py",
        "tests/described.py",
        "tests/live_platform.py",
        "tests/messy_fleet.py",
        "tests/ports.py",
        "examples/*",
        "scripts/chromium.sh",
        "scripts/packages.sh",
    ),
    "test-lab": (
        *CALLED,
        *PYTHON,
        *PLATFORM,
        "tests/lab/*",
        "tests/0*",
        "tests/99*",
        "tests/_lib.sh",
        "tests/run-all.sh",
        "scripts/vault-password.sh",
        "scripts/generate_secrets.py",
        "scripts/age_key.py",
        "scripts/kfp_manifests.py",
        "scripts/gitops.py",
        "scripts/move_buckets.py",
    ),
    "test-host": (
        *CALLED,
        *PLATFORM,
        "tests/host/*",
        "scripts/bundle*",
        "scripts/vault-password.sh",
        "scripts/generate_secrets.py",
    ),
}


def checks_of(paths: Iterable[str]) -> set[str]:
    """The checks that a change of these paths needs."""
    changed = list(paths)
    return {
        name
        for name, patterns in CHECKS.items()
        if any(fnmatch.fnmatchcase(path, pattern) for path in changed for pattern in patterns)
    }


def needed(names: Iterable[str], repository: Path = ROOT) -> list[str]:
    """Of these checks those that HEAD needs, in the order of the map."""
    found = []
    for name in names:
        green = _git(repository, "rev-parse", "--verify", "--quiet", f"refs/green/{name}^{{commit}}")
        changed = _changed(repository, green.strip()) if green else None
        if changed is None or name in checks_of(changed):
            found.append(name)
    return found


def passed(name: str, repository: Path = ROOT) -> None:
    """Remember that HEAD has passed a check."""
    subprocess.run(["git", "-C", str(repository), "update-ref", f"refs/green/{name}", "HEAD"], check=True)


def _changed(repository: Path, since: str) -> list[str] | None:
    """The paths in which HEAD differs from a commit; where a file was moved, both. None where git cannot say."""
    # With -z no path is put into quotes, as those beyond ASCII are.
    said = _git(repository, "diff", "--name-only", "--no-renames", "-z", since, "HEAD")
    return None if said is None else said.split("\0")[:-1]


def _git(repository: Path, *arguments: str) -> str | None:
    """What git says; None where it refuses."""
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments[1:] if name not in CHECKS]
    if unknown:
        print(f"checks: there is no check {unknown[0]}; there are: {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    match arguments:
        case ["needed", *names]:
            print(json.dumps(needed(names or CHECKS)))
        case ["passed", name]:
            passed(name)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
