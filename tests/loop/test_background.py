"""Work that can wait gives way, whatever weight its process was started with."""

import os
import subprocess
import sys

import pytest

# As somebody who may not take more weight, whoever runs the tests.
TELL = """
import os, threading
from driftloop.loop.background import give_way
os.nice({more} - os.getpriority(os.PRIO_PROCESS, 0))
if os.getuid() == 0:
    os.setuid(65534)
give_way()
print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
"""


@pytest.mark.parametrize(("more", "expected"), [(0, 10), (15, 15)])
def test_a_thread_gives_way_and_never_takes_more_than_its_process_has(more: int, expected: int) -> None:
    if os.getpriority(os.PRIO_PROCESS, 0) > more and os.getuid() != 0:
        pytest.skip("these tests run with less weight, and may not take more")
    done = subprocess.run([sys.executable, "-c", TELL.format(more=more)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, str(expected)), done.stderr
