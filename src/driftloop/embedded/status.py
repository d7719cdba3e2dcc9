"""The state of the platform on one screen, or as JSON."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table
from rich.text import Text

from driftloop import durable
from driftloop.embedded.supervisor import STATUS
from driftloop.errors import JsonError
from driftloop.memory import memory_now
from driftloop.protocol.http import GLANCE, client
from driftloop.protocol.progress import in_words
from driftloop.settings import Settings

COLOURS = {"ready": "green", "starting": "yellow", "down": "red"}


def collect(state_dir: Path, fleets: Mapping[str, Settings]) -> dict[str, Any]:
    """What `driftloop status` shows: components with memory, and for each fleet model, loop and last verdict.

    Parts that do not answer are None; a platform that is not up has no components. What there is of the only fleet
    stands beside the components too.
    """
    found: dict[str, Any] = {"state_dir": str(state_dir.resolve()), "up": False, "components": {}}
    try:
        written = durable.read_json(state_dir / STATUS, dict[str, Any])
    except (FileNotFoundError, JsonError):
        written = {}
    memory_of = memory_now()
    for name, component in written.get("components", {}).items():
        if component.get("fleet") and component["fleet"] not in fleets:
            continue
        pid = component.get("pid")
        memory = memory_of(pid) if pid else 0
        state = component["state"] if memory or not pid else "down"
        found["components"][name] = {**component, "state": state, "memory_mib": round(memory / 2**20, 1)}
    if written and (whole := memory_of(int(written["pid"]))):
        found["up"] = True
        found["memory_mib"] = round(whole / 2**20, 1)
        found["started"] = written.get("started")
    found["fleets"] = {name: _of_fleet(settings) for name, settings in fleets.items()}
    return {**found, **(next(iter(found["fleets"].values())) if len(fleets) == 1 else {})}


def _of_fleet(settings: Settings) -> dict[str, Any]:
    return {
        "model": _model(settings),
        "loop": _get(f"{settings.retrainer_url}/status"),
        "last_verdict": last_verdict(settings.retrainer_url),
    }


def last_verdict(retrainer_url: str) -> dict[str, Any] | None:
    """The newest verdict that the watch reported; None where there is none, or the retrainer does not answer."""
    found = (_get(f"{retrainer_url}/events/search?kind=verdict&limit=1") or {}).get("events", [])
    return found[0] if found else None


def table(status: dict[str, Any]) -> Table:
    """The status as a table for people."""
    screen = Table(title="driftloop", title_justify="left", show_lines=False)
    for heading in ("component", "state", "pid", "memory", "restarts", "address"):
        screen.add_column(heading, justify="right" if heading in ("pid", "memory", "restarts") else "left")
    for name, part in status["components"].items():
        colour = COLOURS.get(part["state"], "white")
        screen.add_row(
            name,
            Text(part["state"], colour),
            str(part["pid"] or "-"),
            f"{part['memory_mib']:.0f} MiB",
            str(part["restarts"]),
            part["url"],
        )
    screen.caption = caption(status)
    screen.caption_justify = "left"
    return screen


def caption(status: dict[str, Any]) -> str:
    """Model, loop and last verdict of each fleet in a line of its own."""
    fleets = status["fleets"]
    lines = [_in_words(of_fleet, f"{name}: " if len(fleets) > 1 else "") for name, of_fleet in fleets.items()]
    if "memory_mib" in status:
        lines[-1] += f" · {status['memory_mib']:.0f} MiB in all"
    return "\n".join(lines)


def _in_words(status: dict[str, Any], prefix: str) -> str:
    model, loop = status.get("model") or {}, status.get("loop") or {}
    parts = [f"model {model['model_version']}" if model else "server does not answer"]
    if why := model.get("not_ready"):
        parts.append(f"server is not ready: {why}")
    elif turned_down := model.get("refused"):
        parts.append(f"production version {turned_down['version']} is refused: {turned_down['reason']}")
    if loop:
        parts.append(f"loop {loop.get('state', '?')}")
        if progress := loop.get("progress"):
            parts.append(in_words(progress))
        if verdict := status.get("last_verdict"):
            score = "" if verdict.get("score") is None else f", score {verdict['score']}"
            units = "" if verdict.get("units") is None else f" of {verdict['units']:g} units"
            parts.append(f"last verdict {verdict.get('verdict')} (n={verdict.get('n')}{units}{score})")
        parts.append(_truth(loop.get("concept") or {}))
        if estimate := loop.get("estimate"):
            parts.append(_estimated(estimate))
        if (told := loop.get("notify")) and told.get("last_error"):
            parts.append(f"people cannot be told ({told['last_error']})")
        if promise := loop.get("promise"):
            parts.append(_promise(promise))
        if about_to := loop.get("about_to"):
            parts.append(str(about_to))
        if verification := loop.get("verification"):
            parts.append(f"version {verification['model_version']}: {verification['says']}")
        if waiting := loop.get("approval"):
            which = f"driftloop approve {waiting['id']}, or driftloop reject {waiting['id']}"
            parts.append(f"version {waiting['version']} waits for a person: {which} ({'; '.join(waiting['reasons'])})")
    else:
        parts.append("retrainer does not answer")
    return prefix + " · ".join(parts)


def _truth(concept: dict[str, Any]) -> str:
    """What completed engines say of the model."""
    figures = concept.get("figures")
    if not figures:
        runs = concept.get("engines", 0)
        return f"labels {concept.get('verdict', 'unknown')} ({runs} completed {'run' if runs == 1 else 'runs'})"
    rmse, bias = figures["rmse"], figures["bias"]
    return (
        f"labels {concept['verdict']} (live RMSE {rmse['value']:.1f}, limit {rmse['upper']:.1f}; "
        f"bias {bias['value']:+.1f}, {bias['lower']:+.1f} to {bias['upper']:+.1f}; {concept['window']} runs)"
    )


def _estimated(estimate: dict[str, Any]) -> str:
    """How wrong the model probably is, by its answers alone."""
    if not estimate.get("known"):
        return f"error not estimated ({estimate.get('why')})"
    return f"estimated RMSE {estimate['rmse']:.1f} ({estimate['low']:.1f} to {estimate['high']:.1f})"


def _promise(promise: dict[str, Any]) -> str:
    """What the production baseline claims, and what that rests on."""
    said = f"at most one false alarm in {promise['requests_per_false_alarm']:,} requests"
    if (least := promise.get("engines", 1)) > 1:
        said += f" from {least} units in service on"
    if promise.get("units") is None:  # a baseline from before they were counted
        return said
    return f"{said} ({promise['units']} units{', which bound it' if promise.get('bounded_by_units') else ''})"


def _model(settings: Settings) -> dict[str, Any] | None:
    answer = _get(f"{settings.server_url}/model")
    if answer is None:
        return None
    shown = {key: answer.get(key) for key in ("model_version", "loaded_at", "digest", "stub", "parent_version")}
    return {**shown, "refused": answer.get("refused"), "not_ready": _not_ready(settings.server_url)}


def refused(server_url: str) -> dict[str, Any] | None:
    """The production version that the server refuses, and why; None where it refuses none, or does not answer."""
    found: dict[str, Any] | None = (_get(f"{server_url}/model") or {}).get("refused")
    return found


def _not_ready(server_url: str) -> str | None:
    """Why the server is not ready, in its own words; None where it is, or does not say."""
    try:
        answer = _http().get(f"{server_url}/readyz", timeout=2.0)
        problems = [] if answer.is_success else durable.decode_json(answer.content, dict[str, Any]).get("detail", [])
        return "; ".join(str(problem["message"]) for problem in problems) or None
    except (httpx.HTTPError, httpx.InvalidURL, JsonError, TypeError, KeyError):
        return None


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with success within a second."""
    try:
        return _http().get(url, timeout=1.0).is_success
    except httpx.HTTPError:
        return False


def _get(url: str) -> dict[str, Any] | None:
    try:
        answer = _http().get(url, timeout=2.0)
        return durable.decode_json(answer.content, dict[str, Any]) if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, JsonError):
        return None


@functools.cache
def _http() -> httpx.Client:
    """One client for all looks: making one costs more than a look."""
    return client(patience=GLANCE)
