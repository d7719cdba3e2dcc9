"""The outcomes of POST /feedback: each true RUL joined with the prediction that was answered.

Whoever kept the answers sends them along, which works wherever the server runs. Who did not is helped by the
server's inference log, where retrainer and server share a machine.
"""

from collections.abc import Sequence
from pathlib import Path

from driftloop.loop.api import bodies
from driftloop.loop.feedback import Outcome
from driftloop.protocol.problems import refusal
from driftloop.serving.inference_log import Record, read_records

_SEND_IT = "send the prediction as POST /predict answered it"


def outcomes(body: bytes, inference_log: Path) -> list[Outcome]:
    """The outcomes of a body; RequestRefused naming the field where one names no prediction, or an unknown one."""
    posted = bodies.decode(body, bodies.PostedFeedback).outcomes
    answers = _look_up(posted, inference_log)
    return [_outcome(one, answers, f"outcomes[{i}]") for i, one in enumerate(posted)]


def _outcome(posted: bodies.PostedOutcome, answers: dict[object, Record], field: str) -> Outcome:
    found: bodies.AnsweredPrediction | Record | None = posted.prediction
    if found is None:
        wanted = _wanted(posted)
        if wanted is None:
            raise refusal(422, field, f"names no prediction; {_SEND_IT}, or request_id, or engine_id and cycle")
        found = answers.get(wanted)
        if found is None:
            raise refusal(422, field, f"no such prediction is in this machine's inference log; {_SEND_IT}")
    if found.lower > found.upper:
        raise refusal(422, f"{field}.prediction.lower", f"{found.lower:g} is above upper, {found.upper:g}")
    engine = posted.engine_id or found.engine_id
    if not engine:
        raise refusal(422, f"{field}.engine_id", "is missing, in the prediction too: engines are what is counted")
    cycle = posted.cycle if posted.cycle is not None else found.cycle
    key = f"cycle {cycle}" if cycle is not None else posted.request_id or found.request_id
    if key is None:
        raise refusal(422, f"{field}.cycle", "is missing, and request_id too: without them nothing counts once")
    return Outcome(engine, key, found.model_version, found.rul, found.lower, found.upper, posted.true_rul)


def _wanted(posted: bodies.PostedOutcome) -> object | None:
    """How the inference log knows the prediction: by its request id, or by engine and cycle."""
    if posted.request_id is not None:
        return posted.request_id
    return None if posted.engine_id is None or posted.cycle is None else (posted.engine_id, posted.cycle)


def _look_up(posted: Sequence[bodies.PostedOutcome], inference_log: Path) -> dict[object, Record]:
    """The newest answers that outcomes without one ask for."""
    wanted = {_wanted(one) for one in posted if one.prediction is None} - {None}
    found: dict[object, Record] = {}
    for record in read_records(inference_log) if wanted else ():
        for name in (record.request_id, (record.engine_id, record.cycle)):
            if name in wanted and record.model_version.isdigit():
                found[name] = record
    return found
