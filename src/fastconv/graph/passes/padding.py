"""Zeros around the input, as the padding of the convolution or average pooling behind them."""

from __future__ import annotations

from dataclasses import replace

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["fold_padding"]


def fold_padding(graph: Graph) -> Graph:
    """Pad with zeros of the spatial axes alone, into the one operator that reads it."""
    work = Rewriting(graph)
    for node in graph.nodes:
        pad = work.producer(node.inputs[0], "Pad", domain="") if node.inputs else None
        zeros = _spatial_zeros(pad, work) if pad is not None else None
        changed = _padded(node, zeros) if zeros else None
        if changed is None:
            work.add(node)
        else:
            work.add(replace(node, inputs=[work.bypass(pad), *node.inputs[1:]], attributes=node.attributes | changed))
    return work.finish()


def _spatial_zeros(pad: Node, work: Rewriting) -> list[tuple[int, int]] | None:
    """Zeros before and after every spatial axis."""
    pads, fill, axes = ([*pad.inputs, "", "", ""][i] for i in (1, 2, 3))
    if axes or pad.attributes.get("mode", "constant") != "constant" or (fill and work.constant(fill) is None):
        return None
    amount = pad.attributes.get("value", 0.0) if not fill else work.constant(fill).reshape(-1)[0]
    counts = pad.attributes.get("pads", pad.attributes.get("paddings")) if not pads else work.constant(pads)
    if amount != 0 or counts is None or len(counts) < 6 or min(counts) < 0:
        return None
    pairs = [(int(before), int(after)) for before, after in zip(*_halves(counts), strict=True)]
    return pairs[2:] if pairs[:2] == [(0, 0), (0, 0)] else None


def _halves(counts):
    return counts[: len(counts) // 2], counts[len(counts) // 2 :]


def _padded(node: Node, zeros: list[tuple[int, int]]) -> dict | None:
    """The attributes that change; None where the operator does not pad with zeros, or not by numbers."""
    at = node.attributes
    if (node.domain, node.op_type) == ("fastconv", "Conv"):
        if isinstance(at["padding"], str) or len(at["padding"]) != len(zeros):
            return None
        return {"padding": tuple((a + c, b + d) for (a, b), (c, d) in zip(at["padding"], zeros, strict=True))}
    if (node.domain, node.op_type) != ("", "AveragePool") or at.get("ceil_mode", 0):
        return None
    if at.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(at.get("pads", ())):
        return None
    if any(max(pair) >= size for pair, size in zip(zeros, at["kernel_shape"], strict=False)):
        return None
    pads = [pair[side] for side in (0, 1) for pair in zeros]
    return {"pads": pads, "count_include_pad": 1, "auto_pad": "NOTSET"}
