"""What the rendered manifests promise, checked without a cluster: confinement, sizes, and who may speak to whom."""

import json
import re
from pathlib import Path

import pytest
from policies import End
from policies import flows as policies_let
from rendered import Manifest, environment, pods, skip_without_ansible

from driftloop.settings import Settings

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
# What the machine of 16 GB keeps for itself, Kubernetes and Kubeflow Pipelines.
MEMORY_REQUESTS, MEMORY_LIMITS = 9 * 2**29, 14 * 2**30
# Namespaces of what is off by default.
ADDITIONS = {"doors", "gitops", "logs"}
PULLED = {"grafana", "kube-state-metrics"}
SEES_THE_MACHINE = {"node-exporter", "vlagent"}
pytestmark = skip_without_ansible


def size(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


def test_every_pod_is_confined(manifests: list[Manifest]) -> None:
    for name, _, _, pod in pods(manifests):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        if name not in SEES_THE_MACHINE:
            assert not pod.get("hostNetwork"), name
            assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


def test_only_pods_with_an_account_of_their_own_hold_a_token(manifests: list[Manifest]) -> None:
    for name, _, _, pod in pods(manifests):
        assert pod["automountServiceAccountToken"] is ("serviceAccountName" in pod), name
    accounts = [each for each in manifests if each["kind"] == "ServiceAccount"]
    assert accounts
    for account in accounts:
        assert account["automountServiceAccountToken"] is False, account["metadata"]


def memory(name: str, pod: Manifest) -> tuple[int, int]:
    """Bytes that a pod requests and may use; refuses a container that does not say so, nor what it computes with."""
    requests = limits = 0
    for container in pod["containers"]:
        resources = container["resources"]
        assert resources["requests"]["cpu"], name
        requests += size(resources["requests"]["memory"])
        limits += size(resources["limits"]["memory"])
    return requests, limits


def test_every_container_says_what_it_needs_and_all_fit_the_machine(manifests: list[Manifest]) -> None:
    requests = limits = 0
    for name, namespace, _, pod in pods(manifests):
        asked, most = memory(name, pod)
        if namespace in ADDITIONS:
            continue  # off unless somebody wants it; the next test says what may be asked for then
        if name.startswith("driftloop-tuner"):
            continue  # a search is started by hand, where there is room for it
        if name.startswith("platform-backup"):
            continue  # a list ends at once; a backup has the room of those who rest meanwhile, as the next test shows
        times = 4 if name == "driftloop-server" else 1
        requests += times * asked
        limits += times * most
    for each in manifests:
        if each["kind"] in ("Prometheus", "Alertmanager"):
            requests += size(each["spec"]["resources"]["requests"]["memory"])
            limits += size(each["spec"]["resources"]["limits"]["memory"])
    assert requests < MEMORY_REQUESTS, f"{requests / 2**30:.2f} GiB are requested"
    assert limits < MEMORY_LIMITS, f"{limits / 2**30:.2f} GiB are allowed"


@pytest.mark.parametrize("addition", sorted(ADDITIONS))
def test_an_addition_asks_for_little(manifests: list[Manifest], addition: str) -> None:
    asked = [memory(name, pod) for name, namespace, _, pod in pods(manifests) if namespace == addition]
    assert 0 < sum(requests for requests, _ in asked) <= 2**29
    assert sum(limits for _, limits in asked) <= 2**30


def test_a_backup_has_the_room_of_those_who_rest_meanwhile(manifests: list[Manifest]) -> None:
    [config] = [json.loads(each["data"]["config.json"]) for each in manifests if "config.json" in each.get("data", {})]
    rest = {(namespace, name) for namespace, _, name in config["scaled"]}
    resting, backup = [], []
    for name, namespace, _, pod in pods(manifests):
        if (namespace, name) in rest:
            resting.append(memory(name, pod))
        elif name.startswith("platform-backup"):
            backup.append(memory(name, pod))
    assert len(resting) == len(rest)
    assert backup
    for asked, most in backup:
        assert asked <= sum(each for each, _ in resting)
        assert most <= sum(each for _, each in resting)


def test_images_are_pinned_by_their_content(manifests: list[Manifest]) -> None:
    for name, _, _, pod in pods(manifests):
        for container in pod["containers"]:
            if name in PULLED:
                assert re.search(r":v?\d[\d.]+@sha256:[0-9a-f]{64}$", container["image"]), name
                continue
            repository, _, tag = container["image"].rpartition(":")
            assert repository.startswith("localhost/driftloop/"), name
            assert len(tag) == 12, name
            assert container["imagePullPolicy"] == "IfNotPresent", name


def test_replicas_of_the_server_belong_to_the_autoscaler(manifests: list[Manifest]) -> None:
    [server] = [e for e in manifests if e["kind"] == "Deployment" and e["metadata"]["name"] == "driftloop-server"]
    assert "replicas" not in server["spec"]
    [scaler] = [e for e in manifests if e["kind"] == "HorizontalPodAutoscaler"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == "driftloop-server"
    assert scaler["spec"]["minReplicas"] >= 2


def test_the_retrainer_may_make_jobs_in_its_namespace_and_nothing_else(manifests: list[Manifest]) -> None:
    rules = [
        rule
        for each in manifests
        if each["kind"] in ("Role", "ClusterRole") and each["metadata"]["name"] == "driftloop-retrainer"
        for rule in each["rules"]
    ]
    assert {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]} == {
        ("jobs", "create"),
        ("jobs", "get"),
        ("jobs", "list"),
        ("jobs", "delete"),
        ("pods", "list"),
        ("pods/log", "get"),
    }
    [account] = [
        each for each in manifests if each["kind"] == "ServiceAccount" and "retrainer" in str(each["metadata"])
    ]
    assert account["metadata"]["namespace"] == "serving"


def test_the_pipelines_job_is_one_that_the_retrainer_can_use(manifests: list[Manifest], tmp_path: Path) -> None:
    backend_job = pytest.importorskip("driftloop.loop.jobs.kubernetes")
    [config] = [each for each in manifests if "job.yml" in each.get("data", {})]
    (tmp_path / "job.yml").write_text(config["data"]["job.yml"])
    job = backend_job.read_template(tmp_path / "job.yml")
    assert job["metadata"]["namespace"] == "serving"
    assert job["spec"]["backoffLimit"] == 0
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("localhost/driftloop/trainer:")
    assert container["command"] == ["python3", "-m", "driftloop.loop.jobs.driver", "/work"]
    told = environment(job["spec"]["template"]["spec"], manifests)
    assert told.keys() >= {
        "DRIFTLOOP_RETRAINER_URL",
        "DRIFTLOOP_MLFLOW_URL",
        "DRIFTLOOP_SERVER_URL",
        "DRIFTLOOP_ARCHIVE",
    }
    for each in told:
        if each.startswith("DRIFTLOOP_"):
            assert each.removeprefix("DRIFTLOOP_").lower() in {*Settings.model_fields, "model_name"}, each
    assert backend_job.limits_of(job) == (1800, 14400)


# --- Flows --------------------------------------------------------------------------------------------------------

NAMES = {
    "storage": ["minio", "minio-setup", "postgres", "postgres-databases", "postgres-backup"],
    "mlflow": ["mlflow"],
    "monitoring": ["prometheus", "alertmanager", "pushgateway", "prometheus-operator", "kube-state-metrics", "grafana"],
    "serving": [
        "driftloop-server",
        "driftloop-watch",
        "driftloop-retrainer",
        "drift-report",
        "baseline-mirror",
        "driftloop-pipeline",
        "driftloop-tuner",
        "driftloop-console",
        "driftloop-units",
        "platform-backup",
    ],
    "gitops": ["source-controller", "kustomize-controller"],
    "logs": ["victoria-logs", "vlagent", "vmalert"],
    "doors": ["doors"],
}
NAMESPACE = {name: namespace for namespace, names in NAMES.items() for name in names}
NEEDED = [
    ("minio-setup", "minio", 9000),
    ("postgres-databases", "postgres", 5432),
    ("postgres-backup", "postgres", 5432),
    ("postgres-backup", "minio", 9000),
    ("mlflow", "postgres", 5432),
    ("mlflow", "minio", 9000),
    ("driftloop-server", "mlflow", 5000),
    ("driftloop-watch", "mlflow", 5000),
    ("driftloop-watch", "prometheus", 9090),
    ("driftloop-watch", "alertmanager", 9093),
    ("driftloop-watch", "driftloop-retrainer", 8600),
    ("driftloop-retrainer", "mlflow", 5000),
    ("driftloop-retrainer", "minio", 9000),
    ("driftloop-retrainer", "driftloop-server", 8500),
    ("driftloop-retrainer", "driftloop-retrainer", 8600),
    ("driftloop-pipeline", "mlflow", 5000),
    ("driftloop-pipeline", "minio", 9000),
    ("driftloop-pipeline", "prometheus", 9090),
    ("driftloop-pipeline", "driftloop-retrainer", 8600),
    ("drift-report", "mlflow", 5000),
    ("drift-report", "minio", 9000),
    ("drift-report", "pushgateway", 9091),
    ("baseline-mirror", "mlflow", 5000),
    ("driftloop-tuner", "postgres", 5432),
    ("driftloop-tuner", "mlflow", 5000),
    ("driftloop-tuner", "minio", 9000),
    ("driftloop-console", "mlflow", 5000),
    ("driftloop-console", "driftloop-retrainer", 8600),
    ("driftloop-console", "driftloop-server", 8500),
    ("driftloop-console", "driftloop-units", 8700),
    ("driftloop-console", "driftloop-watch", 8700),
    ("driftloop-console", "prometheus", 9090),
    ("driftloop-units", "postgres", 5432),
    ("driftloop-units", "driftloop-server", 8500),
    ("driftloop-units", "driftloop-retrainer", 8600),
    ("driftloop-units", "mlflow", 5000),
    ("platform-backup", "postgres", 5432),
    ("platform-backup", "minio", 9000),
    ("platform-backup", "mlflow", 5000),
    ("alertmanager", "driftloop-retrainer", 8600),
    ("prometheus", "alertmanager", 9093),
    ("prometheus", "alertmanager", 8080),
    ("prometheus", "prometheus-operator", 8080),
    ("prometheus", "kube-state-metrics", 8080),
    ("prometheus", "kube-state-metrics", 8081),
    ("prometheus", "grafana", 3000),
    ("grafana", "prometheus", 9090),
    ("prometheus", "pushgateway", 9091),
    ("prometheus", "minio", 9000),
    ("prometheus", "driftloop-server", 8500),
    ("prometheus", "driftloop-watch", 8700),
    ("prometheus", "driftloop-retrainer", 8600),
    ("prometheus", "driftloop-units", 8700),
    ("vlagent", "victoria-logs", 9428),
    ("vmalert", "victoria-logs", 9428),
    ("vmalert", "alertmanager", 9093),
    ("prometheus", "victoria-logs", 9428),
    ("prometheus", "vlagent", 9429),
    ("prometheus", "vmalert", 8880),
    ("kustomize-controller", "source-controller", 9090),
    ("prometheus", "source-controller", 8080),
    ("prometheus", "kustomize-controller", 8080),
    ("doors", "driftloop-console", 8400),
    ("doors", "mlflow", 5000),
    ("doors", "prometheus", 9090),
    ("doors", "grafana", 3000),
    ("doors", "minio", 9001),
]
FORBIDDEN = [
    ("driftloop-tuner", "driftloop-retrainer", 8600),
    ("driftloop-server", "minio", 9000),
    ("driftloop-server", "postgres", 5432),
    ("driftloop-server", "driftloop-retrainer", 8600),
    ("driftloop-watch", "minio", 9000),
    ("driftloop-retrainer", "postgres", 5432),
    ("driftloop-pipeline", "postgres", 5432),
    ("driftloop-pipeline", "driftloop-server", 8500),
    ("driftloop-server", "driftloop-pipeline", 8500),
    ("driftloop-server", "driftloop-console", 8400),
    ("driftloop-console", "postgres", 5432),
    ("driftloop-console", "minio", 9000),
    ("driftloop-units", "minio", 9000),
    ("driftloop-units", "prometheus", 9090),
    ("platform-backup", "driftloop-retrainer", 8600),
    ("mlflow", "driftloop-retrainer", 8600),
    ("prometheus", "postgres", 5432),
    ("grafana", "alertmanager", 9093),
    ("grafana", "mlflow", 5000),
    ("kube-state-metrics", "grafana", 3000),
    ("pushgateway", "minio", 9000),
    ("minio", "mlflow", 5000),
    ("postgres", "minio", 9000),
    ("vlagent", "alertmanager", 9093),
    ("vmalert", "prometheus", 9090),
    ("vmalert", "driftloop-retrainer", 8600),
    ("victoria-logs", "vlagent", 9429),
    ("driftloop-server", "victoria-logs", 9428),
    ("driftloop-server", "vlagent", 9429),
    ("source-controller", "kustomize-controller", 8080),
    ("source-controller", "minio", 9000),
    ("kustomize-controller", "driftloop-retrainer", 8600),
    ("kustomize-controller", "mlflow", 5000),
    ("prometheus", "source-controller", 9090),
    ("driftloop-server", "source-controller", 9090),
    ("doors", "driftloop-retrainer", 8600),
    ("doors", "driftloop-server", 8500),
    ("doors", "minio", 9000),
    ("doors", "alertmanager", 9093),
    ("driftloop-watch", "driftloop-console", 8400),
    ("driftloop-server", "doors", 30840),
    ("prometheus", "driftloop-console", 8400),
]


def flows(policies: list[Manifest], client: str, server: str, port: int) -> bool:
    ends = [End(NAMESPACE[name], {"app.kubernetes.io/name": name}) for name in (client, server)]
    return policies_let(policies, *ends, port)


@pytest.fixture
def policies(manifests: list[Manifest]) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == "NetworkPolicy"]


def test_every_namespace_is_closed_but_for_names(policies: list[Manifest]) -> None:
    for namespace in NAMES:
        closing = [
            each["spec"] for each in policies if each["metadata"] == {"name": "default-deny", "namespace": namespace}
        ]
        assert closing[0] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize(("client", "server", "port"), NEEDED)
def test_a_flow_that_is_needed_is_open(policies: list[Manifest], client: str, server: str, port: int) -> None:
    assert flows(policies, client, server, port)


@pytest.mark.parametrize(("client", "server", "port"), FORBIDDEN)
def test_a_flow_that_nobody_needs_is_closed(policies: list[Manifest], client: str, server: str, port: int) -> None:
    assert not flows(policies, client, server, port)
