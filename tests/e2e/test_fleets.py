"""Two fleets on one platform by the real commands: what happens to one is not seen by the other, and costs little."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from driftloop import durable, places, settings
from driftloop.embedded.guard import MARK
from driftloop.model.registry import Registry
from live_platform import Platform

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1200)]

ENGINES = 40
FURTHER_BYTES = 512 * 2**20
"""What a further fleet may cost."""
PUMPS = """
name = "pumps"
unit = "pump"
[[sensors]]
name = "pressure"
[[sensors]]
name = "flow"
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """C-MAPSS, which has a model, and pumps, which have none."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "pumps.toml").write_text(PUMPS)
    with Platform(folder / "state", engines=ENGINES, fleets=["cmapss", str(folder / "pumps.toml")]) as platform:
        simulated = folder / "simulated"
        assert platform.run("data", "simulate", "--out", str(simulated), "--engines", str(ENGINES)).returncode == 0
        file = str(simulated / "train_FD001.txt")
        assert platform.run("--fleet", "cmapss", "archive", "add", file).returncode == 0
        assert platform.run("train", "--promote", "--fleet", "cmapss").returncode == 0
        platform.wait(platform.served, "the model to be served")
        yield platform


def of(platform: Platform, name: str) -> settings.Settings:
    """The settings of one of its fleets."""
    base = settings.from_environment(state_dir=platform.state)
    known = places.read(platform.state)
    assert known is not None
    return settings.of_fleet(base, known, name)


def get(url: str) -> Any:
    """The JSON behind a URL."""
    return httpx.get(url, trust_env=False, timeout=10.0).raise_for_status().json()


def test_the_archive_of_one_is_not_the_others(platform: Platform) -> None:
    listed = {
        name: json.loads(platform.run("--fleet", name, "archive", "list", "--json").stdout)["count"]
        for name in ("cmapss", "pumps")
    }
    assert listed["cmapss"] > 0
    assert listed["pumps"] == 0


def test_versions_are_registered_under_the_model_of_their_fleet(platform: Platform) -> None:
    cmapss, pumps = of(platform, "cmapss"), of(platform, "pumps")
    assert cmapss.mlflow_url == pumps.mlflow_url
    with Registry(cmapss.mlflow_url, cmapss.model) as one, Registry(pumps.mlflow_url, pumps.model) as other:
        assert one.alias("production") is not None
        assert other.alias("production") is None
    assert get(f"{cmapss.server_url}/model")["stub"] is False
    assert get(f"{pumps.server_url}/model")["stub"] is True


def test_events_and_alerts_of_one_are_not_the_others(platform: Platform) -> None:
    cmapss, pumps = of(platform, "cmapss"), of(platform, "pumps")
    alert = {
        "version": "4",
        "alerts": [{"status": "firing", "labels": {"alertname": "DriftDetected", "model_version": "77"}}],
    }
    answer = httpx.post(
        f"{pumps.retrainer_url}/alerts",
        json=alert,
        headers={"Authorization": f"Bearer {pumps.token}"},
        trust_env=False,
        timeout=10.0,
    )
    assert answer.status_code < 500
    events = {one.fleet: json.dumps(get(f"{one.retrainer_url}/events")["events"]) for one in (cmapss, pumps)}
    assert "77" not in {event.get("model_version") for event in get(f"{cmapss.retrainer_url}/events")["events"]}
    assert "run_archived" in events[cmapss.fleet] or "archive" in events[cmapss.fleet]
    assert "archive" not in events[pumps.fleet]


def test_metrics_of_one_are_not_the_others(platform: Platform) -> None:
    body = {"windows": [{"unit": "1", "rows": [[0.0] * 24] * 30}]}
    cmapss, pumps = of(platform, "cmapss"), of(platform, "pumps")
    httpx.post(f"{cmapss.server_url}/predict", json=body, trust_env=False, timeout=10.0)
    for one, foreign in ((cmapss, "pumps"), (pumps, "cmapss")):
        text = httpx.get(f"{one.server_url}/metrics", trust_env=False, timeout=10.0).text
        assert foreign not in text


def test_a_command_asks_which_fleet_is_meant_and_status_shows_both(platform: Platform) -> None:
    refused = platform.run("events")
    assert refused.returncode == 2
    assert "several fleets share this platform: cmapss, pumps" in refused.stderr
    shown = json.loads(platform.run("status", "--json").stdout)
    assert shown["fleets"].keys() == {"cmapss", "pumps"}
    assert {part["state"] for part in shown["components"].values()} == {"ready"}


def test_a_further_fleet_costs_half_a_gibibyte_at_most(platform: Platform) -> None:
    platform.wait(lambda: len(_sizes(platform, "cmapss")) >= 4, "a pipeline driver that waits")
    sizes = _sizes(platform, "cmapss")
    print({name: f"{size / 2**20:.0f} MiB" for name, size in sizes.items()})
    assert sum(sizes.values()) <= FURTHER_BYTES


def _sizes(platform: Platform, name: str) -> dict[str, int]:
    """Proportional set size of every process of a fleet, in bytes, by its command."""
    folder = str(of(platform, name).state_dir.resolve())
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = dict(
                entry.split("=", 1) for entry in (process / "environ").read_bytes().decode().split("\0") if "=" in entry
            )
            if variables.get(MARK) != str(platform.state) or variables.get("DRIFTLOOP_STATE_DIR") != folder:
                continue
            lines = (process / "smaps_rollup").read_text().splitlines()
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        found[f"{process.name} {command}"] = kilobytes * 1024
    return found


def test_what_was_started_together_continues_together(platform: Platform) -> None:
    before = durable.read_json(platform.state / places.FILE)
    assert platform.interrupt() == 0
    platform.start()
    assert durable.read_json(platform.state / places.FILE) == before
    assert get(f"{of(platform, 'cmapss').server_url}/model")["stub"] is False
