"""Serving benchmark: driftloop's server against a plain FastAPI endpoint around the same ONNX Runtime session.

Both run with one worker on uvloop and httptools, one after the other, in alternating rounds of one run, under the
same closed-loop load: wrk where it is installed, else a small client of our own in another process.

    python scripts/bench_serving.py [--json FILE] [--bundle FOLDER] [--connections 1,16,64] [--seconds 3]
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HOST = "127.0.0.1"
ENGINES, STEPS = 40, 20
"""Of the simulated fleet and of the training that make the model that is served unless a bundle is given."""
ROWS = 30
"""Rows of a request."""

WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read
    + summary.errors.write + summary.errors.timeout
  print(string.format('RESULT {{"requests": %d, "seconds": %.6f, "failed": %d, "p50_ms": %.3f, "p99_ms": %.3f}}',
    summary.requests, summary.duration / 1e6, bad, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def plain_app() -> Any:
    """The endpoint that everybody writes first: pydantic in, one run of the session, a dict out."""
    import onnxruntime as ort
    from fastapi import FastAPI
    from pydantic import BaseModel

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)
    app = FastAPI()

    class Body(BaseModel):
        rows: list[list[float]]

    @app.post("/predict")
    async def predict(body: Body) -> dict[str, float]:
        rows = np.array(body.rows, dtype=np.float32)[None]
        rul, lower, upper = session.run(["rul", "lower", "upper"], {"rows": rows})
        return {"rul": float(rul[0]), "lower": float(lower[0]), "upper": float(upper[0])}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


def plain_json_app() -> Any:
    """The same without pydantic: request.json() in, JSONResponse out."""
    import onnxruntime as ort
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        rows = np.array((await request.json())["rows"], dtype=np.float32)[None]
        rul, lower, upper = session.run(["rul", "lower", "upper"], {"rows": rows})
        return JSONResponse({"rul": float(rul[0]), "lower": float(lower[0]), "upper": float(upper[0])})

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


def build_bundle(runs: list[Any], folder: Path) -> None:
    """A bundle of the loop's own network, trained for a moment: what it answers is no matter here, how fast it is."""
    from driftloop.fleets.cmapss.schema import SCHEMA
    from driftloop.training import build
    from driftloop.training import train as training

    trained = training.train(runs, SCHEMA, training.TrainConfig(steps=STEPS))
    build.build_bundle(trained, runs, build.first_manifest(runs), folder, data_source="simulated")


def serve_driftloop(bundle_folder: Path, state: Path, port: int) -> subprocess.Popen[bytes]:
    """driftloop's server on that bundle: kept as the one that served last, so that no registry is needed."""
    from driftloop.model.bundle import digest

    kept = state / "serving" / "bundles"
    shutil.copytree(bundle_folder, kept / "1", dirs_exist_ok=True)
    (kept / "last.json").write_text(json.dumps({"version": "1", "digest": digest(bundle_folder)}))
    code = f"from driftloop.serving.commands import serve; serve({HOST!r}, {port}, 1)"
    environment = {"DRIFTLOOP_STATE_DIR": str(state), "DRIFTLOOP_MLFLOW_URL": f"http://{HOST}:{free_port()}"}
    return _start([sys.executable, "-c", code], environment)


def serve_plain(bundle_folder: Path, app: str, port: int) -> subprocess.Popen[bytes]:
    """A plain endpoint on the same graph, with the same server options."""
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        f"bench_serving:{app}",
        "--factory",
        "--host",
        HOST,
        "--port",
        str(port),
    ]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    here = str(Path(__file__).parent)
    return _start(command, {"BENCH_MODEL": str(bundle_folder / "model.onnx"), "PYTHONPATH": here})


def load_with_wrk(port: int, body: Path, connections: int, seconds: float) -> dict[str, float]:
    """Closed-loop load by wrk with one thread."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK_SCRIPT.format(body=body))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", script.name]
        done = subprocess.run(
            [*command, f"http://{HOST}:{port}/predict"], capture_output=True, text=True, check=True, timeout=120
        )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return result


def load_with_client(port: int, body: Path, connections: int, seconds: float) -> dict[str, float]:
    """The same load by `client` in a process of its own."""
    command = [sys.executable, __file__, "--client", f"{port},{connections},{seconds:g}", "--body", str(body)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    result: dict[str, float] = json.loads(done.stdout)
    return result


async def client(port: int, body: bytes, connections: int, seconds: float) -> dict[str, float]:
    """Keeps `connections` requests under way; reads answers no further than their length says."""
    head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    request, latencies, failed = head.encode() + body, [], 0
    end = time.perf_counter() + seconds

    async def one() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(HOST, port)
        while (started := time.perf_counter()) < end:
            writer.write(request)
            answer_head = await reader.readuntil(b"\r\n\r\n")
            length = int(answer_head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - started)
            failed += not answer_head.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    return {"requests": len(latencies), "seconds": seconds, "failed": failed, "p50_ms": p50, "p99_ms": p99}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All rounds; the rate of a server is the median over its rounds."""
    from driftloop.fleets.cmapss.source import simulated_fleet

    generator = "wrk" if shutil.which("wrk") and not arguments.own_client else "own client"
    load = load_with_wrk if generator == "wrk" else load_with_client
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        chosen = arguments.bundle
        runs = simulated_fleet("FD001", 0, ENGINES).train
        if chosen is None:
            chosen = folder / "bundle"
            build_bundle(runs, chosen)
        body = folder / "body.json"
        body.write_text(json.dumps({"rows": runs[0].rows[:ROWS].tolist()}))
        for round_ in range(arguments.rounds):
            for server in ("driftloop", "plain_app", "plain_json_app"):
                port = free_port()
                if server == "driftloop":
                    process = serve_driftloop(chosen, folder / "state", port)
                else:
                    process = serve_plain(chosen, server, port)
                try:
                    until_up(port, process)
                    load(port, body, 16, 1)
                    for connections in arguments.connections:
                        before = cpu_seconds(process.pid)
                        figures = load(port, body, connections, arguments.seconds)
                        figures["cpu_us"] = (cpu_seconds(process.pid) - before) / figures["requests"] * 1e6
                        rate = figures["requests"] / figures["seconds"]
                        results.append({"server": server, "connections": connections, "rate": rate, **figures})
                        print(f"round {round_ + 1} {server} {connections}: {rate:.0f}/s", file=sys.stderr)
                finally:
                    stop(process)
    model = f"{arguments.bundle or 'the network of the loop'}, requests of {ROWS} rows"
    return {**summary(results), "load": generator, "model": model}


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, and the ratio to the faster of the two plain endpoints."""
    rows = []
    for connections in sorted({r["connections"] for r in results}):
        rates = {}
        for server in ("driftloop", "plain_app", "plain_json_app"):
            own = [r for r in results if r["server"] == server and r["connections"] == connections]
            rates[server] = statistics.median(r["rate"] for r in own)
            figures = {name: statistics.median(r[name] for r in own) for name in ("p50_ms", "p99_ms", "cpu_us")}
            failed = sum(r["failed"] for r in own)
            rows.append(
                {"connections": connections, "server": server, "rate": rates[server], **figures, "failed": failed}
            )
        best = max(rates["plain_app"], rates["plain_json_app"])
        for row in rows[-3:]:
            row["ratio"] = row["rate"] / best
    return {"rows": rows, "python": platform.python_version(), "cores": os.cpu_count()}


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"{result['model']}; load by {result['load']}; {result['cores']} cores, Python {result['python']}", ""]
    lines.append(
        "| connections | server | requests/s | p50 ms | p99 ms | CPU us/request | failed | of the faster plain one |"
    )
    lines.append("|---:|---|---:|---:|---:|---:|---:|---:|")
    lines += [
        f"| {r['connections']} | {r['server']} | {r['rate']:.0f} | {r['p50_ms']:.2f} | {r['p99_ms']:.2f} "
        f"| {r['cpu_us']:.0f} | {r['failed']} | {r['ratio']:.2f} |"
        for r in result["rows"]
    ]
    return "\n".join(lines)


def cpu_seconds(pid: int) -> float:
    """Processor time that a server has taken; unlike its rate it hardly depends on what else the machine does."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def until_up(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    import httpx

    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"http://{HOST}:{port}/healthz", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise SystemExit(f"the server on port {port} does not start")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server that was started here."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, stderr=subprocess.DEVNULL
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--bundle", type=Path, help="serve this bundle instead of one that is trained for a moment")
    parser.add_argument("--connections", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--own-client", action="store_true", help="do not use wrk")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--body", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        port, connections, seconds = arguments.client.split(",")
        print(json.dumps(asyncio.run(client(int(port), arguments.body.read_bytes(), int(connections), float(seconds)))))
        return
    result = measure(arguments)
    print(table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
