"""What carrying a move out needs: the store, the registry, the archive, the clock, and a few words between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from driftloop.loop import changes
from driftloop.loop.facts import Archive, Look
from driftloop.loop.judge import promotion
from driftloop.loop.moves import Move
from driftloop.loop.state import With
from driftloop.loop.store import Store
from driftloop.loop.waits import Now
from driftloop.model.registry import PRODUCTION, Registry
from driftloop.protocol import windows
from driftloop.protocol.events import Event
from driftloop.protocol.windows import UnitWindow
from driftloop.settings import Settings


@dataclass(frozen=True)
class Tools:
    """The parts of one retrainer that moves are carried out with."""

    settings: Settings
    folder: Path
    store: Store
    registry: Registry
    archive: Archive
    look: Look
    clock: Callable[[], Now]

    def how(self, *told: Event) -> With:
        """What a move is applied with now."""
        return With(self.clock(), self.settings.cool_down_s, self.settings.enable_retraining, told)

    def apply(self, move: Move, *told: Event) -> bool:
        """Apply a move to the state; returns whether it fitted."""
        with self.store.change() as change:
            return changes.apply(change, move, self.how(*told))

    def abandon(self) -> None:
        """Tag what the run at hand registered and nobody decided: it will never be."""
        state = self.store.state
        if state.attempt is None or not state.attempt.run or state.phase not in ("running", "awaiting_approval"):
            return
        for version in self.look.versions_of(state.attempt.run):
            if not (promotion.is_settled(version) or PRODUCTION in version.aliases):
                reason = "the retraining ended before it was decided"
                promotion.decide(self.registry, version.version, promotion.ABANDONED, reason, None)
        promotion.repair(self.registry)


def windows_of(settings: Settings) -> Callable[[], Sequence[UnitWindow]]:
    """Reads the windows of every replica of the server that the settings name."""
    url = settings.replicas_url or settings.server_url
    addresses = windows.replicas if settings.replicas_url else lambda one: [one]
    return lambda: windows.read(addresses(url), settings.token, settings.schema.digest)
