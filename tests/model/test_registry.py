"""The registry against a real MLflow server."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from driftloop.errors import BundleError, DriftloopError, RegistryUnavailable
from driftloop.model import bundle
from driftloop.model.registry import Registry

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def registry(mlflow_url: str, request: pytest.FixtureRequest) -> Iterator[Registry]:
    with Registry(mlflow_url, f"rul-{abs(hash(request.node.name))}", timeout_s=30.0) as client:
        yield client


class Uploader:
    """Logs bundles as a training would, through MLflow's REST API."""

    def __init__(self, url: str, folder: Path) -> None:
        self.http, self.folder = httpx.Client(base_url=url, timeout=30.0, trust_env=False), folder
        self.digest = ""

    def __call__(self, text: str = "model", skip: str = "") -> tuple[str, str]:
        """The run and the artifact folder of a bundle whose files hold `text`."""
        run = self.http.post("/api/2.0/mlflow/runs/create", json={"experiment_id": "0", "start_time": 1})
        info = run.raise_for_status().json()["run"]["info"]
        source = info["artifact_uri"] + "/bundle"
        for name in bundle.SERVING_FILES:
            (self.folder / name).write_text(f"{text} {name}" * 1000)
            if name != skip:
                self.put(source, name, (self.folder / name).read_bytes())
        self.digest = bundle.digest(self.folder)
        return info["run_id"], source

    def put(self, source: str, name: str, content: bytes) -> None:
        path = source.removeprefix("mlflow-artifacts:")
        self.http.put(f"{ARTIFACTS}{path}/{name}", content=content).raise_for_status()


@pytest.fixture
def upload(mlflow_url: str, tmp_path: Path) -> Iterator[Uploader]:
    (tmp_path / "original").mkdir()
    uploader = Uploader(mlflow_url, tmp_path / "original")
    yield uploader
    uploader.http.close()


def register(registry: Registry, upload: Uploader, **tags: str) -> str:
    run_id, source = upload()
    return registry.create_version(source, run_id, {"bundle_digest": upload.digest, **tags})


def test_before_anything_is_registered_there_is_no_alias_and_no_version(registry: Registry):
    assert registry.alias("production") is None
    assert registry.versions() == []
    with pytest.raises(DriftloopError, match="there is no version 1"):
        registry.tags("1")


def test_the_first_version_creates_the_model(registry: Registry, upload: Uploader):
    assert register(registry, upload, cause="first") == "1"
    assert register(registry, upload) == "2"
    assert registry.tags("1") == {"bundle_digest": upload.digest, "cause": "first"}
    assert [version.version for version in registry.versions()] == ["1", "2"]


def test_an_alias_moves_from_version_to_version(registry: Registry, upload: Uploader):
    register(registry, upload)
    register(registry, upload)
    registry.set_alias("production", "1")
    registry.set_alias("production", "2")
    registry.set_alias("previous", "1")
    assert registry.aliases() == {"production": "2", "previous": "1"}
    assert registry.version("2").aliases == ("production",)
    registry.delete_alias("previous")
    registry.delete_alias("previous")
    assert registry.alias("previous") is None


def test_an_alias_cannot_point_at_a_version_that_does_not_exist(registry: Registry, upload: Uploader):
    register(registry, upload)
    with pytest.raises(DriftloopError, match="there is no version 9"):
        registry.set_alias("production", "9")
    with pytest.raises(DriftloopError, match="is no version"):
        registry.set_alias("production", "../1")


def test_tags_are_set_and_read_and_long_ones_are_cut(registry: Registry, upload: Uploader):
    register(registry, upload)
    registry.set_tags("1", {"decision": "rejected", "decision_reason": "x" * 9000})
    assert registry.tags("1")["decision"] == "rejected"
    assert len(registry.tags("1")["decision_reason"]) == 5000


def test_a_bundle_arrives_whole_and_checked(registry: Registry, upload: Uploader, tmp_path: Path):
    register(registry, upload)
    folder = registry.fetch("1", tmp_path / "got")
    assert bundle.digest(folder) == upload.digest
    before = (folder / bundle.MODEL).stat().st_ino
    assert registry.fetch("1", folder) == folder
    assert (folder / bundle.MODEL).stat().st_ino == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_source_may_be_written_as_run_and_path(registry: Registry, upload: Uploader, tmp_path: Path):
    run_id, _ = upload()
    registry.create_version(f"runs:/{run_id}/bundle", run_id, {"bundle_digest": upload.digest})
    assert bundle.digest(registry.fetch("1", tmp_path / "got")) == upload.digest


def test_a_bundle_that_was_changed_is_refused_and_leaves_nothing(registry: Registry, upload: Uploader, tmp_path: Path):
    run_id, source = upload()
    registry.create_version(source, run_id, {"bundle_digest": upload.digest})
    upload.put(source, bundle.MODEL, b"something else")
    with pytest.raises(BundleError, match="was damaged or changed after it was registered"):
        registry.fetch("1", tmp_path / "got")
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_a_damaged_copy_on_disk_is_replaced(registry: Registry, upload: Uploader, tmp_path: Path):
    register(registry, upload)
    folder = registry.fetch("1", tmp_path / "got")
    (folder / bundle.MODEL).write_bytes(b"half")
    assert bundle.digest(registry.fetch("1", folder)) == upload.digest


def test_a_bundle_without_one_of_its_files_is_refused(registry: Registry, upload: Uploader, tmp_path: Path):
    run_id, source = upload(skip=bundle.BASELINE)
    registry.create_version(source, run_id, {"bundle_digest": upload.digest})
    with pytest.raises(BundleError, match=r"version 1 has no file baseline\.json"):
        registry.fetch("1", tmp_path / "got")


def test_a_version_is_deleted_with_its_files_but_not_under_an_alias(
    registry: Registry, upload: Uploader, mlflow_url: str
):
    run_id, source = upload()
    registry.create_version(source, run_id, {"bundle_digest": upload.digest})
    registry.set_alias("production", "1")
    with pytest.raises(DriftloopError, match="cannot be deleted, it is production"):
        registry.delete_version("1")
    registry.delete_alias("production")
    registry.delete_version("1")
    assert registry.versions() == []
    path = source.removeprefix("mlflow-artifacts:")
    answer = httpx.get(f"{mlflow_url}{ARTIFACTS}{path}/{bundle.MODEL}", timeout=30.0, trust_env=False)
    assert answer.status_code == 404


def test_a_registry_that_is_not_there_is_unavailable_with_a_remedy():
    with (
        Registry("http://127.0.0.1:9", "rul-lstm", timeout_s=1.0) as registry,
        pytest.raises(RegistryUnavailable, match="start it with `driftloop up`, or correct DRIFTLOOP_MLFLOW_URL"),
    ):
        registry.alias("production")


def answering(answer: bytes) -> tuple[str, Callable[[], None]]:
    """A server that gives one answer to whoever connects, or none; its URL and how to close it."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            connection.recv(65536)
            if answer:
                connection.sendall(answer)
                connection.close()

    threading.Thread(target=serve, daemon=True).start()

    def close() -> None:
        listener.close()
        for connection in held:
            connection.close()

    return f"http://127.0.0.1:{listener.getsockname()[1]}", close


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (b"", "it took too long"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "something that is not MLflow's JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "something that is not MLflow's JSON"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nboom", "was answered 500: boom"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nhost", "MLFLOW_SERVER_ALLOWED_HOSTS"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "cannot be reached"),
    ],
)
def test_slow_and_broken_answers_are_unavailable(answer: bytes, what: str):
    url, close = answering(answer)
    try:
        with Registry(url, "rul-lstm", timeout_s=0.3) as registry, pytest.raises(RegistryUnavailable, match=what):
            registry.alias("production")
    finally:
        close()
