"""What the passes need to know of a graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cached_property

import numpy as np

from fastconv.graph.ir import Graph, Node

__all__ = ["Rewriting", "finite", "is_unclamped"]

# operators whose first output has as many axes as their first input
_KEEP_RANK = {
    "Affine", "AveragePool", "BatchNormalization", "Cast", "Celu", "Clip", "Concat", "Conv", "ConvTranspose", "Dropout",
    "Elu", "Erf", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "HardSigmoid", "HardSwish",
    "Identity", "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "MaxPool", "Mish", "PRelu", "Pad", "Relu",
    "Resize", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Sqrt", "Swish", "Tanh", "Transpose", "Upsample",
}  # fmt: skip
_BROADCAST = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum"}


def is_unclamped(node: Node) -> bool:
    return (node.attributes["low"], node.attributes["high"]) == (-np.inf, np.inf)


def finite(dtype, *arrays: np.ndarray | None) -> list[np.ndarray | None] | None:
    """The arrays as `dtype`; None where a value is not finite, or is not any more."""
    rounded = [None if array is None else array.astype(dtype) for array in arrays]
    return rounded if all(array is None or np.isfinite(array).all() for array in rounded) else None


class Rewriting:
    """A graph under rewriting: its nodes so far, who produced a value, and how often each is used in the original."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes: list[Node] = []
        self.constants = dict(graph.constants)
        self._producers: dict[str, Node] = {}
        self._norms: dict[str, float] = {}

    @cached_property
    def uses(self) -> Counter:
        """Of every value, by nodes and as an output."""
        uses = Counter(name for node in self.graph.nodes for name in node.reads())
        uses.update(info.name for info in self.graph.outputs)
        return uses

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Numbers of axes of the values where they follow from weights, constants and inputs."""
        return _ranks(self.graph)

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        for name in filter(None, node.outputs):
            self._producers[name] = node

    def source(self, name: str, *op_types: str, domain: str = "") -> Node | None:
        """The node that computes `name`, if it is one of these."""
        node = self._producers.get(name)
        return node if node is not None and node.domain == domain and node.op_type in op_types else None

    def producer(self, name: str, *op_types: str, domain: str = "fastconv") -> Node | None:
        """The node that computes `name`, if it is one of these and nobody else reads it."""
        node = self.source(name, *op_types, domain=domain)
        return node if node is not None and self.uses[name] == 1 else None

    def absorb(self, node: Node, output: str, **changes) -> None:
        """Let `node`, changed, compute `output` at the end of what there is: everything it may read stands before."""
        self.nodes.remove(node)
        self.add(replace(node, outputs=[output], **changes))

    def bypass(self, node: Node) -> str:
        """Take `node` out, and return the name of what its only reader now reads."""
        self.nodes.remove(node)
        return node.inputs[0]

    def constant(self, name: str) -> np.ndarray | None:
        return self.constants.get(name)

    def norm(self, name: str) -> float:
        """Of a constant of floats: no element is larger.  NaN or infinite where one is, or where it overflows."""
        if name not in self._norms:
            flat = self.constants[name].reshape(-1)
            self._norms[name] = float(np.sqrt(np.dot(flat, flat)))
        return self._norms[name]

    def new_constant(self, like: str, array: np.ndarray) -> str:
        """Enter `array` under a name derived from `like`."""
        name = like + "'"
        while name in self.constants or self.uses[name]:
            name += "'"
        self.constants[name] = array
        return name

    def finish(self) -> Graph:
        return replace(self.graph, nodes=self.nodes, constants=self.constants)


def _keeps_reduced_axes(node: Node) -> bool:
    return node.op_type.startswith("Reduce") and bool(node.attributes.get("keepdims", 1))


def _ranks(graph: Graph) -> dict[str, int]:
    known = {info.name: len(info.shape) for info in graph.inputs if info.has_rank}
    known |= {name: array.ndim for name, array in graph.constants.items()}
    for node in graph.nodes:
        inputs = [known.get(name) for name in node.inputs if name]
        rank = None
        if node.op_type in ("Conv", "ConvTranspose") and len(node.inputs) > 1:
            rank = known.get(node.inputs[1])
        elif inputs and (node.op_type in _KEEP_RANK or _keeps_reduced_axes(node)):
            rank = inputs[0]
        elif node.op_type in _BROADCAST and None not in inputs:
            rank = max(inputs)
        elif node.op_type == "MatMul" and inputs[1] == 2:
            rank = inputs[0]
        elif node.op_type in ("Flatten", "Gemm"):
            rank = 2
        elif node.op_type == "Reshape" and len(node.inputs) > 1 and node.inputs[1] in graph.constants:
            rank = graph.constants[node.inputs[1]].size
        if rank is not None:
            known.update((name, rank) for name in node.outputs[: None if node.op_type == "Split" else 1] if name)
    return known
