"""Times of rows that can hardly be right: of a clock that is ahead or years behind, of a counter that jumps, begins
anew or was never set.

One such row that is taken opens a life decades ago, or makes every row behind it late. So it is refused, with what is
to be done where it is right.
"""

from driftloop.fleet.schema import Schema
from driftloop.settings import Settings
from driftloop.units.memory import Life

DAY_S = 86400.0
YEAR_S = 365.25 * DAY_S
LARGEST_FIRST = 10**9
"""Steps at which the counter of a unit that nobody has heard of may stand, as the server takes them too: registers
that were never written read -1 or 4294967295."""
_ANYWAY = "send the row with ?jump=true"


class Doubts:
    """The limits of one fleet."""

    def __init__(self, settings: Settings) -> None:
        self._schema: Schema = settings.schema
        self._is_clock = settings.schema.time.kind == "timestamp"
        self._skew, self._past = settings.units_skew_s, settings.units_past_days * DAY_S
        self._jump = settings.units_jump_steps

    def of_any(self, time: float, now: float) -> str:
        """What is wrong with a time, however it is meant; empty where nothing is."""
        ahead = time - now
        if self._is_clock and ahead > self._skew:
            return f"is {ahead:.0f} s ahead of this machine's clock; {self._skew:g} s are let through"
        return ""

    def of_traffic(self, life: Life | None, time: float, now: float, *, backfill: bool) -> str:
        """The same, unless the sender says that the time is right; a backfill may be of any past."""
        if self._is_clock:
            return "" if backfill else self._long_ago(now - time)
        width = self._schema.time.width
        if life is None or life.last_time == float("-inf"):
            if 0 <= time / width <= LARGEST_FIRST:
                return ""
            what = f"is {time:.17g}, where a counter of {self._schema.steps} hardly begins (0 to {LARGEST_FIRST:,})"
            return f"{what}. Where it is right, {_ANYWAY}"
        ahead = (time - life.last_time) / width
        side = "ahead of" if ahead > 0 else "behind"
        if abs(ahead) <= self._jump or (ahead < 0 and backfill):
            return ""
        newest = f"{abs(ahead):.0f} {self._schema.steps} {side} the newest row ({life.last_time:.17g})"
        anew = " If it began anew with another life, tell so first (installed, overhauled)." if ahead < 0 else ""
        return f"is {newest}; {self._jump:g} are let through.{anew} Where the counter is right, {_ANYWAY}"

    def _long_ago(self, behind: float) -> str:
        if behind <= self._past:
            return ""
        return (
            f"is {behind / YEAR_S:.1f} years behind this machine's clock, as a clock says that has lost its time; "
            f"{self._past / DAY_S:g} days are let through. Where the time is right, {_ANYWAY}, or all of them as "
            "history (`driftloop units backfill`)"
        )
