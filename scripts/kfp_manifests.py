#!/usr/bin/env python3
"""Turns KFP's own rendered manifests into the platform's: our object store instead of the one it brings along.

Usage: kfp_manifests.py RENDERED.yaml ENDPOINT BUCKET PREFIX > manifests.yaml      (ENDPOINT: HOST:PORT)
       kfp_manifests.py --images RENDERED.yaml

The object store must agree in three places: the API server's OBJECTSTORECONFIG_* variables, the ConfigMap kfp-launcher
and Argo's workflow-controller-configmap. A rendered file without one of them, with a part that the platform leaves
out (Istio, Dex, KServe, Katib), or with an image that has no tag is refused, so that a new version is looked at by a
person first. The key is the Secret mlpipeline-minio-artifact, which the playbook makes; none is in the output.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

NAMESPACE = "kubeflow"
KEY_SECRET = "mlpipeline-minio-artifact"
LEFT_OUT = ("istio.io", "dex.", "serving.kserve.io", "katib")
RUN_TIME_IMAGES = ("kfp-driver", "kfp-launcher", "argoexec")


class Refused(Exception):
    """A rendered file that this program does not understand."""


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


def _api_server(manifest: Manifest, host: str, port: str, bucket: str) -> None:
    wanted = {
        "OBJECTSTORECONFIG_HOST": host,
        "OBJECTSTORECONFIG_PORT": port,
        "OBJECTSTORECONFIG_SECURE": "false",
        "OBJECTSTORECONFIG_BUCKETNAME": bucket,
    }
    for container in containers(manifest):
        kept = [variable for variable in container.get("env", []) if variable["name"] not in wanted]
        container["env"] = kept + [{"name": name, "value": value} for name, value in wanted.items()]


def _launcher(manifest: Manifest, endpoint: str, bucket: str, prefix: str) -> None:
    key = {
        "fromEnv": False,
        "secretRef": {"secretName": KEY_SECRET, "accessKeyKey": "accesskey", "secretKeyKey": "secretkey"},
    }
    store = {
        "endpoint": endpoint,
        "disableSSL": True,
        "region": "us-east-1",
        "forcePathStyle": True,
        "credentials": key,
    }
    manifest["data"]["defaultPipelineRoot"] = f"s3://{bucket}/{prefix}/v2/artifacts"
    manifest["data"]["providers"] = yaml.safe_dump({"s3": {"default": store}}, sort_keys=True)


def _workflows(manifest: Manifest, endpoint: str, bucket: str, prefix: str) -> None:
    repository = yaml.safe_load(manifest["data"]["artifactRepository"])
    repository["s3"] |= {"endpoint": endpoint, "bucket": bucket, "insecure": True}
    for key in ("accessKeySecret", "secretKeySecret"):
        repository["s3"][key]["name"] = KEY_SECRET
    repository["s3"]["keyFormat"] = f"{prefix}/{repository['s3']['keyFormat']}"
    manifest["data"]["artifactRepository"] = yaml.safe_dump(repository, sort_keys=True)


def adapt(manifests: list[Manifest], endpoint: str, bucket: str, prefix: str) -> list[Manifest]:
    """The manifests without the store KFP brings along and with ours in all the places; refuses a missing place."""
    host, _, port = endpoint.partition(":")
    kept = [manifest for manifest in manifests if not is_their_store(manifest)]
    by_name = {name_of(manifest): manifest for manifest in kept}
    places = ("Deployment/ml-pipeline", "ConfigMap/kfp-launcher", "ConfigMap/workflow-controller-configmap")
    # Its own MySQL stays: on PostgreSQL it is not ready for production.
    for place in (*places, "ConfigMap/pipeline-install-config", "Deployment/mysql"):
        if place not in by_name:
            raise Refused(f"{place} is not in the rendered file")
    if len(kept) == len(manifests):
        raise Refused("the rendered file has no object store of its own to leave out: its names have changed")
    _api_server(by_name[places[0]], host, port, bucket)
    _launcher(by_name[places[1]], endpoint, bucket, prefix)
    _workflows(by_name[places[2]], endpoint, bucket, prefix)
    by_name["ConfigMap/pipeline-install-config"]["data"]["bucketName"] = bucket
    for manifest in kept:
        for container in containers(manifest):
            container["imagePullPolicy"] = "IfNotPresent"
    left = [name_of(manifest) for manifest in kept if "seaweedfs." in yaml.safe_dump(manifest)]
    if left:
        raise Refused(f"{', '.join(left)} still name the object store that was left out")
    return kept


def main(arguments: list[str]) -> None:
    try:
        if arguments[:1] == ["--images"] and len(arguments) == 2:
            print("\n".join(images(read(Path(arguments[1])))))
        elif len(arguments) == 4:
            path, endpoint, bucket, prefix = arguments
            manifests = read(Path(path))
            images(manifests)
            print(yaml.safe_dump_all(adapt(manifests, endpoint, bucket, prefix), sort_keys=False), end="")
        else:
            sys.exit(__doc__)
    except (OSError, yaml.YAMLError, KeyError, Refused) as error:
        sys.exit(f"kfp_manifests: {arguments[-1] if len(arguments) == 2 else arguments[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
