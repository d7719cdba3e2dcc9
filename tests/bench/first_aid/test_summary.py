"""Targets are met by what was found, and missed by what was not."""

from typing import Any

import numpy as np
import pytest

from driftloop.model.answers import Answers
from driftloop_bench.first_aid import cases, summary
from driftloop_bench.first_aid.looks import LOOKS


def figures(rmse: float, covered: float = 0.95, score: float = 80.0) -> dict[str, float]:
    return {"rmse": rmse, "covered": covered, "interval_score": score}


def case(source: str, target: str, seed: int, aided: dict[str, Any], was: float = 50.0) -> dict[str, Any]:
    unknown = {"known": False, "why": "drift", "true": was}
    return {
        "source": source, "target": target, "seed": seed, "units": 20, "windows": 400, "cap": 125,
        "champion": figures(was, 0.1, 600.0), "labelled": figures(10.0),
        "looks": {look: {"outcome": "given", "reason": "", **aided} for look in LOOKS},
        "live_error": {"champion": unknown},
    }  # fmt: skip


def met(found: dict[str, Any], what: str) -> bool:
    (target,) = [one for one in found["targets"]["60 rows a unit"] if one["target"].startswith(what)]
    return bool(target["met"])


def test_targets_that_are_met() -> None:
    found = summary.summarise([case("FD001", "FD002", seed, figures(19.0 + seed / 2)) for seed in range(3)], {})
    assert all(target["met"] for targets in found["targets"].values() for target in targets)
    pair = found["pairs"][0]["looks"]["60 rows a unit"]
    assert pair["rmse"] == {"mean": 19.5, "sd": 0.5, "of_seeds": [19.0, 19.5, 20.0]}
    assert pair["rmse_minus_champion"]["mean"] == -30.5


@pytest.mark.parametrize(
    ("aided", "target"),
    [
        (figures(20.1), "FD001 to FD002: RMSE"),
        (figures(51.1), "no pair worse"),
        (figures(15.0, covered=0.849), "where given, at least 85 %"),
        (figures(15.0, score=600.0), "where given, a better interval score than the champion's"),
        (figures(15.0, score=125.0), "where given, a better interval score than [0, cap]"),
        ({**figures(15.0), "outcome": "refused"}, "FD001 to FD002: given"),
    ],
)
def test_each_target_can_be_missed(aided: dict[str, Any], target: str) -> None:
    found = summary.summarise([case("FD001", "FD002", 0, aided)], {})
    assert not met(found, target)


def test_an_interval_is_scored_by_its_width_and_by_what_lies_outside() -> None:
    """Widths 20 and 10, one label 3 above its interval: (20 + 10 + 20 * 3) / 2."""
    zero = np.zeros(2)
    found = Answers(
        np.array(["a", "b"]), np.array([1, 1]), np.array([50.0, 23.0]), np.array([50.0, 15.0], np.float32),
        np.array([40.0, 10.0], np.float32), np.array([60.0, 20.0], np.float32), np.array([0, 0]),
        zero.astype(np.float32),
    )  # fmt: skip
    assert cases.figures(found) == {"rmse": round(np.sqrt(32.0), 4), "covered": 0.5, "interval_score": 45.0}


def test_a_variant_counts_where_the_judge_accepts_it() -> None:
    def told(source: str, rmse: float, refused: str | None) -> dict[str, Any]:
        found = {"as it was": figures(50.0), "CORAL": {**figures(rmse), "refused": refused}}
        return {**case(source, "X", 0, figures(15.0)), "variants": found}

    found = summary.summarise(
        [told("FD001", 20.0, None), told("FD003", 60.0, "slope"), told("FD002", 60.0, None), told("FD004", 50.5, None)],
        {},
    )["variants"]
    assert [(row["sources"], row["accepted_better"], row["accepted_worse"], row["refused_worse"]) for row in found] == [
        ("rules fixed with", 1, 0, 1),
        ("held out", 0, 1, 0),
    ]
