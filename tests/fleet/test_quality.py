import numpy as np
import pytest

from driftloop.fleet import quality
from driftloop.fleet.quality import MISSING, OK, OUT_OF_RANGE, STILL, STUCK
from driftloop.fleet.schema import Channel, Schema

SCHEMA = Schema(
    name="pumps",
    use_settings="none",
    settings=(Channel(name="load"),),
    sensors=(Channel(name="pressure", range=(0.0, 10.0)), Channel(name="flow")),
)
NAN = np.nan


def test_a_reading_is_ok_missing_out_of_range_or_stuck() -> None:
    rows = np.array([[[1.0, 5.0, 1.0], [1.0, NAN, 2.0]], [[1.0, 5.0, 1.0], [NAN, 11.0, 3.0]]])
    codes, begins = quality.of_newest(rows, SCHEMA, 50)
    assert codes.tolist() == [[OK, MISSING, OK], [MISSING, OUT_OF_RANGE, OK]]
    assert begins.tolist() == [[False, True, False], [True, True, False]]
    still = np.ones((1, STILL, 3))
    assert quality.of_newest(still, SCHEMA, 50)[0].tolist() == [[OK, STUCK, STUCK]]
    still[0, -2, 1] = 2.0
    assert quality.of_newest(still, SCHEMA, 50)[0].tolist() == [[OK, OK, STUCK]]
    assert quality.of_newest(still[:, 1:], SCHEMA, 50)[0].tolist() == [[OK, OK, OK]]


def test_nothing_begins_where_nobody_knows_what_was_before() -> None:
    alone = np.array([[[1.0, NAN, 1.0]]])
    assert not quality.of_newest(alone, SCHEMA, 50)[1].any()
    padded = np.concatenate([np.full((1, 3, 3), NAN), alone], axis=1)
    codes, begins = quality.of_newest(padded, SCHEMA, 50)
    assert codes.tolist() == [[OK, MISSING, OK]]
    assert not begins.any()


@pytest.mark.parametrize("window", [1, 7, 30])
def test_a_life_is_judged_as_its_requests_are(window: int) -> None:
    random = np.random.default_rng(window)
    rows = np.round(random.normal(5, 4, (200, 3)))
    rows[random.random(rows.shape) < 0.2] = NAN
    rows[40:90, 2] = 3.0
    rows[100:104] = NAN
    codes, begins = quality.of_life(rows, SCHEMA, window)
    assert {OK, MISSING, OUT_OF_RANGE}.issubset(codes.ravel().tolist())
    assert (STUCK in codes) == (window > 1)
    for step in range(len(rows)):
        # One row more than the model looks at, so that what came before is known here as it is there.
        seen = rows[max(0, step - max(window, 2) + 1) : step + 1][None]
        code, begin = quality.of_newest(seen, SCHEMA, window)
        assert (code[0] == codes[step]).all(), step
        assert (begin[0] == begins[step]).all(), step
