"""Threads beside the loop, for work that can wait."""

import os
import threading

NICENESS = 10


def give_way() -> None:
    """Let the loop and the server go before the thread that calls this, and it alone."""
    if hasattr(os, "setpriority"):
        here = (os.PRIO_PROCESS, threading.get_native_id())
        # A process that was started with less weight may not take more.
        os.setpriority(*here, max(NICENESS, os.getpriority(*here)))
