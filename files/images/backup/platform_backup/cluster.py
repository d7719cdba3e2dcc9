"""The platform's objects on Kubernetes: who writes is put to rest and woken again."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platform_backup.manifest import Refused

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REST_S = 180.0


class Cluster:
    """The API, as this pod's account may use it."""

    def __init__(self, url: str = "https://kubernetes.default.svc", account: Path = ACCOUNT) -> None:
        self._url, self._account = url, account

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The API's answer; Refused where there is none."""
        request = urllib.request.Request(f"{self._url}{path}", method=method)
        request.add_header("Authorization", f"Bearer {(self._account / 'token').read_text()}")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/merge-patch+json")
        trust = (
            ssl.create_default_context(cafile=str(self._account / "ca.crt")) if self._url.startswith("https") else None
        )
        try:
            with urllib.request.urlopen(request, data, timeout=30, context=trust) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise Refused(f"the Kubernetes API did not answer {method} {path}: {error}") from error

    def scale(self, namespace: str, kind: str, name: str, replicas: int) -> None:
        self.call(
            "PATCH", f"/apis/apps/v1/namespaces/{namespace}/{kind}/{name}/scale", {"spec": {"replicas": replicas}}
        )

    def suspend(self, namespace: str, name: str, yes: bool) -> None:
        self.call("PATCH", f"/apis/batch/v1/namespaces/{namespace}/cronjobs/{name}", {"spec": {"suspend": yes}})

    def pods(self, namespace: str, name: str) -> list[str]:
        found = self.call("GET", f"/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io/name%3D{name}")
        return [
            pod["metadata"]["name"]
            for pod in found["items"]
            if pod["status"].get("phase") not in ("Succeeded", "Failed")
        ]


@contextmanager
def at_rest(
    cluster: Cluster, scaled: Sequence[Sequence[str]], suspended: Sequence[Sequence[str]], patience_s: float = REST_S
) -> Iterator[None]:
    """Nobody writes meanwhile: `scaled` (namespace, kind, name) run no pod, `suspended` (namespace, name) start no Job.

    Everything is woken again in the end, however it ends.
    """
    try:
        for namespace, name in suspended:
            cluster.suspend(namespace, name, True)
        for namespace, kind, name in scaled:
            cluster.scale(namespace, kind, name, 0)
        waiting_for = [(namespace, name) for namespace, _, name in scaled] + [tuple(each) for each in suspended]
        end = time.monotonic() + patience_s
        while left := [pod for namespace, name in waiting_for for pod in cluster.pods(namespace, name)]:
            if time.monotonic() > end:
                raise Refused(f"these pods do not end within {patience_s:.0f} s: {', '.join(left)}")
            time.sleep(1)
        yield
    finally:
        problems = []
        for wake in [
            *(lambda each=each: cluster.scale(*each, 1) for each in reversed(scaled)),
            *(lambda each=each: cluster.suspend(*each, False) for each in suspended),
        ]:
            try:
                wake()
            except Refused as error:
                problems.append(str(error))
        if problems:
            print("not woken again; run the playbooks: " + "; ".join(problems), flush=True)
