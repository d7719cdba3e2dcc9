"""Made-up pumps that wear, as tables; what is guessed of them, and what is said."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from driftloop.fleet import guess, suspicion, tables
from driftloop.fleet.guess import Guess


def lives(units: int = 12, seed: int = 0) -> Iterator[tuple[str, int, int, float, float]]:
    """Rows of pumps that wear: name, step from 1 on, steps of the life, vibration, heat."""
    random = np.random.default_rng(seed)
    for unit in range(units):
        life = int(random.integers(40, 80))
        for step in range(1, life + 1):
            worn = (step / life) ** 3
            yield f"P{unit}", step, life, round(1 + 2 * worn + random.normal(0, 0.1), 3), round(40 + 15 * worn, 3)


def write(path: Path, header: str, rows: Sequence[Sequence[object]], *, sep: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(sep.join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def guessed(*paths: Path) -> Guess:
    found = guess.guess(paths)
    suspicion.look(found.reading, found.schema)
    return found


def said(found: Guess | tables.Reading) -> list[str]:
    reading = found.reading if isinstance(found, Guess) else found
    return [str(finding) for finding in reading.findings]
