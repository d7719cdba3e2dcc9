"""Every setting reaches every pod that it matters to: each is set there, or left out for a reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from rendered import Manifest, environment, pods, render, skip_without_ansible

from driftloop import fleets
from driftloop.settings import Settings, variable

pytestmark = skip_without_ansible

OURS = {
    "driftloop-server", "driftloop-watch", "driftloop-retrainer", "driftloop-pipeline", "driftloop-tuner-rul",
    "driftloop-console", "driftloop-units", "drift-report", "baseline-mirror",
}  # fmt: skip

DEFAULT = {
    # Nothing that differs between platforms: how a process works, at the value that is right on any of them.
    "study_grace_s", "follow_interval_s", "max_batch", "max_cycles", "max_body_bytes", "inference_log_bytes",
    "inference_log_files", "watch_interval_s", "watch_window", "min_new_engines", "old_tolerance", "cool_down_s",
    "recovery_answers", "supersede_pause_s", "step_timeout_s", "keep_versions", "keep_events", "max_archive_bytes",
    # Programs and people come in through the console, which says who they are.
    "access_dir", "trusted_proxies", "proxy_user_header", "proxy_groups_header", "proxy_roles",
    "proxy_password_file", "session_idle_s", "session_longest_s", "tls_cert", "tls_key",
    "ring_units", "ring_rows", "ring_bytes", "first_aid", "approval_deadline_s", "after_deadline", "approve_first_aid",
    "shadow_answers", "shadow_s",
    # On a cluster Alertmanager tells people, or who wants it otherwise adds a Secret.
    "notify_file", "notify_cool_down_s", "docs_url",
    "units_lateness_s", "units_skew_s", "units_past_days", "units_jump_steps", "units_keep_days", "units_tail_bytes",
    "units_body_bytes",
    "units_stream_password_file",
    # The data of C-MAPSS, of which no pod reads more than what is archived.
    "cmapss_dir", "raw_dir", "cmapss_url", "simulator_seed", "simulator_engines",
}  # fmt: skip

NOT_ASKED = {
    "predict_openly": dict.fromkeys(OURS - {"driftloop-server"}, "only the server predicts"),
    "units_database": dict.fromkeys(OURS - {"driftloop-units"}, "only the service keeps rows"),
    "units_password_file": dict.fromkeys(OURS - {"driftloop-units"}, "only the service keeps rows"),
    "units_stream": dict.fromkeys(OURS - {"driftloop-units"}, "only the service takes rows"),
    "study_database": dict.fromkeys(OURS - {"driftloop-tuner-rul"}, "only workers of a study use it"),
    "token_file": {
        "drift-report": "changes nothing",
        "baseline-mirror": "changes nothing that asks for it",
        "driftloop-tuner-rul": "changes nothing",
    },
    "pipeline_backend": dict.fromkeys(OURS - {"driftloop-retrainer"}, "only the retrainer starts pipelines"),
    "pipeline_job": dict.fromkeys(OURS - {"driftloop-retrainer"}, "only the retrainer starts pipelines"),
}

FLEET = """
name = "pumps"
[[sensors]]
name = "pressure"
[[sensors]]
name = "flow"
"""


@pytest.fixture(scope="module")
def fleet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet that is not C-MAPSS."""
    path = tmp_path_factory.mktemp("fleet") / "fleet.toml"
    path.write_text(FLEET)
    return path


@pytest.fixture(scope="module")
def of_pumps(fleet_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Every object of a platform for that fleet, with its pipelines on Kubeflow."""
    return render(tmp_path_factory.mktemp("manifests"), fleet_file=str(fleet_file), pipeline_backend="kfp")


def ours(manifests: list[Manifest]) -> dict[str, tuple[Manifest, dict[str, Any]]]:
    """The pods that run driftloop, by name, and what each is told."""
    found = {}
    for name, _, _, pod in pods(manifests):
        told = environment(pod, manifests) if len(pod["containers"]) == 1 else {}
        if "DRIFTLOOP_MLFLOW_URL" in told:
            found[_name(name)] = pod, told
    assert found.keys() == OURS
    return found


def _name(name: str) -> str:
    return "baseline-mirror" if name.startswith("baseline-mirror") else name


def test_every_setting_is_set_for_a_pod_or_left_out_for_a_reason(of_pumps: list[Manifest]) -> None:
    for name, (_, told) in ours(of_pumps).items():
        for field in Settings.model_fields:
            is_set, reason = variable(field) in told, field in DEFAULT or name in NOT_ASKED.get(field, {})
            assert is_set is not reason, (
                f"{name}: {field} is {'set, and listed' if is_set else 'neither set nor listed'}"
            )


def test_no_pod_is_told_what_is_no_setting(of_pumps: list[Manifest]) -> None:
    known = {variable(field) for field in Settings.model_fields}
    for name, (_, told) in ours(of_pumps).items():
        assert {each for each in told if each.startswith(("DRIFTLOOP_", "CMAPSS", "ENABLE"))} <= known, name


@pytest.mark.parametrize("backend", ["job", "kfp"])
def test_what_all_pods_are_told_comes_from_one_place_and_is_the_same(tmp_path: Path, backend: str) -> None:
    manifests = render(tmp_path, pipeline_backend=backend)
    [shared] = _unique([each for each in manifests if each["metadata"]["name"].startswith("driftloop-settings-")])
    for name, (pod, told) in ours(manifests).items():
        [container] = pod["containers"]
        elsewhere = name == "driftloop-pipeline" and backend == "kfp"
        assert ("envFrom" not in container) is elsewhere, name
        assert told.items() >= shared["data"].items(), name
        if not elsewhere:
            assert not {each["name"] for each in container["env"]} & shared["data"].keys(), name


def test_every_pod_reads_the_same_fleet_and_follows_the_same_model(of_pumps: list[Manifest], fleet_file: Path) -> None:
    [config] = [
        each
        for each in _unique(of_pumps)
        if "fleet.toml" in each.get("data", {}) and each["metadata"]["namespace"] == "serving"
    ]
    assert config["data"]["fleet.toml"].strip() == FLEET.strip()
    for name, (pod, told) in ours(of_pumps).items():
        assert told["DRIFTLOOP_FLEET"] == "/fleet/fleet.toml", name
        assert told["DRIFTLOOP_MODEL_NAME"] == "rul-pumps", name
        assert {"name": "fleet", "mountPath": "/fleet", "readOnly": True} in pod["containers"][0]["volumeMounts"], name
        assert {"name": "fleet", "configMap": {"name": config["metadata"]["name"]}} in pod["volumes"], name
    assert Settings(fleet=str(fleet_file)).model == "rul-pumps"


def test_steps_on_kubeflow_find_the_fleet_in_their_namespace(of_pumps: list[Manifest]) -> None:
    found = [each for each in _unique(of_pumps) if "fleet.toml" in each.get("data", {})]
    assert {each["metadata"]["namespace"] for each in found} == {"serving", "kubeflow"}
    assert len({each["metadata"]["name"] for each in found}) == 1


def test_a_fleet_without_a_name_has_its_folders(tmp_path: Path) -> None:
    (tmp_path / "filters").mkdir()
    path = tmp_path / "filters" / "fleet.toml"
    path.write_text('[[sensors]]\nname = "pressure"\n')
    manifests = render(tmp_path, fleet_file=str(path))
    [config] = _unique([each for each in manifests if "fleet.toml" in each.get("data", {})])
    (tmp_path / "fleet.toml").write_text(config["data"]["fleet.toml"])
    assert fleets.load(tmp_path / "fleet.toml").name == fleets.load(path).name == "filters"
    assert ours(manifests)["driftloop-server"][1]["DRIFTLOOP_MODEL_NAME"] == "rul-filters"


def _unique(manifests: list[Manifest]) -> list[Manifest]:
    """Each object once: the parts of a namespace are rendered for every component in it."""
    return list({json.dumps(each, sort_keys=True): each for each in manifests}.values())
