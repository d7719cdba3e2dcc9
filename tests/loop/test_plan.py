from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from driftloop.errors import DataError
from driftloop.fleet import roles
from driftloop.fleet.runs import Run
from driftloop.fleet.schema import LEAST
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.loop import dataset
from driftloop.loop.judge import plan
from driftloop.model.bundle import ManifestEntry


def make_runs(name: str, count: int, setting: float = 0.0, cycles: int = 60) -> list[Run]:
    rng = np.random.default_rng(len(name) + count)
    runs = []
    for i in range(count):
        rows = rng.normal(500, 1, (cycles, 24))
        rows[:, :3] = [setting, 0.0, 100.0]
        rows[:, 3] = 518.67
        runs.append(Run(f"eng-{name}{i}", rows))
    return runs


def manifest_of(runs: list[Run], domain: int = 0) -> list[ManifestEntry]:
    return [ManifestEntry(run.run_id, run.sha256, run.role, domain, len(run.rows)) for run in runs]


def test_new_runs_become_the_next_domain_and_old_ones_keep_theirs():
    old, new = make_runs("a", 10), make_runs("b", 8)
    known = manifest_of(old[:5]) + manifest_of(old[5:], domain=1)
    made = plan.make([*new, *old], known, SCHEMA)
    assert [run.run_id for run in made.new] == sorted(run.run_id for run in new)
    assert {entry.domain for entry in made.manifest if entry.run_id.startswith("eng-b")} == {2}
    assert [entry for entry in made.manifest if entry.run_id.startswith("eng-a")] == sorted(
        known, key=lambda entry: entry.run_id
    )
    assert made.excluded == []
    assert made.missing == []


def test_new_runs_of_a_known_domain_are_old_ones_and_keep_it():
    old, new, failed_since = make_runs("a", 10), make_runs("b", 8), make_runs("c", 4)
    known = manifest_of(old[:5]) + manifest_of(old[5:], domain=1)
    domains = {run.run_id: 1 for run in failed_since}
    made = plan.make([*new, *old, *failed_since], known, SCHEMA, domains=domains)
    assert {run.run_id for run in made.new} == {run.run_id for run in new}
    assert {run.run_id for run in made.old} == {run.run_id for run in [*old, *failed_since]}
    assert {entry.domain for entry in made.manifest if entry.run_id in domains} == {1}
    assert {entry.domain for entry in made.manifest if entry.run_id.startswith("eng-b")} == {2}


def test_a_stuck_sensor_is_left_out_and_named():
    old, new = make_runs("a", 10), make_runs("b", 8)
    new[2].rows[:, 3 + 10] = new[2].rows[0, 3 + 10]
    made = plan.make([*new, *old], manifest_of(old), SCHEMA)
    assert made.excluded == [plan.StuckSensor("eng-b2", ["sensor_11"])]
    assert "eng-b2" not in [entry.run_id for entry in made.manifest]


def test_a_sensor_that_got_stuck_late_in_life_is_found():
    old, new = make_runs("a", 10), make_runs("b", 8)
    new[0].rows[-25:, 3 + 4] = 1.0
    assert [stuck.sensors for stuck in plan.stuck_sensors(new, old, SCHEMA)] == [["sensor_5"]]


def test_a_sensor_that_never_varies_is_no_fault():
    assert plan.stuck_sensors(make_runs("b", 8), make_runs("a", 10), SCHEMA) == []


def test_in_a_regime_that_no_old_run_knows_the_other_new_runs_are_the_measure():
    old, new = make_runs("a", 10), make_runs("b", 40, setting=35.0)
    new[7].rows[:, 3 + 3] = 7.0
    assert [stuck.run_id for stuck in plan.stuck_sensors(new, old, SCHEMA)] == ["eng-b7"]


def test_an_archive_that_changed_is_refused():
    old = make_runs("a", 10)
    known = manifest_of(old)
    old[3].rows[0, 0] = 1.0
    changed = [Run(run.run_id, run.rows) for run in old]
    with pytest.raises(DataError, match="eng-a3 and 0 others are not what the production model was trained on"):
        plan.make(changed, known, SCHEMA)


def test_runs_that_the_archive_lost_are_named():
    old = make_runs("a", 10)
    assert plan.make(old[1:], manifest_of(old), SCHEMA).missing == ["eng-a0"]


def test_too_few_new_engines_are_told_by_number():
    assert plan.lacking([f"eng-{i}" for i in range(200)], 20, SCHEMA.least) is None
    few = plan.lacking(["eng-1", "eng-2"], 20, SCHEMA.least)
    assert few is not None
    assert few.startswith("2 new completed runs, 20 are needed")


def test_enough_new_engines_whose_hash_gives_a_role_too_few_are_dealt():
    units = [f"cell-{i}" for i in range(11)]
    assert roles.lacking(map(roles.role_of, units), LEAST)
    assert plan.lacking(units, 11, LEAST) is None


def test_roles_that_are_fixed_stand_against_dealing():
    units = [f"cell-{i}" for i in range(11)]
    found = plan.lacking(units, 11, LEAST, dict.fromkeys(units, "train"))
    assert found == (
        "0 of them in role early_stop, 1 are needed; 0 of them in role calibrate, 2 are needed; "
        "0 of them in role gate, 3 are needed"
    )


def test_a_plan_written_is_the_plan_read(tmp_path):
    old, new = make_runs("a", 6), make_runs("b", 8)
    new[2].rows[:, 3 + 10] = 1.0
    made = plan.make([*new, *old], manifest_of(old), SCHEMA)
    dataset.write(made, tmp_path / "data")
    read = dataset.read(tmp_path / "data")
    assert read.manifest == made.manifest
    assert read.excluded == made.excluded
    assert [run.run_id for run in read.new] == [run.run_id for run in made.new]
    assert all((a.rows == b.rows).all() for a, b in zip(read.old, made.old, strict=True))


def test_a_damaged_data_set_is_refused(tmp_path):
    dataset.write(plan.make(make_runs("b", 8), [], SCHEMA), tmp_path)
    content = bytearray((tmp_path / "rows.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "rows.npz").write_bytes(content)
    with pytest.raises(DataError, match="the data of a retraining cannot be read"):
        dataset.read(tmp_path)


def test_after_a_concept_drift_only_the_changed_runs_are_learnt_from(tmp_path: Path):
    old, before, changed = make_runs("a", 10), make_runs("b", 8), make_runs("c", 9)
    names = {run.run_id for run in changed}
    made = plan.make([*old, *before, *changed], manifest_of(old), SCHEMA, changed=names)
    assert made.old == []
    assert {run.run_id for run in made.new} == names
    assert {entry.run_id for entry in made.manifest if not entry.superseded} == names
    assert len(made.manifest) == len(made.superseded) + len(names) == 27
    dataset.write(made, tmp_path)
    assert [run.run_id for run in dataset.read(tmp_path).superseded] == [run.run_id for run in made.superseded]
    assert dataset.read(tmp_path).manifest == made.manifest


def test_what_is_superseded_stays_so():
    old, changed, later = make_runs("a", 10), make_runs("c", 9), make_runs("d", 6)
    first = plan.make([*old, *changed], manifest_of(old), SCHEMA, changed={run.run_id for run in changed})
    made = plan.make([*old, *changed, *later], first.manifest, SCHEMA)
    assert {run.run_id for run in made.old} == {run.run_id for run in changed}
    assert {run.run_id for run in made.superseded} == {run.run_id for run in old}
    assert {run.run_id for run in made.new} == {run.run_id for run in later}


def test_withdrawn_runs_leave_the_plan_and_restored_labels_hold_again():
    old, wrong, later = make_runs("a", 10), make_runs("c", 9), make_runs("d", 6)
    first = plan.make([*old, *wrong], manifest_of(old), SCHEMA, changed={run.run_id for run in wrong})
    gone = {run.run_id for run in wrong}
    made = plan.make([*old, *later], first.manifest, SCHEMA, withdrawn=gone, restored={run.run_id for run in old})
    assert {run.run_id for run in made.old} == {run.run_id for run in old}
    assert {run.run_id for run in made.new} == {run.run_id for run in later}
    assert not gone & {entry.run_id for entry in made.manifest}
    assert (made.superseded, made.missing) == ([], [])


def test_censored_runs_tell_of_inputs_and_have_no_labels(tmp_path):
    old, new = make_runs("a", 10), make_runs("b", 8)
    new[3] = replace(new[3], censored=True)
    made = plan.make([*old, *new], manifest_of(old), SCHEMA)
    assert [run.run_id for run in made.superseded] == ["eng-b3"]
    assert "eng-b3" not in [run.run_id for run in made.new]
    later = plan.make([*old, *new], made.manifest, SCHEMA, restored=["eng-b3"])
    assert [entry.run_id for entry in later.manifest if entry.superseded] == ["eng-b3"]
    dataset.write(made, tmp_path)
    assert dataset.read(tmp_path).superseded[0].censored


def test_copies_in_an_archive_from_before_are_learnt_from_once():
    old, new = make_runs("a", 10), make_runs("b", 8)
    copies = [Run("eng-x", old[0].rows), Run("eng-y", new[0].rows)]
    made = plan.make([*old, *new, *copies], manifest_of(old), SCHEMA)
    assert {run.run_id for run in made.new} == {run.run_id for run in new}


def test_dealt_roles_are_in_the_plan_and_survive_the_data_set(tmp_path):
    old, new = make_runs("a", 10), make_runs("b", 8)
    dealt = {run.run_id: "gate" for run in new[:3]}
    made = plan.with_roles(plan.make([*old, *new], manifest_of(old), SCHEMA), dealt)
    dataset.write(made, tmp_path)
    for found in (made, dataset.read(tmp_path)):
        assert {run.run_id: run.role for run in found.new}.items() >= dealt.items()
        assert {entry.run_id: entry.role for entry in found.manifest}.items() >= dealt.items()


def test_a_sensor_is_stuck_by_units_where_each_has_settings_of_its_own():
    runs = [run for i in range(30) for run in make_runs(f"u{i}-", 1, setting=float(10 * i))]
    runs[4].rows[:, 3 + 6] = 7.0
    missing = runs[9].rows
    missing[:, 3 + 7] = np.nan
    own = msgspec.structs.replace(
        SCHEMA,
        name="own",
        padding="counted",
        settings=tuple(msgspec.structs.replace(setting, scale=300.0) for setting in SCHEMA.settings),
    )
    assert [stuck.run_id for stuck in plan.stuck_sensors(runs[:10], runs[10:], own)] == ["eng-u4-0"]
