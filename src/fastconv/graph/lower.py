"""Lowering: from nodes, for given input shapes, to calls of kernels on tensors.

A lowering is a function ``(build, node, *inputs) -> outputs`` in :data:`LOWERINGS`.  Inputs are Tensors, arrays where they
are constant, or None; it emits calls through the builder and returns Tensors or arrays, or None where it does not apply:
then the operator's NumPy function runs in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fastconv._kernels.engine import Step
from fastconv.graph.ir import Graph, Node
from fastconv.graph.memory import Buffer, Tensor

__all__ = ["LOWERINGS", "Builder", "Call", "Dynamic", "lower", "lowering"]

LOWERINGS: dict[tuple[str, str], Callable] = {}

# operators whose outputs' shapes depend on the values of their inputs
DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Unique", "Compress", "If", "Loop", "Scan", "SequenceMap"}


class Dynamic(Exception):
    """The graph has a value whose shape only a run can tell."""


@dataclass(eq=False)
class Call:
    """One piece of work: a kernel step, or a Python function of arrays that returns its results."""

    node: Node
    work: Step | Callable
    outputs: list[Tensor]
    inputs: list[Tensor | np.ndarray]
    algorithm: str = ""
    detail: object = None  # what explains the choice: the spec and the op


def lowering(*op_types: str, domain: str = ""):
    def register(function):
        for op_type in op_types:
            LOWERINGS[domain, op_type] = function
        return function

    return register


@dataclass(eq=False)
class Builder:
    """Collects calls, and keeps packed weights for all the programs of a session."""

    packings: dict = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    output_names: dict[str, str] = field(default_factory=dict)
    node: Node | None = None

    def tensor(self, shape, dtype) -> Tensor:
        tensor = Tensor.new(shape, dtype)
        self.buffers.append(tensor.buffer)
        return tensor

    def emit(self, work, outputs: list[Tensor], inputs: list, algorithm="", detail=None) -> list[Tensor]:
        index = len(self.calls)
        for tensor in (*outputs, *(i for i in inputs if isinstance(i, Tensor))):
            tensor.buffer.use(index)
        self.calls.append(Call(self.node, work, outputs, inputs, algorithm, detail))
        return outputs

    def packed(self, plan_layout, pack: Callable, *arrays):
        """Weights in a kernel's form, packed once for a session however many shapes it sees."""
        key = (plan_layout, *(id(array) for array in arrays))
        if key not in self.packings:
            self.packings[key] = (pack(*arrays), arrays)  # holding the arrays keeps their ids
        return self.packings[key][0]


def lower(graph: Graph, shapes: dict[str, tuple], evaluate: Callable, packings: dict):
    """Calls for inputs of these `shapes` ((shape, dtype) by name); raises :class:`Dynamic` where shapes depend on values.

    Returns the builder and the values by name.
    """
    build = Builder(packings)
    values: dict[str, object] = {"": None, **graph.constants}
    for name, (shape, dtype) in shapes.items():
        values[name] = Tensor.new(shape, dtype, name)
    for node in graph.nodes:
        build.node = node
        inputs = [values[name] for name in node.inputs]
        results = _lower_node(build, node, inputs, evaluate)
        values.update((name, result) for name, result in zip(node.outputs, results, strict=False) if name)
    return build, values


def _lower_node(build: Builder, node: Node, inputs: list, evaluate: Callable):
    if any(True for _ in node.graphs()):
        raise Dynamic(f"{node} runs a subgraph")
    if not any(isinstance(value, Tensor) for value in inputs):
        return evaluate(node, inputs)
    function = LOWERINGS.get((node.domain, node.op_type))
    if function is not None:
        results = function(build, node, *inputs)
        if results is not None:
            return results
    if node.op_type in DATA_DEPENDENT:
        raise Dynamic(f"the shape of {node}'s result depends on values")
    return _numpy(build, node, inputs, evaluate)


def _numpy(build: Builder, node: Node, inputs: list, evaluate: Callable):
    """The operator's NumPy function on arrays; one run on zeros tells the shapes of its results."""
    if any(isinstance(value, list) for value in inputs):
        raise Dynamic(f"{node} takes a sequence")
    zeros = [np.broadcast_to(np.zeros((), v.dtype), v.shape) if isinstance(v, Tensor) else v for v in inputs]
    trial = evaluate(node, zeros)
    if not all(isinstance(result, np.ndarray) for result in trial):
        raise Dynamic(f"{node} returns a sequence")
    outputs = [build.tensor(result.shape, result.dtype) for result in trial]
    tensors = [value for value in inputs if isinstance(value, Tensor)]

    def run(*arrays):
        given = iter(arrays)
        return evaluate(node, [next(given) if isinstance(value, Tensor) else value for value in inputs])

    return build.emit(run, outputs, tensors, "numpy")
