"""The model registry: the versions of one registered model in MLflow.

A version is one bundle; the alias `production` says which is served, and moving it is the single commit
point of a promotion. `previous` and `challenger` are conveniences that are repaired from it.
"""

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from driftloop.closing import Closing
from driftloop.errors import BundleError, DriftloopError, ExitCode
from driftloop.model import bundle
from driftloop.model.mlflow import ARTIFACTS, EXISTS, MISSING, Mlflow

PRODUCTION, PREVIOUS, CHALLENGER = "production", "previous", "challenger"
DIGEST_TAG = "bundle_digest"

_LONGEST_TAG = 5000
"""Characters; what every MLflow since 1.0 takes as the value of a tag."""
_PAGE = 1000


@dataclass(frozen=True)
class Version:
    """One registered model version: `created` in Unix seconds, `source` the folder of its bundle."""

    version: str
    run_id: str | None
    source: str
    created: float
    tags: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


class Registry(Closing):
    """The versions of one registered model.

    Every method raises RegistryUnavailable where MLflow cannot be reached, is too slow or answers with an
    error, and DriftloopError for a version that does not exist. One object may be used by several threads.
    """

    def __init__(self, mlflow_url: str, model_name: str, *, timeout_s: float = 5.0, download_s: float = 30.0) -> None:
        self.model_name = model_name
        self._mlflow = Mlflow(mlflow_url, f"model {model_name}", timeout_s=timeout_s, download_s=download_s)
        self.url, self._where = self._mlflow.url, self._mlflow.where

    def close(self) -> None:
        """Close the connections."""
        self._mlflow.close()

    # What is there.

    def aliases(self) -> dict[str, str]:
        """Version by alias; empty for a model that nobody has registered yet."""
        answer = self._mlflow.ask("GET", "registered-models/get", {"name": self.model_name}, accept=MISSING)
        return {item["alias"]: str(item["version"]) for item in answer.get("registered_model", {}).get("aliases", [])}

    def alias(self, name: str) -> str | None:
        """The version an alias points at; None where there is no such alias, or no such model yet."""
        return self.aliases().get(name)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        where = {"filter": f"name='{self.model_name}'", "max_results": _PAGE, "page_token": ""}
        found: list[Version] = []
        while True:
            answer = self._mlflow.ask("GET", "model-versions/search", where)
            found += [_version(item) for item in answer.get("model_versions", [])]
            where["page_token"] = answer.get("next_page_token", "")
            if not where["page_token"]:
                return sorted(found, key=lambda version: int(version.version))

    def version(self, version: str) -> Version:
        """One version; DriftloopError where it does not exist."""
        return _version(self._ask_for("GET", "model-versions/get", version)["model_version"])

    def tags(self, version: str) -> dict[str, str]:
        """The tags of a version."""
        return self.version(version).tags

    def figures(self, run_id: str) -> dict[str, float]:
        """The figures that were recorded when a version was trained; empty for a run that is gone."""
        run = self._mlflow.ask("GET", "runs/get", {"run_id": run_id}, accept=MISSING).get("run", {})
        return {item["key"]: float(item["value"]) for item in run.get("data", {}).get("metrics", [])}

    # Changes.

    def create_version(self, source: str, run_id: str | None, tags: dict[str, str]) -> str:
        """Register a bundle that was logged to run `run_id` at `source`; returns the new version.

        The first version creates the registered model. `tags` must hold `bundle_digest`.
        """
        if DIGEST_TAG not in tags:
            raise ValueError(f"a version needs the tag {DIGEST_TAG}")
        body: dict[str, Any] = {"name": self.model_name, "source": source, "tags": _tag_list(tags)}
        if run_id:
            body["run_id"] = run_id
        answer = self._mlflow.ask("POST", "model-versions/create", body, accept=MISSING)
        if "model_version" not in answer:
            self._mlflow.ask("POST", "registered-models/create", {"name": self.model_name}, accept=EXISTS)
            answer = self._mlflow.ask("POST", "model-versions/create", body)
        return str(answer["model_version"]["version"])

    def register_beside(self, version: str, folder: Path, tags: dict[str, str]) -> str:
        """Register the bundle in `folder` in the experiment of `version`; returns the new version.

        Without MLflow's client, whose import takes seconds: for first aid, which must not wait. The checkpoint goes
        with it where there is one.
        """
        parent = self.version(version)
        run = self._mlflow.ask("GET", "runs/get", {"run_id": parent.run_id})["run"]
        body = {
            "experiment_id": run["info"]["experiment_id"],
            "run_name": f"first-aid-of-{version}",
            "start_time": int(time.time() * 1000),
            "tags": _tag_list(tags),
        }
        made = self._mlflow.ask("POST", "runs/create", body)["run"]["info"]
        source = f"{made['artifact_uri']}/{parent.source.rstrip('/').rpartition('/')[2]}"
        for name in (*bundle.SERVING_FILES, bundle.CHECKPOINT):
            if (folder / name).exists():
                self._mlflow.upload(f"{self._artifact_path(source)}/{name}", (folder / name).read_bytes())
        ended = {"run_id": made["run_id"], "status": "FINISHED", "end_time": int(time.time() * 1000)}
        self._mlflow.ask("POST", "runs/update", ended)
        return self.create_version(source, made["run_id"], {DIGEST_TAG: bundle.digest(folder), **tags})

    def set_alias(self, name: str, version: str) -> None:
        """Point an alias at a version; for `production` this is the promotion."""
        self._ask_for("POST", "registered-models/alias", version, alias=name)

    def delete_alias(self, name: str) -> None:
        """Take an alias away; nothing happens where it does not exist."""
        body = {"name": self.model_name, "alias": name}
        self._mlflow.ask("DELETE", "registered-models/alias", body, accept=MISSING)

    def set_tag(self, version: str, key: str, value: str) -> None:
        """Set one tag of a version."""
        self._ask_for("POST", "model-versions/set-tag", version, key=key, value=value[:_LONGEST_TAG])

    def set_tags(self, version: str, tags: dict[str, str]) -> None:
        """Set several tags of a version, in their order."""
        for key, value in tags.items():
            self.set_tag(version, key, value)

    def delete_version(self, version: str) -> None:
        """Delete a version and its bundle's files; DriftloopError where an alias still points at it.

        The files go last: a crash in between leaves files without a version, never a version without files.
        """
        found = self.version(version)
        if found.aliases:
            raise DriftloopError(
                f"version {version} cannot be deleted, it is {' and '.join(found.aliases)}",
                where=self._where,
                remedy="move the alias first",
            )
        self._ask_for("DELETE", "model-versions/delete", version)
        if found.run_id:
            self._mlflow.ask("POST", "runs/delete", {"run_id": found.run_id}, accept=MISSING)
        self._mlflow.delete_artifacts(self._artifact_path(found.source))

    # Bundles.

    def fetch(self, version: str, folder: Path, files: tuple[str, ...] = bundle.SERVING_FILES) -> Path:
        """Download a version's bundle into `folder` and return it.

        The files appear all at once, after their digest was compared with the version's `bundle_digest`
        tag. A folder that already holds the bundle is left as it is. Raises BundleError for a digest that
        differs and for a file that is missing from the version.
        """
        found = self.version(version)
        wanted = found.tags.get(DIGEST_TAG)
        if wanted is None:
            raise BundleError(
                f"version {version} has no tag {DIGEST_TAG}, so its files cannot be checked",
                where=self._where,
                remedy="register models with driftloop train",
            )
        if _holds(folder, files, wanted):
            return folder
        source = self._artifact_path(found.source)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            for name in dict.fromkeys((*files, *bundle.SERVING_FILES)):
                if not self._mlflow.download(f"{source}/{name}", temporary / name):
                    raise BundleError(f"version {version} has no file {name}", where=self._where)
            got = bundle.digest(temporary)
            if got != wanted:
                raise BundleError(
                    f"the files of version {version} have digest {got[:12]}, its tag says {wanted[:12]}",
                    where=self._where,
                    remedy="the bundle was damaged or changed after it was registered; roll back or retrain",
                )
            _move_into_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder

    def _artifact_path(self, source: str) -> str:
        """The path of a version's folder below the root of MLflow's artifact proxy."""
        parts = urlsplit(source)
        if parts.scheme == "runs":
            run_id, _, below = parts.path.lstrip("/").partition("/")
            run = self._mlflow.ask("GET", "runs/get", {"run_id": run_id})["run"]
            return f"{self._artifact_path(run['info']['artifact_uri'])}/{below}".rstrip("/")
        if parts.scheme == "mlflow-artifacts":
            path = parts.path
        elif parts.scheme in ("http", "https") and ARTIFACTS in parts.path:
            path = parts.path.partition(ARTIFACTS)[2]
        else:
            raise DriftloopError(
                f"the files at {source} are not behind MLflow's artifact proxy",
                where=self._where,
                remedy="start the MLflow server with --serve-artifacts and --artifacts-destination",
            )
        return path.strip("/")

    # Calls.

    def _ask_for(self, method: str, call: str, version: str, **body: str) -> dict[str, Any]:
        """A call about one version; DriftloopError where it does not exist."""
        if not (version.isascii() and version.isdigit()):
            raise DriftloopError(f"{version!r} is no version", where=self._where, remedy="versions are whole numbers")
        answer = self._mlflow.ask(method, call, {"name": self.model_name, "version": version, **body}, accept=MISSING)
        if answer.get("error_code") == MISSING:
            raise DriftloopError(
                f"there is no version {version}",
                where=self._where,
                remedy="the console's page Models lists those there are",
                exit_code=ExitCode.MISSING,
            )
        return answer


def _version(item: dict[str, Any]) -> Version:
    return Version(
        version=str(item["version"]),
        run_id=item.get("run_id") or None,
        source=item.get("source", ""),
        created=int(item.get("creation_timestamp", 0)) / 1000,
        tags={tag["key"]: tag.get("value", "") for tag in item.get("tags", [])},
        aliases=tuple(item.get("aliases", [])),
    )


def _tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value[:_LONGEST_TAG]} for key, value in tags.items()]


def _holds(folder: Path, files: tuple[str, ...], wanted: str) -> bool:
    try:
        return all((folder / name).is_file() for name in files) and bundle.digest(folder) == wanted
    except BundleError:
        return False


def _move_into_place(temporary: Path, folder: Path) -> None:
    """Rename the finished folder; one that is in the way is damaged or older, and goes."""
    temporary.chmod(0o755)
    if folder.exists():
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError as error:
        raise BundleError(f"cannot be written: {error.strerror}", where=str(folder)) from error
