"""Nothing from outside, from the registry or from the archive is unpickled, or else run as code.

Two ways of looking: at what the code calls, all of it, and at what becomes of files that would do harm if they were
unpickled.
"""

import ast
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import driftloop
from driftloop import durable, fleets
from driftloop.errors import DataError, DriftloopError
from driftloop.fleet import objects
from driftloop.fleet.runs import Run

SOURCES = [Path(driftloop.__file__).parent, Path(driftloop.__file__).parent.parent / "driftloop_bench"]
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
CALLS = {
    "torch.load", "torch.jit.load", "torch.package.PackageImporter", "pandas.read_pickle", "pd.read_pickle",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "compile", "__import__", "runpy.run_path",
    "mlflow.pyfunc.load_model", "mlflow.pytorch.load_model", "mlflow.sklearn.load_model", "mlflow.onnx.load_model",
}  # fmt: skip
ARGUMENTS = {("allow_pickle", True), ("weights_only", False)}


def dotted(node: ast.expr) -> str:
    """`torch.load` of the expression; empty of anything that is no name."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def findings(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of everything that unpickles or runs what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, name) for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS:
                yield node.lineno, name
            keywords = {(word.arg, word.value.value) for word in node.keywords if isinstance(word.value, ast.Constant)}
            yield from ((node.lineno, f"{name}({word}={value})") for word, value in keywords & ARGUMENTS)
            if name in ("np.load", "numpy.load") and ("allow_pickle", False) not in keywords:
                yield node.lineno, f"{name} without allow_pickle=False"


@pytest.mark.parametrize("folder", SOURCES, ids=lambda folder: folder.name)
def test_no_code_unpickles(folder: Path) -> None:
    files = sorted(folder.rglob("*.py"))
    assert len(files) > 30
    found = [f"{path}:{line}: {name}" for path in files for line, name in findings(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import torch\ntorch.load('x')", "np.load('x')", "eval('1')",
        "np.load('x', allow_pickle=True)", "torch.load(f, weights_only=False)", "pd.read_pickle('x')",
        "def f():\n    import cloudpickle as c", "yaml.load(text)",
    ],
)  # fmt: skip
def test_the_look_sees_what_it_looks_for(source: str) -> None:
    assert list(findings(source)) != []


class Harm:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def harmful(path: Path) -> bytes:
    """A NumPy file with an object in it that does harm when it is loaded."""
    content = io.BytesIO()
    np.save(content, np.array([[Harm(path)]], dtype=object), allow_pickle=True)
    return content.getvalue()


def test_the_files_would_do_harm(tmp_path: Path) -> None:
    np.load(io.BytesIO(harmful(tmp_path / "harm")), allow_pickle=True)
    assert (tmp_path / "harm").exists()


def test_an_archived_run_is_numbers_or_refused(tmp_path: Path) -> None:
    schema = fleets.load("cmapss")
    good = objects.encode(Run("e-1", np.zeros((5, schema.n_columns))), schema)
    label = good[good.rindex(b"\n", 0, -1) + 1 :]
    for content in (harmful(tmp_path / "harm"), harmful(tmp_path / "harm") + b"\n" + label):
        with pytest.raises(DataError):
            objects.decode("e-1", content, "e-1.npy", schema)
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_is_numbers_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights.npy", harmful(tmp_path / "harm"))
    with pytest.raises(DriftloopError):
        durable.read_arrays(path)
    assert not (tmp_path / "harm").exists()
