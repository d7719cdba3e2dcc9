"""Clocks: this machine's, that of the disk it writes to, and those of the platform's processes."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from driftloop.embedded.doctor.findings import Finding, fine, problem, warning
from driftloop.protocol.http import GLANCE, client

SKEW_S = 2.0
"""An HTTP date has whole seconds, so a little is nothing."""
_NTP = "let both machines follow one time server (timedatectl set-ntp true)"


def of_the_disk(folder: Path, now: float | None = None) -> Iterator[Finding]:
    """Whether the disk of the state folder, which may be another machine's, counts the same time; needs to write."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor.") as probe:
        probe.write(b"?")
        probe.flush()
        there = Path(probe.name).stat().st_mtime
    apart = there - (time.time() if now is None else now)
    if abs(apart) > SKEW_S:
        what = f"the disk's clock is {abs(apart):.0f} s {'ahead' if apart > 0 else 'behind'}: ages of files are wrong"
        yield warning("clock", what, str(folder), _NTP)
    else:
        yield fine("clock", "the disk has this machine's time", str(folder))


def of_files(folder: Path, names: Sequence[str]) -> Iterator[Finding]:
    """Whether something was written in the future: then a clock was set back, and waits last too long."""
    now = time.time()
    for name in names:
        path = folder / name
        ahead = path.stat().st_mtime - now if path.exists() else 0.0
        if ahead > SKEW_S:
            what = f"was written {ahead:.0f} s in the future: this clock was set back, or is wrong"
            yield warning("clock", what, str(path), "set the clock right; waits of the loop begin anew with a restart")


def of_services(urls: Sequence[str], now: float | None = None) -> Iterator[Finding]:
    """How far the clocks of those that answer at these addresses are from this one."""
    count = 0
    with client(patience=GLANCE) as http:
        for url in urls:
            asked = time.time()
            try:
                said = http.get(f"{url}/healthz").headers.get("date")
            except (httpx.HTTPError, httpx.InvalidURL):
                continue
            if not said:
                continue
            count += 1
            here = (asked + time.time()) / 2 if now is None else now
            apart = parsedate_to_datetime(said).timestamp() + 0.5 - here
            if abs(apart) > SKEW_S:
                what = f"its clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
                yield problem("clock", what, url, _NTP)
    if count:
        yield fine("clock", f"looked at the clocks of {count} services")
