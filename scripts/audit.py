"""Looks for known holes, licences that bind us and secrets in what this repository holds and builds on.

    scripts/audit.py [--json] [PART...]     python, go, licences, secrets; all without PART

`python` asks PyPI's advisories about every lock (pip-audit), `go` asks Go's about what each image is built from
(govulncheck; GOVULNDB names another database). Both need the network; a part that could not look says so, since
"nothing found" would be no answer. Exit code 0: all parts looked and found nothing; 1: something was found; 3: nothing
was found, but a part could not look.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pins import LOCKS, ROOT, VENDOR, modules

TOOLS = ROOT / ".venv-audit" / "bin"
POLICY = ROOT / "scripts" / "licences.toml"
BASELINE = ROOT / ".secrets.baseline"
HASHES = re.compile(r"(\.lock|go\.sum|\.ipynb)$")
"""Files that are full of hashes, and hold nothing that a person wrote."""
FOUND, NOT_LOOKED = 1, 3


@dataclass
class Part:
    """What one part found, and what it could not look at."""

    name: str
    findings: list[str] = field(default_factory=list)
    not_looked: list[str] = field(default_factory=list)
    looked_at: int = 0


def _run(command: list[str], folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | environment
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=env)


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def python() -> Part:
    """Advisories about the packages of every lock. A package that PyPI does not answer for was not looked at."""
    part = Part("python")
    options = ["--no-deps", "--disable-pip", "--require-hashes", "--format", "json", "--progress-spinner", "off"]
    for lock in LOCKS:
        done = _run([str(TOOLS / "pip-audit"), "--requirement", lock, *options])
        try:
            told = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            part.not_looked.append(f"{lock}: {_last_line(done)}")
            continue
        skipped = [each["name"] for each in told if "skip_reason" in each]
        if skipped:
            part.not_looked.append(f"{lock}: no advisories about {len(skipped)} of {len(told)}, such as {skipped[0]}")
        part.looked_at += len(told) - len(skipped)
        for each in told:
            for hole in each.get("vulns", []):
                mended = ", ".join(hole["fix_versions"]) or "nothing yet"
                part.findings.append(f"{lock}: {each['name']} {each['version']}: {hole['id']}, mended in {mended}")
    return part


def go() -> Part:
    """Advisories about the modules and the compiler of every binary, where the binary calls what has the hole."""
    part = Part("go")
    tool = ROOT / "build" / "tools" / "govulncheck"
    made = _run(["go", "build", "-o", str(tool), "golang.org/x/vuln/cmd/govulncheck"], ROOT / "scripts" / "go")
    if made.returncode != 0:
        part.not_looked.append(f"govulncheck is not built: {_last_line(made)}")
        return part
    database = ["-db", os.environ["GOVULNDB"]] if os.environ.get("GOVULNDB") else []
    for module in modules(ROOT):
        where = str(module.parent.relative_to(ROOT))
        for tags, packages in _programs(module.parent).items():
            options = ["-format", "json", *database, *(["-tags", tags] if tags else [])]
            done = _run([str(tool), *options, *packages], module.parent)
            if done.returncode != 0:
                part.not_looked.append(f"{where}: {_last_line(done)}")
                continue
            part.looked_at += len(packages)
            part.findings += [f"{where}: {finding}" for finding in called(done.stdout)]
    return part


def _programs(folder: Path) -> dict[str, list[str]]:
    """The packages that an image's binaries are built from, by build tags; where nothing says so, the folder itself."""
    listed = folder / "go-build"
    found: dict[str, list[str]] = {}
    for line in listed.read_text().splitlines() if listed.exists() else []:
        _, package, *rest = line.split()
        found.setdefault(rest[0] if rest and rest[0] != "-" else "", []).append(package)
    if not found and list(folder.glob("*.go")):
        found[""] = ["."]
    return found


def called(stream: str) -> list[str]:
    """Of govulncheck's messages the holes that are reached by a call, each once."""
    decoder, rest, found = json.JSONDecoder(), stream.strip(), {}
    while rest:
        message, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()
        finding = message.get("finding")
        if finding and finding["trace"][0].get("function"):
            place = finding["trace"][0]
            mended = finding.get("fixed_version") or "nothing yet"
            found[finding["osv"], place["module"]] = (
                f"{finding['osv']} in {place['module']} {place.get('version', '')}, mended in {mended}"
            )
    return list(found.values())


def licences() -> Part:
    """Licences of the Python packages that are installed, of Go modules and of the pages' assets."""
    part = Part("licences")
    excused = tomllib.loads(POLICY.read_text())["excused"]
    found = {entry["package"]: entry["licence"] for entry in tomllib.loads((ROOT / VENDOR).read_text())["file"]}
    options = ["--python", str(ROOT / ".venv" / "bin" / "python"), "--format=json", "--from=mixed"]
    done = _run([str(TOOLS / "pip-licenses"), *options])
    if done.returncode == 0:
        found |= {each["Name"]: each["License"] for each in json.loads(done.stdout)}
    else:
        part.not_looked.append(f"Python: {_last_line(done)}")
    for module in modules(ROOT):
        packages = [package for several in _programs(module.parent).values() for package in several]
        if not packages:
            continue
        wanted = "{{with .Module}}{{if .Version}}{{.Path}}\t{{.Dir}}{{end}}{{end}}"
        done = _run(["go", "list", "-deps", "-f", wanted, *packages], module.parent)
        if done.returncode != 0:
            part.not_looked.append(f"{module.parent.relative_to(ROOT)}: {_last_line(done)}")
            continue
        for line in set(done.stdout.split("\n")) - {""}:
            name, folder = line.split("\t")
            found[name] = licence_of(Path(folder))
    part.looked_at = len(found)
    for name, licence in sorted(found.items()):
        if not is_free(licence) and name not in excused:
            part.findings.append(
                f"{name}: {' '.join(licence.split())[:80]}: allow it with a reason in {POLICY.name}, or replace it"
            )
    return part


PHRASES = {
    "GNU AFFERO GENERAL PUBLIC LICENSE": "AGPL-3.0",
    "GNU LESSER GENERAL PUBLIC LICENSE": "LGPL",
    "GNU GENERAL PUBLIC LICENSE": "GPL",
    "MOZILLA PUBLIC LICENSE": "MPL-2.0",
    "ECLIPSE PUBLIC LICENSE": "EPL",
    "APACHE LICENSE": "Apache-2.0",
    "PERMISSION IS HEREBY GRANTED, FREE OF CHARGE": "MIT",
    "PERMISSION TO USE, COPY, MODIFY, AND/OR DISTRIBUTE": "ISC",
    "PERMISSION TO USE, COPY, MODIFY, AND DISTRIBUTE": "ISC",
    "REDISTRIBUTION AND USE IN SOURCE AND BINARY FORMS": "BSD",
    "THIS IS FREE AND UNENCUMBERED SOFTWARE": "Unlicense",
    "CC0 1.0 UNIVERSAL": "CC0-1.0",
}
"""What a licence says in capitals, and its name; the first that fits."""


def licence_of(folder: Path) -> str:
    """The licence of a Go module, by its text."""
    for path in sorted(folder.glob("[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*")) + sorted(folder.glob("COPYING*")):
        if path.is_file():
            text = " ".join(path.read_text(errors="replace").upper().split())[:4000]
            for phrase, name in PHRASES.items():
                if phrase in text:
                    return name
    return "UNKNOWN"


def is_free(licence: str) -> bool:
    """Whether a licence lets us use and hand on the part without binding the rest; one of several is enough."""
    if re.search(r" or ", licence, re.IGNORECASE) and "GPL" in licence:
        return any(is_free(each) for each in re.split(r" or ", licence, flags=re.IGNORECASE))
    bound = re.search(r"(?<!L)GPL|GNU General|Affero|UNKNOWN|[Pp]roprietary|Commercial", licence)
    return bound is None


def secrets() -> Part:
    """Passwords, keys and tokens in the files of the repository that are not known to be none."""
    part = Part("secrets")
    files = [path for path in _run(["git", "ls-files"]).stdout.splitlines() if not HASHES.search(path)]
    done = _run([str(TOOLS / "detect-secrets-hook"), "--json", "--baseline", BASELINE.name, *files])
    if done.returncode not in (0, 1, 3):
        part.not_looked.append(_last_line(done))
        return part
    part.looked_at = len(files)
    if done.returncode == 1:
        for path, several in json.loads(done.stdout)["results"].items():
            part.findings += [f"{path}:{each['line_number']}: {each['type']}" for each in several]
    return part


PARTS: dict[str, Callable[[], Part]] = {"python": python, "go": go, "licences": licences, "secrets": secrets}


def exit_code(parts: list[Part]) -> int:
    """What the parts come to."""
    if any(part.findings for part in parts):
        return FOUND
    return NOT_LOOKED if any(part.not_looked for part in parts) else 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Known holes, licences that bind us, secrets.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    parts = [PARTS[name]() for name in options.parts or PARTS]
    if options.json:
        print(json.dumps([asdict(part) for part in parts], indent=1))
    else:
        for part in parts:
            print(f"{part.name}: looked at {part.looked_at}, {len(part.findings)} found")
            for line in part.findings:
                print(f"  {line}")
            for line in part.not_looked:
                print(f"  could not look: {line}")
    return exit_code(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
