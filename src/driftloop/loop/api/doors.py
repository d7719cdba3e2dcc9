"""What keeps units that had not failed out of the archive, whatever door they come through.

Where the fleet file says how units end, a run that does not end so is refused. Everywhere else the content is looked
at (`driftloop.fleet.ending`), and what cannot be told apart is asked about: a person may say that the units did fail.
"""

from collections.abc import Collection, Sequence

import numpy as np

from driftloop.fleet import ending
from driftloop.fleet.archive import Archive
from driftloop.fleet.runs import Run


class Doors:
    """The look at runs that want to be archived; one for a process, which remembers the archived ones it has seen."""

    def __init__(self, archive: Archive) -> None:
        self._archive, self._schema = archive, archive.schema
        self._seen: dict[str, ending.Ending | None] = {}

    def doubts(self, runs: Sequence[Run], vouched: Collection[str]) -> list[ending.Doubt]:
        """Those of `runs` that say that they failed and do not look like it, and why.

        Runs of which somebody has said so (`vouched`), censored ones and rows that are archived already are passed
        over.
        """
        asked = [run for run in runs if not run.censored and run.run_id not in vouched]
        known = self._archive.archived_as(run.sha256 for run in asked)
        asked = [run for run in asked if run.sha256 not in known]
        at = self._end_sensor()
        if at is not None:
            said = {run.run_id: self._against(run, at) for run in asked}
            return [ending.Doubt(run_id, f"never reaches its end: {what}") for run_id, what in said.items() if what]
        if not asked:
            return []
        endings = {run.run_id: ending.ending(run, self._schema) for run in asked}
        return ending.doubtful(asked, endings, self._failures(), self._schema)

    def _end_sensor(self) -> int | None:
        """The column that tells the end of a life; None where no column of the rows does."""
        end = self._schema.end
        if end.rule != "threshold":
            return None
        found = [at for at, channel in enumerate(self._schema.channels) if end.sensor in (channel.name, channel.header)]
        return found[0] if found else None

    def _against(self, run: Run, at: int) -> str | None:
        """What the last row says against the end of a life by its threshold; None where it has crossed it."""
        end, last = self._schema.end, float(run.rows[-1, at])
        if np.isnan(last) or (last < end.below if end.below is not None else last > (end.above or 0.0)):
            return None
        beyond = f"below {end.below:g}" if end.below is not None else f"above {end.above:g}"
        return f"{self._schema.columns[at]} is {last:g} in the last row, not {beyond}"

    def _failures(self) -> list[ending.Ending]:
        """What archived failures showed at their end, at most as many as say something new."""
        chosen = self._archive.run_ids()
        if len(chosen) > ending.MOST_FAILURES:
            chosen = [chosen[at] for at in np.linspace(0, len(chosen) - 1, ending.MOST_FAILURES).astype(int)]
        for run in self._archive.read_all([run_id for run_id in chosen if run_id not in self._seen]):
            self._seen[run.run_id] = None if run.censored else ending.ending(run, self._schema)
        found = (self._seen[run_id] for run_id in chosen)
        return [seen for seen in found if seen is not None]
