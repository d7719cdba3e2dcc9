from pathlib import Path

import pytest

from driftloop import settings
from driftloop.errors import DriftloopError
from driftloop.settings import Settings, load


def test_a_setting_is_the_variable_with_the_prefix(monkeypatch):
    monkeypatch.setenv("DRIFTLOOP_WATCH_WINDOW", "321")
    assert load().watch_window == 321


def test_an_empty_variable_counts_as_unset(monkeypatch):
    for name in ("DRIFTLOOP_STATE_DIR", "DRIFTLOOP_TOKEN_FILE", "DRIFTLOOP_WATCH_WINDOW", "CMAPSS_DIR"):
        monkeypatch.setenv(name, "")
    found = settings.from_environment()
    assert (found.state_dir, found.token_file, found.watch_window, found.cmapss_dir) == (Path("state"), None, 500, None)


def test_two_variables_have_no_prefix(monkeypatch, tmp_path):
    monkeypatch.setenv("CMAPSS_DIR", str(tmp_path))
    monkeypatch.setenv("ENABLE_RETRAINING", "false")
    settings = load()
    assert settings.cmapss_dir == tmp_path
    assert settings.enable_retraining is False


def test_a_bad_variable_is_named_with_its_value_and_the_rule(monkeypatch):
    monkeypatch.setenv("DRIFTLOOP_MAX_BATCH", "many")
    with pytest.raises(DriftloopError, match=r"DRIFTLOOP_MAX_BATCH = 'many'.*valid integer"):
        load()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("DRIFTLOOP_PROMOTON", "DRIFTLOOP_PROMOTION"),
        ("DRIFTLOOP_SESSION_IDLE", "DRIFTLOOP_SESSION_IDLE_S"),
        ("DRIFTLOOP_ENABLE_RETRAINING", "ENABLE_RETRAINING"),
        ("ENABLE_RETRAINNG", "ENABLE_RETRAINING"),
        ("driftloop_fleets", "DRIFTLOOP_FLEET"),
    ],
)
def test_a_variable_that_is_nearly_a_settings_is_told_of(given: str, meant: str) -> None:
    assert settings.misspelt([given, "PATH", "DRIFTLOOP_BUILD_CA"]) == {given: meant}


def test_no_setting_is_taken_for_a_misspelt_one() -> None:
    named = [settings.variable(name) for name in Settings.model_fields]
    assert settings.misspelt([*named, *map(str.lower, named)]) == {}


@pytest.mark.parametrize("token", ["", "short", "changeme-changeme-changeme"])
def test_a_placeholder_token_is_refused(tmp_path, token):
    path = tmp_path / "token"
    path.write_text(token)
    with pytest.raises(DriftloopError, match="placeholder or shorter than 16"):
        load(token_file=path)


def test_a_missing_token_file_is_an_error_when_the_token_is_needed(tmp_path):
    settings = load(token_file=tmp_path / "none")
    with pytest.raises(DriftloopError, match="token file cannot be read"):
        _ = settings.token


def test_the_token_of_a_platform_is_found_in_its_state_folder(tmp_path):
    assert load(state_dir=tmp_path).token == ""
    (tmp_path / "token").write_text("made-by-driftloop-up\n")
    assert load(state_dir=tmp_path).token == "made-by-driftloop-up"
    (tmp_path / "other").write_text("the-token-of-another")
    assert load(state_dir=tmp_path, token_file=tmp_path / "other").token == "the-token-of-another"


def test_the_archive_is_in_the_state_folder_unless_it_is_set(tmp_path):
    assert load(state_dir=tmp_path).archive_location == str(tmp_path / "archive")
    assert load(archive="s3://bucket/runs").archive_location == "s3://bucket/runs"


def test_every_setting_says_what_it_means():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_fleet_is_cmapss_and_its_model_rul_lstm_unless_they_are_set(monkeypatch):
    settings = load()
    assert (settings.fleet, settings.schema.name, settings.model) == ("cmapss", "cmapss", "rul-lstm")
    monkeypatch.setenv("DRIFTLOOP_MODEL_NAME", "another")
    assert load().model == "another"


def test_another_fleet_is_a_path_that_stays_right_in_another_folder_and_names_its_model(monkeypatch, tmp_path):
    (tmp_path / "fleet.toml").write_text('name = "pumps"\n[[sensors]]\nname = "pressure"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIFTLOOP_FLEET", "fleet.toml")
    settings = load()
    monkeypatch.chdir("/")
    assert settings.fleet == str(tmp_path / "fleet.toml")
    assert settings.schema.sensor_names == ("pressure",)
    assert settings.model == "rul-pumps"


def test_a_fleet_that_is_not_there_is_an_error_when_it_is_needed(monkeypatch, tmp_path):
    monkeypatch.setenv("DRIFTLOOP_FLEET", str(tmp_path / "none.toml"))
    with pytest.raises(DriftloopError, match=r"there is no fleet.*none\.toml.*driftloop fleet init"):
        _ = load().model


def test_a_token_that_is_no_text_is_refused_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_bytes(b"\xff\xfe" + b"x" * 30)
    with pytest.raises(DriftloopError, match="is not UTF-8 text"):
        settings.from_environment(token_file=token)
    monkeypatch.delenv("DRIFTLOOP_TOKEN_FILE", raising=False)
    with pytest.raises(DriftloopError, match="it is not UTF-8 text") as caught:
        _ = settings.from_environment(state_dir=tmp_path).token
    assert caught.value.where == str(token)
    with pytest.raises(DriftloopError, match="cannot be read"):
        _ = settings.from_environment(token_file=tmp_path).token
