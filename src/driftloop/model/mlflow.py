"""MLflow's documented REST API over HTTP: the one place that knows its addresses, its errors and how to ask.

MLflow's own client is not used, since importing it costs four seconds and 180 MB in every process.

Source of the endpoints: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from driftloop.closing import Closing
from driftloop.durable import decode_json
from driftloop.errors import JsonError, RegistryUnavailable
from driftloop.protocol.http import Patience, client, why

MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
START_IT = "start it with `driftloop up`, or correct DRIFTLOOP_MLFLOW_URL"

_API = "/api/2.0/mlflow/"


class Mlflow(Closing):
    """An MLflow server at `url`; where it serves below a path (its static prefix), that is part of the URL.

    `what` is named in errors beside the URL. Every method raises RegistryUnavailable where MLflow cannot be reached,
    is too slow or answers with an error. One object may be used by several threads.
    """

    def __init__(self, url: str, what: str = "", *, timeout_s: float = 5.0, download_s: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.where = f"MLflow at {self.url}" + (f", {what}" if what else "")
        self._download_s = download_s
        self._http = client(self.url, patience=Patience(timeout_s, timeout_s))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def ask(self, method: str, call: str, body: dict[str, Any], accept: str = "") -> dict[str, Any]:
        """The answer to a call such as `runs/get`; an error with the code `accept` is an answer too."""
        if method == "GET":
            return self._send(method, _API + call, accept, params=body)
        return self._send(method, _API + call, accept, json=body)

    def delete_artifacts(self, path: str) -> None:
        """Delete the folder at `path` below the root of the artifact proxy; nothing happens where there is none."""
        self._send("DELETE", f"{ARTIFACTS}/{quote(path)}", MISSING)

    def download(self, path: str, target: Path) -> bool:
        """Download the file at `path` below the root of the artifact proxy to `target`; False where there is none."""
        try:
            with self._http.stream("GET", f"{ARTIFACTS}/{quote(path)}", timeout=self._download_s) as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    return False
                if answer.is_error:
                    answer.read()
                    raise self._refused(answer)
                with target.open("wb") as file:
                    for piece in answer.iter_bytes():
                        file.write(piece)
                return True
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def upload(self, path: str, content: bytes) -> None:
        """Write the file at `path` below the root of the artifact proxy."""
        self._send("PUT", f"{ARTIFACTS}/{quote(path)}", content=content, timeout=self._download_s)

    def _send(self, method: str, path: str, accept: str = "", **content: Any) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, **content)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        try:
            body = decode_json(answer.content) if answer.content else {}
        except JsonError:
            body = None
        if answer.is_error and not (accept and isinstance(body, dict) and body.get("error_code") == accept):
            raise self._refused(answer)
        if not isinstance(body, dict):
            raise RegistryUnavailable(
                "answered with something that is not MLflow's JSON",
                where=self.where,
                remedy="check DRIFTLOOP_MLFLOW_URL",
            )
        return body

    def _unreachable(self, error: httpx.HTTPError) -> RegistryUnavailable:
        return RegistryUnavailable(f"cannot be reached: {why(error)}", where=self.where, remedy=START_IT)

    def _refused(self, answer: httpx.Response) -> RegistryUnavailable:
        try:
            message = decode_json(answer.content)["message"]
        except (JsonError, KeyError, TypeError):
            message = answer.text[:200]
        return RegistryUnavailable(
            f"{answer.request.method} {answer.request.url.path} was answered {answer.status_code}: {message}",
            where=self.where,
            remedy="see MLflow's log; 403 means that MLFLOW_SERVER_ALLOWED_HOSTS lacks this host name"
            if answer.status_code == httpx.codes.FORBIDDEN
            else "see MLflow's log",
        )
