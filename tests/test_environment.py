"""What processes of the platform get of the environment that it was started in."""

import os
from pathlib import Path

import pytest

from driftloop import environment, settings

OTHERS = {
    "WEB_CONCURRENCY": "2",
    "PORT": "80",
    "FORWARDED_ALLOW_IPS": "*",
    "UVICORN_ROOT_PATH": "/elsewhere",
    "GUNICORN_CMD_ARGS": "--bind=0.0.0.0:1",
    "MLFLOW_STATIC_PREFIX": "/mlflow",
    "MLFLOW_TRACKING_URI": "http://elsewhere",
    "MLFLOW_BACKEND_STORE_URI": "sqlite:////tmp/elsewhere.db",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere",
    "prometheus_multiproc_dir": "/nowhere",
    "PYTHONOPTIMIZE": "2",
    "PYTHONIOENCODING": "ascii",
    "KUBERNETES_SERVICE_HOST": "10.43.0.1",
    "GIT_DIR": "/elsewhere/.git",
    "http_proxy": "http://proxy:3128",
    "ALL_PROXY": "socks5://proxy:1080",
}
NEEDED = {
    "PATH": "/usr/bin",
    "HOME": "/home/user",
    "LANG": "C",
    "LC_ALL": "C",
    "TZ": "Europe/Berlin",
    "TMPDIR": "/scratch",
    "PYTHONPATH": "/src",
    "LD_LIBRARY_PATH": "/opt/lib",
    "SSL_CERT_FILE": "/certificates.pem",
    "REQUESTS_CA_BUNDLE": "/certificates.pem",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
    "CMAPSS_DIR": "/data",
    "DRIFTLOOP_MAX_BATCH": "8",
}


def test_variables_of_other_programs_are_not_passed_on_and_those_that_are_needed_are() -> None:
    found = environment.chosen(source={**OTHERS, **NEEDED})
    assert found.items() >= NEEDED.items()
    assert not found.keys() & OTHERS.keys()


def test_the_settings_of_a_process_come_before_the_environment_of_its_parent(tmp_path: Path) -> None:
    configured = settings.load(state_dir=tmp_path, server_url="http://127.0.0.1:1")
    found = environment.chosen(configured, {"DRIFTLOOP_SERVER_URL": "http://elsewhere"})
    assert found["DRIFTLOOP_SERVER_URL"] == "http://127.0.0.1:1"
    assert found["DRIFTLOOP_STATE_DIR"] == str(tmp_path)


@pytest.mark.parametrize(("archive", "expected"), [("", False), ("s3://bucket/runs", True)])
def test_a_proxy_is_for_processes_whose_archive_may_be_outside(archive: str, expected: bool) -> None:
    found = environment.chosen(settings.load(archive=archive), OTHERS)
    assert ("http_proxy" in found) is expected


def test_a_command_that_a_person_starts_forgets_what_its_libraries_would_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**OTHERS, "NO_PROXY": "", "no_proxy": ""}.items():
        monkeypatch.setenv(name, value)
    environment.forget_others()
    assert "127.0.0.1" in os.environ["no_proxy"]
    left = OTHERS.keys() & os.environ.keys()
    assert left == {"PORT", "PYTHONOPTIMIZE", "PYTHONIOENCODING", "KUBERNETES_SERVICE_HOST", "GIT_DIR"} | {
        "http_proxy",
        "ALL_PROXY",
    }


def test_no_proxy_is_asked_for_this_machine_nor_for_the_platform() -> None:
    found = environment.chosen(
        settings.load(archive="s3://bucket/runs", mlflow_url="http://mlflow.lan:5000"),
        {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "example.com, 127.0.0.1", "NO_PROXY": "example.org"},
    )
    assert found["no_proxy"] == found["NO_PROXY"] == "example.com,127.0.0.1,example.org,localhost,::1,mlflow.lan"


def test_without_a_proxy_nothing_is_said_about_proxies() -> None:
    found = {"PATH": "/bin"}
    environment.reach_directly(found, "http://mlflow.lan:5000")
    assert found == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9000", True),
        ("http://localhost:9000", True),
        ("http://[::ffff:127.0.0.1]:9000", True),
        ("http://192.0.2.1:9000", False),
        ("http://store.invalid", False),
        ("", False),
    ],
)
def test_a_store_on_this_machine_is_known_by_its_address(url: str, expected: bool) -> None:
    assert environment.is_here(url) is expected


def test_a_small_fleet_needs_as_few_new_units_in_the_processes_of_a_platform_as_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = "train = 4\nearly_stop = 0\ncalibrate = 2\ngate = 1\nlive = 2\n"
    (tmp_path / "fleet.toml").write_text(f'name = "pumps"\n[least]\n{least}[[sensors]]\nname = "pressure"\n')
    parent = settings.load(fleet=str(tmp_path / "fleet.toml"), state_dir=tmp_path)
    for name, value in environment.variables(parent).items():
        monkeypatch.setenv(name, value)
    assert settings.load().new_units == parent.new_units == 9
    monkeypatch.setenv("DRIFTLOOP_MIN_NEW_ENGINES", "12")
    assert settings.load().new_units == 12
    assert settings.load(fleet="cmapss", min_new_engines=None).new_units == 20
