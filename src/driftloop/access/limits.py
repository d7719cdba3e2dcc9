"""How often somebody may ask, and how tries that failed are slowed: in bounded memory, in this process."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

MOST = 10_000
"""Names or addresses that are remembered; the one that has been silent for longest is forgotten first."""


class Rate:
    """A bucket for each name: it holds what two seconds allow, and fills at the allowed rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str, rate: float) -> float:
        """0 where one more request is allowed now, and counted; else the seconds until it will be."""
        now, most = self._clock(), max(1.0, 2 * rate)
        with self._guard:
            left, at = self._left.pop(name, (most, now))
            left = min(most, left + (now - at) * rate)
            allowed = left >= 1
            self._left[name] = (left - 1 if allowed else left, now)
            while len(self._left) > MOST:
                self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / rate


class Failures:
    """Tries that failed, by address: the first few cost nothing, each further one doubles the pause before the next."""

    FREE, LONGEST_S, FORGOTTEN_S = 5, 300.0, 900.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.total = 0
        """Ever, in this process."""

    def wait_s(self, address: str) -> float:
        """Seconds until a try from this address is looked at again; 0 for now."""
        with self._guard:
            count, at = self._known.get(network(address), (0, 0.0))
        pause = min(self.LONGEST_S, 2.0 ** (count - self.FREE)) if count >= self.FREE else 0.0
        return max(0.0, at + pause - self._clock()) if count else 0.0

    def failed(self, address: str) -> None:
        """Count one."""
        key, now = network(address), self._clock()
        with self._guard:
            count, at = self._known.pop(key, (0, now))
            # Beyond 2**40 s nothing is gained.
            self._known[key] = (1 if now - at > self.FORGOTTEN_S else min(count + 1, 40), now)
            self.total += 1
            while len(self._known) > MOST:
                self._known.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Forget those of an address."""
        with self._guard:
            self._known.pop(network(address), None)


def network(address: str) -> str:
    """What counts as one address: of IPv6 the /64 that one machine is given."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says when to come again."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
