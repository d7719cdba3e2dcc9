import shutil
from pathlib import Path

import numpy as np
import pytest

from driftloop.errors import DataError
from driftloop.fleets.cmapss import files
from driftloop.fleets.cmapss.source import dvc_revision, engine_id, load_fleet, locate
from driftloop.settings import Settings, load


def test_without_files_the_fleet_is_simulated_and_says_so(bare: Settings) -> None:
    fleet = load_fleet("FD001", bare)
    assert fleet.data_source == "simulated"
    assert fleet.warning is not None
    assert fleet.warning.startswith("SIMULATED DATA")
    assert (len(fleet.train), len(fleet.test)) == (3, 3)


def test_a_named_folder_without_the_files_is_an_error_not_a_fallback(bare: Settings, tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        settings = bare.model_copy(update={"cmapss_dir": folder})
        with pytest.raises(DataError, match="CMAPSS_DIR="):
            load_fleet("FD001", settings)


def test_a_data_folder_that_lacks_files_is_an_error_that_names_them(bare: Settings, fleet_folder: Path) -> None:
    shutil.copytree(fleet_folder, bare.raw_dir)
    (bare.raw_dir / "test_FD003.txt").unlink()
    with pytest.raises(DataError, match=r"test_FD003\.txt not found"):
        load_fleet("FD001", bare)


def test_an_empty_data_folder_counts_as_none(bare: Settings) -> None:
    bare.raw_dir.mkdir(parents=True)
    assert locate(bare) is None


def test_files_in_the_data_folder_are_checked_before_they_are_used(bare: Settings, fleet_folder: Path) -> None:
    shutil.copytree(fleet_folder, bare.raw_dir)
    with pytest.raises(DataError, match="is not NASA's file"):
        load_fleet("FD001", bare)


def test_a_named_folder_comes_before_the_data_folder(bare: Settings, fleet_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(fleet_folder, bare.raw_dir)
    named = shutil.copytree(fleet_folder, tmp_path / "named")
    assert locate(bare) == bare.raw_dir
    assert locate(bare.model_copy(update={"cmapss_dir": named})) == named


def test_ids_are_opaque_and_all_different() -> None:
    ids = [engine_id(s, u, split) for s in files.SUBSETS for split in files.SPLITS for u in range(1, 261)]
    assert len(set(ids)) == len(ids)
    assert all(len(i) == 14 and i.startswith("eng-") and "FD" not in i for i in ids)


def test_train_engines_ran_to_failure_and_test_engines_did_not(bare: Settings) -> None:
    fleet = load_fleet("FD004", bare)
    assert all(run.remaining == 0 and run.rul[-1] == 0 for run in fleet.train)
    assert all(run.remaining > 0 and run.rul[-1] == run.remaining for run in fleet.test)


def test_the_committed_pointer_gives_the_dvc_revision() -> None:
    repository = Path(__file__).parents[2]
    settings = load(raw_dir=repository / "data" / "raw" / "cmapss")
    assert dvc_revision(settings) == "a48742bfe9d2c50ba7f486440adf9c10.dir"
    assert dvc_revision(load(raw_dir=repository / "nothing")) is None


def test_nasas_files_make_a_fleet(nasa: Path, bare: Settings) -> None:
    fleet = load_fleet("FD001", bare.model_copy(update={"cmapss_dir": nasa}))
    assert (fleet.data_source, fleet.warning) == ("nasa", None)
    assert (len(fleet.train), len(fleet.test)) == (100, 100)
    assert fleet.train[0].rows.dtype == np.float64
    assert fleet.test[0].remaining == 112
