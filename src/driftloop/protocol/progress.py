"""How far a step of a pipeline is: told by the step once a second, shown by the retrainer, kept by nobody."""

from typing import Annotated, Any

import msgspec

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class Progress(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of POST /progress."""

    run: _Name
    """The pipeline run, so that what an earlier one says late is not taken for this one's."""
    step: _Name
    done: _Count
    of: Annotated[int, msgspec.Meta(ge=1, le=10**9)]
    """Of the training: steps of its optimiser."""
    loss: float | None = None
    seconds_left: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None

    def shown(self) -> dict[str, Any]:
        """As the retrainer's status has it."""
        return {
            "step": self.step,
            "done": self.done,
            "of": self.of,
            "loss": self.loss,
            "seconds_left": self.seconds_left,
        }


def in_words(progress: dict[str, Any]) -> str:
    """What `shown` says, for a line of text."""
    parts = [f"{progress['step']} {progress['done']} of {progress['of']}"]
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.4f}")
    if progress.get("seconds_left") is not None:
        parts.append(f"about {progress['seconds_left']:.0f} s left")
    return ", ".join(parts)
