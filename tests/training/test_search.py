"""The search space, the folds, and configurations as JSON."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest

from driftloop.errors import DataError
from driftloop.fleet import names
from driftloop.fleets.cmapss.schema import SCHEMA
from driftloop.training import configuration, search
from driftloop.training.train import TrainConfig
from made_up import fleet, tiny_config


def drawn(seed: int, steps: int | None = None) -> TrainConfig:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return search.suggest(study.ask(), TrainConfig(), seed=7, steps=steps)


def learning(per_role: int = 6) -> list:
    return [run for run in fleet(per_role=per_role) if run.role in ("train", "early_stop", "calibrate")]


def test_every_configuration_that_is_drawn_is_one_that_can_be_trained():
    for seed in range(200):
        config = drawn(seed)
        assert config.seed == 7
        assert config.architecture.oldest < config.architecture.window
    assert len({drawn(seed).architecture.window for seed in range(40)}) > 2
    assert drawn(1, steps=33).steps == 33


def test_in_each_fold_other_engines_stop_the_training_and_none_is_in_two():
    runs = learning()
    parts = search.folds(runs, 3)
    stopping = [{run.run_id for run in part if run.role == "early_stop"} for part in parts]
    engines = {run.run_id for run in runs if run.role != "calibrate"}
    assert set.union(*stopping) == engines
    assert sum(map(len, stopping)) == len(engines)
    for part in parts:
        assert {run.run_id for run in part} == {run.run_id for run in runs}
        assert {run.run_id for run in part if run.role == "calibrate"} == {
            run.run_id for run in runs if run.role == "calibrate"
        }
    assert [run.sha256 for run in sorted(parts[0], key=lambda r: r.run_id)] == [run.sha256 for run in runs]
    again = [{run.run_id for run in part if run.role == "early_stop"} for part in search.folds(runs, 3)]
    assert again == stopping


def test_all_lives_of_an_engine_are_in_one_fold():
    runs = [
        replace(run, run_id=names.run_id(f"e{at // 2}", at % 2 + 1), dealt=run.role)
        for at, run in enumerate(learning())
    ]
    for part in search.folds(runs, 2):
        roles = {names.unit_of(run.run_id): set() for run in part if run.role != "calibrate"}
        for run in part:
            if run.role != "calibrate":
                roles[names.unit_of(run.run_id)].add(run.role)
        assert all(len(found) == 1 for found in roles.values())
        assert {"train", "early_stop"} == set.union(*roles.values())


def test_one_fold_is_the_roles_as_they_are():
    runs = learning()
    (part,) = search.folds(runs, 1)
    assert [run.role for run in part] == [run.role for run in runs]


@pytest.mark.parametrize("role", ["gate", "live"])
def test_engines_that_judge_are_refused(role: str):
    with pytest.raises(ValueError, match="not for learning"):
        search.folds([run for run in fleet() if run.role in ("train", role)], 2)


def test_too_few_engines_for_the_folds_are_refused():
    with pytest.raises(DataError, match="too few for 9 folds"):
        search.folds(learning(per_role=4), 9)


def test_each_evaluation_is_reported_under_a_number_of_its_own():
    seen: list[tuple[int, float]] = []
    found = search.cross_validate(
        search.folds(learning(), 2), SCHEMA, tiny_config(steps=12), lambda number, error: seen.append((number, error))
    )
    assert [number for number, _ in seen] == [0, 1, 2, 3]  # two looks in each of two folds
    assert found == pytest.approx([min(seen[0][1], seen[1][1]), min(seen[2][1], seen[3][1])])


def test_a_configuration_survives_json(tmp_path: Path):
    config = drawn(3)
    (tmp_path / "c.json").write_text(json.dumps(configuration.as_json(config)))
    assert configuration.read(tmp_path / "c.json") == config
    (tmp_path / "part.json").write_text('{"lr": 0.5, "architecture": {"perceptron": 11}}')
    default = TrainConfig()
    assert configuration.read(tmp_path / "part.json") == replace(
        default, lr=0.5, architecture=replace(default.architecture, perceptron=11)
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"learning": 1}', "learning is not known"),
        ('{"architecture": {"width": 1}}', "architecture.width is not known"),
        ('{"architecture": {"window": 1}}', "window is 1, must be 2 or more"),
        ('{"batch": "many"}', "batch"),
        ("[]", "is not a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_bad_configuration_is_refused_with_the_field(tmp_path: Path, content: str, said: str):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(DataError, match=said):
        configuration.read(tmp_path / "c.json")


def test_a_models_configuration_is_read_off_its_metadata():
    config = tiny_config(seed=3)
    flat = asdict(config)
    assert configuration.of_model({**flat.pop("architecture"), **flat, "unheard_of": 1}) == config


def test_the_lstm_of_older_versions_is_followed_by_the_loops_own_network():
    older = {"window": 60, "kernel": 4, "hidden": 64, "perceptron": 0, "oldest": 0, "steps": 500, "lr": 0.004}
    assert configuration.of_model(older) == TrainConfig()
