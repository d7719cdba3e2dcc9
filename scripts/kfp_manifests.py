#!/usr/bin/env python3
"""Turns KFP's own rendered manifests into the platform's: our object store, a password for MySQL, limits for workflows.

Usage: kfp_manifests.py RENDERED.yaml ENDPOINT BUCKET PREFIX DEADLINE_S KEPT_S > manifests.yaml   (ENDPOINT: HOST:PORT)

The object store must agree in four places: the API server's OBJECTSTORECONFIG_* variables, the ConfigMap kfp-launcher,
Argo's workflow-controller-configmap and the variables of the page, ml-pipeline-ui. A rendered file without one of them,
with a part that the platform leaves out (Istio, Dex, KServe, Katib), or with an image that has no tag is refused, so
that a new version is looked at by a person first. The namespace, the store's key (the Secret mlpipeline-minio-artifact)
and MySQL's password (mysql-secret) are made by the playbook; none is in the output.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Manifest = dict[str, Any]

NAMESPACE = "kubeflow"
KEY_SECRET, MYSQL_SECRET = "mlpipeline-minio-artifact", "mysql-secret"
LEFT_OUT = ("istio.io", "dex.", "serving.kserve.io", "katib")
RUN_TIME_IMAGES = ("kfp-driver", "kfp-launcher", "argoexec")


class Refused(Exception):
    """A rendered file that this program does not understand."""


class Store(NamedTuple):
    """Where artifacts and logs are kept."""

    host: str
    port: str
    bucket: str
    prefix: str

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"


def read(path: Path) -> list[Manifest]:
    """The objects of a rendered file; refuses one that holds a part the platform leaves out."""
    manifests = [manifest for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8")) if manifest]
    for manifest in manifests:
        if any(part in manifest["apiVersion"] for part in LEFT_OUT):
            raise Refused(f"{name_of(manifest)} belongs to a part that the platform leaves out")
    return manifests


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def is_their_store(manifest: Manifest) -> bool:
    """Whether it is a part of the object store that KFP brings along, or its key."""
    name = manifest["metadata"]["name"]
    return "seaweedfs" in name or name in ("minio-service", "minio", "minio-pvc") or name == KEY_SECRET


def is_the_playbooks(manifest: Manifest) -> bool:
    """Whether the playbook makes it: the namespace with its labels, and what holds a password."""
    return name_of(manifest) in (f"Namespace/{NAMESPACE}", f"Secret/{MYSQL_SECRET}")


def known_as(image: str) -> str:
    """The name under which containerd looks for an image, by the rule of its CRI plugin.

    The first part is a registry only where it has a dot or a port or is localhost; Docker's own images stand below
    `library`; a digest makes the tag superfluous. An archive that names its image in another way is never found.
    """
    name, _, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", name
    if first in ("docker.io", "index.docker.io"):
        first, rest = "docker.io", rest if "/" in rest else f"library/{rest}"
    if digest:
        return f"{first}/{rest.partition(':')[0]}@{digest}"
    return f"{first}/{rest}" if ":" in rest else f"{first}/{rest}:latest"


def containers(manifest: Manifest) -> Iterator[Manifest]:
    """Every container of a workload, init containers included."""
    spec = manifest.get("spec", {})
    pod = spec.get("jobTemplate", {}).get("spec", spec).get("template", {}).get("spec", {})
    yield from pod.get("initContainers", [])
    yield from pod.get("containers", [])


def images(manifests: list[Manifest]) -> list[str]:
    """Every image that runs, also those that only a pipeline's run starts and that stand in variables and flags."""
    found = set()
    for manifest in manifests:
        for container in containers(manifest):
            found.add(container["image"])
            texts = [variable.get("value", "") for variable in container.get("env", [])] + container.get("args", [])
            for text in texts:
                for image in re.findall(r"[\w.-]+\.[\w.-]+/[\w./-]+:[\w.-]+", str(text)):
                    if any(name in image for name in RUN_TIME_IMAGES):
                        found.add(image)
    untagged = sorted(image for image in found if ":" not in image.rpartition("/")[2])
    if untagged:
        raise Refused(f"image without a tag: {', '.join(untagged)}")
    return sorted(found)


def image_names(manifests: list[Manifest]) -> list[str]:
    """The images that run, each once, by the names that containerd knows."""
    return sorted(set(map(known_as, images(manifests))))


def _set_variables(manifest: Manifest, variables: dict[str, str]) -> None:
    """Give every container these variables, in the place of those of the same name."""
    for container in containers(manifest):
        kept = [variable for variable in container.get("env", []) if variable["name"] not in variables]
        container["env"] = kept + [{"name": name, "value": value} for name, value in variables.items()]


def _api_server(manifest: Manifest, store: Store) -> None:
    _set_variables(
        manifest,
        {
            "OBJECTSTORECONFIG_HOST": store.host,
            "OBJECTSTORECONFIG_PORT": store.port,
            "OBJECTSTORECONFIG_SECURE": "false",
            "OBJECTSTORECONFIG_BUCKETNAME": store.bucket,
        },
    )


def _launcher(manifest: Manifest, store: Store) -> None:
    key = {
        "fromEnv": False,
        "secretRef": {"secretName": KEY_SECRET, "accessKeyKey": "accesskey", "secretKeyKey": "secretkey"},
    }
    place = {
        "endpoint": store.endpoint,
        "disableSSL": True,
        "region": "us-east-1",
        "forcePathStyle": True,
        "credentials": key,
    }
    manifest["data"]["defaultPipelineRoot"] = f"s3://{store.bucket}/{store.prefix}/v2/artifacts"
    manifest["data"]["providers"] = yaml.safe_dump({"s3": {"default": place}}, sort_keys=True)


def _workflows(manifest: Manifest, store: Store, deadline_s: int, kept_s: int) -> str:
    """Our store for artifacts and logs, and limits that no pipeline sets itself; returns the format of a log's key."""
    repository = yaml.safe_load(manifest["data"]["artifactRepository"])
    repository["s3"] |= {"endpoint": store.endpoint, "bucket": store.bucket, "insecure": True}
    for key in ("accessKeySecret", "secretKeySecret"):
        repository["s3"][key]["name"] = KEY_SECRET
    key_format: str = f"{store.prefix}/{repository['s3']['keyFormat']}"
    repository["s3"]["keyFormat"] = key_format
    manifest["data"]["artifactRepository"] = yaml.safe_dump(repository, sort_keys=True)
    limits = {"activeDeadlineSeconds": deadline_s, "ttlStrategy": {"secondsAfterCompletion": kept_s}}
    manifest["data"]["workflowDefaults"] = yaml.safe_dump({"spec": limits}, sort_keys=True)
    return key_format


def _page(manifest: Manifest, store: Store, key_format: str) -> None:
    """The page looks up artifacts and archived logs by itself; it joins host and namespace with a dot."""
    host, _, namespace = store.host.partition(".")
    _set_variables(
        manifest,
        {
            "MINIO_HOST": host,
            "MINIO_NAMESPACE": namespace,
            "MINIO_PORT": store.port,
            "MINIO_SSL": "false",
            "ARGO_ARCHIVE_LOGS": "true",
            "ARGO_ARCHIVE_ARTIFACTORY": "minio",
            "ARGO_ARCHIVE_BUCKETNAME": store.bucket,
            "ARGO_KEYFORMAT": key_format,
        },
    )


def _mysql(manifest: Manifest) -> None:
    """Root gets the password that KFP's own parts read from the same Secret."""
    for container in containers(manifest):
        kept = [each for each in container.get("env", []) if each["name"] != "MYSQL_ALLOW_EMPTY_PASSWORD"]
        password = {"secretKeyRef": {"name": MYSQL_SECRET, "key": "password"}}
        container["env"] = [*kept, {"name": "MYSQL_ROOT_PASSWORD", "valueFrom": password}]


def adapt(manifests: list[Manifest], store: Store, deadline_s: int, kept_s: int) -> list[Manifest]:
    """The manifests without the store KFP brings along and with ours in all the places; refuses a missing place."""
    kept = [manifest for manifest in manifests if not is_their_store(manifest)]
    if len(kept) == len(manifests):
        raise Refused("the rendered file has no object store of its own to leave out: its names have changed")
    kept = [manifest for manifest in kept if not is_the_playbooks(manifest)]
    by_name = {name_of(manifest): manifest for manifest in kept}

    def place(name: str) -> Manifest:
        if name not in by_name:
            raise Refused(f"{name} is not in the rendered file")
        return by_name[name]

    _api_server(place("Deployment/ml-pipeline"), store)
    _launcher(place("ConfigMap/kfp-launcher"), store)
    key_format = _workflows(place("ConfigMap/workflow-controller-configmap"), store, deadline_s, kept_s)
    _page(place("Deployment/ml-pipeline-ui"), store, key_format)
    place("ConfigMap/pipeline-install-config")["data"]["bucketName"] = store.bucket
    # Its own MySQL stays: on PostgreSQL it is not ready for production.
    _mysql(place("Deployment/mysql"))
    if not any(
        MYSQL_SECRET in yaml.safe_dump(manifest) for manifest in kept if name_of(manifest) != "Deployment/mysql"
    ):
        raise Refused(f"nothing reads {MYSQL_SECRET}, which holds MySQL's password: its name has changed")
    for manifest in kept:
        for container in containers(manifest):
            container["imagePullPolicy"] = "IfNotPresent"
    left = [name_of(manifest) for manifest in kept if "seaweedfs." in yaml.safe_dump(manifest)]
    if left:
        raise Refused(f"{', '.join(left)} still name the object store that was left out")
    return kept


def main(arguments: list[str]) -> None:
    try:
        if len(arguments) == 6 and all(map(str.isdecimal, arguments[4:])):
            path, endpoint, bucket, prefix = arguments[:4]
            host, _, port = endpoint.partition(":")
            manifests = read(Path(path))
            images(manifests)
            adapted = adapt(manifests, Store(host, port, bucket, prefix), *map(int, arguments[4:]))
            print(yaml.safe_dump_all(adapted, sort_keys=False), end="")
        else:
            sys.exit(__doc__)
    except (OSError, yaml.YAMLError, KeyError, Refused) as error:
        sys.exit(f"kfp_manifests: {arguments[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
