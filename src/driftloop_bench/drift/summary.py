"""What comes out of the drift benchmark: operating characteristics as JSON and as tables."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from driftloop import durable
from driftloop.drift.calibration import REQUESTS_PER_FALSE_ALARM
from driftloop_bench.drift.faults import KINDS
from driftloop_bench.drift.run import COMPARED, SCRAPE, STEP, Plan
from driftloop_bench.drift.scenarios import SIGMAS

Json = dict[str, Any]
Table = tuple[str, Sequence[str], list[list[str]]]
RATE = 10.0
"""Requests per second at which ARL0 is told in days."""
SIMULATED = "SIMULATED DATA: these figures come from driftloop's fleet simulator and say nothing about NASA's data."
_SENSOR_FAMILIES = (*KINDS, "ramp")
_NAMES = {
    "bias": "bias of one sensor, {severity:g} sigma",
    "gain": "gain of one sensor, x {severity:g}",
    "stuck": "one sensor stuck",
    "noise": "noise of one sensor added, {severity:g} x its own",
    "ramp": "one sensor drifts by {severity:g} sigma per 1,000 requests",
    "altitude": "{champion}: altitude wrong by 10,000 ft in {severity:.0%} of requests",
    "corrupt": "one corrupted request (no drift)",
    "regimes": "FD002: one regime of six loses {severity:.0%} of its requests",
}


def summarise(plan: Plan, pieces: Mapping[str, Json], *, data_source: str, commit: str | None) -> Json:
    """The results file from all finished pieces."""
    healthy = [piece for name, piece in pieces.items() if name.startswith("healthy-")]
    changed = [piece for piece in pieces.values() if "family" in piece]
    compared = [piece for name, piece in pieces.items() if name.startswith("detector-")]
    scenarios = [_scenario(group) for group in _grouped(changed, "champion", "family", "subset", "severity", "sensor")]
    pooled = [
        _scenario(group)
        for group in _grouped(changed, "champion", "family", "subset", "severity")
        if group[0]["family"] in _SENSOR_FAMILIES
    ]
    for row in pooled:
        del row["sensor"]
    summary = {
        "created": durable.now(),
        "git_commit": commit,
        "data_source": data_source,
        "note": SIMULATED if data_source == "simulated" else "",
        "plan": asdict(plan),
        "step": STEP,
        "scrape": SCRAPE,
        "healthy": {
            **{subset: _false_alarms(group) for subset, group in _by(healthy, "champion").items()},
            "all": _false_alarms(healthy),
        },
        "scenarios": scenarios,
        "pooled": pooled,
        "detectors": [detector(piece) for piece in compared],
    }
    return {**summary, "targets": _targets(summary)}


def upper_rate(events: int, level: float = 0.95) -> float:
    """The upper bound of a Poisson mean of which `events` were seen (exact; Garwood, Biometrika 28, 1936)."""
    from scipy.stats import chi2

    return float(chi2.ppf(level, 2 * (events + 1)) / 2)


def quantile(delays: Iterable[int | None], share: float) -> int | None:
    """The delay that `share` of the streams do not exceed; None where that many were not found at all."""
    ordered = sorted(math.inf if delay is None else delay for delay in delays)
    value = ordered[max(0, math.ceil(share * len(ordered)) - 1)]
    return None if math.isinf(value) else int(value)


def markdown(summary: Json) -> str:
    """The tables, for a page."""
    parts = ["# Operating characteristics of the drift watch", ""]
    if summary["note"]:
        parts += [f"> **{summary['note']}**", ""]
    for title, header, rows in tables(summary):
        parts += [f"## {title}", "", "| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
        parts += ["| " + " | ".join(row) + " |" for row in rows]
        parts.append("")
    return "\n".join(parts)


def tables(summary: Json) -> list[Table]:
    """Title, header and cells of each table."""
    whole = [row for row in summary["scenarios"] if not row["sensor"]]
    single = [row for row in summary["scenarios"] if row["family"] == "bias" and row["severity"] == 1.0]
    header = (
        "change",
        "median",
        "90 %",
        "worst",
        "missed",
        "scraped: median",
        "90 %",
        "called, settled",
        "first right",
    )
    found: list[Table] = [("Targets", ("target", "measured", "met"), [_target_row(row) for row in summary["targets"]])]
    found.append((
        "False alarms on healthy traffic",
        ("fleet", "requests", "alarms", "ARL0, lower 95 % bound", "days at 10/s", "largest score", "fleet_age"),
        [_healthy_row(name, row) for name, row in summary["healthy"].items()],
    ))  # fmt: skip
    drifts = [row for row in whole if row["family"] != "age"]
    found.append(("Detection delay in requests", header, [_row(row) for row in (*drifts, *summary["pooled"])]))
    found.append((
        "Fleets that are only older or younger",
        ("fleet", "streams", "said drift", "checks that said fleet_age, median stream"),
        [_age_row(row) for row in whole if row["family"] == "age"],
    ))  # fmt: skip
    if single:
        found.append(("Bias of 1 sigma, sensor by sensor", header, [_row(row, sensor=True) for row in single]))
    if summary["detectors"]:
        found.append(detector_table(summary["detectors"]))
    return found


def name_of(row: Json) -> str:
    """A scenario in words."""
    if row["family"] == "fleet":
        return f"{row['champion']}, {row['severity']:.0%} {row['subset']}"
    if row["family"] == "age":
        old = row["severity"] < 100
        return f"{'at most' if old else 'at least'} {row['severity']:g} cycles left"
    return _NAMES[row["family"]].format(**row)


def compared_names(detectors: Sequence[Json]) -> dict[str, str]:
    """The scenarios that all detectors were shown, in COMPARED's order: their keys, and names for people."""
    shown = detectors[0]["default_delays"] if detectors else {}
    return {
        scenario.name: f"sensor {scenario.sensor}: {scenario.family} {scenario.severity:g} sigma".replace(
            "noise 2 sigma", "noise x 2"
        )
        if scenario.sensor
        else name_of(asdict(scenario)).removeprefix("FD001, ")
        for scenario in COMPARED
        if scenario.name in shown
    }


def _scenario(group: Sequence[Json]) -> Json:
    first = group[0]
    delays, scraped = _all(group, "delays"), _all(group, "scraped")
    firsts = [(name, f"sensor_{piece['sensor']}") for piece in group for name in piece["first"] if name is not None]
    single = first["family"] in _SENSOR_FAMILIES
    return {
        **{key: first[key] for key in ("champion", "family", "subset", "severity", "sensor")},
        "streams": len(delays),
        "missed": sum(delay is None for delay in delays),
        "median": quantile(delays, 0.5),
        "p90": quantile(delays, 0.9),
        "worst": quantile(delays, 1.0),
        "scraped_median": quantile(scraped, 0.5),
        "scraped_p90": quantile(scraped, 0.9),
        "scraped_missed": sum(delay is None for delay in scraped),
        "kinds": _counts(kind for kind in _all(group, "kinds") if kind),
        "settled": _counts(_all(group, "settled_kinds")),
        "first": _counts(name for name, _ in firsts),
        "first_right": round(sum(a == b for a, b in firsts) / len(firsts), 4) if single and firsts else None,
        "score": [round(float(value), 3) for value in np.quantile(_all(group, "scores"), [0.1, 0.5, 0.9])],
        "fleet_age": round(float(np.median(_all(group, "fleet_age"))), 4),
    }


def _false_alarms(group: Sequence[Json]) -> Json:
    requests, checks = sum(piece["requests"] for piece in group), sum(piece["checks"] for piece in group)
    alarms, scraped = sum(piece["alarms"] for piece in group), sum(piece["alarms_scraped"] for piece in group)
    bound = requests / upper_rate(alarms)
    return {
        "requests": requests,
        "streams": len(group),
        "checks": checks,
        "alarms": alarms,
        "alarms_scraped": scraped,
        "arl0_lower_bound": round(bound),
        "arl0_lower_bound_days": round(bound / RATE / 86400, 2),
        "score_max": max(piece["score_max"] for piece in group),
        "score_99": max(piece["score_99"] for piece in group),
        "fleet_age_share": round(sum(piece["fleet_age_checks"] for piece in group) / checks, 6),
        "fleet_age_per_million": round(sum(piece["fleet_age_spells"] for piece in group) / requests * 1e6, 2),
    }


def detector(piece: Json) -> Json:
    """One detector's thresholds, false alarms and delays."""
    delays = {
        name: {scenario: _delays(found) for scenario, found in content.items()}
        for name, content in piece.items()
        if name.endswith("_delays")
    }
    return {**piece, **delays}


def _delays(found: Sequence[int | None]) -> Json:
    missed = sum(delay is None for delay in found)
    return {"median": quantile(found, 0.5), "worst": quantile(found, 1.0), "missed": missed, "streams": len(found)}


def _targets(summary: Json) -> list[Json]:
    """The promises that the watch is held to, with what was measured."""
    healthy = summary["healthy"]["all"]
    measured: list[tuple[str, Any, bool]] = [
        (
            f"{REQUESTS_PER_FALSE_ALARM:,} healthy requests between false alarms (lower bound)",
            healthy["arl0_lower_bound"],
            healthy["arl0_lower_bound"] >= REQUESTS_PER_FALSE_ALARM,
        )
    ]
    for share, limit in ((1.0, 60), (0.25, 250)):
        rows = _where(summary["scenarios"], family="fleet", subset="FD002", severity=share)
        if rows:
            value = rows[0]["worst"]
            measured.append((f"{share:.0%} FD002 within {limit} requests (worst stream)", value, _within(value, limit)))
    biased = _where(summary["scenarios"], family="bias", severity=1.0)
    if biased:
        values = [row["worst"] for row in biased]
        worst = None if None in values else max(values)
        measured.append(("1 sigma of any one sensor within 600 requests (worst stream)", worst, _within(worst, 600)))
    single = [row for row in summary["pooled"] if row["first_right"] is not None]
    if single:
        found = sum((row["streams"] - row["missed"]) * row["first_right"] for row in single)
        right = round(found / max(1, sum(row["streams"] - row["missed"] for row in single)), 4)
        measured.append(("the faulty sensor blamed first in 95 % of single-sensor cases", right, right >= 0.95))
    for label, rows in ladders(summary).items():
        medians = [row["score"][1] for row in rows]
        measured.append((f"score monotone in severity: {label}", medians, all(np.diff(medians) > 0)))
    aged = _where(summary["scenarios"], family="age")
    if aged:
        said = sum(row["streams"] - row["missed"] for row in aged)
        measured.append(("no drift said of a fleet that is only older or younger", said, said == 0))
    for row in _where(summary["scenarios"], family="corrupt"):
        said = row["streams"] - row["missed"]
        measured.append(("no drift said of one corrupted request", said, said == 0))
    return [{"target": target, "measured": value, "met": bool(met)} for target, value, met in measured]


def ladders(summary: Json) -> dict[str, list[Json]]:
    """Rows of growing severity that belong together: shares of each foreign subset, and biases of any sensor."""
    found = {}
    for subset in dict.fromkeys(row["subset"] for row in _where(summary["scenarios"], family="fleet")):
        rows = _where(summary["scenarios"], family="fleet", subset=subset)
        found[f"share of {subset}"] = sorted(rows, key=lambda row: float(row["severity"]))
    biased = _where(summary["pooled"], family="bias")
    if len(biased) == len(SIGMAS):
        found["bias"] = sorted(biased, key=lambda row: float(row["severity"]))
    return found


def _where(rows: Iterable[Json], **wanted: Any) -> list[Json]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _within(value: int | None, limit: int) -> bool:
    return value is not None and value <= limit


def _row(row: Json, *, sensor: bool = False) -> list[str]:
    right = "" if row["first_right"] is None else f"{row['first_right']:.0%}"
    settled = ", ".join(f"{name} {count / row['streams']:.0%}" for name, count in row["settled"].items())
    return [
        f"sensor {row['sensor']}" if sensor else name_of(row),
        *(_cell(row[key]) for key in ("median", "p90", "worst")),
        f"{row['missed']} of {row['streams']}",
        *(_cell(row[key]) for key in ("scraped_median", "scraped_p90")),
        settled,
        right,
    ]


def _healthy_row(name: str, row: Json) -> list[str]:
    return [
        name,
        f"{row['requests']:,}",
        str(row["alarms"]),
        f"{row['arl0_lower_bound']:,}",
        f"{row['arl0_lower_bound_days']:g}",
        f"{row['score_max']:.2f}",
        f"{row['fleet_age_share']:.3%} of checks",
    ]


def _age_row(row: Json) -> list[str]:
    return [name_of(row), str(row["streams"]), str(row["streams"] - row["missed"]), f"{row['fleet_age']:.0%}"]


def _target_row(row: Json) -> list[str]:
    value = row["measured"]
    shown = ", ".join(f"{part:g}" for part in value) if isinstance(value, list) else _cell(value)
    return [row["target"], shown, "yes" if row["met"] else "**no**"]


def detector_table(detectors: Sequence[Json]) -> Table:
    """Each detector as it comes, calibrated, and calibrated with corrupted requests among the healthy ones."""
    scenarios = compared_names(detectors)
    rows = []
    for detector in detectors:
        for kind in ("default", "calibrated", "robust"):
            name = f"{detector['method']}, {kind}"
            if detector[kind] is None:
                rows.append([name, "none of the grid", "", *("" for _ in scenarios)])
                continue
            cells = [_detector_cell(detector[f"{kind}_delays"][scenario]) for scenario in scenarios]
            alarms = f"{detector['default_false_alarms']:.1%}" if kind == "default" else "0%"
            rows.append([name, f"{detector[kind]:.4g}", alarms, *cells])
    header = ("detector", "threshold", "healthy stretches with an alarm", *scenarios.values())
    return "Other detectors on the same streams: median delay (missed)", header, rows


def _detector_cell(found: Json) -> str:
    return f"{_cell(found['median'])} ({found['missed']}/{found['streams']})"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def _all(group: Sequence[Json], key: str) -> list[Any]:
    return [value for piece in group for value in piece[key]]


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _by(pieces: Sequence[Json], key: str) -> dict[str, list[Json]]:
    return {
        value: [piece for piece in pieces if piece[key] == value] for value in dict.fromkeys(p[key] for p in pieces)
    }


def _grouped(pieces: Sequence[Json], *keys: str) -> list[list[Json]]:
    groups: dict[tuple[Any, ...], list[Json]] = {}
    for piece in pieces:
        groups.setdefault(tuple(piece[key] for key in keys), []).append(piece)
    return list(groups.values())
