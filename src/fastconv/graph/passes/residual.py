"""The addition at the end of a residual block, as the last step of the convolution before it."""

from __future__ import annotations

from fastconv.graph.ir import Graph
from fastconv.graph.passes.rewriting import Rewriting, is_unclamped

__all__ = ["fuse_residual"]


def fuse_residual(graph: Graph) -> Graph:
    """``Add(Conv(x), y)`` and ``Sum`` of two become ``Conv(x, residual=y)``; the later of two convolutions takes it.

    The shapes have to be equal, which only the compiler knows: it undoes what broadcasting needs.
    """
    work = Rewriting(graph)
    for node in graph.nodes:
        pair = node.inputs if not node.domain and node.op_type in ("Add", "Sum") and len(node.inputs) == 2 else ()
        if (
            not pair
            or pair[0] == pair[1]
            or "broadcast" in node.attributes
            or work.ranks.get(pair[0]) != work.ranks.get(pair[1])
        ):
            work.add(node)
            continue
        convs = [
            (conv, other) for name, other in (pair, pair[::-1]) if (conv := work.producer(name, "Conv")) is not None
        ]
        free = [
            (conv, other)
            for conv, other in convs
            if not conv.inputs[3] and other not in work.constants and is_unclamped(conv)
        ]
        if not free:
            work.add(node)
            continue
        conv, other = max(free, key=lambda entry: work.nodes.index(entry[0]))
        work.absorb(conv, node.outputs[0], inputs=[*conv.inputs[:3], other])
    return work.finish()
