"""What is committed: run once from top to bottom on NASA's data, small, without traces of a machine."""

from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

FOLDER = Path(__file__).parents[3] / "notebooks"
NAMES = ["01_eda_cmapss", "02_preprocessing", "03_baseline_lstm", "04_drift_simulation"]
Notebook = nbformat.NotebookNode


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_notebook_has_nothing_wrong(name: str, script: ModuleType) -> None:
    assert script.problems(FOLDER / f"{name}.ipynb") == []


def test_there_are_no_others(script: ModuleType) -> None:
    assert [path.stem for path in script.notebooks()] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_of_nasas_data(name: str, script: ModuleType) -> None:
    outputs = [output for cell in script.read(FOLDER / f"{name}.ipynb").cells for output in cell.get("outputs", [])]
    text = "\n".join(script._texts(outputs))
    assert "nasa" in text
    assert "SIMULATED" not in text
    assert any("image/png" in output.get("data", {}) for output in outputs)


def notebook(*outputs: Notebook, source: str = "1 + 1") -> Notebook:
    return new_notebook(cells=[new_code_cell(source, outputs=list(outputs), execution_count=1)])


def saved(script: ModuleType, made: Notebook, folder: Path) -> Path:
    path = folder / "01.ipynb"
    script.write(script.clean(made), path)
    return path


def test_cleaning_keeps_what_is_shown_and_drops_the_rest(script: ModuleType, tmp_path: Path) -> None:
    made = notebook(
        new_output("stream", name="stderr", text="Warning: noise"),
        new_output("stream", name="stdout", text="a\n"),
        new_output("stream", name="stdout", text="b\n"),
        new_output("execute_result", data={"text/plain": "2"}, metadata={"when": "now"}, execution_count=1),
    )
    made.cells[0].metadata = {"tags": ["parameters"], "execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}}
    made.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    path = saved(script, made, tmp_path)
    cleaned = script.read(path)
    assert cleaned.cells[0].metadata == {"tags": ["parameters"]}
    assert [output.get("text") for output in cleaned.cells[0].outputs] == ["a\nb\n", None]
    assert cleaned.cells[0].outputs[1].metadata == {}
    assert "3.11.7" not in path.read_text()
    assert script.problems(path) == []


@pytest.mark.parametrize(
    "text",
    [
        "written to /home/somebody/results",
        "data_source: /home/someone/cmapss",
        "File '/tmp/ipykernel_1/2.py'",
        "{'path': PosixPath('/root/notebook')}",
    ],
)
def test_a_path_of_a_machine_is_found(text: str, script: ModuleType, tmp_path: Path) -> None:
    path = saved(script, notebook(new_output("stream", name="stdout", text=text)), tmp_path)
    assert "names a path of a machine" in "; ".join(script.problems(path))


@pytest.mark.parametrize("text", ["http://127.0.0.1:8500/predict", "results in data/drift/tmp/x", "</div>"])
def test_an_address_or_a_relative_path_is_none(text: str, script: ModuleType, tmp_path: Path) -> None:
    path = saved(script, notebook(new_output("stream", name="stdout", text=text)), tmp_path)
    assert script.problems(path) == []


def changed(path: Path, script: ModuleType, **cell: Any) -> Path:
    found = script.read(path)
    found.cells[0].update(cell)
    script.write(found, path)
    return path


def test_code_that_was_changed_after_it_was_run_is_found(script: ModuleType, tmp_path: Path) -> None:
    path = saved(script, notebook(new_output("stream", name="stdout", text="2")), tmp_path)
    assert "code was changed after it was run" in script.problems(changed(path, script, source="2 + 2"))


def test_cells_out_of_order_errors_and_emptiness_are_found(script: ModuleType, tmp_path: Path) -> None:
    path = saved(script, notebook(new_output("stream", name="stdout", text="2")), tmp_path)
    assert "not run once from top to bottom" in script.problems(changed(path, script, execution_count=3))
    broken = notebook(new_output("error", ename="ValueError", evalue="", traceback=[]))
    assert "cell raised ValueError" in script.problems(saved(script, broken, tmp_path))
    assert "shows nothing" in script.problems(saved(script, notebook(), tmp_path))


def test_a_large_one_is_found(script: ModuleType, tmp_path: Path) -> None:
    made = notebook(new_output("display_data", data={"image/png": "A" * script.LARGEST}))
    assert any("more than" in problem for problem in script.problems(saved(script, made, tmp_path)))


def test_the_same_notebook_gives_the_same_bytes(script: ModuleType, tmp_path: Path) -> None:
    made = notebook(new_output("stream", name="stdout", text="2"))
    made.cells.append(new_markdown_cell("text"))
    before = saved(script, made, tmp_path).read_bytes()
    again = script.read(tmp_path / "01.ipynb")
    assert saved(script, again, tmp_path).read_bytes() == before


def test_a_parameter_that_does_not_exist_is_refused(script: ModuleType, tmp_path: Path) -> None:
    made = script.read(FOLDER / "03_baseline_lstm.ipynb")
    with pytest.raises(ValueError, match="colour"):
        script.execute(made, tmp_path, {"colour": "blue"})
