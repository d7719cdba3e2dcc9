"""Copies the production bundle's baseline to the ConfigMap `evidently-baseline` and to a folder; mirrors both.

Usage: mirror.py NAMESPACE FOLDER. Speaks to the Kubernetes API with the pod's own account.
"""

import base64
import gzip
import json
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from driftloop import durable, settings
from driftloop.model.bundle import BASELINE, digest
from driftloop.model.registry import Registry

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAME = "evidently-baseline"


def call(method: str, path: str, body: dict[str, object]) -> None:
    request = urllib.request.Request(
        f"https://kubernetes.default.svc{path}",
        method=method,
        data=json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": "application/json" if method == "POST" else "application/merge-patch+json",
        },
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=context, timeout=30):
        pass


def main(namespace: str, folder: str) -> None:
    configured = settings.load()
    registry = Registry(configured.mlflow_url, configured.model)
    version = registry.alias("production")
    if version is None:
        print("mirror: nothing is in production yet")
        return
    with tempfile.TemporaryDirectory() as temporary:
        fetched = registry.fetch(version, Path(temporary) / "bundle")
        content = (fetched / BASELINE).read_bytes()
        made = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": NAME,
                "labels": {"app.kubernetes.io/name": "baseline-mirror"},
                "annotations": {"driftloop/model-version": version, "driftloop/bundle-digest": digest(fetched)},
            },
            # Compressed: a ConfigMap may hold one mebibyte.
            "binaryData": {f"{BASELINE}.gz": base64.b64encode(gzip.compress(content, mtime=0)).decode()},
        }
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    try:
        call("PATCH", f"{path}/{NAME}", made)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        call("POST", path, made)
    durable.write_atomically(Path(folder) / BASELINE, content)
    print(f"ConfigMap {NAME} and {folder}: the baseline of version {version}, {len(content)} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
