"""The page of one run, opened from disk in Chromium: it draws everything and needs nothing beside it."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from console.browser import Complaints, chromium
from driftloop_bench.experiment import story
from driftloop_bench.experiment.marks import answers_after
from driftloop_bench.experiment.recovery import Outcome, assess
from driftloop_bench.experiment.results import STORY, write_results
from driftloop_bench.experiment.run import run_experiment

from .conftest import FakePlatform
from .test_run import PLAN, Diary

MARKUP = "</script><script>alert(1)</script>"


async def carried_out(folder: Path) -> Outcome:
    platform = FakePlatform()
    async with platform.running(folder) as configured:
        recording = await run_experiment(PLAN, configured, Diary())
    recording.events.append({**recording.events[-1], "kind": "promoted", "reason": MARKUP})
    answers = answers_after(recording.records, "2")
    return assess(recording, np.array([one.rul for one in answers], dtype=float))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("run")
    outcome = asyncio.run(carried_out(folder))
    write_results(outcome, folder / "results")
    return outcome, folder / "results" / STORY


def test_the_page_tells_the_run(results: tuple[Outcome, Path]) -> None:
    outcome, path = results
    complaints, asked = Complaints(), []
    with chromium() as browser:
        for colour in ("light", "dark"):
            page = browser.new_page(color_scheme=colour, offline=True)  # type: ignore[arg-type]
            complaints.watch(page)
            page.on("request", lambda request: asked.append(request.url))
            page.on("dialog", lambda dialog: pytest.fail(f"a reason ran as a script: {dialog.message}"))
            page.goto(path.as_uri())
            expect(page.get_by_role("heading", name="Recovered", exact=True)).to_be_visible()
            assert page.locator(".timeline li.done .mark").all_inner_texts() == ["T0", "T1", "T2", "T·RT", "T4", "T5"]
            assert page.locator("canvas").count() == 3
            page.locator(".u-over").nth(1).hover()
            expect(page.locator(".tip").nth(1)).to_contain_text("model")
            page.get_by_text("Numbers").first.click()
            expect(page.get_by_role("region", name="Numbers of the chart")).to_be_visible()
            expect(page.get_by_text(MARKUP)).to_be_visible()
            error = f"{outcome.metrics['rmse_recovered']:.1f} cycles"
            expect(page.get_by_role("row", name="Error after recovery")).to_contain_text(error)
            assert Axe().run(page).response["violations"] == []
            assert "undefined" not in page.locator("main").inner_text()
    assert asked == [path.as_uri()] * 2
    assert complaints.said == []


def test_curves_are_thinned_to_what_a_screen_shows_and_keep_their_end() -> None:
    points = [(float(at), at / 7) for at in range(5000)]
    kept = story._thinned(points)
    assert len(kept["at"]) <= story.MOST_POINTS + 1
    assert (kept["at"][0], kept["at"][-1]) == (0.0, 4999.0)
    assert story._thinned([]) == {"at": [], "values": []}
