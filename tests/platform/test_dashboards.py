"""Every figure that a dashboard shows or a rule judges exists, and every expression is one that Prometheus takes."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prometheus_client.registry import CollectorRegistry

from driftloop import fleets
from driftloop.drift import report
from driftloop.drift.exporter import Exporter
from driftloop.loop import waits
from driftloop.loop.api import metrics as loop_metrics
from driftloop.loop.state import State
from driftloop.serving.metrics import Metrics

REPOSITORY = Path(__file__).parents[2]
MONITORING = REPOSITORY / "files" / "monitoring"
PROMTOOL = shutil.which("promtool", path=f"{REPOSITORY / '.venv-ansible' / 'bin'}:{os.environ['PATH']}")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
SCRAPED = {
    "ALERTS", "up",
    # node exporter
    "node_cpu_seconds_total", "node_filesystem_avail_bytes", "node_filesystem_size_bytes",
    "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes", "node_time_seconds",
    # kubelet and its cAdvisor
    "container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "kubelet_volume_stats_capacity_bytes",
    "kubelet_volume_stats_used_bytes",
    # kube-state-metrics
    "kube_horizontalpodautoscaler_status_current_replicas", "kube_horizontalpodautoscaler_status_desired_replicas",
    "kube_job_status_failed", "kube_pod_container_status_restarts_total", "kube_pod_status_phase",
    "kube_pod_status_ready",
    # MinIO, Prometheus
    "minio_bucket_usage_total_bytes", "minio_cluster_drive_offline_total", "minio_cluster_health_status",
    # SeaweedFS
    "SeaweedFS_master_is_leader", "SeaweedFS_s3_bucket_size_bytes",
    "prometheus_tsdb_head_samples_appended_total",
}  # fmt: skip
"""What the exporters that are not ours are known to export, of what is used here."""
WORDS = {"and", "by", "bool", "group_left", "group_right", "ignoring", "offset", "on", "or", "unless", "without"}


def expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of every panel, annotation and rule."""
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]
        for annotation in board["annotations"]["list"]:
            yield f"{path.stem}: {annotation['name']}", annotation["expr"]
    for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield f"rules: {rule['alert']}", rule["expr"]


EXPRESSIONS = list(expressions())


def names_in(expression: str) -> set[str]:
    """The metrics of a PromQL expression: what is neither a label, a function, a string, a duration nor a word."""
    rest = re.sub(r'"[^"]*"', "", expression)
    rest = re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", rest)
    rest = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", rest)
    found = re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", rest)
    return set(found) - WORDS


def series_of(registry: CollectorRegistry) -> set[str]:
    return {
        f"{family.name}{suffix}"
        for family in registry.collect()
        for suffix in {
            "counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "summary": ["_sum", "_count"],
        }.get(family.type, [""])
    }  # fmt: skip


def exported(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every series that our own processes export, read from their registries."""
    server = CollectorRegistry()
    Metrics(fleets.load("cmapss"), server)
    figures = {"rmse_champion": 20.0, "rmse_challenger": 12.0, "difference": -8.0, "lower": -9.0, "upper": -7.0}
    events: dict[str, dict[str, Any]] = {
        "pipeline_started": {"seconds": 3.0},
        "gate_decided": {"figures": {"new": figures}},
    }
    worker = SimpleNamespace(
        store=SimpleNamespace(state=State(), last=0, counts=Counter(), newest=events.get),
        settings=SimpleNamespace(enable_retraining=True, promotion="automatic"),
        blocked=None,
        progress=None,
        clock=waits.now,
    )
    loop = CollectorRegistry()
    figure = SimpleNamespace(value=1.0, lower=0.0, upper=2.0)
    judged = SimpleNamespace(window=10, figures=dict.fromkeys(loop_metrics.FIGURES, figure))
    concept = SimpleNamespace(report=SimpleNamespace(model_version="1", verdict="stable", judgement=judged))
    loop.register(loop_metrics.Metrics(worker, SimpleNamespace(run_ids=list, roles_of=lambda _: {}), concept))  # type: ignore[arg-type]
    pushed: list[CollectorRegistry] = []
    monkeypatch.setattr(report, "push_to_gateway", lambda *_, registry, **__: pushed.append(registry))
    report.push({"model_version": "1", "psi": {"s1": 0.1}, "drifted": [], "rows": 1}, "http://nowhere")
    return set().union(*(series_of(each) for each in (server, Exporter().registry, loop, *pushed)))


def test_every_metric_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = exported(monkeypatch)
    assert {"driftloop_requests_total", "driftloop_drift_psi", "driftloop_loop_state", "driftloop_report_psi"} <= ours
    missing = {
        f"{where}: {name}"
        for where, expression in EXPRESSIONS
        for name in names_in(expression)
        if name not in (ours if name.startswith("driftloop_") else SCRAPED)
    }
    assert not missing


def test_every_metric_that_is_expected_of_others_is_used() -> None:
    used = set().union(*(names_in(expression) for _, expression in EXPRESSIONS))
    assert used >= SCRAPED


def test_names_are_read_from_expressions() -> None:
    expression = 'sum by (le) (rate(a_bucket{x=~"b|c"}[5m] offset 1h)) / on (d) group_left (e) f and g > 0.5'
    assert names_in(expression) == {"a_bucket", "f", "g"}


def promtool(*arguments: str) -> None:
    done = subprocess.run([str(PROMTOOL), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"expression:number_{i}", "expr": expression} for i, (_, expression) in enumerate(EXPRESSIONS)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", str(file))


@needs_promtool
def test_every_alert_fires_and_rests_as_the_rules_say() -> None:
    promtool("test", "rules", str(MONITORING / "rules_test.yml"))


def test_every_alert_has_a_rule_test() -> None:
    rules = yaml.safe_load((MONITORING / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
    expected = [each for test in tests for each in test["alert_rule_test"]]
    assert {each["alertname"] for each in expected if each["exp_alerts"]} == alerts


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_provisioned(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == path.stem
    assert board["panels"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells
        for part in (panel, *panel["targets"], *board["annotations"]["list"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "prometheus"}


@pytest.fixture(scope="module")
def grafana() -> Callable[[Path], str]:
    """What Grafana's schema has against a dashboard, in its own words; nothing where it takes it."""
    built = subprocess.run(
        [str(REPOSITORY / "scripts" / "go-tool.sh"), "./dashboards"], capture_output=True, text=True, check=False
    )
    if built.returncode == 3:
        pytest.skip("there is no Go compiler")
    assert built.returncode == 0, built.stderr

    def ask(path: Path) -> str:
        asked = subprocess.run([built.stdout.strip(), str(path)], capture_output=True, text=True, check=False)
        assert asked.returncode == bool(asked.stderr)
        return asked.stderr

    return ask


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_grafanas_schema_takes_a_dashboard(path: Path, grafana: Callable[[Path], str]) -> None:
    assert not grafana(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"colour": "red"}, "colour"),
        ({"title": 3}, "title"),
        ({"options": {"legend": {"place": "bottom"}}}, "place"),
        ({"targets": [{"datasource": {"type": "prometheus", "uid": "prometheus"}, "expr": 1, "refId": "A"}]}, "expr"),
        ({"type": "speedometer"}, 'type "speedometer", which is not checked'),
    ],
)
def test_grafanas_schema_refuses_what_it_does_not_know(
    wrong: dict[str, Any], said: str, grafana: Callable[[Path], str], tmp_path: Path
) -> None:
    board = json.loads(DASHBOARDS[0].read_text())
    panel = next(each for each in board["panels"] if each["type"] == "timeseries")
    panel |= wrong
    path = tmp_path / "board.json"
    path.write_text(json.dumps(board))
    assert said in grafana(path)


def test_what_is_asked_for_is_shown() -> None:
    everything = " ".join(expression for _, expression in EXPRESSIONS)
    assert [path.stem for path in DASHBOARDS] == [
        "driftloop-loop", "driftloop-model", "driftloop-platform", "driftloop-serving",
    ]  # fmt: skip
    for kind in ("alert_firing", "retraining_started", "promoted", "serving_confirmed", "recovery_verified"):
        assert kind in loop_metrics.KINDS
        assert f'kind="{kind}"' in everything
