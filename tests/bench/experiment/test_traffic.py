"""The aging fleet, what may be wrong with it, and the open-loop load."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from driftloop.errors import DriftloopError
from driftloop.fleet.runs import Run
from driftloop.fleets.cmapss.schema import N_SETTINGS
from driftloop_bench.experiment.traffic import (
    AgingFleet,
    Change,
    Load,
    Mixture,
    Request,
    encode,
    failed,
    faulty_runs,
    read_records,
    spread_within_regimes,
    write_records,
)


def a_run(name: str = "eng-1", cycles: int = 5, seed: int = 0) -> Run:
    return Run(name, np.random.default_rng(seed).normal(100, 10, (cycles, 24)).round(4))


@asynccontextmanager
async def a_server(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/predict", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/predict"
    finally:
        await runner.cleanup()


async def prediction(_: web.Request) -> web.Response:
    return web.json_response({"rul": 50.0, "model_version": "1", "flags": ["short_history"]})


def a_request() -> Request:
    return Request("eng-1", 1, 60.0, False, b'{"rows":[[1]]}')


async def load_until(load: Load, records: int) -> None:
    """Run a load until it has sent a number of requests."""
    task = asyncio.create_task(load.run())
    while len(load.records) < records:
        await asyncio.sleep(0.001)
    load.stop()
    await task


def test_an_encoded_row_reads_back_as_the_rows_that_the_reference_model_gets() -> None:
    engine = encode(a_run())
    rows = np.array([json.loads(row) for row in engine.encoded], dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(rows, engine.rows)
    np.testing.assert_allclose(rows, a_run().rows, rtol=1e-6)


def test_labels_are_capped_at_125() -> None:
    assert encode(a_run(cycles=200)).rul[0] == 125
    assert encode(a_run(cycles=200)).rul[-1] == 0


def test_a_request_holds_the_newest_window_and_a_young_engine_sends_what_it_has() -> None:
    engine = encode(a_run(cycles=8))
    fleet = AgingFleet([engine], window=3, seed=0)
    for _ in range(8):
        request = fleet.next_request()
        body = json.loads(request.body)
        assert body["engine_id"] == "eng-1"
        assert body["cycle"] == request.cycle
        assert len(body["rows"]) == min(3, request.cycle)
        np.testing.assert_allclose(body["rows"][-1], engine.rows[request.cycle - 1], rtol=1e-6)
        assert request.rul == 8 - request.cycle


def test_an_engine_that_failed_is_followed_by_one_in_its_first_cycle() -> None:
    fleet = AgingFleet([encode(a_run(cycles=4))], window=3, seed=3)
    cycles = [fleet.next_request().cycle for _ in range(12)]
    assert all(later == (1 if earlier == 4 else earlier + 1) for earlier, later in pairwise(cycles))


@given(seed=st.integers(0, 1000))
def test_the_same_seed_sends_the_same_traffic(seed: int) -> None:
    engines = [encode(a_run(f"eng-{i}", 6, i)) for i in range(3)]
    one, two = (AgingFleet(engines, 4, seed) for _ in range(2))
    assert [one.next_request() for _ in range(20)] == [two.next_request() for _ in range(20)]


def test_a_fleet_without_engines_is_refused() -> None:
    with pytest.raises(DriftloopError, match="live units"):
        AgingFleet([], 30, 0)


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_the_mixture_changes_with_the_first_request_after_the_change(share: float) -> None:
    healthy = AgingFleet([encode(a_run("eng-h", 50))], 3, 0)
    changed = AgingFleet([encode(a_run("eng-c", 50))], 3, 1, changed=True)
    mixture = Mixture(healthy, changed, share, seed=2)
    assert not any(mixture.next_request().changed for _ in range(100))
    mixture.change_now()
    after = [mixture.next_request().changed for _ in range(2000)]
    assert after[0]
    assert abs(np.mean(after) - share) < 0.04


def test_a_bias_is_in_standard_deviations_within_a_regime() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 1, (2000, 24))
    rows[:, :N_SETTINGS] = np.where(np.arange(2000)[:, None] % 2, [0, 0.0, 100], [42, 0.84, 100])
    rows[:, N_SETTINGS:] += np.where(np.arange(2000)[:, None] % 2, 0, 500)
    spread = spread_within_regimes(rows)
    np.testing.assert_allclose(spread, 1, atol=0.1)
    faulty = faulty_runs([Run("eng-1", rows)], Change("bias", sensor=4, sigmas=3), 0)[0]
    difference = faulty.rows - rows
    np.testing.assert_allclose(difference[:, N_SETTINGS + 3], 3 * spread[3])
    assert not np.delete(difference, N_SETTINGS + 3, axis=1).any()


def test_a_stuck_sensor_reads_the_same_everywhere_and_labels_stay_true() -> None:
    runs = [a_run("eng-1", 5, 1), a_run("eng-2", 7, 2)]
    faulty = faulty_runs(runs, Change("stuck", sensor=21), 0)
    assert len({value for run in faulty for value in run.rows[:, -1]}) == 1
    assert [list(run.rul) for run in faulty] == [list(run.rul) for run in runs]


@pytest.mark.parametrize(
    "change", [Change(share=0), Change(share=1.2), Change("bias", sensor=0), Change("stuck", sensor=22)]
)
def test_a_change_that_does_not_exist_is_refused(change: Change) -> None:
    with pytest.raises(DriftloopError, match="give"):
        change.check()


async def test_every_request_leaves_one_record_with_answer_version_and_flags() -> None:
    async with a_server(prediction) as url:
        load = Load(url, 500, a_request)
        await load_until(load, 50)
    assert not failed(load.records)
    record = load.records[0]
    assert (record.rul, record.version, record.flags, record.true_rul) == (50.0, "1", ["short_history"], 60.0)
    assert all(record.answered >= record.sent for record in load.records)
    assert load.wall_s > 0


async def test_a_late_answer_is_a_failure_and_delays_nobody() -> None:
    """Every request hangs; a client that waited, or had few connections, would never send the fiftieth."""
    release = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await release.wait()
        return await prediction(_)

    async with a_server(hang) as url:
        load = Load(url, 200, a_request, timeout_s=1.0)
        await load_until(load, 150)
        release.set()
    assert len(failed(load.records)) == len(load.records)
    assert all("no answer within" in str(record.error) for record in load.records)


async def test_errors_of_the_server_are_failures_and_never_sent_again() -> None:
    seen: Counter[str] = Counter()

    async def fail(request: web.Request) -> web.Response:
        seen[(await request.json())["request_id"]] += 1
        if len(seen) % 3 == 0:
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"detail": "no"}, status=503)

    numbers = iter(range(10_000))

    def numbered() -> Request:
        return Request("eng-1", 1, 1.0, False, json.dumps({"request_id": str(next(numbers))}).encode())

    async with a_server(fail) as url:
        load = Load(url, 500, numbered)
        await load_until(load, 60)
    assert {record.status for record in load.records} == {0, 503}
    assert all(record.error for record in load.records)
    assert set(seen.values()) == {1}


async def test_nobody_listening_is_a_failure_of_every_request() -> None:
    load = Load("http://127.0.0.1:9/predict", 500, a_request)
    await load_until(load, 5)
    assert len(failed(load.records)) == len(load.records)


async def test_the_traffic_log_reads_back_as_it_was_written(tmp_path: Path) -> None:
    async with a_server(prediction) as url:
        load = Load(url, 500, a_request)
        await load_until(load, 5)
    write_records(tmp_path / "traffic.jsonl.gz", load.records)
    assert read_records(tmp_path / "traffic.jsonl.gz") == load.records
