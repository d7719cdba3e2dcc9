"""The platform on each object store: the same users with the same policies, the same flows, the same addresses."""

import json
import re
from pathlib import Path

import pytest
from rendered import Manifest, environment, pods, render, skip_without_ansible
from test_manifests import FORBIDDEN, NAMESPACE, NEEDED, flows

pytestmark = skip_without_ansible
SECRETS = '["seaweedfs", "external-store", "minio", "mlflow", "tuning", "kubeflow"]'
USERS = ["backup", "dvc", "kfp", "mlflow", "reports", "trainer"]


def on(folder: Path, store: str, **variables: str) -> list[Manifest]:
    extra = {"object_store": store, **variables}
    return render(folder, **extra, with_secrets=SECRETS)


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return on(tmp_path_factory.mktemp("minio"), "minio")


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    return on(tmp_path_factory.mktemp("seaweedfs"), "seaweedfs")


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    variables = {
        "object_store_endpoint": "https://s3.example.test:8443",
        "object_store_access_key": "theirs",
        "object_store_secret_key": "a-key-of-theirs",
    }
    return on(tmp_path_factory.mktemp("external"), "external", **variables)


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    [found] = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def desired(manifests: list[Manifest], store: str) -> Manifest:
    told: Manifest = json.loads(one(manifests, "ConfigMap", f"{store}-setup")["data"]["desired.json"])
    return told


def test_both_stores_have_the_same_buckets_users_and_policies(minio: list[Manifest], seaweedfs: list[Manifest]) -> None:
    by_job = desired(minio, "minio")
    by_file = json.loads(one(seaweedfs, "Secret", "seaweedfs-users")["stringData"]["users.json"])
    assert sorted(by_job["policies"]) == USERS
    assert by_job["users"] == {user: user for user in USERS}
    assert {each["name"]: json.loads(each["content"]) for each in by_file["policies"]} == by_job["policies"]
    identities = {each["name"]: each for each in by_file["identities"]}
    assert identities.pop("root")["actions"] == ["Admin"]
    assert {name: each["policyNames"] for name, each in identities.items()} == {user: [user] for user in USERS}
    keys = {each["credentials"][0]["accessKey"]: each["credentials"][0]["secretKey"] for each in identities.values()}
    assert keys == {user: f"made-up minio_{user}" for user in USERS}
    told = desired(seaweedfs, "seaweedfs")
    assert (told["users"], told["policies"]) == ({}, {})
    assert told["buckets"] == by_job["buckets"] == ["thesis-data", "thesis-mlflow", "thesis-models"]
    assert told["expiry"] == by_job["expiry"] == [{"bucket": "thesis-models", "prefix": "kfp/", "days": 30}]


def test_manifests_are_kept_in_a_bucket_of_their_own_that_flux_only_reads(
    minio: list[Manifest], tmp_path: Path
) -> None:
    """Where there is no Git server and no other store: the store has the bucket, and a key for each."""
    manifests = render(
        tmp_path,
        gitops_enabled=True,
        gitops_bucket={"name": "manifests", "endpoint": "", "region": "us-east-1"},
        with_secrets=["minio", "gitops"],
    )
    told, before = desired(manifests, "minio"), desired(minio, "minio")
    assert set(told["buckets"]) - set(before["buckets"]) == {"manifests"}
    assert {user: policy for user, policy in told["policies"].items() if user in before["policies"]} == before[
        "policies"
    ]
    allowed = {
        user: {act for each in told["policies"][user]["Statement"] for act in each["Action"]}
        for user in sorted(set(told["policies"]) - set(before["policies"]))
    }
    listing = {"s3:GetBucketLocation", "s3:ListBucketMultipartUploads", "s3:ListBucket"}
    assert allowed["flux"] == {*listing, "s3:GetObject"}
    assert {"s3:PutObject", "s3:PutBucketVersioning"} <= allowed["gitops"]
    touched = {"arn:aws:s3:::manifests", "arn:aws:s3:::manifests/*"}
    assert {
        place for user in allowed for each in told["policies"][user]["Statement"] for place in each["Resource"]
    } == touched
    assert one(manifests, "Secret", "reader")["stringData"] == {
        "accesskey": "flux",
        "secretkey": "made-up minio_flux",
    }
    assert one(manifests, "Secret", "writer")["stringData"]["AWS_ACCESS_KEY_ID"] == "gitops"
    for name in ("minio-gitops", "minio-flux"):
        assert one(manifests, "Secret", name)["metadata"]["labels"]["driftloop/addition"] == "gitops"
    source = one(manifests, "Bucket", "driftloop")["spec"]
    assert (source["bucketName"], source["endpoint"], source["insecure"]) == ("manifests", "minio.storage:9000", True)
    door = one(manifests, "NetworkPolicy", "minio")
    let_in = [
        peer["namespaceSelector"]["matchLabels"]
        for peer in door["spec"]["ingress"][0]["from"]
        if "namespaceSelector" in peer
    ]
    assert {"kubernetes.io/metadata.name": "gitops"} in let_in
    assert "gitops" not in json.dumps(one(minio, "NetworkPolicy", "minio"))


def test_a_policy_ends_at_its_prefix(minio: list[Manifest]) -> None:
    allowed = desired(minio, "minio")["policies"]["reports"]["Statement"]
    writes = [each["Resource"] for each in allowed if "s3:PutObject" in each["Action"]]
    reads = [each["Resource"] for each in allowed if each["Action"] == ["s3:GetObject"]]
    assert writes == [["arn:aws:s3:::thesis-data/reports/*"]]
    assert reads == [["arn:aws:s3:::thesis-models/archive/*"]]
    assert [each["Condition"] for each in allowed if "Condition" in each] == [
        {"StringLike": {"s3:prefix": ["", prefix, f"{prefix}/*"]}} for prefix in ("reports", "archive")
    ]


@pytest.mark.parametrize("store", ["minio", "seaweedfs"])
def test_the_keys_of_everybody_are_those_that_the_store_knows(request: pytest.FixtureRequest, store: str) -> None:
    manifests = request.getfixturevalue(store)
    assert one(manifests, "Secret", f"{store}-backup")["stringData"] == {
        "access-key": "backup",
        "secret-key": "made-up minio_backup",
    }
    assert one(manifests, "Secret", "mlflow")["stringData"]["secret-key"] == "made-up minio_mlflow"
    assert one(manifests, "Secret", "archive")["stringData"]["access-key"] == "trainer"
    assert one(manifests, "Secret", "mlpipeline-minio-artifact")["stringData"]["secretkey"] == "made-up minio_kfp"
    told = [environment(pod, manifests) for name, _, _, pod in pods(manifests) if name == "driftloop-retrainer"]
    assert told[0]["AWS_ENDPOINT_URL_S3"] == f"http://{store}.storage:9000"


def test_only_the_gateway_and_the_figures_of_seaweedfs_are_reached(seaweedfs: list[Manifest]) -> None:
    [[container]] = [pod["containers"] for name, _, _, pod in pods(seaweedfs) if name == "seaweedfs"]
    assert container["args"][1:5] == ["server", "-dir=/data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    assert "-s3.ip.bind=0.0.0.0" in container["args"]
    assert "-master.telemetry=false" in container["args"]
    assert {each["containerPort"] for each in container["ports"]} == {9000, 9327}


@pytest.mark.parametrize(
    ("client", "server", "port"), [each for each in NEEDED + FORBIDDEN if "minio" in "".join(map(str, each))]
)
def test_the_flows_of_seaweedfs_are_those_of_minio(
    seaweedfs: list[Manifest], monkeypatch: pytest.MonkeyPatch, client: str, server: str, port: int
) -> None:
    for name in ("seaweedfs", "seaweedfs-setup"):
        monkeypatch.setitem(NAMESPACE, name, "storage")
    policies = [each for each in seaweedfs if each["kind"] == "NetworkPolicy"]
    there = client.replace("minio", "seaweedfs"), server.replace("minio", "seaweedfs")
    needed = (client, server, port) in NEEDED
    if client == "prometheus":
        port = 9327
    # SeaweedFS has no pages of its own: nothing listens on 9001, and no door leads there.
    assert flows(policies, *there, port) is (needed and port != 9001)


def test_prometheus_asks_the_store_that_is_there(minio: list[Manifest], seaweedfs: list[Manifest]) -> None:
    assert [each["path"] for each in one(minio, "ServiceMonitor", "minio")["spec"]["endpoints"]] == [
        f"/minio/v2/metrics/{figures}" for figures in ("cluster", "node", "bucket", "resource")
    ]
    assert [each["port"] for each in one(seaweedfs, "ServiceMonitor", "seaweedfs")["spec"]["endpoints"]] == ["metrics"]


def test_of_an_external_store_nothing_runs_here(external: list[Manifest]) -> None:
    assert [name for name, *_ in pods(external) if re.match("minio|seaweedfs|external", name)] == []
    assert not [each for each in external if each["kind"] == "ServiceMonitor" and "minio" in str(each)]
    for user in ("root", *USERS):
        key = one(external, "Secret", f"external-{user}")["stringData"]
        assert key == {"access-key": "theirs", "secret-key": "a-key-of-theirs"}
    assert one(external, "Secret", "mlflow")["stringData"]["access-key"] == "theirs"
    told = [environment(pod, external) for name, _, _, pod in pods(external) if name == "driftloop-retrainer"]
    assert told[0]["AWS_ENDPOINT_URL_S3"] == "https://s3.example.test:8443"
    out = [each["spec"]["egress"] for each in external if each["metadata"]["name"] == "allow-object-store"]
    assert out
    assert all(each == [{"ports": [{"port": 8443}]}] for each in out)


def test_a_job_of_one_name_runs_one_pod(
    minio: list[Manifest], seaweedfs: list[Manifest], external: list[Manifest]
) -> None:
    """The pod of a Job that is there cannot be changed: with another store it must be another Job."""
    pod_of: dict[str, Manifest] = {}
    for manifests in (minio, seaweedfs, external):
        for job in (each for each in manifests if each["kind"] == "Job"):
            name = f"{job['metadata']['namespace']}/{job['metadata']['name']}"
            # A study is begun by a person, who deletes its Job to go on with other workers.
            if "tuner" not in name:
                assert pod_of.setdefault(name, job["spec"]["template"]) == job["spec"]["template"], name
    assert len([name for name in pod_of if "postgres-databases" in name]) == 3
