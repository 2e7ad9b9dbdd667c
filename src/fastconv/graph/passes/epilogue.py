"""Activations as the last step of the convolution before them."""

from __future__ import annotations

from collections.abc import Collection

from fastconv.graph.activations import activation_of
from fastconv.graph.ir import Graph
from fastconv.graph.passes.rewriting import Rewriting, is_unclamped
from fastconv.ops.conv import EPILOGUES

__all__ = ["fuse_epilogues"]


def fuse_epilogues(graph: Graph, activations: Collection[str] = EPILOGUES) -> Graph:
    """An activation of these names becomes the attribute ``activation``, (name, parameters), of ``fastconv::Conv``.

    It follows the residual, and takes the place of a clamp.
    """
    work = Rewriting(graph)
    for node in graph.nodes:
        found = activation_of(node)
        conv = work.producer(node.inputs[0], "Conv") if found and found[0] in activations else None
        if conv is None or not is_unclamped(conv) or "activation" in conv.attributes:
            work.add(node)
        else:
            work.absorb(conv, node.outputs[0], attributes=conv.attributes | {"activation": found})
    return work.finish()
