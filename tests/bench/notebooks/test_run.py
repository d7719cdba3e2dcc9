"""Every notebook from its first cell to its last, with little to do; on NASA's data where CMAPSS_DIR names it."""

import os
from pathlib import Path
from types import ModuleType

import pytest

from driftloop.fleets.cmapss.files import SUBSETS
from live_platform import _quick_training
from ports import free_ports

from .test_committed import FOLDER, Notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PORTS = ("DRIFTLOOP_MLFLOW_URL", "DRIFTLOOP_SERVER_URL", "DRIFTLOOP_RETRAINER_URL", "DRIFTLOOP_UNITS_URL")
ON_NASAS_DATA = "CMAPSS_DIR" in os.environ


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `notebooks` to run in; trainings are of a small network, and a simulated fleet is small."""
    for name in [name for name in os.environ if name.startswith("DRIFTLOOP_")]:
        monkeypatch.delenv(name)
    for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("DRIFTLOOP_SIMULATOR_ENGINES", "60")
    monkeypatch.setenv("PYTHONPATH", str(_quick_training(tmp_path / "quick")))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


def shown(notebook: Notebook, script: ModuleType) -> str:
    """All text that a run notebook shows; fails where a cell that should show something is empty."""
    cleaned = script.clean(notebook)
    code = [cell for cell in cleaned.cells if cell.cell_type == "code"]
    silent = [cell.source for cell in code if not cell.outputs]
    # Parameters and the end show nothing.
    assert all("stop()" in source or " = " in source.splitlines()[0] for source in silent), silent
    text = "\n".join(script._texts([output for cell in code for output in cell.outputs]))
    assert ("nasa" in text) == ON_NASAS_DATA
    print(text)
    return text


def test_the_data(script: ModuleType, place: Path) -> None:
    notebook = script.read(FOLDER / "01_eda_cmapss.ipynb")
    script.execute(notebook, place)
    text = shown(notebook, script)
    assert all(subset in text for subset in SUBSETS)


def test_the_preparation(script: ModuleType, place: Path) -> None:
    notebook = script.read(FOLDER / "02_preprocessing.ipynb")
    script.execute(notebook, place)
    assert "split by engine" in shown(notebook, script)


def test_the_first_champion(script: ModuleType, place: Path) -> None:
    notebook = script.read(FOLDER / "03_baseline_lstm.ipynb")
    script.execute(notebook, place, {"trials": 2, "steps": 40})
    text = shown(notebook, script)
    assert "production" in text
    assert "agree" in text
    assert "NO" not in text.split("agree")[-1]


def test_the_recovery(script: ModuleType, place: Path) -> None:
    notebook = script.read(FOLDER / "04_drift_simulation.ipynb")
    script.execute(
        notebook,
        place,
        {"rate": 50.0, "healthy_s": 5.0, "answers": 500, "reference": False, "timeout_s": 1500.0},
    )
    text = shown(notebook, script)
    assert "decision: promoted" in text
    # Without a reference there is no T5; every other mark was reached.
    assert text.count("not reached: no reference model was trained") >= 1
    assert text.count("not reached") == text.count("not reached: no reference model was trained")
