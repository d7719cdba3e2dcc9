"""Why a window is answered as it is, in the words of its fleet."""

import threading

from driftloop.model.drivers import METHOD, Drivers
from driftloop.protocol.answers import Contribution, Explanation
from driftloop.serving.engine import Engine
from driftloop.serving.requests import Rows

_ONE_AT_A_TIME = threading.Lock()
"""An explanation asks the model about some hundred to some thousand windows: it takes one thread at most from the
predictions."""


def explanation(engine: Engine, rows: Rows) -> Explanation:
    """What drives the engine's answer to one window."""
    with _ONE_AT_A_TIME:
        found: Drivers = engine.explain(rows)
    sensors = engine.reader.form.schema.sensors
    parts = [
        Contribution(sensor.name, sensor.unit, round(float(steps), 3))
        for sensor, steps in zip(sensors, found.contributions, strict=True)
    ]
    return Explanation(
        rul=round(found.rul, 3),
        reference=round(found.reference, 3),
        method=METHOD,
        contributions=sorted(parts, key=lambda part: -abs(part.steps)),
        unexplained=round(found.unexplained, 3),
        model_version=engine.version,
    )
