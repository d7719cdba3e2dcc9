"""Compares what the pages took from others with what npm serves, byte for byte.

Downloads each package once with `npm pack`, from wherever npm's own configuration says.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "src" / "driftloop" / "console" / "assets" / "vendor"


def main() -> int:
    """Print what was compared; 1 where anything differs."""
    if shutil.which("npm") is None:
        print("vendor-check: npm is missing; install it (apt-get install npm)", file=sys.stderr)
        return 1
    entries = tomllib.loads((VENDOR / "vendor.toml").read_text(encoding="utf-8"))["file"]
    wrong = [f"{path.name}: is not listed in vendor.toml" for path in _unlisted(entries)]
    with tempfile.TemporaryDirectory() as folder:
        packages = {(each["package"], each["version"]) for each in entries}
        archives = {package: _download(*package, Path(folder)) for package in sorted(packages)}
        for entry in entries:
            found = _compare(entry, archives[entry["package"], entry["version"]])
            print(
                f"{entry['file']}: {entry['package']} {entry['version']} {entry['path']}: {found or 'the same bytes'}"
            )
            wrong += [f"{entry['file']}: {found}"] if found else []
    print(*wrong, sep="\n", file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


def _unlisted(entries: list[dict[str, str]]) -> list[Path]:
    listed = {"vendor.toml", *(each["file"] for each in entries)}
    return [path for path in sorted(VENDOR.iterdir()) if path.name not in listed]


def _download(package: str, version: str, folder: Path) -> Path:
    done = subprocess.run(
        ["npm", "pack", "--json", "--pack-destination", str(folder), f"{package}@{version}"],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return folder / str(json.loads(done.stdout)[0]["filename"])


def _compare(entry: dict[str, str], archive: Path) -> str:
    """What is wrong with a file; empty where nothing is."""
    path = VENDOR / entry["file"]
    if not path.is_file():
        return "is missing"
    own = path.read_bytes()
    if hashlib.sha256(own).hexdigest() != entry["sha256"]:
        return "has another SHA-256 than vendor.toml says"
    if not (VENDOR / entry["licence_file"]).is_file():
        return f"its licence {entry['licence_file']} is missing"
    with tarfile.open(archive) as packed:
        member = packed.extractfile(f"package/{entry['path']}")
        theirs = member.read() if member is not None else b""
    return "" if own == theirs else "differs from npm's"


if __name__ == "__main__":
    sys.exit(main())
