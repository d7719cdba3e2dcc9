"""Write goldens anew from the present code: all of them, or those that are named.

    python tests/goldens/make.py [NAME ...]

A golden that is written anew needs a row in CHANGES.md that says what has changed, and why.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from goldens import comparison, golden


def main(names: list[str]) -> int:
    """Write the goldens of these names, by default all; returns the exit code."""
    unknown = [name for name in names if name not in golden.GOLDENS]
    if unknown:
        print(f"there is no golden {unknown[0]}; there are {', '.join(golden.GOLDENS)}", file=sys.stderr)
        return 2
    for name in names or golden.GOLDENS:
        print(comparison.write(name, golden.GOLDENS[name]()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
