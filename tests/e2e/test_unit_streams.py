"""Streams against real brokers: nats-server with its MQTT door, and Kafka in KRaft mode."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ports import free_ports
from units.conftest import COUNTED, row
from units.process import Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

LONG_S = 120.0
IN, EVENTS, OUT = "driftloop.pumps.rows", "driftloop.pumps.events", "driftloop.pumps.predictions"


@pytest.fixture(scope="session")
def built() -> dict[str, Path]:
    """Where the brokers are; built at the first time."""
    if not all(map(shutil.which, ("go", "java", "mvn"))):
        pytest.skip("needs go, java and mvn to build the brokers")
    done = subprocess.run(
        [str(Path(__file__).with_name("brokers.sh"))], capture_output=True, text=True, check=False, timeout=1000
    )
    assert done.returncode == 0, done.stdout + done.stderr
    nats, kafka = (Path(line) for line in done.stdout.strip().splitlines()[-2:])
    return {"nats": nats, "kafka": kafka}


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """A broker, until it listens and while it is needed."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        until(lambda: process.poll() is None and listens(port), lambda: log.read_text()[-3000:])
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(what: Callable[[], Any], evidence: Callable[[], str] = lambda: "") -> Any:
    deadline = time.monotonic() + LONG_S
    while not (found := what()):
        assert time.monotonic() < deadline, evidence()
        time.sleep(0.05)
    return found


class Nats:
    """A nats-server with JetStream and its MQTT door; it keeps its port and its data over a restart."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.port, self.mqtt_port = free_ports(2)
        self.url, self.mqtt = f"nats://127.0.0.1:{self.port}", f"mqtt://127.0.0.1:{self.mqtt_port}"
        config = folder / "nats.conf"
        config.write_text(
            f'server_name: one\nlisten: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{folder}/data" }}\nmqtt {{ listen: "127.0.0.1:{self.mqtt_port}" }}\n'
        )
        self._command, self._log = [str(binary), "-c", str(config)], folder / "nats.log"

    def running(self) -> Any:
        return running(self._command, self.mqtt_port, self._log)


class Kafka:
    """A single Kafka in KRaft mode."""

    def __init__(self, jars: Path, folder: Path) -> None:
        self.port, controller = free_ports(2)
        self.url = f"kafka://127.0.0.1:{self.port}"
        config = folder / "server.properties"
        lines = [
            "process.roles=broker,controller", "node.id=1", f"controller.quorum.voters=1@127.0.0.1:{controller}",
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}", "controller.listener.names=CONTROLLER",
            f"log.dirs={folder}/data", "offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
            "group.initial.rebalance.delay.ms=0", "auto.create.topics.enable=true",
        ]  # fmt: skip
        config.write_text("\n".join(lines) + "\n")
        java = ["java", "-Xmx384m", "-cp", f"{jars}/*"]
        subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "-t", uuid.uuid4().hex[:22], "-c", str(config)],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        self._command, self._log = [*java, "kafka.Kafka", str(config)], folder / "kafka.log"

    def running(self) -> Any:
        return running(self._command, self.port, self._log)


class Double:
    """A prediction server of the small fleet, as a process: remaining life is 100 less the newest pressure."""

    CODE = """
import json, struct, sys
import msgspec
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def answer(self, body):
        content = json.dumps(body).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(content))); self.end_headers()
        self.wfile.write(content)
    def do_GET(self):
        self.answer({"fleet": {"name": "pumps", "digest": sys.argv[2]}, "window": 4, "model_version": "1"})
    def do_POST(self):
        body = msgspec.msgpack.decode(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"model_version": "1", "predictions": [
            {"rul": 100.0 - struct.unpack("<3f", one["rows"][-12:])[1], "lower": 1.0, "upper": 99.0, "flags": [],
             "model_version": "1"}
            for one in body["windows"]]})
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

    def __init__(self, digest: str, folder: Path) -> None:
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._command, self._log = [sys.executable, "-c", self.CODE, str(self.port), digest], folder / "server.log"

    def running(self) -> Any:
        return running(self._command, self.port, self._log)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Double]:
    from driftloop.settings import Settings

    (tmp_path / "fleet.toml").write_text(COUNTED)
    double = Double(Settings(fleet=str(tmp_path / "fleet.toml")).schema.digest, tmp_path)
    with double.running():
        yield double


def units_of(process: Process) -> dict[str, list[int]]:
    """The steps of each unit that were answered."""
    found = {}
    for one in process.http.get("/units", params={"limit": 1000}).json()["units"]:
        answers = process.http.get(f"/units/{one['unit']}").json()["predictions"]
        found[one["unit"]] = [answer["step"] for answer in answers]
    return found


def log_of(process: Process) -> Callable[[], str]:
    return lambda: process.http.get("/status").text + (process.folder / "log").read_text()[-3000:]


def replay(process: Process, file: Path, to: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "driftloop.cli", "units", "replay", str(file), "--to", to, "--rate", "2000"],
        env=process.environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def table(folder: Path, units: Sequence[str], hours: int) -> Path:
    path = folder / "rows.csv"
    lines = [f"{unit},{hour},3,{hour},2" for unit in units for hour in range(1, hours + 1)]
    path.write_text("\n".join(["pump,hour,speed,pressure,Flow (l/s)", *lines]) + "\n")
    return path


def test_rows_by_nats_and_mqtt_survive_kills_and_a_broker_that_goes_away(
    built: dict[str, Path], tmp_path: Path, server: Double
) -> None:
    nats = Nats(built["nats"], tmp_path)
    variables = {"DRIFTLOOP_UNITS_STREAM": nats.url, "DRIFTLOOP_SERVER_URL": server.url}
    variables["DRIFTLOOP_UNITS_LATENESS_S"] = "1"
    with Process(tmp_path / "state", COUNTED, **variables) as process:
        # Without a broker the service takes rows, and says what is missing.
        assert process.http.post("/telemetry", json=row("h", 1)).json()["results"] == ["stored"]
        until(lambda: "nats://" in process.http.get("/status").json()["streaming"])
        with nats.running():
            until(lambda: process.http.get("/status").json()["streaming"] == "yes", log_of(process))
            replay(process, table(tmp_path, "ab", 60), nats.url)
            until(lambda: units_of(process).get("b") == list(range(1, 61)), log_of(process))
            process.kill()
            replay(process, table(tmp_path, "cd", 60), nats.mqtt)
            process.start()
            # Again: every row is known, and nothing is answered twice.
            replay(process, table(tmp_path, "ab", 60), nats.url)
            until(lambda: len(units_of(process).get("d", [])) == 60, log_of(process))
        with nats.running():
            replay(process, table(tmp_path, "e", 5), nats.url)
            until(lambda: units_of(process).get("e") == [1, 2, 3, 4, 5], log_of(process))
            # Names are no part of subjects, so that a dot or a wildcard in one is nothing special.
            replay(process, table(tmp_path, ["x.y.z", "*.>"], 2), nats.url)
            # QoS 0 is sent once and not confirmed; what arrives is kept like anything else.
            mqtt_send(nats, row("f", 1), qos=0)
            until(lambda: units_of(process).get("*.>") == [1, 2] and units_of(process).get("f") == [1], log_of(process))
            bad = asyncio.run(nats_bad_messages(nats.url))
            told = asyncio.run(nats_told(nats.url))
            lives = nats_lives(nats, process)
        steps = units_of(process)
    assert {unit: len(set(found)) for unit, found in steps.items()} == {
        "a": 60,
        "b": 60,
        "c": 60,
        "d": 60,
        "e": 5,
        "h": 1,
        "f": 1,
        "g": 1,
        "x.y.z": 2,
        "*.>": 2,
    }
    assert bad
    for unit, found in steps.items():
        # h was answered before there was a broker, and a stream that is new begins with what follows; g came after.
        if unit not in ("h", "g"):
            assert {one["step"] for one in told if one["unit"] == unit} == set(found), unit
    assert {one["rul"] for one in told if one["unit"] == "e"} == {99.0, 98.0, 97.0, 96.0, 95.0}
    assert lives == ["overhauled", "failed", "running"]


def test_rows_that_were_on_their_way_when_the_service_died_are_not_late(
    built: dict[str, Path], tmp_path: Path, server: Double
) -> None:
    nats = Nats(built["nats"], tmp_path)
    variables = {"DRIFTLOOP_UNITS_STREAM": nats.url, "DRIFTLOOP_SERVER_URL": server.url}
    with (
        nats.running(),
        Process(tmp_path / "state", COUNTED, **{**variables, "DRIFTLOOP_UNITS_LATENESS_S": "10"}) as process,
    ):
        until(lambda: process.http.get("/status").json()["streaming"] == "yes", log_of(process))
        asyncio.run(nats_send(nats.url, IN, row("a", 1)))
        until(lambda: units_of(process).get("a") == [1], log_of(process))
        process.kill()
        asyncio.run(nats_send(nats.url, IN, [row("a", 2), row("a", 3)]))
        asyncio.run(nats_fetched(nats.url))
        asyncio.run(nats_send(nats.url, IN, [row("a", 4), row("a", 5)]))
        process.start()
        until(lambda: 5 in units_of(process).get("a", []), log_of(process))
        assert units_of(process)["a"] == [1, 2, 3, 4, 5]


async def nats_fetched(url: str) -> None:
    """Take the next message as a service does that dies before it has acknowledged it."""
    import nats

    connection = await nats.connect(url)
    taken = await connection.jetstream().pull_subscribe_bind("units-rows", "driftloop-pumps-in")
    [_] = await taken.fetch(1, timeout=LONG_S)
    await connection.close()


def nats_lives(nats: Nats, process: Process) -> list[str]:
    """The lives of a unit of which everything came twice: the broker has forgotten that it was taken."""

    def lives() -> list[str]:
        found = process.http.get("/units/g")
        return [one["state"] for one in found.json()["lives"]] if found.is_success else []

    def hours(*chosen: int) -> None:
        rows = [row("g", hour, pressure=float(hour)) for hour in chosen]
        asyncio.run(nats_send(nats.url, IN, rows))
        until(lambda: len(units_of(process).get("g", [])) == len(chosen), log_of(process))

    hours(1, 2, 3)
    asyncio.run(nats_send(nats.url, EVENTS, {"unit": "g", "kind": "overhauled"}))
    until(lambda: lives() == ["overhauled", "running"], log_of(process))
    hours(4, 5)
    for kind in ("failed", "installed"):
        asyncio.run(nats_send(nats.url, EVENTS, {"unit": "g", "kind": kind}))
    until(lambda: lives() == ["overhauled", "failed", "running"], log_of(process))
    hours(6)
    process.kill()
    asyncio.run(nats_forgets(nats.url))
    process.start()
    until(lambda: asyncio.run(nats_taken(nats.url)), log_of(process))
    for life, rows in ((1, 3), (2, 2), (3, 1)):
        assert process.http.get("/units/g", params={"life": life}).json()["quality"]["rows"] == rows
    return lives()


async def nats_send(url: str, subject: str, body: Any) -> None:
    import nats

    connection = await nats.connect(url)
    await connection.jetstream().publish(subject, json.dumps(body).encode())
    await connection.close()


async def nats_forgets(url: str) -> None:
    import nats

    connection = await nats.connect(url)
    for name in ("units-rows", "units-events"):
        assert await connection.jetstream().delete_consumer("driftloop-pumps-in", name)
    await connection.close()


async def nats_taken(url: str) -> bool:
    """Whether everything that is in the stream was taken and acknowledged."""
    import nats

    connection = await nats.connect(url)
    try:
        found = [
            await connection.jetstream().consumer_info("driftloop-pumps-in", name)
            for name in ("units-rows", "units-events")
        ]
    except nats.js.errors.NotFoundError:
        return False
    finally:
        await connection.close()
    return all(not one.num_pending and not one.num_ack_pending for one in found)


def mqtt_send(nats: Nats, body: Any, qos: int) -> None:
    from paho.mqtt import publish

    publish.single(
        "driftloop/pumps/rows", json.dumps(body), qos=qos, hostname="127.0.0.1", port=nats.mqtt_port,
        client_id=f"test-{uuid.uuid4().hex[:8]}",
    )  # fmt: skip


async def nats_bad_messages(url: str) -> list[Any]:
    """Send what is no row, and a row that contradicts; what is said of them."""
    import nats

    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    said = await jetstream.subscribe("driftloop.pumps.refused", ordered_consumer=True)
    await jetstream.publish(IN, b"{")
    await jetstream.publish(IN, json.dumps(row("e", 1, flow=77.0)).encode())
    await jetstream.publish(EVENTS, json.dumps({"unit": "nobody", "kind": "failed"}).encode())
    found = [json.loads((await said.next_msg(timeout=LONG_S)).data) for _ in range(3)]
    await connection.close()
    return [one["message"] for one in found]


async def nats_told(url: str) -> list[dict[str, Any]]:
    import nats

    connection = await nats.connect(url)
    subscription = await connection.jetstream().subscribe(OUT, ordered_consumer=True)
    found = []
    info = await connection.jetstream().stream_info("driftloop-pumps-out", subjects_filter=OUT)
    for _ in range((info.state.subjects or {}).get(OUT, 0)):
        found.append(json.loads((await subscription.next_msg(timeout=LONG_S)).data))
    await connection.close()
    return found


def test_rows_and_life_events_by_kafka_survive_a_kill_and_a_broker_that_is_restarted(
    built: dict[str, Path], tmp_path: Path, server: Double
) -> None:
    kafka = Kafka(built["kafka"], tmp_path)
    variables = {"DRIFTLOOP_UNITS_STREAM": kafka.url, "DRIFTLOOP_SERVER_URL": server.url}
    variables["DRIFTLOOP_UNITS_LATENESS_S"] = "1"
    with Process(tmp_path / "state", COUNTED, **variables) as process, ExitStack() as stack:
        stack.enter_context(kafka.running())
        until(lambda: process.http.get("/status").json()["streaming"] == "yes", log_of(process))
        replay(process, table(tmp_path, "ab", 60), kafka.url)
        until(lambda: units_of(process).get("b") == list(range(1, 61)), log_of(process))
        process.kill()
        replay(process, table(tmp_path, "ab", 80), kafka.url)
        process.start()
        until(lambda: units_of(process).get("b") == list(range(1, 81)), log_of(process))
        stack.close()
        until(lambda: process.http.get("/status").json()["streaming"] != "yes", log_of(process))
        stack.enter_context(kafka.running())
        replay(process, table(tmp_path, ["c.1"], 20), kafka.url)
        until(lambda: units_of(process).get("c.1") == list(range(1, 21)), log_of(process))
        asyncio.run(kafka_send(kafka, EVENTS, {"unit": "a", "kind": "failed", "who": "a stream"}))
        until(lambda: process.http.get("/units/a").json()["state"] == "failed", log_of(process))
        steps = units_of(process)
        told = asyncio.run(
            kafka_told(kafka, lambda found: len({one["step"] for one in found if one["unit"] == "b"}) == 80)
        )
    assert steps == {"b": list(range(1, 81)), "c.1": list(range(1, 21))}
    assert {one["step"] for one in told if one["unit"] == "a"} == set(range(1, 81))


async def kafka_send(kafka: Kafka, topic: str, body: Any) -> None:
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{kafka.port}") as producer:
        await producer.send_and_wait(topic, json.dumps(body).encode())


async def kafka_told(kafka: Kafka, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    from aiokafka import AIOKafkaConsumer

    found: list[dict[str, Any]] = []
    async with AIOKafkaConsumer(OUT, bootstrap_servers=f"127.0.0.1:{kafka.port}", auto_offset_reset="earliest") as told:
        deadline = time.monotonic() + LONG_S
        while not enough(found) and time.monotonic() < deadline:
            for messages in (await told.getmany(timeout_ms=500)).values():
                found += [json.loads(message.value) for message in messages]
    return found
