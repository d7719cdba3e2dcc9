"""A stand-in for MLflow's server: the REST calls by which driftloop.model.registry follows an alias, over real HTTP."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from driftloop.model import bundle


class Mlflow(ThreadingHTTPServer):
    """Versions are folders below `folder`; `production` is the alias."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.production: str | None = None
        self.digest: str | None = None
        """What versions are tagged with, where it is not their digest."""
        self.prefix = ""
        """The path below which it serves, such as `/mlflow`."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Mlflow

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        artifacts = "/api/2.0/mlflow-artifacts/artifacts/"
        if not parts.path.startswith(f"{self.server.prefix}/api/"):
            self.send_error(404)
        elif artifacts in parts.path:
            self._answer((self.server.folder / parts.path.partition(artifacts)[2]).read_bytes())
        elif parts.path.endswith("/registered-models/get"):
            version = self.server.production
            aliases = [{"alias": "production", "version": version}] if version else []
            self._answer(json.dumps({"registered_model": {"name": "rul-lstm", "aliases": aliases}}).encode())
        elif parts.path.endswith("/model-versions/get"):
            version = parse_qs(parts.query)["version"][0]
            tags = [
                {"key": "bundle_digest", "value": self.server.digest or bundle.digest(self.server.folder / version)}
            ]
            found = {"version": version, "source": f"mlflow-artifacts:/{version}", "tags": tags}
            self._answer(json.dumps({"model_version": found}).encode())
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def mlflow(folder: Path) -> Iterator[Mlflow]:
    """A running stand-in."""
    server = Mlflow(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
