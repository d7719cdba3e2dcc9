"""The machine that figures were measured on."""

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name as the system tells it, or else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
