"""A damaged byte, wherever something of the loop reads JSON: an error for people, or the documented way round it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftloop import durable
from driftloop.access import sessions, tokens
from driftloop.access.files import Kept
from driftloop.drift.alerts import keep, read_alert, read_ended, read_kept, save_alerts
from driftloop.drift.baseline import decode_baseline
from driftloop.drift.source import PrometheusSource
from driftloop.errors import DriftloopError
from driftloop.fleet.runs import Run
from driftloop.loop import dataset, migration, state
from driftloop.loop.feedback import FeedbackLog, Outcome
from driftloop.loop.judge import concept
from driftloop.loop.judge.plan import Plan
from driftloop.loop.store import Store
from driftloop.model.bundle import METADATA, Example, ManifestEntry, Metadata, read_metadata, write_metadata
from driftloop.protocol.alerts import Alert
from driftloop.protocol.causes import FLEET_CHANGE
from driftloop.training import configuration

SINCE = "2026-01-31T12:00:00.000Z"
ALERT = Alert(True, FLEET_CHANGE, "1", SINCE, ["sensor_4"], 500, 3.0)
CHANGE = concept.Change("1", SINCE, "eng-1")
RUN = Run("eng-1", np.arange(48.0).reshape(2, 24))
ENTRY = ManifestEntry(run_id=RUN.run_id, role="train", sha256=RUN.sha256, cycles=2, domain=0)


def error_of(call: Callable[[Any], object], argument: Any) -> str | None:
    """What is told to people; None where nothing is wrong. Any other exception is a fault."""
    try:
        call(argument)
    except DriftloopError as error:
        return str(error)
    return None


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with a byte flipped, put in, taken out, or the rest cut off."""
    where = draw(st.integers(0, len(content) - 1))
    byte = draw(
        st.sampled_from([b"\xe9", b"\xff", b"\0", b"\n", b'"', b"[", b"{", b"1", b"\xed\xa0\x80"])
        | st.binary(max_size=3)
    )
    how = draw(st.sampled_from(["instead", "between", "end"]))
    return content[:where] + byte + (b"" if how == "end" else content[where + (how == "instead") :])


def write_state(path: Path) -> None:
    attempt = state.Attempt(
        "fleet_change:1", "1", SINCE, run="r", started_at=SINCE, step="caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    )
    decided = state.Decision("by_hand:1:" + SINCE, "promoted", "better", SINCE, 80, "2", 31.5)
    whole = state.State("running", attempt, [state.Attempt("concept:1", "1", SINCE)])
    whole.settle(decided)
    durable.write_json(path, {**msgspec.to_builtins(whole), "firing": {"fleet_change:1": SINCE}})


def write_bundle(path: Path) -> None:
    example = Example([[[0.5] * 24] * 2], [1.0], [0.5], [2.0])
    path.parent.mkdir(exist_ok=True)
    write_metadata(
        path.parent,
        Metadata(
            window=30,
            regimes=1,
            manifest=[ENTRY],
            example=example,
            data_source="simulated",
            seed=0,
            training="full",
            cap=125,
        ),
    )


def write_dataset(path: Path) -> None:
    dataset.write(Plan([RUN], [], [ENTRY], [], [], []), path.parent)


def book(kind: type[msgspec.Struct], content: object) -> tuple[Callable[[Path], object], Callable[[Path], object]]:
    """How a file of the access folder is written, always with the same bytes, and how it is read."""
    return lambda path: durable.write_json(path, content), lambda path: Kept(path, kind).read()


TOKEN = {"name": "anna", "role": "view", "created": SINCE, "rate": 5.0, "hashes": [{"sha256": "0" * 64, "until": None}]}
SESSION = {"name": "anna", "stamp": "stamp", "began": 5.0, "seen": 6.0}

READERS: list[tuple[str, Callable[[Path], object], Callable[[Path], object]]] = [
    ("state.json", write_state, migration.read_state),
    ("alarm.json", lambda path: save_alerts(path, ALERT, None), read_alert),
    ("ended.json", lambda path: save_alerts(path, None, ALERT), read_ended),
    ("concept.json", lambda path: keep(path, CHANGE), lambda path: read_kept(path, concept.Change)),
    (METADATA, write_bundle, lambda path: read_metadata(path.parent)),
    ("plan.json", write_dataset, lambda path: dataset.read(path.parent)),
    ("rows.npz", write_dataset, lambda path: dataset.read(path.parent)),
    ("training.json", lambda path: durable.write_json(path, {"steps": 5, "seed": 3}), configuration.read),
    (tokens.FILE, *book(tokens.Book, {"tokens": [TOKEN]})),
    (sessions.FILE, *book(sessions.Book, {"sessions": {"key": SESSION}})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "read"), READERS, ids=[name for name, _, _ in READERS])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(data=st.data())
def test_a_damaged_file_is_an_error_for_people_or_is_passed_over(
    name: str, write: Callable[[Path], object], read: Callable[[Path], object], data: st.DataObject, tmp_path: Path
):
    path = tmp_path / name
    write(path)
    assert read(path) is not None
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    said = error_of(read, path)
    assert said is None or str(tmp_path) in said


def write_segment(folder: Path, count: int) -> Path:
    """Events as they were kept before the store."""
    segment = folder / "events" / "events-000000000001.jsonl"
    for seq in range(1, count + 1):
        durable.append_json_line(segment, {"seq": seq, "time": SINCE, "kind": "verdict", "model_version": "1"})
    return segment


def migrated(folder: Path) -> tuple[list[int], int]:
    """The numbers of the events that the store has taken over, and that of the next."""
    store = migration.open_store(folder, keep=1000)
    seen = [event["seq"] for event in store.read()]
    new = store.append("promoted")["seq"]
    assert [event["kind"] for event in store.read(new - 1)] == ["promoted"]
    store.close()
    return seen, new


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_whatever_stands_in_a_log_of_events_numbers_ascend_and_none_is_given_twice(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("events")
    segment = write_segment(folder, 12)
    whole = segment.read_bytes()
    segment.write_bytes(data.draw(damaged(whole)))
    cut_off = len(whole) - segment.stat().st_size > 4
    seen, new = migrated(folder)
    assert seen == sorted(set(seen))
    assert len(seen) >= 10 or cut_off
    assert all(new > seq for seq in seen)


def test_a_damaged_newest_event_leaves_its_number_to_itself(tmp_path: Path):
    segment = write_segment(tmp_path, 2)
    segment.write_bytes(segment.read_bytes()[:-9] + b"\xff" + segment.read_bytes()[-8:])
    assert migrated(tmp_path) == ([1], 3)


def test_a_number_that_does_not_fit_is_passed_over_and_what_follows_is_not(tmp_path: Path):
    segment = write_segment(tmp_path, 5)
    segment.write_bytes(segment.read_bytes().replace(b'"seq": 3', b'"seq": 9'))
    (segment.parent / "events-copy of 1.jsonl").write_text("not ours")
    assert migrated(tmp_path) == ([1, 2, 4, 5], 6)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_damaged_store_is_an_error_for_people_or_reads_as_it_was(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("store") / "loop.db"
    store = Store(path, keep=1000)
    with store.change() as change:
        change.state.fires("fleet_change:1", SINCE)
    for n in range(40):
        store.append("verdict", model_version="1", n=n)
    store.close()
    path.write_bytes(data.draw(damaged(path.read_bytes())))

    def read_all(path: Path) -> None:
        again = Store(path, keep=1000)
        try:
            again.read()
            again.append("promoted")
        finally:
            again.close()

    said = error_of(read_all, path)
    assert said is None or str(path) in said


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_damaged_line_of_feedback_loses_that_line_alone(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("feedback")
    path = folder / "feedback" / "feedback.jsonl"
    outcome = Outcome("c", "cycle 3", "1", 50.0, 40.0, 60.0, 55.0)
    for line in ({"runs": ["a", "b"]}, {"outcomes": [msgspec.to_builtins(outcome)]}, {"runs": ["d"]}):
        durable.append_json_line(path, {"time": SINCE, **line})
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = data.draw(damaged(lines[1].rstrip())).replace(b"\n", b" ") + b"\n"
    path.write_bytes(b"".join(lines))
    store = migration.open_store(folder, keep=100)
    assert {"a", "b", "d"} <= set(FeedbackLog(store).engines())
    store.close()


def test_a_damaged_alarm_is_passed_over_and_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "state.json"
    save_alerts(path, msgspec.structs.replace(ALERT, features=["caf\xe9"]), None)
    path.write_bytes(path.read_bytes().replace(b"\\u00e9", b"\xe9"))
    with caplog.at_level(logging.WARNING):
        assert read_alert(path) is None
    assert "begins anew" in caplog.text


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_whatever_prometheus_says_is_traffic_or_cannot_be_read(data: st.DataObject):
    metric = {"feature": "sensor_1", "bin": "0", "instance": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}
    good = {"status": "success", "data": {"result": [{"metric": metric, "value": [1.5, "7"]}]}}
    content = data.draw(damaged(msgspec.json.encode(good)))
    source = PrometheusSource(
        "http://prometheus", "cmapss", transport=httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    )
    said = error_of(source.read, "1")
    assert said is None or "prometheus" in said
    source.close()


@given(content=st.binary())
def test_a_damaged_baseline_is_a_bundle_that_cannot_be_used(content: bytes):
    for damage in (content, b'{"format": ' + content, b'{"format": "caf\xe9"}'):
        with pytest.raises(DriftloopError):
            decode_baseline(damage)


def test_a_state_that_contradicts_itself_says_what_to_do(tmp_path: Path):
    for change in (
        {"attempt": None},
        {"firing": {"weather:1": SINCE}},
        {"queue": [{"cause": "concept:1", "champion": "1", "requested_at": "noon"}]},
    ):
        write_state(tmp_path / "state.json")
        whole: dict[str, Any] = durable.read_json(tmp_path / "state.json")
        durable.write_json(tmp_path / "state.json", {**whole, **change})
        with pytest.raises(DriftloopError, match="move the file away"):
            migration.read_state(tmp_path / "state.json")
