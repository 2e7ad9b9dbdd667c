"""One form for convolutions: ``fastconv::Conv(x, w, b, residual)`` with all attributes written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastconv.graph.ir import Graph
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["canonical_convolutions"]


def canonical_convolutions(graph: Graph) -> Graph:
    """Conv of floats with constant weights; those whose weights are computed stay as they are.

    Attributes: strides, dilations, group, padding (a word or pairs), low and high (the result is clamped).
    """
    work = Rewriting(graph)
    for node in graph.nodes:
        w = work.constant(node.inputs[1]) if (node.domain, node.op_type) == ("", "Conv") else None
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        b = work.constant(bias) if bias else None
        if w is None or w.ndim < 3 or w.dtype not in (np.float32, np.float64) or (bias and b is None):
            work.add(node)
            continue
        rank = w.ndim - 2
        attributes = {
            "strides": tuple(node.attributes.get("strides") or (1,) * rank),
            "dilations": tuple(node.attributes.get("dilations") or (1,) * rank),
            "group": node.attributes.get("group", 1),
            "padding": _padding(rank, node.attributes),
            "low": -np.inf,
            "high": np.inf,
        }
        work.add(
            replace(node, domain="fastconv", inputs=[node.inputs[0], node.inputs[1], bias, ""], attributes=attributes)
        )
    return work.finish()


def _padding(rank: int, attributes: dict):
    word = attributes.get("auto_pad", "NOTSET")
    if word in ("SAME_UPPER", "SAME_LOWER"):
        return word
    pads = attributes.get("pads") or (0,) * (2 * rank)
    return "valid" if word == "VALID" else tuple(zip(pads[:rank], pads[rank:], strict=True))
