"""What carrying a move out needs: the store, the registry, the clock, and a few words between them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from driftloop.loop import changes
from driftloop.loop.facts import Look
from driftloop.loop.judge import promotion
from driftloop.loop.moves import Move
from driftloop.loop.state import With
from driftloop.loop.store import Store
from driftloop.loop.waits import Now
from driftloop.model.registry import PRODUCTION, Registry, Version
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
        self._abandon(self.look.versions_of(state.attempt.run))
        promotion.repair(self.registry)

    def abandon_strays(self) -> None:
        """The same of what earlier runs registered: a pipeline that was ended may have gone on for a while."""
        attempt = self.store.state.attempt
        run = attempt.run if attempt is not None else ""
        if self._abandon(version for version in self.registry.versions() if _made_by(version) not in ("", run)):
            promotion.repair(self.registry)

    def _abandon(self, versions: Iterable[Version]) -> bool:
        """Tag those of the versions that nobody decided; returns whether there were any."""
        undecided = [one for one in versions if not (promotion.is_settled(one) or PRODUCTION in one.aliases)]
        for version in undecided:
            reason = "the retraining ended before it was decided"
            promotion.decide(self.registry, version.version, promotion.ABANDONED, reason, None)
        return bool(undecided)


def _made_by(version: Version) -> str:
    """The retraining that registered a version; empty where none did."""
    return version.tags.get(promotion.RETRAINING_TAG, "")


def windows_of(settings: Settings) -> Callable[[], Sequence[UnitWindow]]:
    """Reads the windows of every replica of the server that the settings name."""
    url = settings.replicas_url or settings.server_url
    addresses = windows.replicas if settings.replicas_url else lambda one: [one]
    return lambda: windows.read(addresses(url), settings.token, settings.schema.digest)
