"""The results of the benchmark of first aid: means over seeds, targets, tables."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from driftloop_bench.first_aid.cases import GIVEN, Json
from driftloop_bench.first_aid.looks import HEADLINE, LOOKS

RMSE_AT_MOST: Mapping[tuple[str, str], float] = {("FD001", "FD002"): 20.0, ("FD001", "FD004"): 30.0}
MUST_BE_GIVEN = [("FD001", "FD002"), ("FD001", "FD004"), ("FD003", "FD002"), ("FD003", "FD004")]
RULES_FROM = ("FD001", "FD003")
"""Sources that rules and limits were fixed with."""
WORSE_BY, LEAST_COVERED = 1.02, 0.85
RIGHT = 0.2
"""An estimate of the error is right within this share of the truth, or where the truth is in its range."""
AS_IT_WAS = "as it was"
ORDER = (
    AS_IT_WAS, "growing by age", "plain growing", "found anew", "found anew by age", "CORAL", "quantile maps",
    "quantile maps by age",
)  # fmt: skip
"""Of the variants, where they are told."""
FIGURES = ("rmse", "covered", "interval_score")
Table = tuple[str, list[str], list[list[str]]]
"""Title, header, rows."""


def summarise(cases: Sequence[Json], origin: Json) -> Json:
    """Everything that is told of `cases`, the cases themselves included."""
    apart = [case for case in cases if case["source"] != case["target"]]
    pairs = list(dict.fromkeys((case["source"], case["target"]) for case in apart))
    groups = {pair: [case for case in apart if (case["source"], case["target"]) == pair] for pair in pairs}
    shown = [_pair(pair, group) for pair, group in groups.items()]
    return {
        **origin,
        "looks": dict(LOOKS),
        "pairs": shown,
        "targets": {look: _targets(groups, look) for look in LOOKS},
        "variants": _variants(apart),
        "live_error": _live_errors(cases),
        "cases": list(cases),
    }


def _pair(pair: tuple[str, str], group: Sequence[Json]) -> Json:
    looks = {}
    for look in LOOKS:
        found = [case["looks"][look] for case in group]
        outcomes = [each["outcome"] for each in found]
        apart = [each["rmse"] - case["champion"]["rmse"] for each, case in zip(found, group, strict=True)]
        looks[look] = {
            **_spreads(found),
            "rmse_minus_champion": _spread(apart),
            "outcomes": {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
            "reasons": list(dict.fromkeys(each["reason"] for each in found)),
        }
    return {
        "source": pair[0],
        "target": pair[1],
        "units": [case["units"] for case in group],
        "windows": [case["windows"] for case in group],
        "cap": group[0]["cap"],
        "champion": _spreads([case["champion"] for case in group]),
        "looks": looks,
        "labelled": _spreads([case["labelled"] for case in group]),
    }


def _spreads(found: Sequence[Json]) -> Json:
    return {name: _spread([each[name] for each in found]) for name in FIGURES}


def _spread(values: Sequence[float]) -> Json:
    """Mean and standard deviation over seeds, and each seed's."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 4), "sd": round(spread, 4), "of_seeds": list(values)}


def _targets(groups: Mapping[tuple[str, str], Sequence[Json]], look: str) -> list[Json]:
    """Each target, what was found, and whether it is met; those of pairs that were not measured are left out."""
    found = []

    def tell(what: str, value: str, met: bool) -> None:
        found.append({"target": what, "found": value, "met": met})

    for pair, most in RMSE_AT_MOST.items():
        if pair in groups:
            mean = float(np.mean([case["looks"][look]["rmse"] for case in groups[pair]]))
            tell(f"{pair[0]} to {pair[1]}: RMSE at most {most:g}", f"{mean:.1f}", mean <= most)
    ratio = {
        pair: float(
            np.mean([c["looks"][look]["rmse"] for c in group]) / np.mean([c["champion"]["rmse"] for c in group])
        )
        for pair, group in groups.items()
    }
    worst = max(ratio, key=ratio.__getitem__)
    tell(
        "no pair worse than the champion alone by more than 2 %",
        f"worst {worst[0]} to {worst[1]}, {ratio[worst] - 1:+.1%}",
        ratio[worst] <= WORSE_BY,
    )
    for pair in [pair for pair in MUST_BE_GIVEN if pair in groups]:
        times = sum(case["looks"][look]["outcome"] == GIVEN for case in groups[pair])
        count = f"{times} of {len(groups[pair])} seeds"
        tell(f"{pair[0]} to {pair[1]}: given", count, times == len(groups[pair]))
    given = [case for group in groups.values() for case in group if case["looks"][look]["outcome"] == GIVEN]
    if not given:
        return found
    checks: list[tuple[str, Callable[[Json], bool]]] = [
        ("where given, at least 85 % covered", lambda case: case["looks"][look]["covered"] >= LEAST_COVERED),
        (
            "where given, a better interval score than the champion's",
            lambda case: case["looks"][look]["interval_score"] < case["champion"]["interval_score"],
        ),
        (
            "where given, a better interval score than [0, cap]",
            lambda case: case["looks"][look]["interval_score"] < case["cap"],
        ),
    ]
    for what, holds in checks:
        failing = [f"{c['source']} to {c['target']}, seed {c['seed']}" for c in given if not holds(c)]
        missed = f"; not in {', '.join(failing)}" if failing else ""
        tell(what, f"{len(given) - len(failing)} of {len(given)} cases{missed}", not failing)
    return found


def _variants(cases: Sequence[Json]) -> list[Json]:
    """Each variant over the sources that rules were fixed with, and over the others; paired with the champion."""
    told = [case for case in cases if "variants" in case]
    found = []
    for name in [name for name in ORDER if name != AS_IT_WAS and any(name in case["variants"] for case in told)]:
        for whose, group in (
            ("rules fixed with", [case for case in told if case["source"] in RULES_FROM]),
            ("held out", [case for case in told if case["source"] not in RULES_FROM]),
        ):
            if not group:
                continue
            ratio = np.array([case["variants"][name]["rmse"] / case["variants"][AS_IT_WAS]["rmse"] for case in group])
            accepted = np.array([case["variants"][name]["refused"] is None for case in group])
            found.append(
                {
                    "variant": name,
                    "sources": whose,
                    "cases": len(group),
                    "accepted": int(accepted.sum()),
                    "accepted_better": int((accepted & (ratio < 1 / WORSE_BY)).sum()),
                    "accepted_worse": int((accepted & (ratio > WORSE_BY)).sum()),
                    "refused_better": int((~accepted & (ratio < 1 / WORSE_BY)).sum()),
                    "refused_worse": int((~accepted & (ratio > WORSE_BY)).sum()),
                }
            )
    return found


def _live_errors(cases: Sequence[Json]) -> list[Json]:
    """The estimate that the watch would show at the end: after first aid where it was given."""
    found = []
    for case in cases:
        aided = "first_aid" in case["live_error"]
        said = case["live_error"]["first_aid" if aided else "champion"]
        row = {"source": case["source"], "target": case["target"], "seed": case["seed"], "first_aid": aided, **said}
        if said["known"]:
            inside = said["low"] <= said["true"] <= said["high"]
            row |= {"inside": inside, "ratio": round(said["rmse"] / said["true"], 3)}
            row["right"] = inside or abs(row["ratio"] - 1) <= RIGHT
        found.append(row)
    return found


def tables(summary: Json) -> list[Table]:
    """What is told to people."""
    return [_of_look(summary, look) for look in LOOKS] + [_met(summary), _of_variants(summary), _of_errors(summary)]


def markdown(summary: Json) -> str:
    """The tables as a page."""
    parts = [f"# First aid without labels\n\n`data_source: {summary['data_source']}`\n"]
    for title, header, rows in tables(summary):
        lines = [header, ["---"] * len(header), *rows]
        parts.append(f"## {title}\n\n" + "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n")
    return "\n".join(parts)


def _of_look(summary: Json, look: str) -> Table:
    header = ["from, to", "RMSE as it was", "first aid", "labelled", "covered", "interval score as it was", "first aid"]
    rows = []
    for pair in summary["pairs"]:
        aided = pair["looks"][look]
        given = ", ".join(f"{outcome} {count}" for outcome, count in aided["outcomes"].items())
        rows.append(
            [
                f"{pair['source']}, {pair['target']}",
                _mean(pair["champion"]["rmse"]),
                f"{_mean(aided['rmse'])} ({given})",
                _mean(pair["labelled"]["rmse"]),
                f"{pair['champion']['covered']['mean']:.0%}, {aided['covered']['mean']:.0%}",
                f"{pair['champion']['interval_score']['mean']:.0f}",
                f"{aided['interval_score']['mean']:.0f}",
            ]
        )
    return f"First aid from {look}: {LOOKS[look]}", header, rows


def _met(summary: Json) -> Table:
    rows = [
        [look, target["target"], target["found"], "met" if target["met"] else "MISSED"]
        for look, targets in summary["targets"].items()
        for target in targets
    ]
    return "Targets", ["from", "target", "found", ""], rows


def _of_variants(summary: Json) -> Table:
    pairs: dict[tuple[str, str], dict[str, list[float]]] = {}
    for case in summary["cases"]:
        if "variants" in case:
            of = pairs.setdefault((case["source"], case["target"]), {})
            for name, variant in case["variants"].items():
                of.setdefault(name, []).append(variant["rmse"])
    if not pairs:
        return "Beyond growing", ["variant"], []
    names = [name for name in ORDER if name in next(iter(pairs.values()))]
    rows = [[f"{pair[0]}, {pair[1]}", *(f"{np.mean(of[name]):.1f}" for name in names)] for pair, of in pairs.items()]
    for row in summary["variants"]:
        at = names.index(row["variant"]) + 1
        label = f"judge, {row['sources']}: accepted better / worse, refused better / worse of {row['cases']}"
        line = next((line for line in rows if line[0] == label), None)
        if line is None:
            line = [label, *([""] * len(names))]
            rows.append(line)
        line[at] = (
            f"{row['accepted_better']} / {row['accepted_worse']}, {row['refused_better']} / {row['refused_worse']}"
        )
    return f"Beyond growing: RMSE, first aid from {HEADLINE}", ["from, to", *names], rows


def _of_errors(summary: Json) -> Table:
    header = ["model", "traffic", "first aid", "estimate", "range", "truth", "estimate / truth", "right"]
    groups: dict[tuple[str, str], list[Json]] = {}
    for row in summary["live_error"]:
        groups.setdefault((row["source"], row["target"]), []).append(row)
    rows = []
    for (source, target), group in groups.items():
        known = [row for row in group if row["known"]]
        why = " (drift)" if not known and "drift" in str(group[0]["why"]) else ""
        rows.append(
            [
                source,
                target,
                "yes" if any(row["first_aid"] for row in group) else "-",
                ", ".join(f"{row['rmse']:.1f}" for row in known) or f"unknown{why}",
                ", ".join(f"{row['low']:.1f} to {row['high']:.1f}" for row in known),
                ", ".join(f"{row['true']:.1f}" for row in group),
                ", ".join(f"{row['ratio']:.2f}" for row in known),
                f"{sum(row['right'] for row in known)} of {len(known)}" if known else "",
            ]
        )
    return "The error by its answers alone", header, rows


def _mean(spread: Json) -> str:
    return f"{spread['mean']:.1f} ± {spread['sd']:.1f}"
