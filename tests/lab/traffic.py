#!/usr/bin/env python3
"""Asks a prediction server until it is ended, and tells what became of every request.

    traffic.py URL REPORT [--rate 50] [--healthy FD001] [--changed FD002] [--timeout-s 10]

A part is a subset of C-MAPSS, or of any other fleet a file with its rows (DRIFTLOOP_FLEET says which fleet it is).
SIGUSR1: from then on the requests come from the changed part. SIGTERM: no more requests; REPORT is written as JSON when
the last answer is in. Nothing is asked twice.
"""

import argparse
import asyncio
import signal
import statistics
from collections import Counter
from pathlib import Path

from driftloop import durable, settings
from driftloop_bench.experiment.source import Source, part
from driftloop_bench.experiment.traffic import AgingFleet, Load, Mixture, encode, failed

WINDOW = 30


def mixture(healthy: str, changed: str) -> Mixture:
    """The units in service of both parts of the fleet; until the change, those of the first alone."""
    configured = settings.load()
    live = [
        [encode(run, configured.schema.cap) for run in part(name, Source(), configured).runs if run.role == "live"]
        for name in (healthy, changed)
    ]
    return Mixture(AgingFleet(live[0], WINDOW, 0), AgingFleet(live[1], WINDOW, 1, changed=True), 1.0, 0)


def report(load: Load) -> dict[str, object]:
    """How many were sent, what failed and why, who answered the others, and how long it took."""
    lost = failed(load.records)
    seconds = sorted(each.answered - each.sent for each in load.records if each.ok)
    return {
        "sent": len(load.records),
        "failed": len(lost),
        "failures": Counter(each.error or f"status {each.status}" for each in lost),
        "times_of_failures": [round(each.sent, 3) for each in lost],
        "versions": Counter(each.version for each in load.records if each.ok),
        "median_s": round(statistics.median(seconds), 4) if seconds else None,
        "p99_s": round(seconds[int(len(seconds) * 0.99)], 4) if seconds else None,
        "slowest_s": round(seconds[-1], 4) if seconds else None,
        "wall_s": round(load.wall_s, 1),
    }


async def send(load: Load, requests: Mixture) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, requests.change_now)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, load.stop)
    await load.run()


def main() -> None:
    parser = argparse.ArgumentParser(description="Asks a prediction server until it is ended.")
    parser.add_argument("url", help="address of the prediction server")
    parser.add_argument("report", type=Path, help="file for the report")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--healthy", default="FD001")
    parser.add_argument("--changed", default="FD002")
    parser.add_argument("--timeout-s", type=float, default=10.0, help="an answer later than this is none")
    options = parser.parse_args()
    # What is told before the first request is made is not lost on the way.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    requests = mixture(options.healthy, options.changed)
    load = Load(f"{options.url}/predict", options.rate, requests.next_request, options.timeout_s)
    asyncio.run(send(load, requests))
    durable.write_json(options.report, report(load))


if __name__ == "__main__":
    main()
