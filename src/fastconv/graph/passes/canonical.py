"""One form for convolutions: all inputs and attributes written out, and a clamp of the result.

``fastconv::Conv(x, w, b, residual)`` has the attributes strides, dilations, group, padding (a word or pairs), low and high,
and may have scale, a factor in float64 for each filter, and activation, its name and parameters in the op table;
``fastconv::ConvTranspose(x, w, b)`` has strides, dilations, group, pads (pairs), output_padding, low and high.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["canonical_convolutions"]


def canonical_convolutions(graph: Graph) -> Graph:
    """Those of floats with constant weights; others stay as they are, and so does a size that is given instead of padding."""
    work = Rewriting(graph)
    for node in graph.nodes:
        if node.domain or node.op_type not in ("Conv", "ConvTranspose") or not _is_constant(node, work):
            work.add(node)
            continue
        w = work.constant(node.inputs[1])
        attributes = _attributes(node, w.ndim - 2)
        if attributes is None or tuple(node.attributes.get("kernel_shape") or w.shape[2:]) != w.shape[2:]:
            work.add(node)
            continue
        inputs = [*node.inputs[:2], node.inputs[2] if len(node.inputs) > 2 else ""]
        inputs += [""] * (node.op_type == "Conv")
        work.add(replace(node, domain="fastconv", inputs=inputs, attributes=attributes))
    return work.finish()


def _is_constant(node: Node, work: Rewriting) -> bool:
    w, *b = (work.constant(name) for name in node.inputs[1:] if name)
    return w is not None and w.ndim >= 3 and w.dtype in (np.float32, np.float64) and all(a is not None for a in b)


def _attributes(node: Node, rank: int) -> dict | None:
    given = node.attributes
    attributes = {
        "strides": tuple(given.get("strides") or (1,) * rank),
        "dilations": tuple(given.get("dilations") or (1,) * rank),
        "group": given.get("group", 1),
        "low": -np.inf,
        "high": np.inf,
    }
    word = given.get("auto_pad", "NOTSET")
    numbers = given.get("pads") or (0,) * (2 * rank)
    if len(numbers) != 2 * rank:
        return None
    pads = ((0, 0),) * rank if word == "VALID" else tuple(zip(numbers[:rank], numbers[rank:], strict=True))
    if node.op_type == "Conv":
        return attributes | {"padding": word if word.startswith("SAME") else pads}
    if given.get("output_shape") or word.startswith("SAME"):
        return None
    return attributes | {"pads": pads, "output_padding": tuple(given.get("output_padding") or (0,) * rank)}
