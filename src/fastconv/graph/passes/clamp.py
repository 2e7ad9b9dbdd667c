"""Relu and Clip as the clamp of the operator before them."""

from __future__ import annotations

import numpy as np

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["fuse_clamp"]


def fuse_clamp(graph: Graph) -> Graph:
    """Into convolutions, affine maps and arithmetic that nobody else reads; two clamps become the narrower one."""
    work = Rewriting(graph)
    for node in graph.nodes:
        limits = _limits(node, work)
        before = _clampable(node.inputs[0], work) if limits else None
        if before is None:
            work.add(node)
            continue
        low = max(limits[0], before.attributes.get("low", -np.inf))
        high = min(limits[1], before.attributes.get("high", np.inf))
        if low > high:
            work.add(node)
        elif before.domain:
            work.absorb(before, node.outputs[0], attributes=before.attributes | {"low": low, "high": high})
        else:
            op_type = "Add" if before.op_type == "Sum" else before.op_type
            clamped = {"op_type": op_type, "domain": "fastconv", "attributes": {"low": low, "high": high}}
            work.absorb(before, node.outputs[0], **clamped)
    return work.finish()


def _clampable(name: str, work: Rewriting) -> Node | None:
    own = work.producer(name, "Conv", "ConvTranspose", "Affine", "Add", "Sub", "Mul", "Div")
    if own is not None:
        return own
    arithmetic = work.producer(name, "Add", "Sub", "Mul", "Div", "Sum", domain="")
    if arithmetic is None or arithmetic.attributes or len(arithmetic.inputs) != 2:
        return None
    return arithmetic


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
