"""The metrics that the code makes, found in its source: name, type, labels and help of each."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_TYPES = {
    "Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "Summary": "summary",
    "CounterMetricFamily": "counter", "GaugeMetricFamily": "gauge", "SummaryMetricFamily": "summary",
    "HistogramMetricFamily": "histogram",
}  # fmt: skip


class Metric(NamedTuple):
    """One metric; `name` as Prometheus shows it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def metrics(folder: Path) -> dict[str, list[Metric]]:
    """The metrics of each file that makes some, in the order of the code."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = dict(_constants(tree))
        made = [metric for node in ast.walk(tree) if isinstance(node, ast.Call) for metric in _made(node, known)]
        if made:
            found[path.relative_to(folder).as_posix()] = list(dict.fromkeys(made))
    return found


def _made(call: ast.Call, known: dict[str, Any]) -> Iterator[Metric]:
    kind = _TYPES.get(call.func.id) if isinstance(call.func, ast.Name) else None
    if kind is None or len(call.args) < 2:
        return
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    given = call.args[2] if len(call.args) > 2 else named.get("labels")
    labels = tuple(_value(given, known)) if given is not None else ()
    for name, about in _names(call.args[0], call.args[1], known):
        if name.startswith("driftloop_"):
            shown = f"{name.removesuffix('_total')}_total" if kind == "counter" else name
            yield Metric(shown, kind, labels, about)


def _names(name: ast.expr, about: ast.expr, known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and help; of a name that is put together, one for each entry of the dictionary that the loop goes over."""
    if isinstance(name, ast.Constant) and isinstance(about, ast.Constant):
        yield str(name.value), " ".join(str(about.value).split())
    elif isinstance(name, ast.JoinedStr):
        prefix = "".join(str(part.value) for part in name.values if isinstance(part, ast.Constant))
        for value in known.values():
            if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
                yield from ((prefix + key, text) for key, text in value.items())


def _constants(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """Names that are given a plain value, anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                yield node.targets[0].id, ast.literal_eval(node.value)
            except ValueError:
                continue


def _value(given: ast.expr, known: dict[str, Any]) -> list[str]:
    if isinstance(given, ast.Name):
        return list(known[given.id])
    if isinstance(given, ast.List):
        return [
            text
            for part in given.elts
            for text in (_value(part.value, known) if isinstance(part, ast.Starred) else [ast.literal_eval(part)])
        ]
    raise ValueError(f"labels that this does not understand: {ast.unparse(given)}")
