"""The functions behind the notebooks, on a small simulated fleet."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from driftloop import settings
from driftloop.errors import DriftloopError
from driftloop.fleet.roles import ROLES, with_role
from driftloop.fleets.cmapss.schema import RUL_CAP, SCHEMA
from driftloop.fleets.cmapss.source import Fleet, load_fleet
from driftloop.model import regimes
from driftloop.training.network import Architecture, Form, RulNetwork
from driftloop_bench.notebooks import drawing, fleets, preparation, workplace

Fleets = dict[str, Fleet]


@pytest.fixture(scope="module")
def data() -> Fleets:
    configured = settings.load(cmapss_dir=None, raw_dir=Path("no-data"), simulator_engines=40)
    return {subset: load_fleet(subset, configured) for subset in ("FD001", "FD002")}


def test_readings_are_normalised_as_in_the_exported_graph(data: Fleets) -> None:
    known = regimes.find(with_role(data["FD002"].train, "train"), SCHEMA)
    network = RulNetwork(Architecture(), known, Form.of(SCHEMA, RUL_CAP))
    run = data["FD002"].train[0]
    with torch.no_grad():
        shown, regime = network.normalise(torch.from_numpy(run.rows.astype(np.float32)))
        shown = shown * network.varies[regime]
    values, _ = preparation.normalise(run, known)
    assert np.abs(values - shown.numpy()).max() < 2e-3


def test_the_overview_counts_what_is_there(data: Fleets) -> None:
    table = fleets.overview(data)
    assert list(table.index) == ["FD001", "FD002"]
    assert table.loc["FD002", "training engines"] == 40
    assert table.loc["FD001", "longest life"] == max(len(run.rows) for run in data["FD001"].train)
    assert list(table["operating regimes"]) == [1, 6]
    assert set(table["data_source"]) == {"simulated"}


def test_roles_add_up_to_all_engines(data: Fleets) -> None:
    table = preparation.role_table(data)
    assert list(table.index) == list(ROLES)
    assert table["FD002"].sum() == 40


def test_correlations_have_the_sign_of_wear_and_no_figure_for_constants(data: Fleets) -> None:
    table = fleets.correlations(data)
    assert table.loc["sensor_11", "FD001"] < -0.5 < 0.5 < table.loc["sensor_12", "FD001"]
    assert np.isnan(table.loc["sensor_1", "FD001"])
    readings = np.concatenate([run.rows[:, 3 + 10] for run in with_role(data["FD001"].train, "train")])
    label = np.concatenate([np.minimum(run.rul, 125) for run in with_role(data["FD001"].train, "train")])
    assert table.loc["sensor_11", "FD001"] == pytest.approx(np.corrcoef(readings, label)[0, 1], abs=1e-3)


def test_wear_grows_from_nothing_to_nearly_all(data: Fleets) -> None:
    table = fleets.wear_by_horizon(data)
    assert (table.loc[10] > 60).all()
    assert (table.loc[200].abs() < 20).all()
    assert (table.loc[10] > table.loc[50]).all()
    assert (table.loc[50] > table.loc[125]).all()


def test_a_split_by_window_has_seen_every_engine_and_looks_better(data: Fleets) -> None:
    known = regimes.find(with_role(data["FD002"].train, "train"), SCHEMA)
    table = preparation.leakage(data["FD002"], known)
    leaky, honest = table.loc["split by window (wrong)"], table.loc["split by engine"]
    assert leaky["from engines that were seen"] == leaky["windows held back"]
    assert honest["from engines that were seen"] == 0
    assert leaky["RMSE (cycles)"] < honest["RMSE (cycles)"]


def test_a_figure_of_simulated_data_says_so() -> None:
    figure, _ = drawing.panels(data_source="simulated")
    assert figure.get_suptitle() == "SIMULATED DATA"
    assert drawing.panels()[0].get_suptitle() == ""


def test_work_is_done_in_the_folder_above_the_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    workplace.begin()
    assert Path.cwd() == tmp_path
    workplace.begin()
    assert Path.cwd() == tmp_path


def test_a_platform_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setitem(workplace.PORTS, "server_url", free.getsockname()[1])
        with pytest.raises(DriftloopError, match="no prediction server answers"):
            workplace.connect("127.0.0.1", settings.load(), "none")
