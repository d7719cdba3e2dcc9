"""Edits of an exported graph (ONNX and numpy, no torch): regimes appended, and intervals widened where they are met.

What depends on the number of regimes are initialisers: the means, standard deviations and marks of sensors that vary,
by their names in the network, and the centres, which the exporter has folded into what is subtracted before the
distance. Rows are appended to each, so that what was there stays bit for bit. The widening of intervals is a few
nodes more: a window that has any row in an appended regime gets `widening` added to the offsets, any other one 0.
"""

from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from driftloop.errors import BundleError
from driftloop.model.bundle import MODEL
from driftloop.model.regimes import Regimes

PREFIX = "first_aid"
NEW, WIDENING, OFFSETS = f"{PREFIX}.new", f"{PREFIX}.widening", f"{PREFIX}.offsets"
_STATISTICS = ("mean", "std", "varies")


class _Place(NamedTuple):
    """Where a graph computes the regime of each row."""

    regime: str
    """The tensor of each row's regime, `[batch, rows]`."""
    scales: str
    """Initialiser `[settings, 1]`."""
    centres: str
    """Initialiser `[regimes, settings, 1]`, in scales."""


def known_regimes(content: bytes) -> Regimes:
    """The regimes of a graph; raises BundleError where it has none that could be appended to."""
    graph = _load(content).graph
    place, values = _place(graph), _values(graph)
    scales = values[place.scales][:, 0].astype(np.float64)
    centres = (values[place.centres][..., 0] * scales).astype(np.float32)
    return Regimes(centres, values["mean"], values["std"], values["varies"], scales)


def appended(content: bytes, regimes: Regimes, widening: NDArray[np.float32]) -> bytes:
    """The graph with those of `regimes` that it lacks; its own must be the first of them.

    `widening` `[bands]`, steps, is by how much a window with a row in any appended regime gets wider at both ends.
    """
    model = _load(content)
    graph = model.graph
    place, values = _place(graph), _values(graph)
    count = len(values["mean"])
    for name in _STATISTICS:
        _replace(graph, name, np.concatenate([values[name], getattr(regimes, name)[count:]]))
    scales = values[place.scales].astype(np.float32)
    centres = regimes.centres[count:].astype(np.float32)[..., None] / scales
    _replace(graph, place.centres, np.concatenate([values[place.centres], centres.astype(np.float32)]))
    added = np.ones(len(regimes) - count, np.float32)
    if NEW in values:
        _replace(graph, NEW, np.concatenate([values[NEW], added]))
        _replace(graph, WIDENING, np.maximum(values[WIDENING], widening.astype(np.float32)))
    else:
        _widen(graph, place, np.concatenate([np.zeros(count, np.float32), added]), widening.astype(np.float32))
    return bytes(model.SerializeToString())


def _load(content: bytes) -> Any:
    """The graph with each initialiser by itself: the exporter keeps equal ones once, behind nodes that copy it."""
    model = onnx.load_from_string(content)
    graph, values = model.graph, _values(model.graph)
    for node in [node for node in graph.node if node.op_type == "Identity" and node.input[0] in values]:
        graph.initializer.append(numpy_helper.from_array(values[node.input[0]], node.output[0]))
        graph.node.remove(node)
    return model


def _widen(graph: Any, place: _Place, new: NDArray[np.float32], widening: NDArray[np.float32]) -> None:
    """Put what is added for new regimes between the offsets and those who use them."""
    users = [node for node in graph.node if "offsets" in node.input]
    made = [
        helper.make_node("Gather", [NEW, place.regime], [f"{PREFIX}.of_rows"]),
        helper.make_node("ReduceMax", [f"{PREFIX}.of_rows"], [f"{PREFIX}.of_window"], axes=[1], keepdims=1),
        helper.make_node("Mul", [f"{PREFIX}.of_window", WIDENING], [f"{PREFIX}.added"]),
        helper.make_node("Add", ["offsets", f"{PREFIX}.added"], [OFFSETS]),
    ]
    if not users:
        raise BundleError("has no offsets of its interval to widen", where=MODEL)
    for node in users:
        for at, name in enumerate(node.input):
            if name == "offsets":
                node.input[at] = OFFSETS
    nodes = list(graph.node)
    first = min(nodes.index(node) for node in users)
    del graph.node[:]
    graph.node.extend([*nodes[:first], *made, *nodes[first:]])
    graph.initializer.extend([numpy_helper.from_array(new, NEW), numpy_helper.from_array(widening, WIDENING)])


def _place(graph: Any) -> _Place:
    """Found by following the graph back from where the nearest regime is chosen; raises BundleError."""
    made_by = {name: node for node in graph.node for name in node.output}
    values = {tensor.name for tensor in graph.initializer}
    nearest = [node for node in graph.node if node.op_type == "ArgMin"]
    if len(nearest) != 1 or not {"offsets", *_STATISTICS} <= values:
        raise BundleError("its graph has no regimes that could be appended to", where=MODEL)
    try:
        squared = made_by[made_by[nearest[0].input[0]].input[0]]
        apart = made_by[squared.input[0]]
        centres = apart.input[1]
        scaled = made_by[made_by[apart.input[0]].input[0]]
        scales = scaled.input[1]
    except (KeyError, IndexError) as error:
        raise BundleError("its graph finds regimes in a way that is not known", where=MODEL) from error
    if (squared.op_type, apart.op_type, scaled.op_type) != ("Mul", "Sub", "Div") or not {centres, scales} <= values:
        raise BundleError("its graph finds regimes in a way that is not known", where=MODEL)
    return _Place(nearest[0].output[0], scales, centres)


def _values(graph: Any) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _replace(graph: Any, name: str, value: NDArray[np.float32]) -> None:
    for tensor in graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
