"""`driftloop serve` as a process: start, signals, several workers, a registry over HTTP."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from driftloop.access.listening import listen
from driftloop.errors import DriftloopError
from mlflow_double import mlflow
from ports import free_port
from serving_bundles import row, write


class Process:
    """A server process and a client of it; its output goes to a file that a failing test shows."""

    def __init__(self, state: Path, mlflow_url: str, workers: int = 1) -> None:
        self.port = free_port()
        self.state = state
        state.mkdir(parents=True, exist_ok=True)
        self.output = state / "output.txt"
        code = f"from driftloop.serving.commands import serve; serve('127.0.0.1', {self.port}, {workers})"
        settings = {"STATE_DIR": str(state), "MLFLOW_URL": mlflow_url, "FOLLOW_INTERVAL_S": "0.05"}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, **{f"DRIFTLOOP_{name}": value for name, value in settings.items()}},
                stdout=output,
                stderr=output,
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30)

    def until(self, condition: Callable[[], bool]) -> None:
        """Ask until it is so, or the process has ended."""
        while self.process.poll() is None:
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.01)
        raise AssertionError(self.output.read_text())

    @property
    def version(self) -> str:
        version: str = self.client.get("/readyz").json()["model_version"]
        return version

    def end(self) -> int:
        """SIGTERM, and how the process ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    with ExitStack() as stack:

        def one(mlflow_url: str = "http://127.0.0.1:1", workers: int = 1) -> Process:
            # A path with what a pattern is made of.
            started = Process(tmp_path / "state [1]", mlflow_url, workers)
            stack.callback(started.client.close)
            stack.callback(started.process.wait)
            stack.callback(lambda: started.process.poll() is None and started.process.send_signal(signal.SIGTERM))
            return started

        yield one
        for path in tmp_path.glob("*/output.txt"):
            print(path.read_text())


@contextmanager
def registered(folder: Path, *constants: int) -> Iterator[object]:
    for constant in constants:
        write(folder / str(constant), constant)
    with mlflow(folder) as server:
        yield server


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DriftloopError) as caught:
            listen("127.0.0.1", port)
    assert f"port {port} is in use" in str(caught.value)
    assert "--port" in str(caught.value)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(DriftloopError, match="--host"):
        listen("192.0.2.1", 0)


def test_the_server_imports_nothing_heavy() -> None:
    code = "import sys, driftloop.serving.app; print([m for m in sys.modules if '.' not in m])"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'onnxruntime'" in modules
    for heavy in ("torch", "mlflow", "pandas", "scipy", "matplotlib", "kfp", "onnx", "aiohttp", "sklearn"):
        assert f"'{heavy}'" not in modules, heavy


def test_a_server_starts_without_a_registry_answers_and_ends_on_sigterm(start: Callable[..., Process]) -> None:
    server = start()
    server.until(lambda: server.client.get("/healthz").is_success)
    assert server.client.post("/predict", json={"rows": [row()]}).json()["rul"] == 125.0
    assert server.end() == 0
    assert "Traceback" not in server.output.read_text()


def test_a_request_under_way_at_sigterm_is_answered(start: Callable[..., Process]) -> None:
    server = start()
    server.until(lambda: server.client.get("/healthz").is_success)
    body = httpx.Request("POST", "http://x/", json={"rows": [row()]}).read()
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body[:10])
        # Its head has been read once a later request was answered and counted.
        server.until(lambda: server.client.get("/metrics").is_success)
        server.client.close()
        server.process.send_signal(signal.SIGTERM)
        until_refused(server.port)
        connection.sendall(body[10:])
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 200")
    assert server.process.wait(30) == 0


def until_refused(port: int) -> None:
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return


def test_the_registry_over_http_is_followed_and_survived(start: Callable[..., Process], tmp_path: Path) -> None:
    with registered(tmp_path / "models", 1, 2) as registry:
        registry.production = "1"  # type: ignore[attr-defined]
        url = registry.url  # type: ignore[attr-defined]
        server = start(url)
        server.until(lambda: server.version == "1")
        registry.production = "2"  # type: ignore[attr-defined]
        server.until(lambda: server.version == "2")
    server.until(lambda: 'driftloop_registry_up{fleet="cmapss"} 0.0' in server.client.get("/metrics").text)
    assert server.client.post("/predict", json={"rows": [row(5.0)]}).json()["rul"] == 2005.0
    assert server.end() == 0
    # The registry is still down: the version that served last goes on.
    again = start(url)
    again.until(lambda: again.version == "2")
    assert again.end() == 0


async def test_two_workers_that_swap_at_different_moments_count_right_together(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    with registered(tmp_path / "models", 1, 2) as registry:
        registry.production = "1"  # type: ignore[attr-defined]
        server = start(registry.url, workers=2)  # type: ignore[attr-defined]
        server.until(lambda: server.version == "1")
        answered: Counter[str] = Counter()
        stop = False

        async def ask(number: int) -> None:
            # A connection of its own each time, so that both workers are asked.
            while not stop:
                async with httpx.AsyncClient(base_url=server.client.base_url, trust_env=False, timeout=30) as http:
                    answer = (await http.post("/predict", json={"rows": [row(number)]})).json()
                assert answer["rul"] == 1000.0 * int(answer["model_version"]) + number
                answered[answer["model_version"]] += 1

        asking = [asyncio.create_task(ask(number)) for number in range(4)]
        while answered["1"] < 50:
            await asyncio.wait(asking, timeout=0.02)
        registry.production = "2"  # type: ignore[attr-defined]
        while answered["2"] < 100:
            done, _ = await asyncio.wait(asking, timeout=0.02)
            assert not done
        stop = True
        await asyncio.gather(*asking)

        def counted(text: str, version: str) -> float:
            line = f'driftloop_predictions_total{{fleet="cmapss",model_version="{version}"}} '
            return sum(float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line))

        def everything_is_counted() -> bool:
            text = server.client.get("/metrics").text
            return all(counted(text, version) >= number for version, number in answered.items())

        server.until(everything_is_counted)
        text = server.client.get("/metrics").text
        assert {version: counted(text, version) for version in answered} == dict(answered)
        for version, number in answered.items():
            labels = f'bin="0",feature="regime",fleet="cmapss",model_version="{version}"'
            assert f"driftloop_feature_bin_total{{{labels}}} {float(number)}" in text
        assert list((server.state / "serving").glob("prometheus-*"))
        assert server.end() == 0
    assert not list((server.state / "serving").glob("prometheus-*")), "cleaned up"
    assert len(list((server.state / "inference").glob("inference-?.jsonl"))) == 2


@pytest.mark.faults
def test_a_killed_worker_is_replaced_and_its_counts_stay(start: Callable[..., Process]) -> None:
    server = start(workers=2)
    server.until(lambda: server.client.get("/healthz").is_success)

    def counted() -> float:
        line = 'driftloop_predictions_total{fleet="cmapss",model_version="stub"} '
        lines = server.client.get("/metrics").text.splitlines()
        return sum(float(found.rpartition(" ")[2]) for found in lines if found.startswith(line))

    for _ in range(20):
        assert httpx.post(f"{server.client.base_url}/predict", json={"rows": [row()]}, trust_env=False).is_success
    server.until(lambda: counted() == 20)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(workers) == 2
    server.client.close()
    server.client = httpx.Client(base_url=server.client.base_url, trust_env=False, timeout=30)
    os.kill(workers[0], signal.SIGKILL)
    server.until(lambda: 'driftloop_registry_up{fleet="cmapss"} 0.0' in server.client.get("/metrics").text)
    assert counted() == 20
    assert server.end() == 0
