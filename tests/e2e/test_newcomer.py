"""A newcomer's path by the real commands: a folder of files, a guessed and mended fleet file, a served model."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import messy_fleet
from live_platform import Platform

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]

FLEETS_DIR = os.environ.get("FLEETS_DIR")
NAMES = ("pressure", "rate", "Oltemperatur_degC", "Vibration", "Strom_A", "Leckage_ml_h")


class Newcomer:
    """Somebody in a folder of their own with a platform that is not up yet."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "fleet.toml"
        self.platform = Platform(folder / "state", engines=1, fleets=[str(self.file)])

    def types(self, *arguments: object) -> str:
        """What a command prints that must succeed."""
        done = self.platform.run(*map(str, arguments))
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def edits(self, *changes: tuple[str, str]) -> None:
        """Put another text in the place of each text of the fleet file, which must be there once."""
        text = self.file.read_text(encoding="utf-8")
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} in\n{text}"
            text = text.replace(old, new)
        self.file.write_text(text, encoding="utf-8")

    def asks(self, body: dict[str, Any]) -> httpx.Response:
        """POST /predict."""
        return httpx.post(self.platform.urls["server"] + "/predict", json=body, trust_env=False, timeout=20.0)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """Their platform ends with the test."""
    newcomer = Newcomer(tmp_path)
    try:
        yield newcomer
    finally:
        newcomer.platform.end()


def test_from_a_folder_of_spreadsheets_to_answers(newcomer: Newcomer) -> None:
    data = newcomer.folder / "Pressen Werk Süd"
    messy_fleet.write(data)

    said = newcomer.types("fleet", "init", data, "--to", newcomer.file)
    assert "24 presses: 24 failed, 0 taken out, lives of 45 to 83 steps; 0 settings, 6 sensors" in said
    assert f"driftloop fleet check --fleet {newcomer.file} '{data}'" in said

    newcomer.edits(
        ('unit = "presse"', 'unit = "press"'),
        ('step = "step"', 'step = "shift"'),
        ('cap = "auto"', "cap = 40"),
        (
            "settings = []",
            'settings = [{ name = "pressure", source = "Druck [bar]" }, { name = "rate", source = "Takt (1/min)" }]',
        ),
        ('  { name = "Druck_bar", source = "Druck [bar]", unit = "bar" },', ""),
        ('  { name = "Takt_1_min", source = "Takt (1/min)", unit = "1/min" },', ""),
    )
    assert "24 presses: 24 failed, 0 taken out, lives of 45 to 83 shifts; can be used." in newcomer.types(
        "fleet", "check", data, "--fleet", newcomer.file
    )

    served_after_training(newcomer, data, "presses")
    rows: list[dict[str, float | None]] = [
        dict(zip(NAMES, row, strict=True)) for row in messy_fleet.life(np.random.default_rng(5))[:30]
    ]
    whole = newcomer.asks({"unit_id": "press-001", "rows": rows})
    assert whole.status_code == 200, whole.text
    assert 0 <= whole.json()["lower"] <= whole.json()["rul"] <= whole.json()["upper"] <= 40
    assert whole.json()["flags"] == ["short_history"]
    arrays = newcomer.asks({"rows": [list(row.values()) for row in rows]}).json()
    assert arrays["rul"] == whole.json()["rul"]
    rows[-1]["Vibration"] = None
    assert set(newcomer.asks({"rows": rows}).json()["flags"]) == {"short_history", "held:Vibration"}
    refused = newcomer.asks({"rows": [[0.0] * 24]})
    assert refused.status_code == 422
    assert "has 24 values; a row has 6: pressure, rate, Oltemperatur_degC" in refused.text


@pytest.mark.skipif(not FLEETS_DIR, reason="FLEETS_DIR is not set: docs/your-fleet.md is not walked through")
def test_as_the_page_tells_it(newcomer: Newcomer) -> None:
    assert FLEETS_DIR is not None
    page = (Path(__file__).parents[2] / "docs" / "your-fleet.md").read_text(encoding="utf-8")
    data = newcomer.folder / "lfp-fastcharge"
    shutil.copytree(Path(FLEETS_DIR) / "lfp-fastcharge", data)

    told(page, newcomer.types("fleet", "init", data, "--to", newcomer.file), newcomer.folder)
    head = newcomer.file.read_text(encoding="utf-8").partition("settings = [")[0].partition("\n\n")[2]
    assert head.strip() in page
    newcomer.edits(
        ('unit = "unit"', 'unit = "cell"'),
        ('cap = "auto"', "cap = 125"),
        ('# [end]\n# sensor = "..."\n# below = 0.8\n', '[end]\nsensor = "discharge_ah"\nbelow = 0.88\n'),
    )
    said = newcomer.types("fleet", "check", "--fleet", newcomer.file, data)
    told(page, said.replace("cell b2c10", "unit b2c10").replace("else the cell", "else the unit"), newcomer.folder)

    served_after_training(newcomer, data, "cells")
    lines = (data / "runs.csv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")[2:]
    arrays = [[float(cell) for cell in line.split(",")[2:]] for line in lines[1:201]]
    objects = [dict(zip(names, row, strict=True)) for row in arrays]
    objects[-1] = {**objects[-1], "temp_max_c": None}  # type: ignore[dict-item]
    assert newcomer.asks({"rows": arrays}).json()["flags"] == ["short_history"]
    assert newcomer.asks({"rows": objects}).json()["flags"] == ["short_history", "held:temp_max_c"]
    assert newcomer.asks({"rows": [[0.0] * 24]}).text in page.splitlines()


def told(page: str, said: str, folder: Path) -> None:
    """Every line that a command printed must stand in the page."""
    shown = " ".join(page.split())
    for line in said.replace(f"{folder}/", "").splitlines():
        assert " ".join(line.split()) in shown


def served_after_training(newcomer: Newcomer, data: Path, units: str) -> None:
    """`up`, `archive add`, `train --promote`, and requests until `status` has a verdict about them."""
    platform = newcomer.platform
    platform.start()
    assert "0 were there already." in newcomer.types("archive", "add", data)
    assert " 0 runs archived" in " " + newcomer.types("archive", "add", data)
    said = newcomer.types("train", "--promote")
    assert f"{units} (full), early-stop RMSE" in said
    assert "version 1, in production" in said
    platform.wait(platform.served, "the model to be served")
    status = newcomer.types("status")
    assert "model 1 · loop idle" in status
    assert "None" not in status
    model = platform.get("server", "/model")
    assert model is not None
    shown = json.loads(newcomer.types("fleet", "show", "--fleet", newcomer.file, "--json"))
    assert model["fleet"]["name"] == shown["fleet"]
