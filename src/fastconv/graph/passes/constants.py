"""Computing what does not depend on the inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastconv.graph.ir import Graph, Node

__all__ = ["fold_constants"]

RANDOM = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
}


def fold_constants(graph: Graph, evaluate: Callable[[Node, list], tuple]) -> Graph:
    """Nodes whose inputs are all constant become constants; ``evaluate(node, inputs)`` computes their outputs."""
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        given = [constants.get(name) for name in node.inputs]
        is_constant = all(array is not None or not name for array, name in zip(given, node.inputs, strict=True))
        if not is_constant or node.op_type in RANDOM or node.graphs():
            nodes.append(node)
            continue
        results = evaluate(node, given)
        if not all(isinstance(result, np.ndarray) for result in results):
            nodes.append(node)
            continue
        constants |= {
            name: np.ascontiguousarray(result) if result.ndim else result
            for name, result in zip(node.outputs, results, strict=False)
            if name
        }
    return replace(graph, nodes=nodes, constants=constants)
