"""The APIs of Kubernetes (Jobs, pods, logs) and of Kubeflow Pipelines over HTTP; a test decides how things go on."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

Api = TypeVar("Api", bound="FakeApi")
JOBS, PODS = "/apis/batch/v1/namespaces/serving/jobs", "/api/v1/namespaces/serving/pods"


class FakeApi:
    """An API with the errors that it answers with next."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[tuple[str, str]] = []
        self.errors: list[int] = []
        """Statuses of the next answers; 0 closes the connection without one."""
        self.lose_answers = False
        """Close the connection after something was made, without an answer."""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """Status and content of an answer."""
        raise NotImplementedError


class FakeKubernetes(FakeApi):
    """Jobs, pods and logs."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.deletions: list[dict[str, Any]] = []

    def condition(self, name: str, kind: str, message: str = "") -> None:
        """End a Job as its controller would."""
        self.jobs[name]["status"] = {"conditions": [{"type": kind, "status": "True", "message": message}]}

    def pod(self, job: str, state: dict[str, Any], log: str = "", **status: Any) -> None:
        """Give a Job a pod whose one container is in `state`."""
        name = f"{job}-x1"
        containers = [{"name": "p", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}]
        self.pods[name] = {
            "metadata": {
                "name": name,
                "labels": {"job-name": job},
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "status": {"phase": "Failed", "containerStatuses": containers if state else [], **status},
        }
        self.logs[name] = log

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """The answer of a real API, as far as the retrainer asks it."""
        if path.endswith("/log"):
            name = path.split("/")[-2]
            return (200, self.logs[name]) if name in self.logs else (404, status(404, "pod not found"))
        if path == PODS:
            wanted = query["labelSelector"][0].partition("=")[2]
            found = [pod for pod in self.pods.values() if pod["metadata"]["labels"]["job-name"] == wanted]
            return 200, {"kind": "PodList", "apiVersion": "v1", "items": found}
        if path == JOBS and method == "POST":
            return self._make(body)
        return self._jobs(method, path, query, body)

    def _make(self, body: Any) -> tuple[int, Any]:
        name = body["metadata"]["name"]
        if name in self.jobs:
            return 409, status(409, f'jobs.batch "{name}" already exists')
        self.jobs[name] = {**body, "status": {"active": 1}}
        return 201, self.jobs[name]

    def _jobs(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path == JOBS:
            label = query["labelSelector"][0]
            found = [job for job in self.jobs.values() if label in job["metadata"]["labels"]]
            return 200, {"kind": "JobList", "apiVersion": "batch/v1", "items": found}
        name = path.removeprefix(f"{JOBS}/")
        if name not in self.jobs:
            return 404, status(404, f'jobs.batch "{name}" not found')
        if method == "DELETE":
            self.deletions.append({"name": name, **body})
            del self.jobs[name]
            return 200, {"kind": "Status", "status": "Success"}
        return 200, self.jobs[name]


class FakePipelines(FakeApi):
    """Kubeflow Pipelines 2.17: experiments, pipelines, runs.

    As the real server does, it refuses to terminate what has ended or is being terminated, leaves a terminated run
    `CANCELING` until its pods are gone, tells no step's error, and answers lists in pages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.experiments: list[dict[str, Any]] = []
        self.pipelines: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.ends_meanwhile = False
        """Runs end just before they are terminated."""
        self.page = 100

    def tasks(self, run: str, **states: str) -> None:
        """The steps of a run and their states, with those of the graph around them."""
        details = [{"display_name": name, "task_id": name, "state": state} for name, state in states.items()]
        self.runs[run]["run_details"] = {"task_details": details}

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        """The answer of a real API, as far as the retrainer asks it."""
        path = path.removeprefix("/apis/v2beta1")
        kind, _, rest = path.strip("/").partition("/")
        if kind == "healthz":
            return 200, {"multi_user": False}
        acts = {"experiments": self._experiments, "pipelines": self._pipelines, "runs": self._runs}
        return acts[kind](method, rest, query, body)

    def _experiments(self, method: str, _: str, __: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if method == "POST":
            self.experiments.append({"experiment_id": "e1", **body})
            return 200, self.experiments[-1]
        return 200, {"experiments": self.experiments} if self.experiments else {}

    def _pipelines(self, method: str, rest: str, query: dict[str, list[str]], _: Any) -> tuple[int, Any]:
        if rest == "upload":
            [name] = query["name"]
            self.pipelines[name] = f"p{len(self.pipelines)}"
            return 200, {"pipeline_id": self.pipelines[name], "display_name": name}
        if rest.endswith("/versions"):
            return 200, {"pipeline_versions": [{"pipeline_version_id": f"{rest.removesuffix('/versions')}-v"}]}
        assert method == "GET"
        wanted = json.loads(query["filter"][0])["predicates"][0]["stringValue"]
        found = [{"pipeline_id": key} for name, key in self.pipelines.items() if name == wanted]
        return 200, {"pipelines": found} if found else {}

    def _runs(self, method: str, rest: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if method == "POST" and not rest:
            key = f"run{len(self.runs)}"
            self.runs[key] = {"run_id": key, "state": "PENDING", **body}
            return 200, self.runs[key]
        if rest:
            return self._run(method, *rest.split(":"))
        runs = list(self.runs.values())
        if "filter" in query:
            wanted = json.loads(query["filter"][0])["predicates"][0]["stringValue"]
            runs = [run for run in runs if run["display_name"] == wanted]
        if query.get("sort_by") == ["created_at desc"]:
            runs.reverse()
        first = int(query.get("page_token", ["0"])[0] or 0)
        page = runs[first : first + min(self.page, int(query.get("page_size", ["10"])[0]))]
        answer: dict[str, Any] = {"runs": page} if page else {}
        if first + len(page) < len(runs):
            answer["next_page_token"] = str(first + len(page))
        return 200, answer

    def _run(self, method: str, key: str, act: str = "") -> tuple[int, Any]:
        if key not in self.runs:
            return 404, refusal(5, f"ResourceNotFoundError: Run {key} not found")
        run = self.runs[key]
        if method == "DELETE":
            del self.runs[key]
            return 200, {}
        if act == "terminate":
            if self.ends_meanwhile:
                run["state"] = "SUCCEEDED"
            if run["state"] not in ("PENDING", "RUNNING", "PAUSED"):
                return 400, refusal(3, f"Failed to terminate run {key}: Invalid input error: Row not found")
            run["state"] = "CANCELING"
            return 200, {}
        return 200, run


def status(code: int, message: str) -> dict[str, Any]:
    """A refusal as the API words it."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def refusal(code: int, message: str) -> dict[str, Any]:
    """A refusal as Kubeflow Pipelines words it; `code` is gRPC's."""
    return {"error": message, "code": code, "message": message, "details": []}


@contextmanager
def serve(fake: Api) -> Iterator[Api]:
    """Serve `fake` at `fake.url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            is_json = "json" in self.headers.get("content-type", "") and body
            parts = urlsplit(self.path)
            fake.calls.append((self.command, parts.path))
            code = fake.errors.pop(0) if fake.errors else None
            if code is None:
                code, answer = fake.answer(
                    self.command, parts.path, parse_qs(parts.query), json.loads(body) if is_json else None
                )
                if fake.lose_answers and self.command == "POST":
                    code = 0
            elif code:
                answer = status(code, f"the API answers {code}")
            if code == 0:
                self.close_connection = True
                self.connection.close()
                return
            content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("content-type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
