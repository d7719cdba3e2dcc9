"""The interface over real HTTP: answers, refusals, documentation, swaps under load."""

import asyncio
import gc
import gzip
import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from driftloop.fleet.fleet_writer import toml_text
from driftloop.serving.app import create_app
from driftloop.serving.openapi import bad_requests, requests
from driftloop.settings import Settings
from live_server import running
from serving_bundles import CMAPSS, PUMPS, FakeRegistry, row, write

REQUESTS, BAD_REQUESTS = requests(CMAPSS), bad_requests(CMAPSS)
JSON = {"Content-Type": "application/json"}
ROUNDS = hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def metric(client: httpx.Client, line: str) -> float:
    everything = client.get("/metrics").text.replace('fleet="cmapss",', "")
    found = [text for text in everything.splitlines() if text.startswith(line + " ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def until(condition: Callable[[], bool]) -> None:
    """Ask until it is so; each time asks a server, so no pause is needed."""
    for _ in range(5000):
        if condition():
            return
    raise AssertionError("did not happen")


def test_one_window_is_answered_with_everything_the_model_says(shared: httpx.Client) -> None:
    body = {"rows": [row(1.0)] * 9 + [row(7.0)], "engine_id": "eng-1", "cycle": 10, "request_id": "mine"}
    assert shared.post("/predict", json=body).json() == {
        "rul": 1007.0,
        "lower": 997.0,
        "upper": 1017.0,
        "regime": 0,
        "flags": [],
        "model_version": "1",
        "request_id": "mine",
        "engine_id": "eng-1",
        "cycle": 10,
    }


def test_what_drives_a_prediction_adds_up_and_is_not_counted_as_traffic(shared: httpx.Client) -> None:
    counted = metric(shared, 'driftloop_predictions_total{model_version="1"}')
    body = {"rows": [row(3.0)] * 4 + [row(7.0)]}
    told = shared.post("/explain", json=body).json()
    assert (told["rul"], told["reference"], told["model_version"]) == (1007.0, 1000.0, "1")
    assert told["method"] == "integrated gradients"
    first, *others = told["contributions"]
    assert first == {"sensor": "sensor_1", "unit": "°R", "steps": pytest.approx(7.0, abs=0.02)}
    assert [part["steps"] for part in others] == [0.0] * 20
    assert told["unexplained"] == pytest.approx(0.0, abs=0.02)
    assert metric(shared, 'driftloop_predictions_total{model_version="1"}') == counted


def test_a_batch_is_not_explained_and_a_bad_window_is_refused_as_by_predict(shared: httpx.Client) -> None:
    batch = shared.post("/explain", json={"windows": [{"rows": [row()]}]})
    assert batch.status_code == 422
    assert batch.json()["detail"][0]["field"] == "windows"
    for status, content in BAD_REQUESTS.values():
        refused = shared.post("/explain", content=content, headers=JSON)
        assert refused.status_code == status
        assert refused.json() == shared.post("/predict", content=content, headers=JSON).json()


def test_a_short_history_in_an_unseen_regime_is_flagged_and_given_an_id(shared: httpx.Client) -> None:
    answer = shared.post("/predict", json={"rows": [row(7.0, setting_1=1e30)]}).json()
    assert answer["flags"] == ["unseen_regime", "out_of_distribution", "short_history"]
    assert (answer["lower"], answer["upper"]) == (0.0, 125.0)
    assert answer["regime"] == -1
    assert len(answer["request_id"]) == 16
    assert "engine_id" not in answer


def test_a_batch_is_answered_in_order_by_one_version(shared: httpx.Client) -> None:
    windows = [{"rows": [row(n)] * (1 + n % 7), "request_id": str(n)} for n in range(8)]
    answer = shared.post("/predict", json={"windows": windows}).json()
    assert answer["model_version"] == "1"
    assert [(one["request_id"], one["rul"]) for one in answer["predictions"]] == [
        (str(n), 1000.0 + n) for n in range(8)
    ]


def test_rows_unlike_any_engine_are_answered_with_finite_numbers_and_counted(shared: httpx.Client) -> None:
    line = 'driftloop_feature_bin_total{bin="3",feature="sensor_21",model_version="1"}'
    before = metric(shared, line)
    answer = shared.post("/predict", json={"rows": [[1e30] * 24]})
    assert answer.status_code == 200
    assert answer.json()["rul"] == 1900.0
    assert metric(shared, line) == before + 1


@pytest.mark.parametrize("name", REQUESTS)
def test_the_documented_examples_work(shared: httpx.Client, name: str) -> None:
    answer = shared.post("/predict", json=REQUESTS[name]["value"])
    assert answer.status_code == 200
    assert ("predictions" in answer.json()) == ("windows" in REQUESTS[name]["value"])


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_the_documented_refusals_are_true(shared: httpx.Client, name: str) -> None:
    status, body = BAD_REQUESTS[name]
    answer = shared.post("/predict", content=body, headers=JSON)
    document = shared.get("/openapi.json").json()
    documented = document["paths"]["/predict"]["post"]["responses"][str(status)]["content"]["application/json"]
    assert answer.status_code == status
    assert answer.json() == documented["examples"][name]["value"]


def test_a_declared_body_over_the_limit_is_refused_without_reading_it(shared: httpx.Client) -> None:
    with socket.create_connection((shared.base_url.host, shared.base_url.port or 0), timeout=10) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        head += "Content-Length: 52428800\r\n\r\n"
        connection.sendall(head.encode())
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'{"detail":[{"field":"body","message":"is larger than 100000 bytes' in answer


def test_a_50_mb_body_is_refused_whether_it_says_its_length_or_not(shared: httpx.Client) -> None:
    piece = b" " * 2**20

    def pieces() -> Iterator[bytes]:
        for _ in range(50):
            yield piece

    for content in (piece * 50, pieces()):
        answer = shared.post("/predict", content=content, headers=JSON)
        assert answer.status_code == 413
        assert answer.json()["detail"][0]["field"] == "body"
    assert shared.get("/healthz").status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_another_content_type_is_refused_with_what_to_send(shared: httpx.Client, kind: str) -> None:
    answer = shared.post("/predict", content=json.dumps({"rows": [row()]}), headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert answer.json()["detail"][0]["field"] == "Content-Type"


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json", None]
)
def test_json_content_types_and_none_at_all_are_taken(shared: httpx.Client, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert shared.post("/predict", content=json.dumps({"rows": [row()]}), headers=headers).status_code == 200


def test_unknown_paths_and_methods_are_refused_in_the_same_form(shared: httpx.Client) -> None:
    assert shared.get("/nowhere").json() == {"detail": [{"field": "path", "message": "Not Found"}]}
    answer = shared.get("/predict")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert shared.head("/predict").status_code == 405
    assert answer.json() == {"detail": [{"field": "method", "message": "Method Not Allowed"}]}


def test_a_client_that_goes_away_in_the_middle_of_its_body_harms_nobody(shared: httpx.Client) -> None:
    for _ in range(5):
        with socket.create_connection((shared.base_url.host, shared.base_url.port or 0)) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
    assert shared.post("/predict", json={"rows": [row()]}).status_code == 200
    assert 'status="500"' not in shared.get("/metrics").text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["rows", "windows", "x"]), inner),
    max_leaves=20,
)


@ROUNDS
@given(json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
def test_no_body_is_ever_a_500(shared: httpx.Client, body: bytes) -> None:
    answer = shared.post("/predict", content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert all(problem["field"] and problem["message"] for problem in answer.json()["detail"])


OPERATIONS = [
    ("POST /predict", GenerationMode.POSITIVE),
    ("POST /predict", GenerationMode.NEGATIVE),
    *((f"GET {path}", GenerationMode.POSITIVE) for path in ("/healthz", "/readyz", "/metrics", "/model")),
]


@pytest.mark.parametrize(("operation", "mode"), OPERATIONS)
def test_the_server_does_what_its_documentation_says(
    shared: httpx.Client, operation: str, mode: GenerationMode
) -> None:
    """Requests made up from the documentation, or against it; statuses, types and bodies are as documented."""
    method, path = operation.split()
    document = schemathesis.openapi.from_url(f"{shared.base_url}/openapi.json")

    @ROUNDS
    @given(case=document[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate()

    check()


def test_everything_that_is_documented_has_an_example_or_none_is_needed(shared: httpx.Client) -> None:
    document = shared.get("/openapi.json").json()
    assert set(document["paths"]) == {"/predict", "/explain", "/healthz", "/readyz", "/metrics", "/model"}
    predict = document["paths"]["/predict"]["post"]
    assert set(predict["responses"]) == {"200", "400", "413", "415", "422", "503"}
    answers = [answer["content"]["application/json"] for answer in predict["responses"].values()]
    assert all(answer["examples"] for answer in answers)
    assert document["components"]["schemas"]["Batch"]["properties"]["windows"]["maxItems"] == 8


def test_the_page_of_documentation_loads_nothing_from_elsewhere(shared: httpx.Client) -> None:
    page = shared.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    loaded = re.findall(r'(?:href|src)="(docs/[^"]+)"', page.text)
    assert len(loaded) == 4
    assert all(shared.get(f"/{name}").status_code == 200 for name in loaded)
    assert "http://" not in page.text
    assert "https://" not in page.text


# Servers of their own.


def test_until_a_model_is_registered_the_stub_is_served_and_says_so(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"rows": [row()]}).json()
    assert (answer["rul"], answer["flags"], answer["model_version"]) == (125.0, ["stub"], "stub")
    assert client.get("/readyz").json() == {"ready": True, "model_version": "stub"}
    model = client.get("/model").json()
    assert (model["stub"], model["metadata"], model["model_version"]) == (True, None, "stub")
    assert metric(client, 'driftloop_predictions_total{model_version="stub"}') == 1.0


def test_a_promoted_version_is_served_and_shown(client: httpx.Client, registry: FakeRegistry) -> None:
    registry.publish("2", 2)
    until(lambda: client.get("/readyz").json()["model_version"] == "2")
    assert client.post("/predict", json={"rows": [row(5.0)]}).json()["rul"] == 2005.0
    model = client.get("/model").json()
    assert (model["stub"], model["window"], model["parent_version"]) == (False, 5, "1")
    assert model["metadata"]["parameters"] == {"hidden": 1}
    assert not {"manifest", "example"} & set(model["metadata"])
    assert metric(client, f'driftloop_model_info{{digest="{model["digest"]}",model_version="2"}}') == 1.0
    assert metric(client, 'driftloop_model_swaps_total{result="ok"}') == 1.0


async def test_under_load_every_answer_is_of_the_version_it_names(client: httpx.Client, registry: FakeRegistry) -> None:
    """Swaps back and forth; single windows and batches, all answered, none mixed."""
    for version in (1, 2, 3):
        write(registry.folder / str(version), version)
    registry.production = "1"
    until(lambda: client.get("/readyz").json()["model_version"] == "1")
    seen: list[str] = []
    stop = False

    def check(answer: dict[str, Any], sensor: float) -> None:
        assert answer["rul"] == 1000.0 * int(answer["model_version"]) + sensor
        seen.append(answer["model_version"])

    async def ask(http: httpx.AsyncClient, number: int) -> None:
        while not stop:
            if number % 3:
                answer = await http.post("/predict", json={"rows": [row(number)] * (1 + number % 8)})
                check(answer.json(), number)
            else:
                windows = [{"rows": [row(n)] * (1 + n % 7)} for n in range(8)]
                answer = await http.post("/predict", json={"windows": windows})
                for n, one in enumerate(answer.json()["predictions"]):
                    assert one["model_version"] == answer.json()["model_version"]
                    check(one, n)
            assert answer.status_code == 200

    async with httpx.AsyncClient(base_url=client.base_url, trust_env=False, timeout=30) as http:
        asking = [asyncio.create_task(ask(http, number)) for number in range(12)]
        for version in ("2", "3", "1", "2"):
            registry.production = version
            count = len(seen)
            while version not in seen[count:]:
                done, _ = await asyncio.wait(asking, timeout=0.01)
                assert not done
        stop = True
        await asyncio.gather(*asking)
    for version in "123":
        counted = metric(client, f'driftloop_predictions_total{{model_version="{version}"}}')
        assert counted == seen.count(version)
    assert 'status="500"' not in client.get("/metrics").text


def test_what_waits_too_long_is_turned_away_with_a_time_to_come_back(
    registry: FakeRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("driftloop.serving.app.MOST_WAITING", 0)
    app = create_app(settings, registry)
    batcher = app.state.parts.batcher
    with running(app) as client:
        batcher._waiting = 1
        answer = client.post("/predict", json={"rows": [row()]})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["detail"][0]["message"].startswith("1 windows are waiting")
        batcher._waiting = 0
        assert client.post("/predict", json={"rows": [row()]}).status_code == 200


def test_a_model_that_fails_is_a_503_and_the_server_goes_on(registry: FakeRegistry, settings: Settings) -> None:
    app = create_app(settings, registry)
    slot = app.state.parts.slot
    with running(app) as client:
        good = slot.engine
        slot.engine = type(
            "Failing", (), {"predict": lambda *_: 1 / 0, "version": "x", "digest": "", "reader": good.reader}
        )()
        answer = client.post("/predict", json={"rows": [row()]})
        assert (answer.status_code, answer.json()["detail"][0]["message"]) == (503, "the model could not answer")
        slot.engine = good
        assert client.post("/predict", json={"rows": [row()]}).status_code == 200


def test_predictions_are_in_the_log_after_the_server_has_ended(
    serve: Callable[[], "contextmanager[httpx.Client]"], settings: Settings
) -> None:
    with serve() as client:  # type: ignore[attr-defined]
        for n in range(20):
            client.post("/predict", json={"rows": [row(n)], "engine_id": f"eng-{n}", "cycle": n})
    lines = Path(settings.state_dir, "inference", "inference-0.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["engine_id"], r["cycle"], r["row"][3]) for r in records] == [(f"eng-{n}", n, n) for n in range(20)]
    assert set(records[0]) == {
        "time",
        "model_version",
        "engine_id",
        "cycle",
        "request_id",
        "rul",
        "lower",
        "upper",
        "regime",
        "flags",
        "row",
        "newest",
    }


def test_a_server_gives_its_event_loop_the_interpreter_back_soon(
    serve: Callable[[], "contextmanager[httpx.Client]"],
) -> None:
    before = sys.getswitchinterval()
    with serve() as client:
        client.get("/healthz")
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    assert sys.getswitchinterval() == before


def test_a_server_does_not_look_for_garbage_among_what_stays(
    serve: Callable[[], "contextmanager[httpx.Client]"],
) -> None:
    with serve() as client:
        client.get("/healthz")
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_every_get_route_answers_head_too(shared: httpx.Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/model", "/docs", "/openapi.json"):
        answer = shared.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
        assert answer.headers["Content-Type"] == shared.get(path).headers["Content-Type"]


GZIP = {**JSON, "Content-Encoding": "gzip"}


def test_a_gzip_body_is_taken(shared: httpx.Client) -> None:
    body = json.dumps({"rows": [row(7.0)]}).encode()
    half = len(body) // 2
    for packed in (gzip.compress(body), gzip.compress(body[:half]) + gzip.compress(body[half:])):
        answer = shared.post("/predict", content=packed, headers=GZIP)
        assert (answer.status_code, answer.json()["rul"]) == (200, 1007.0)
    plain = shared.post("/predict", content=body, headers={**JSON, "Content-Encoding": "identity"})
    assert plain.status_code == 200


def test_a_gzip_body_is_never_unpacked_beyond_the_limit(shared: httpx.Client) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    answer = shared.post("/predict", content=bomb, headers=GZIP)
    assert (answer.status_code, answer.json()["detail"][0]["field"]) == (413, "body")
    parts = gzip.compress(b"") * 4000
    assert shared.post("/predict", content=parts, headers=GZIP).json()["detail"][0]["message"].endswith("send one")


@pytest.mark.parametrize(
    ("encoding", "content", "status", "message"),
    [
        ("br", b"{}", 415, "is br; send gzip, or the bare JSON"),
        ("gzip, gzip", b"{}", 415, "is gzip, gzip; send gzip, or the bare JSON"),
        ("gzip", b"{}", 400, "is no gzip, as Content-Encoding says"),
        ("gzip", gzip.compress(b"{}" * 99)[:-9], 400, "is gzip that is cut short"),
        ("gzip", b"", 400, "is empty"),
    ],
)
def test_another_encoding_is_refused_by_its_name(
    shared: httpx.Client, encoding: str, content: bytes, status: int, message: str
) -> None:
    answer = shared.post("/predict", content=content, headers={**JSON, "Content-Encoding": encoding})
    assert answer.status_code == status
    assert message in answer.json()["detail"][0]["message"]


def test_a_server_whose_only_version_cannot_be_used_is_not_ready_and_says_why(
    registry: FakeRegistry, serve: Callable[[], "contextmanager[httpx.Client]"]
) -> None:
    registry.publish("1", 1, schema=PUMPS)
    with serve() as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "production version 1 cannot be used" in answer.json()["detail"][0]["message"]
        assert client.get("/healthz").status_code == 200
        registry.publish("2", 2)
        until(lambda: client.get("/readyz").status_code == 200)
        registry.publish("3", 3, nan=True)
        until(lambda: "refused" in client.get("/readyz").json())
        ready = client.get("/readyz").json()
        assert (ready["ready"], ready["model_version"], ready["refused"]["version"]) == (True, "2", "3")
        assert client.get("/model").json()["refused"]["kind"] == "unusable"


# A fleet of four columns, three of which may be missing.


@pytest.fixture(scope="module")
def pumps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("pumps")
    (folder / "fleet.toml").write_text(toml_text(PUMPS), encoding="utf-8")
    registry = FakeRegistry(folder / "registry")
    registry.publish("1", 1, schema=PUMPS)
    settings = Settings(fleet=str(folder / "fleet.toml"), state_dir=folder / "state")
    with running(create_app(settings, registry)) as client:
        yield client


def test_missing_values_are_held_and_flagged(pumps: httpx.Client) -> None:
    body = {"rows": [[1, 7, 3, 4]] * 9 + [{"speed": 1, "temperature_c": 7}], "unit_id": "p-1", "step": 10}
    answer = pumps.post("/predict", json=body).json()
    assert answer["flags"] == ["held:flow", "held:vibration"]
    assert (answer["rul"], answer["lower"], answer["upper"]) == (1007.0, 997.0, 1017.0)
    assert (answer["unit_id"], answer["step"]) == ("p-1", 10)
    assert not {"engine_id", "cycle"} & set(answer)


def test_with_too_much_missing_the_interval_is_the_whole_range(pumps: httpx.Client) -> None:
    answer = pumps.post("/predict", json={"rows": [[1, 7, None, None]], "engine_id": "p-1"}).json()
    assert answer["flags"] == ["short_history", "held:flow", "held:vibration", "too_much_missing"]
    assert (answer["lower"], answer["upper"], answer["engine_id"]) == (0.0, 125.0, "p-1")


def test_the_document_speaks_the_words_of_the_fleet(pumps: httpx.Client) -> None:
    document = pumps.get("/openapi.json").json()
    assert "pumps, in hours" in document["info"]["description"]
    row_ = document["components"]["schemas"]["Row"]
    assert row_["properties"]["temperature_c"]["description"] == "of the bearing, in °C, plausible from -20 to 150"
    assert row_["required"] == ["speed"]
    prediction = document["components"]["schemas"]["Prediction"]
    assert "held:<column>" in prediction["description"]
    assert "unit_id" in prediction["properties"]
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert pumps.post("/predict", json=example["value"]).status_code == 200
    for status in ("400", "422"):
        refused = document["paths"]["/predict"]["post"]["responses"][status]["content"]["application/json"]["examples"]
        assert refused
    assert "cycle" not in prediction["description"]


def test_the_model_page_shows_the_fleet(pumps: httpx.Client) -> None:
    fleet = pumps.get("/model").json()["fleet"]
    assert (fleet["name"], fleet["unit"], fleet["step"]) == ("pumps", "pump", "hour")
    assert fleet["digest"] == PUMPS.digest
    assert fleet["columns"][1] == {
        "name": "temperature_c", "kind": "sensor", "unit": "°C", "description": "of the bearing", "may_be_missing": True
    }  # fmt: skip


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_another_fleets_server_does_what_its_documentation_says(pumps: httpx.Client, mode: GenerationMode) -> None:
    document = schemathesis.openapi.from_url(f"{pumps.base_url}/openapi.json")

    @ROUNDS
    @given(case=document["/predict"]["POST"].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate()

    check()
