"""float16 graphs in float32: what processors compute who have no float16 arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.rewriting import Rewriting

__all__ = ["widen_halves"]

FLOAT, FLOAT16 = 1, 10  # of Cast's attribute `to`

# Operators that compute float32 as they do float16, all floats among their inputs and outputs being of one type.
_ANY_FLOAT = {
    "Abs", "Acos", "Acosh", "Add", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "BatchNormalization",
    "Cast", "Ceil", "Celu", "Clip", "Concat", "Conv", "ConvTranspose", "Cos", "Cosh", "CumSum", "DeformConv", "DepthToSpace",
    "Div", "Dropout", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements",
    "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "Greater", "GreaterOrEqual",
    "GridSample", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "IsInf",
    "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "LpPool",
    "MatMul", "Max", "MaxPool", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg",
    "NonZero", "PRelu", "Pad", "Pow", "RMSNormalization", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape",
    "RoiAlign", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size",
    "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Swish", "Tan",
    "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where",
}  # fmt: skip
_NO_FLOATS = {
    "ArgMax", "ArgMin", "Cast", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "NonZero",
    "Shape", "Size",
}  # fmt: skip
_INTEGERS_SECOND = {"Dropout", "MaxPool", "TopK"}


def widen_halves(graph: Graph) -> Graph:
    """Read float16 inputs as float32, compute in it, and round the outputs; roundings in between are left out.

    A cast to float16 still rounds.  A graph with a float16 value that something reads for which that is not known to be
    right stays as it is.
    """
    types = {info.name: info.dtype for info in graph.inputs + graph.defaults}
    if None in types.values():
        return graph
    halves = {name for name, dtype in types.items() if dtype == np.float16}
    halves |= {name for name, array in graph.constants.items() if array.dtype == np.float16}
    for node in graph.nodes:
        reads = not halves.isdisjoint(node.reads())
        if _may_make_halves(node) or (reads and (node.domain or node.op_type not in _ANY_FLOAT)):
            return graph
        if _is_rounding(node):
            halves.update(node.outputs)
        elif reads:
            halves.update(_floats(node))
    halves.discard("")
    return _Widening(graph, halves).finish() if halves else graph


def _is_rounding(node: Node) -> bool:
    return (node.domain, node.op_type, node.attributes.get("to")) == ("", "Cast", FLOAT16)


def _may_make_halves(node: Node) -> bool:
    """Other than from halves that it reads."""
    filling = node.attributes.get("value")
    return (
        bool(node.graphs()) or node.attributes.get("dtype") == FLOAT16 or getattr(filling, "dtype", None) == np.float16
    )


def _floats(node: Node) -> list[str]:
    """The outputs that have the type of the float inputs."""
    if node.op_type in _NO_FLOATS:
        return []
    return node.outputs[:1] if node.op_type in _INTEGERS_SECOND else node.outputs


class _Widening:
    """`wide` has the names of float32 values that stand for float16 ones."""

    def __init__(self, graph: Graph, halves: set[str]):
        self.work = Rewriting(graph)
        self.taken = halves | set(graph.constants) | {name for node in graph.nodes for name in node.outputs}
        self.wide: dict[str, str] = {}
        for info in graph.inputs + graph.defaults:
            if info.name in halves:
                self._cast(info.name, self._named(info.name), FLOAT, "graph.input")
        self.outputs = halves.intersection(info.name for info in graph.outputs)
        for node in graph.nodes:
            self._add(node, halves)

    def finish(self) -> Graph:
        return self.work.finish()

    def _named(self, name: str) -> str:
        """A new name for the float32 value that stands for `name`."""
        new = name + "'"
        while new in self.taken:
            new += "'"
        self.taken.add(new)
        self.wide[name] = new
        return new

    def _cast(self, name: str, output: str, to: int, where: str) -> None:
        self.work.add(Node("Cast", "", output, [name], [output], {"to": to}, 13, where))

    def _add(self, node: Node, halves: set[str]) -> None:
        for name in node.inputs:
            if name in halves and name not in self.wide:
                self.work.constants[self._named(name)] = self.work.constants[name].astype(np.float32)
        inputs = [self.wide.get(name, name) for name in node.inputs]
        if _is_rounding(node):
            self.work.add(replace(node, inputs=inputs))
            self._cast(node.outputs[0], self._named(node.outputs[0]), FLOAT, node.where)
            return
        renamed = [self._named(name) if name in halves else name for name in node.outputs]
        self.work.add(replace(node, inputs=inputs, outputs=renamed))
        for name in sorted(self.outputs.intersection(node.outputs)):
            self._cast(self.wide[name], name, FLOAT16, node.where)
