"""Run the notebooks from top to bottom on NASA's data and keep what they show, without traces of the machine.

make notebooks                              all of them, in order (several minutes)
python scripts/notebooks.py 01_eda_cmapss   some of them
python scripts/notebooks.py --check         only look at what is committed
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from driftloop import settings
from driftloop.durable import write_atomically
from driftloop.fleets.cmapss.source import locate

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
LARGEST = 500_000
LIMIT_S = 1800
DIGEST = "code_sha256"
_PATH = re.compile(r"(?<![\w.:/<])/(?:home|root|tmp|work|Users|private|var|opt|usr|mnt|srv|etc|proc)/[\w.]")


def notebooks() -> list[Path]:
    """All notebooks, in their order."""
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    """A notebook from its file."""
    return nbformat.read(path, as_version=4)


def execute(notebook: NotebookNode, folder: Path, parameters: Mapping[str, Any] | None = None) -> None:
    """Run all cells in a new kernel whose working directory is `folder`; raises the first cell's error.

    `parameters` are set at the end of the cell with the tag `parameters`, and must be assigned in it.
    """
    if parameters:
        cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        unknown = [name for name in parameters if not re.search(rf"^{name} = ", cell.source, re.MULTILINE)]
        if unknown:
            raise ValueError(f"{', '.join(unknown)} are no parameters of this notebook")
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=LIMIT_S, kernel_name="python3", resources=resources, record_timing=False).execute()


def clean(notebook: NotebookNode) -> NotebookNode:
    """The notebook as it is committed: what it shows, without times, warnings and metadata of the machine."""
    cleaned = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "driftloop": {DIGEST: code_digest(notebook)},
        }
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        kept = NotebookNode(cell | {"metadata": {"tags": tags} if tags else {}})
        if cell.cell_type == "code":
            kept.outputs = _cleaned_outputs(cell.outputs)
        cleaned.cells.append(kept)
    nbformat.validate(cleaned)
    return cleaned


def code_digest(notebook: NotebookNode) -> str:
    """SHA-256 over the code cells, kept beside the outputs that they gave."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def problems(path: Path) -> list[str]:
    """What is wrong with a committed notebook, each in a few words; nothing, where it is as `clean` leaves it."""
    notebook, found = read(path), []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    if path.stat().st_size > LARGEST:
        found.append(f"{path.stat().st_size} bytes, more than {LARGEST}")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("not run once from top to bottom")
    if notebook.metadata.get("driftloop", {}).get(DIGEST) != code_digest(notebook):
        found.append("code was changed after it was run")
    found += [f"cell raised {output.ename}" for output in outputs if output.output_type == "error"]
    if not outputs:
        found.append("shows nothing")
    if path.read_text(encoding="utf-8") != _text(clean(notebook)):
        found.append("not as scripts/notebooks.py leaves it")
    for text in _texts(outputs):
        named = [name for name in (str(ROOT), str(Path.home()), sys.prefix) if len(name) > 1 and name in text]
        named += [match.group() for match in _PATH.finditer(text)]
        found += [f"names a path of a machine: {name}" for name in named[:1]]
    return found


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a cleaned notebook, always in the same form."""
    write_atomically(path, _text(notebook).encode())


def main() -> int:
    """Run and write the named notebooks, then check all; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="names without .ipynb; by default all")
    parser.add_argument("--check", action="store_true", help="run nothing")
    asked = parser.parse_args()
    if not asked.check:
        if locate(settings.load(raw_dir=ROOT / "data/raw/cmapss")) is None:
            print("What is committed must come from NASA's data: set CMAPSS_DIR, or run `driftloop data pull`")
            return 2
        for path in notebooks():
            if not asked.names or path.stem in asked.names:
                print(f"{path.name}: running", flush=True)
                notebook = read(path)
                execute(notebook, FOLDER)
                write(clean(notebook), path)
    wrong = {path.name: problems(path) for path in notebooks()}
    for name, found in wrong.items():
        print(f"{name}: {'; '.join(found) or 'good'}")
    return int(any(wrong.values()))


def _cleaned_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            continue
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
            continue
        kept.append(NotebookNode(output | ({"metadata": {}} if "metadata" in output else {})))
    return kept


def _texts(outputs: list[NotebookNode]) -> list[str]:
    """Everything in the outputs that is read as text."""
    found = [output.text for output in outputs if output.output_type == "stream"]
    for output in outputs:
        found += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return found


def _text(notebook: NotebookNode) -> str:
    return str(nbformat.writes(notebook, indent=1, ensure_ascii=False)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
