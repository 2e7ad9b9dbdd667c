"""Matrix products with constant weights, and the constants that are multiplied and added behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.rewriting import Rewriting, finite

__all__ = ["fold_linear"]


def fold_linear(graph: Graph) -> Graph:
    """MatMul by a constant matrix becomes ``fastconv::MatMul(x, w, b)``, which takes in a factor or a bias per column."""
    work = Rewriting(graph)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if (node.domain, node.op_type) == ("", "MatMul") and _is_matrix(work.constant(node.inputs[1])):
                work.add(replace(node, domain="fastconv", inputs=[*node.inputs, ""]))
            elif not _fold(node, work):
                work.add(node)
    return work.finish()


def _is_matrix(w: np.ndarray | None) -> bool:
    return w is not None and w.ndim == 2 and w.dtype in (np.float32, np.float64)


def _fold(node: Node, work: Rewriting) -> bool:
    if node.domain or node.op_type not in ("Add", "Sub", "Mul", "Div") or node.attributes:
        return False
    for place, name in enumerate(node.inputs):
        linear = work.producer(name, "MatMul")
        constant = work.constant(node.inputs[1 - place])
        if linear is None or constant is None or (place == 1 and node.op_type in ("Sub", "Div")):
            continue
        w = work.constant(linear.inputs[1])
        b = work.constant(linear.inputs[2]) if linear.inputs[2] else np.zeros(w.shape[1])
        if constant.ndim > 1 or constant.size not in (1, w.shape[1]) or constant.dtype != w.dtype:
            continue
        folded = finite(w.dtype, *_folded(node.op_type, w, b.astype(np.float64), constant.astype(np.float64)))
        if folded is None:
            return False
        names = [linear.inputs[1] if folded[0] is None else work.new_constant(linear.inputs[1], folded[0])]
        names.append(work.new_constant(linear.inputs[1] + ".bias", folded[1]))
        work.absorb(linear, node.outputs[0], inputs=[linear.inputs[0], *names])
        return True
    return False


def _folded(op_type: str, w: np.ndarray, b: np.ndarray, constant: np.ndarray):
    """Weights, None where they stay as they are, and bias."""
    if op_type in ("Add", "Sub"):
        return None, b + constant if op_type == "Add" else b - constant
    factor = constant if op_type == "Mul" else 1 / constant
    return w * factor, b * factor
