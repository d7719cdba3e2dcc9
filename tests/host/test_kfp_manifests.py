"""scripts/kfp_manifests.py on a rendered file in small: what KFP's has that the platform changes, and nothing else."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

SCRIPT = Path(__file__).parents[2] / "scripts" / "kfp_manifests.py"

RENDERED = """
apiVersion: v1
kind: Namespace
metadata: {name: kubeflow}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: pipeline-install-config, namespace: kubeflow}
data: {bucketName: mlpipeline, dbHost: mysql}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kfp-launcher, namespace: kubeflow}
data: {defaultPipelineRoot: ""}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: workflow-controller-configmap, namespace: kubeflow}
data:
  artifactRepository: |
    archiveLogs: true
    s3:
      endpoint: "seaweedfs.kubeflow.svc:9000"
      bucket: "mlpipeline"
      keyFormat: "private-artifacts/{{workflow.name}}"
      insecure: true
      accessKeySecret: {name: mlpipeline-minio-artifact, key: accesskey}
      secretKeySecret: {name: mlpipeline-minio-artifact, key: secretkey}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ml-pipeline, namespace: kubeflow}
spec:
  template:
    spec:
      containers:
        - name: api
          image: ghcr.io/kubeflow/kfp-api-server:2.17.0
          env:
            - {name: OBJECTSTORECONFIG_HOST, value: seaweedfs.kubeflow}
            - {name: V2_DRIVER_IMAGE, value: "ghcr.io/kubeflow/kfp-driver:2.17.0"}
            - {name: DBCONFIG_USER, valueFrom: {secretKeyRef: {name: mysql-secret, key: username}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: mysql, namespace: kubeflow}
spec:
  template:
    spec:
      initContainers: [{name: wait, image: "docker.io/alpine:3.23"}]
      containers:
        - name: mysql
          image: mysql:8.4
          env: [{name: MYSQL_ALLOW_EMPTY_PASSWORD, value: "true"}]
---
apiVersion: v1
kind: Secret
metadata: {name: mysql-secret, namespace: kubeflow}
stringData: {username: root, password: ""}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ml-pipeline-ui, namespace: kubeflow}
spec:
  template:
    spec:
      containers:
        - name: ml-pipeline-ui
          image: ghcr.io/kubeflow/kfp-frontend:2.17.0
          env:
            - {name: MINIO_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
            - {name: MINIO_ACCESS_KEY, valueFrom: {secretKeyRef: {name: mlpipeline-minio-artifact, key: accesskey}}}
            - {name: ARGO_ARCHIVE_LOGS, value: "true"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: seaweedfs, namespace: kubeflow}
spec: {template: {spec: {containers: [{name: s3, image: "chrislusf/seaweedfs:4.34"}]}}}
---
apiVersion: v1
kind: Secret
metadata: {name: mlpipeline-minio-artifact, namespace: kubeflow}
stringData: {accesskey: minio, secretkey: minio123}
"""


@pytest.fixture(scope="module")
def kfp() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kfp_manifests", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rendered(tmp_path: Path, text: str = RENDERED) -> Path:
    path = tmp_path / "kfp.yaml"
    path.write_text(text)
    return path


def adapted(kfp: ModuleType, tmp_path: Path) -> dict[str, Any]:
    store = kfp.Store("minio.storage.svc", "9000", "thesis-models", "kfp")
    manifests = kfp.adapt(kfp.read(rendered(tmp_path)), store, 14400, 86400)
    return {kfp.name_of(manifest): manifest for manifest in manifests}


def test_the_store_it_brings_along_all_secrets_and_the_namespace_are_left_out(kfp: ModuleType, tmp_path: Path) -> None:
    assert sorted(adapted(kfp, tmp_path)) == [
        "ConfigMap/kfp-launcher",
        "ConfigMap/pipeline-install-config",
        "ConfigMap/workflow-controller-configmap",
        "Deployment/ml-pipeline",
        "Deployment/ml-pipeline-ui",
        "Deployment/mysql",
    ]


def test_our_store_stands_where_the_server_the_steps_and_argo_look(kfp: ModuleType, tmp_path: Path) -> None:
    by_name = adapted(kfp, tmp_path)
    (container,) = kfp.containers(by_name["Deployment/ml-pipeline"])
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert variables["OBJECTSTORECONFIG_HOST"] == "minio.storage.svc"
    assert variables["OBJECTSTORECONFIG_PORT"] == "9000"
    assert variables["OBJECTSTORECONFIG_BUCKETNAME"] == "thesis-models"
    assert len([variable for variable in container["env"] if variable["name"] == "OBJECTSTORECONFIG_HOST"]) == 1
    assert "DBCONFIG_USER" in variables
    launcher = by_name["ConfigMap/kfp-launcher"]["data"]
    assert launcher["defaultPipelineRoot"] == "s3://thesis-models/kfp/v2/artifacts"
    assert yaml.safe_load(launcher["providers"])["s3"]["default"]["endpoint"] == "minio.storage.svc:9000"
    workflows = yaml.safe_load(by_name["ConfigMap/workflow-controller-configmap"]["data"]["artifactRepository"])
    assert workflows["s3"]["endpoint"] == "minio.storage.svc:9000"
    assert workflows["s3"]["bucket"] == "thesis-models"
    assert workflows["s3"]["keyFormat"] == "kfp/private-artifacts/{{workflow.name}}"
    assert workflows["archiveLogs"] is True


def test_the_page_finds_artifacts_and_logs_where_argo_puts_them(kfp: ModuleType, tmp_path: Path) -> None:
    by_name = adapted(kfp, tmp_path)
    (page,) = kfp.containers(by_name["Deployment/ml-pipeline-ui"])
    variables = {variable["name"]: variable.get("value") for variable in page["env"]}
    workflows = yaml.safe_load(by_name["ConfigMap/workflow-controller-configmap"]["data"]["artifactRepository"])
    assert len(variables) == len(page["env"])
    assert (
        f"{variables['MINIO_HOST']}.{variables['MINIO_NAMESPACE']}:{variables['MINIO_PORT']}"
        == workflows["s3"]["endpoint"]
    )
    assert variables["ARGO_ARCHIVE_BUCKETNAME"] == workflows["s3"]["bucket"]
    assert variables["ARGO_KEYFORMAT"] == workflows["s3"]["keyFormat"]
    assert "MINIO_ACCESS_KEY" in variables


def test_no_workflow_runs_for_ever_or_is_kept_for_ever(kfp: ModuleType, tmp_path: Path) -> None:
    config = adapted(kfp, tmp_path)["ConfigMap/workflow-controller-configmap"]["data"]
    assert yaml.safe_load(config["workflowDefaults"]) == {
        "spec": {"activeDeadlineSeconds": 14400, "ttlStrategy": {"secondsAfterCompletion": 86400}}
    }


def test_mysql_lets_nobody_in_without_the_password_that_kfps_own_parts_read(kfp: ModuleType, tmp_path: Path) -> None:
    deployment = adapted(kfp, tmp_path)["Deployment/mysql"]
    *_, mysql = kfp.containers(deployment)
    assert mysql["env"] == [
        {"name": "MYSQL_ROOT_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "mysql-secret", "key": "password"}}}
    ]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("mysql:8.4", "docker.io/library/mysql:8.4"),
        ("docker.io/alpine:3.23", "docker.io/library/alpine:3.23"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("chrislusf/seaweedfs:4.34", "docker.io/chrislusf/seaweedfs:4.34"),
        ("ghcr.io/kubeflow/kfp-driver:2.17.0", "ghcr.io/kubeflow/kfp-driver:2.17.0"),
        ("localhost:5000/mysql:8.4", "localhost:5000/mysql:8.4"),
        ("localhost/driftloop/server:abc", "localhost/driftloop/server:abc"),
        ("registry.k8s.io/pause", "registry.k8s.io/pause:latest"),
        ("alpine:3.23@sha256:" + 64 * "a", "docker.io/library/alpine@sha256:" + 64 * "a"),
    ],
)
def test_images_are_packed_under_the_names_that_containerd_looks_for(kfp: ModuleType, image: str, name: str) -> None:
    assert kfp.known_as(image) == name
    assert kfp.known_as(name) == name


def test_the_list_of_images_holds_those_names(kfp: ModuleType, tmp_path: Path) -> None:
    assert kfp.image_names(kfp.read(rendered(tmp_path))) == [
        "docker.io/chrislusf/seaweedfs:4.34",
        "docker.io/library/alpine:3.23",
        "docker.io/library/mysql:8.4",
        "ghcr.io/kubeflow/kfp-api-server:2.17.0",
        "ghcr.io/kubeflow/kfp-driver:2.17.0",
        "ghcr.io/kubeflow/kfp-frontend:2.17.0",
    ]


def test_images_that_only_a_run_starts_are_listed(kfp: ModuleType, tmp_path: Path) -> None:
    assert kfp.images(kfp.read(rendered(tmp_path))) == [
        "chrislusf/seaweedfs:4.34",
        "docker.io/alpine:3.23",
        "ghcr.io/kubeflow/kfp-api-server:2.17.0",
        "ghcr.io/kubeflow/kfp-driver:2.17.0",
        "ghcr.io/kubeflow/kfp-frontend:2.17.0",
        "mysql:8.4",
    ]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("kfp-launcher", "launcher", "ConfigMap/kfp-launcher is not in the rendered file"),
        ("{name: mysql, namespace", "{name: postgres, namespace", "Deployment/mysql is not in the rendered file"),
        ("{name: ml-pipeline-ui", "{name: page", "Deployment/ml-pipeline-ui is not in the rendered file"),
        ("name: mysql-secret", "name: database", "nothing reads mysql-secret"),
        ("seaweedfs", "otherstore", "has no object store|names have changed|still name"),
        ("kfp-api-server:2.17.0", "kfp-api-server", "image without a tag"),
        ("apiVersion: apps/v1", "apiVersion: networking.istio.io/v1", "the platform leaves out"),
    ],
)
def test_a_rendered_file_that_is_not_understood_is_refused(
    kfp: ModuleType, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    text = RENDERED.replace(old, new)
    if old == "seaweedfs":
        text = text.replace("mlpipeline-minio-artifact, namespace", "other-key, namespace")
    path = rendered(tmp_path, text)
    with pytest.raises(SystemExit, match=reason):
        kfp.main([str(path), "minio.storage.svc:9000", "thesis-models", "kfp", "14400", "86400"])
