"""Programs of the platform that are no packages of this checkout."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
for folder in ("files/images/backup", "scripts"):
    sys.path.append(str(ROOT / folder))
