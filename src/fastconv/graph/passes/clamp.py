"""Relu and Clip as the clamp of the operator before them."""

from __future__ import annotations

import numpy as np

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["fuse_clamp"]


def fuse_clamp(graph: Graph) -> Graph:
    """Into convolutions and affine maps that nobody else reads."""
    work = Rewriting(graph)
    for node in graph.nodes:
        limits = _limits(node, work)
        before = work.producer(node.inputs[0], "Conv", "Affine") if limits else None
        if before is None or before.attributes["low"] > limits[0] or before.attributes["high"] < limits[1]:
            work.add(node)
            continue
        low, high = limits
        work.absorb(before, node.outputs[0], attributes=before.attributes | {"low": low, "high": high})
    return work.finish()


def _limits(node: Node, work: Rewriting) -> tuple[float, float] | None:
    if node.domain:
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip":
        return None
    ends = [node.attributes.get("min", -np.inf), node.attributes.get("max", np.inf)]
    for i, name in enumerate(node.inputs[1:3]):
        if name:
            end = work.constant(name)
            if end is None or end.size != 1:
                return None
            ends[i] = float(end.reshape(()))
    return (ends[0], ends[1]) if ends[0] <= ends[1] else None
