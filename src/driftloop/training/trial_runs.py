"""Trials as MLflow runs, light enough for every worker."""

import time
from collections.abc import Mapping

from driftloop.closing import Closing
from driftloop.errors import RegistryUnavailable
from driftloop.model.mlflow import EXISTS, MISSING, Mlflow

TIMEOUT_S = 20.0
RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"


class TrialRuns(Closing):
    """The MLflow experiment `name`; every method raises RegistryUnavailable where MLflow cannot be asked."""

    def __init__(self, mlflow_url: str, name: str) -> None:
        self._name = name
        self._mlflow = Mlflow(mlflow_url, timeout_s=TIMEOUT_S)
        self._experiment: str | None = None

    def close(self) -> None:
        """Close the connections."""
        self._mlflow.close()

    def experiment(self) -> str:
        """The experiment's id; it is made where it does not exist."""
        if self._experiment is None:
            found = self._get_experiment()
            if found is None:
                # Another worker may be faster: then it is there.
                self._mlflow.ask("POST", "experiments/create", {"name": self._name}, accept=EXISTS)
                found = self._get_experiment()
            if found is None:
                raise RegistryUnavailable(f"the experiment {self._name} could not be made", where=self._mlflow.where)
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
        run_id = str(self._mlflow.ask("POST", "runs/create", body)["run"]["info"]["run_id"])
        params = [{"key": key, "value": str(value)} for key, value in parameters.items()]
        self._mlflow.ask("POST", "runs/log-batch", {"run_id": run_id, "params": params})
        return run_id

    def log(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Add metrics to a run."""
        logged = [{"key": key, "value": value, "timestamp": _now(), "step": step} for key, value in metrics.items()]
        self._mlflow.ask("POST", "runs/log-batch", {"run_id": run_id, "metrics": logged})

    def end(self, run_id: str, status: str, tags: Mapping[str, str] | None = None) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        for key, value in (tags or {}).items():
            self._mlflow.ask("POST", "runs/set-tag", {"run_id": run_id, "key": key, "value": value})
        self._mlflow.ask("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": _now()})

    def _get_experiment(self) -> str | None:
        answer = self._mlflow.ask("GET", "experiments/get-by-name", {"experiment_name": self._name}, accept=MISSING)
        return str(answer["experiment"]["experiment_id"]) if "experiment" in answer else None


def _now() -> int:
    return int(time.time() * 1000)
