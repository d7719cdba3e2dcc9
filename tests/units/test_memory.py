"""What memory holds is a function of the store, and a row is kept once, whatever the order in which rows come."""

import atexit
import contextlib
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftloop.fleet import lives
from driftloop.fleet.findings import Findings
from driftloop.protocol.problems import RequestRefused
from driftloop.settings import Settings
from driftloop.units import life_events, telemetry, views
from driftloop.units.life_events import PostedEvent
from driftloop.units.predicting import Answer, Step
from driftloop.units.rows import Row
from driftloop.units.service import Service
from driftloop.units.store import Store

from .conftest import CLOCK, COUNTED, REFUSING

LATER = 1e12
MEAN = CLOCK.replace('every = "10s"', 'every = "10s"\nbetween = "mean"')
FILES = {"counter": COUNTED, "clock": CLOCK, "mean": MEAN, "refusing": REFUSING}
rows = st.builds(
    lambda unit, time, value: Row(unit, float(time), (1.0, value, 2.0), None, False, False),
    st.sampled_from("ab"),
    st.integers(1, 60),
    st.sampled_from([1.0, 1.0, 1.0, 5.0]),
)
batch = st.tuples(st.just("rows"), st.lists(rows, min_size=1, max_size=8))
backfill = st.tuples(st.just("backfill"), st.lists(rows, min_size=1, max_size=8))
answered = st.tuples(st.just("answer"), st.none())
event = st.tuples(
    st.just("event"),
    st.tuples(st.sampled_from("ab"), st.sampled_from(["failed", "removed", "overhauled", "installed"])),
)
withdrawn = st.tuples(st.just("withdraw"), st.sampled_from("ab"))
turns = st.tuples(
    st.lists(backfill, max_size=3),
    st.lists(st.one_of(batch, batch, answered, event, withdrawn), min_size=1, max_size=8),
).map(lambda parts: parts[0] + parts[1])
"""History comes before a unit's own rows, as the documentation says."""


@functools.cache
def template(file: str) -> Path:
    """A folder with the fleet file and an empty store: migrating one takes longer than a story."""
    folder = Path(tempfile.mkdtemp(prefix="driftloop-units-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "fleet.toml").write_text(file)
    Store(Settings(fleet=str(folder / "fleet.toml"), state_dir=folder)).close()
    return folder


class Story:
    """A service without threads but the one that writes; answers are made up."""

    def __init__(self, folder: Path, file: str) -> None:
        shutil.copytree(template(file), folder, dirs_exist_ok=True)
        fixed = {"fleet": str(folder / "fleet.toml"), "state_dir": folder, "units_lateness_s": 0.0}
        self.service = Service(Settings(**fixed))  # type: ignore[arg-type]
        self.service.committer.start()
        self.service.predictor.window = 4
        self.asked: list[Step] = []
        self.service.predictor._ask = self._ask  # type: ignore[method-assign, assignment]

    def _ask(self, steps: list[Step]) -> list[Answer]:
        self.asked += steps
        self.service.predictor.version = "1"
        return [Answer(1.0, 0.0, 2.0, [], "1") for _ in steps]

    def play(self, kind: str, what: Any) -> list[str]:
        """One turn; what became of its rows."""
        service = self.service
        if kind == "answer":
            while service.predictor.turn(LATER):
                pass
            return []
        if kind == "event":
            unit, said = what
            # What contradicts what is known is refused, and changes nothing.
            with contextlib.suppress(RequestRefused):
                service.committer.do(
                    lambda connection: life_events.post(
                        connection, service.keeper, unit, PostedEvent(kind=said), "", 100.0
                    )
                )
            return []
        if kind == "withdraw":
            with contextlib.suppress(RequestRefused, IndexError):
                number = views.life_events_of(service.keeper, what)[-1]["id"]
                service.committer.do(
                    lambda connection: life_events.withdraw(connection, service.keeper, what, number, "", "", 100.0)
                )
            return []
        work = lambda connection: telemetry.take(  # noqa: E731
            connection, service.keeper, what, 100.0, telemetry.Manner(backfill=kind == "backfill")
        )
        return service.committer.do(work).results

    def end(self) -> None:
        self.service.predictor._http.close()
        self.service.committer.stop()
        self.service.store.close()

    def snapshot(self) -> dict[tuple[str, int], Any]:
        """All that memory knows of every life."""
        memory = self.service.memory
        return {
            (life.unit.name, life.number): {
                "state": life.state,
                "counted from": (life.first, life.first_step, life.youth, life.installed, life.age),
                "rows": (life.earliest, life.last_time, life.last_received),
                "ended": life.ended,
                "sent": life.sent,
                "pending": {at: sorted(one.rows) for at, one in life.pending.items()},
                "latest": life.latest,
                "contradictions": life.contradictions,
                "history": memory.history_from(life),
            }
            for life in memory.lives.values()
        }


@pytest.mark.parametrize("file", sorted(FILES))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=turns)
def test_memory_is_what_the_store_says(file: str, turns: list[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder), FILES[file])
        try:
            for kind, what in turns:
                story.play(kind, what)
            kept = story.snapshot()
            story.service.keeper.rebuild()
            differing = {
                (life, name): (found, kept[life][name])
                for life, of_life in story.snapshot().items()
                for name, found in of_life.items()
                if found != kept[life][name]
            }
            assert not differing, "after reading anew, and before"
            # And whatever was left is answered, each step once.
            story.play("answer", None)
            asked = [(step.life.id, step.place) for step in story.asked]
            assert len(asked) == len(set(asked))
            assert not any(life.pending for life in story.service.memory.lives.values())
        finally:
            story.end()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches=st.lists(st.lists(rows, min_size=1, max_size=8), min_size=1, max_size=8))
def test_a_row_is_kept_once_and_the_first_one_counts(batches: list[list[Row]]) -> None:
    first: dict[tuple[str, float], Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder), COUNTED)
        try:
            for given_rows in batches:
                results = story.play("rows", given_rows)
                for one, result in zip(given_rows, results, strict=True):
                    known = first.setdefault((one.unit, one.time), one)
                    expected = {"stored"} if known is one else {"known"} if known == one else {"refused"}
                    assert result in expected
            story.play("answer", None)
            asked = sorted((step.life.unit.name, float(step.step)) for step in story.asked)
            assert asked == sorted(first)
        finally:
            story.end()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    times=st.lists(st.integers(0, 90), min_size=2, max_size=25, unique=True).map(
        lambda found: [0, *sorted({*found} - {0})]
    ),
    values=st.lists(st.floats(-5, 5), min_size=30, max_size=30),
    mean=st.booleans(),
)
def test_steps_are_those_that_training_sees(times: list[int], values: list[float], mean: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder), MEAN if mean else CLOCK)
        story.service.predictor.window = 100
        try:
            given_rows = [
                Row("a", float(time), (1.0, value, float("nan") if at % 3 else value), None, False, False)
                for at, (time, value) in enumerate(zip(times, values, strict=False))
            ]
            story.play("rows", given_rows)
            story.play("answer", None)
            schema = story.service.settings.schema
            place, readings = np.arange(len(given_rows)), np.array([one.values for one in given_rows])
            raw = lives.Rows(readings, place, np.zeros_like(place), np.array(times, dtype=float), None, None)
            found = lives.life(raw, schema, "a", Findings())
            sent = np.frombuffer(story.asked[-1].window.rows, dtype="<f4").reshape(found.rows.shape)
            np.testing.assert_array_equal(sent, found.rows.astype(np.float32))
        except lives.Unusable:
            pass
        finally:
            story.end()
