"""Carries out first aid: tries it, asks about it where a person wants that, and says how soon to look again."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from driftloop.errors import DriftloopError, RegistryUnavailable
from driftloop.loop import promoting
from driftloop.loop.judge.promotion import Tell
from driftloop.loop.moves import Aided, NotAided, TryFirstAid
from driftloop.loop.tools import Tools
from driftloop.protocol.events import Event
from driftloop.protocol.windows import UnitWindow, WindowsUnavailable

if TYPE_CHECKING:
    from driftloop.loop.first_aid import Outcome

POLL_S, POLL_LONGEST_S, POLL_FACTOR = 0.5, 10.0, 1.1
"""How often the servers' windows are looked at while they are too few: less and less, since a fleet may send ten rows
a day."""

OLDER = 1.1
"""A fleet that was too young is judged again when its units have lived so many times as many steps: judging costs a
second, and a fleet may wait for labels for weeks."""

log = logging.getLogger(__name__)


class Aider:
    """Tries first aid; remembers how long to wait before the next look."""

    def __init__(self, tools: Tools, windows: Callable[[], Sequence[UnitWindow]]) -> None:
        """`windows` reads what the servers remember of units in service."""
        self._tools, self._windows, self._pause = tools, windows, POLL_S
        self._steps_of_young = 0
        """Steps that the units had lived in all when they were too young; 0 where they were not."""

    def give(
        self,
        champion: str,
        cause: str,
        report: Tell,
        *,
        asks: bool = False,
        windows: Sequence[UnitWindow] | None = None,
    ) -> "Outcome":
        """Give the champion first aid, if the windows (by default those of now) allow it, and say what came of it;
        raises DriftloopError where this retrainer cannot, and as `first_aid.give` does."""
        try:
            # Only where it is due: onnx is not in every image that a retrainer runs in.
            from driftloop.loop import first_aid
        except ImportError as error:
            raise DriftloopError(f"this retrainer cannot give first aid: {error}") from error
        tools, read = self._tools, self._windows if windows is None else lambda: windows
        return first_aid.give(tools.registry, champion, read, tools.folder, cause, report, asks=asks)

    def attempt(self, move: TryFirstAid) -> float:
        """Try once; seconds after which to look again."""
        tools, told = self._tools, list[Event]()
        try:
            windows = self._windows()
            steps = sum(one.step or len(one.rows) for one in windows)
            if steps < OLDER * self._steps_of_young:
                return self._later()
            found = self.give(move.champion, move.cause, told.append, asks=self._asks, windows=windows)
        except RegistryUnavailable:
            raise
        except WindowsUnavailable as error:
            log.info("first aid waits: %s", error)
            return self._later()
        except DriftloopError as error:
            tools.apply(NotAided(move.cause, move.run, str(error)))
            return 0.0
        self._steps_of_young = steps if found.young else 0
        if found.kind == "waiting":
            return self._later()
        self._pause = POLL_S
        if found.kind == "refused":
            tools.apply(NotAided(move.cause, move.run, found.reason))
        elif found.kind == "made":
            self._ask(move, found)
        elif found.model_version is not None:
            tools.apply(Aided(move.cause, move.run, found.model_version), *told)
        return 0.0

    @property
    def _asks(self) -> bool:
        settings = self._tools.settings
        return settings.promotion == "approve" and settings.approve_first_aid

    def _ask(self, move: TryFirstAid, found: "Outcome") -> None:
        attempt, version = self._tools.store.state.attempt_for(move.cause), found.model_version or ""
        digest = self._tools.look.digest_of(version)
        if attempt is not None and digest is not None:
            asked = promoting.question(self._tools, "first_aid", attempt, version, digest, found.reason)
            promoting.put(self._tools, asked, move.run)

    def _later(self) -> float:
        pause = self._pause
        self._pause = min(POLL_LONGEST_S, pause * POLL_FACTOR)
        return pause
