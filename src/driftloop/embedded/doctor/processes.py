"""The platform's processes: whether each runs, answers and does its work."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from driftloop import durable
from driftloop.embedded.components import LOOPBACK, components
from driftloop.embedded.doctor.findings import Finding, fine, problem, warning
from driftloop.embedded.processes import tail
from driftloop.embedded.supervisor import LOGS, STATUS, port_is_free
from driftloop.protocol.http import GLANCE, client, why
from driftloop.settings import Settings

SILENT_S = 120.0
"""A drift watch that has told of no verdict for so long does not work."""
OFTEN = 3
"""Restarts that are no accident any more."""
_READY = {"mlflow_url": "/health", "server_url": "/readyz", "retrainer_url": "/readyz", "units_url": "/readyz"}


def embedded(state_dir: Path, fleets: Mapping[str, Settings]) -> Iterator[Finding]:
    """Each component of the platform that runs in this state folder."""
    written = durable.read_json(state_dir / STATUS, dict[str, Any])["components"]
    working = 0
    for component in components(fleets, state_dir):
        state = written.get(component.name)
        where = component.url or component.name
        log = state_dir / LOGS / f"{component.name}.log"
        if state is None:
            what = f"{component.name} was not started with this platform"
            yield warning("processes", what, where, "restart `driftloop up`")
        elif not state["pid"]:
            last = tail(log, 1) or "nothing"
            what = f"{component.name} is down (exit code {state['last_exit']}); its log ends: {last[:200]}"
            yield problem("processes", what, where, f"see {log}; it is started again by itself")
        elif not component.ready(time.time() - SILENT_S):
            what = f"{component.name} runs (process {state['pid']}) and does not answer, or is not ready"
            yield problem("processes", what, where, f"see {log}; kill {state['pid']} lets it start anew")
        elif state["restarts"] >= OFTEN:
            what = f"{component.name} was started again {state['restarts']} times"
            yield warning("processes", what, where, f"see {log}")
        else:
            working += 1
    yield fine("processes", f"{working} of {len(written)} components do their work", str(state_dir))


def elsewhere(fleets: Mapping[str, Settings]) -> Iterator[Finding]:
    """The services of a platform that is not embedded: at the addresses of the settings, but for those of this machine
    at which nobody listens. Tunnels to a cluster listen here too."""
    with client(patience=GLANCE) as http:
        for name, settings in fleets.items():
            named = {field: getattr(settings, field) for field in _READY}
            for field, url in {**named, "console_url": settings.console_url}.items():
                parts = urlsplit(url)
                if parts.hostname in LOOPBACK and parts.port and port_is_free(parts.hostname, parts.port):
                    continue
                asked = url + _READY.get(field, "/healthz")
                remedy = f"is it up, and DRIFTLOOP_{field.upper()} right? On a cluster: kubectl get pods -A"
                try:
                    answer = http.get(asked)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    yield problem("processes", f"does not answer: {why(error)}", asked, remedy)
                    continue
                if answer.is_success:
                    yield fine("processes", f"{field.removesuffix('_url')} of {name} is ready", url)
                else:
                    what = f"answers {answer.status_code}: {answer.text[:200]}"
                    yield problem("processes", what, asked, remedy)
