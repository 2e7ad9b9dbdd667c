"""Layer norm that a model spells out in means, differences and a root."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.dead import drop_dead
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["fuse_layer_norm"]

OPSET = 17  # the first that has LayerNormalization


def fuse_layer_norm(graph: Graph) -> Graph:
    """``(x - mean(x)) / sqrt(mean((x - mean(x))²) + eps) * scale + bias`` over the last axis becomes LayerNormalization."""
    work = Rewriting(graph)
    for node in graph.nodes:
        found = _layer_norm(node, work)
        if found is not None:
            inputs, eps = found
            attributes = {"axis": -1, "epsilon": eps}
            node = replace(node, op_type="LayerNormalization", inputs=inputs, attributes=attributes, opset=OPSET)
        work.add(node)
    return drop_dead(work.finish())


def _layer_norm(node: Node, work: Rewriting) -> tuple[list[str], float] | None:
    """([x, scale, bias], epsilon)."""
    product, bias = _with_constant(node, "Add", work)
    quotient, scale = _with_constant(work.source(product, "Mul"), "Mul", work)
    division = work.source(quotient, "Div")
    if division is None:
        return None
    difference, root = (work.source(division.inputs[0], "Sub"), work.source(division.inputs[1], "Sqrt"))
    variance, eps = _with_constant(work.source(root.inputs[0], "Add") if root else None, "Add", work)
    mean_square = work.source(variance, "ReduceMean")
    if difference is None or mean_square is None or not _is_last_axis(mean_square, work):
        return None
    x, mean = difference.inputs
    mean_node = work.source(mean, "ReduceMean")
    if mean_node is None or mean_node.inputs[0] != x or not _is_last_axis(mean_node, work):
        return None
    arrays = [work.constant(name) for name in (scale, bias, eps)]
    is_square = _squared(mean_square.inputs[0], (x, mean), work)
    if not is_square or arrays[0].ndim != 1 or arrays[1].shape != arrays[0].shape or arrays[2].size != 1:
        return None
    return [x, scale, bias], float(arrays[2].reshape(()))


def _with_constant(node: Node | None, op_type: str, work: Rewriting) -> tuple[str, str]:
    """(value, constant) that are the operands of `node`; empty where there is no such node."""
    if node is None or node.domain or node.op_type != op_type or node.attributes or len(node.inputs) != 2:
        return "", ""
    for value, constant in (node.inputs, node.inputs[::-1]):
        if work.constant(constant) is not None and work.constant(constant).dtype in (np.float32, np.float64):
            return value, constant
    return "", ""


def _is_last_axis(node: Node, work: Rewriting) -> bool:
    axes = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = work.constant(node.inputs[1])
    if axes is None or len(axes) != 1 or not node.attributes.get("keepdims", 1):
        return False
    return axes[0] == -1 or axes[0] + 1 == work.ranks.get(node.inputs[0])


def _squared(name: str, operands: tuple[str, str], work: Rewriting) -> bool:
    """Whether `name` is the square of the difference of the operands, which may be computed twice."""
    node = work.source(name, "Pow", "Mul")
    if node is None:
        return False
    base, other = node.inputs
    if node.op_type == "Pow":
        exponent = work.constant(other)
        if exponent is None or exponent.size != 1 or exponent.reshape(()) != 2:
            return False
    elif other != base:
        return False
    difference = work.source(base, "Sub")
    return difference is not None and tuple(difference.inputs) == operands
