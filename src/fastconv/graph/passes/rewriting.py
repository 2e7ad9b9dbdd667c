"""What the passes need to know of a graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from fastconv.graph.ir import Graph, Node

__all__ = ["Rewriting", "ranks"]

# operators whose first output has as many axes as their first input
_KEEP_RANK = {
    "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "Dropout", "Elu", "GlobalAveragePool",
    "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "MaxPool", "Mish",
    "PRelu", "Pad", "Relu", "Resize", "Sigmoid", "Softmax", "Softplus", "Sum", "Tanh", "Upsample", "Affine",
}  # fmt: skip


class Rewriting:
    """A graph under rewriting: its nodes so far, who produced a value, and how often each is used in the original."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes: list[Node] = []
        self.constants = dict(graph.constants)
        self.uses = Counter(name for node in graph.nodes for name in node.reads())
        self.uses.update(info.name for info in graph.outputs)
        self._producers: dict[str, Node] = {}

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        self._producers.update((name, node) for name in node.outputs if name)

    def producer(self, name: str, *op_types: str) -> Node | None:
        """The node that computes `name`, if it is one of the package's own `op_types` and nobody else reads it."""
        node = self._producers.get(name)
        if node is None or node.domain != "fastconv" or node.op_type not in op_types or self.uses[name] != 1:
            return None
        return node

    def absorb(self, node: Node, output: str, **changes) -> None:
        """Let `node`, changed, compute `output` at the end of what there is: everything it may read stands before."""
        self.nodes.remove(node)
        self.add(replace(node, outputs=[output], **changes))

    def constant(self, name: str) -> np.ndarray | None:
        return self.constants.get(name)

    def new_constant(self, like: str, array: np.ndarray) -> str:
        """Enter `array` under a name derived from `like`."""
        name = like + "'"
        while name in self.constants or self.uses[name]:
            name += "'"
        self.constants[name] = array
        return name

    def finish(self) -> Graph:
        return replace(self.graph, nodes=self.nodes, constants=self.constants)


def ranks(graph: Graph) -> dict[str, int]:
    """Numbers of axes of the values where they follow from weights, constants and inputs."""
    known = {info.name: len(info.shape) for info in graph.inputs if info.has_rank}
    known |= {name: array.ndim for name, array in graph.constants.items()}
    for node in graph.nodes:
        inputs = [known.get(name) for name in node.inputs if name]
        rank = None
        if node.op_type in ("Conv", "ConvTranspose") and len(node.inputs) > 1:
            rank = known.get(node.inputs[1])
        elif node.op_type in _KEEP_RANK and inputs:
            rank = inputs[0]
        elif node.op_type in ("Add", "Sub", "Mul", "Div") and None not in inputs:
            rank = max(inputs)
        if rank is not None and node.outputs and node.outputs[0]:
            known[node.outputs[0]] = rank
    return known
