"""Trials as MLflow runs, over MLflow's REST API: light enough for every worker, unlike MLflow's own client.

Source of the endpoints: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from driftloop.errors import RegistryUnavailable

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"


class TrialRuns:
    """The MLflow experiment `name`; every method raises RegistryUnavailable where MLflow cannot be asked."""

    def __init__(self, mlflow_url: str, name: str, *, timeout_s: float = 20.0) -> None:
        self._url, self._name = mlflow_url.rstrip("/"), name
        # Proxies named in the environment are for the world outside; the registry is part of the platform.
        self._http = httpx.Client(base_url=f"{self._url}/api/2.0/mlflow/", timeout=timeout_s, trust_env=False)
        self._experiment: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def experiment(self) -> str:
        """The experiment's id; it is made where it does not exist."""
        if self._experiment is None:
            found = self._get_experiment()
            if found is None:
                # Another worker may be faster: then it is there.
                self._ask("POST", "experiments/create", {"name": self._name}, accept="RESOURCE_ALREADY_EXISTS")
                found = self._get_experiment()
            if found is None:
                raise self._error(f"the experiment {self._name} could not be made")
            self._experiment = found
        return self._experiment

    def start(self, name: str, parameters: Mapping[str, object], tags: Mapping[str, str]) -> str:
        """Start a run; returns its id."""
        body = {
            "experiment_id": self.experiment(),
            "run_name": name,
            "start_time": _now(),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        run_id = str(self._ask("POST", "runs/create", body)["run"]["info"]["run_id"])
        params = [{"key": key, "value": str(value)} for key, value in parameters.items()]
        self._ask("POST", "runs/log-batch", {"run_id": run_id, "params": params})
        return run_id

    def log(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Add metrics to a run."""
        logged = [{"key": key, "value": value, "timestamp": _now(), "step": step} for key, value in metrics.items()]
        self._ask("POST", "runs/log-batch", {"run_id": run_id, "metrics": logged})

    def end(self, run_id: str, status: str, tags: Mapping[str, str] | None = None) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        for key, value in (tags or {}).items():
            self._ask("POST", "runs/set-tag", {"run_id": run_id, "key": key, "value": value})
        self._ask("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": _now()})

    def _get_experiment(self) -> str | None:
        answer = self._ask(
            "GET", "experiments/get-by-name", {"experiment_name": self._name}, accept="RESOURCE_DOES_NOT_EXIST"
        )
        return str(answer["experiment"]["experiment_id"]) if "experiment" in answer else None

    def _ask(self, method: str, call: str, body: dict[str, Any], accept: str = "") -> dict[str, Any]:
        content: dict[str, Any] = {"params": body} if method == "GET" else {"json": body}
        try:
            answer = self._http.request(method, call, **content)
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._error(f"cannot be asked ({type(error).__name__}: {error})") from error
        if answer.is_error and not (accept and found.get("error_code") == accept):
            raise self._error(f"{call} was answered {answer.status_code}: {found.get('message', '')}")
        return found

    def _error(self, what: str) -> RegistryUnavailable:
        return RegistryUnavailable(
            what, where=f"MLflow at {self._url}", remedy="start MLflow, or correct DRIFTLOOP_MLFLOW_URL"
        )


def _now() -> int:
    return int(time.time() * 1000)
