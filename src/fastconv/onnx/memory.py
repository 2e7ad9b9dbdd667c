"""How much memory a session takes, told before it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastconv._kernels import engine
from fastconv._kernels.engine import Step
from fastconv.graph.ir import Graph
from fastconv.onnx.compiled import Compiled
from fastconv.onnx.report import bytes_text

__all__ = ["MemoryPlan", "predict_memory"]

PARTS = ("weights", "folded_weights", "packed_weights", "tables", "activations", "scratch", "outputs")


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a session allocates for inputs of given shapes.

    `weights` are the file's, `folded_weights` those that the passes computed, `packed_weights` those in the kernels' form;
    they are there once, however many shapes are run.  `tables` are what the kernels look up for these shapes, and the
    records of the program.  `activations` is the arena of one run (runs at the same time have one each), `scratch` what
    the threads of the process share, `outputs` what a run returns.

    Not in here: Python's own objects, a few KB for each node; what packing needs while it lasts; the temporary arrays of
    the `numpy_steps`, which NumPy computes; and what is run node by node (`dynamic_nodes`).
    """

    weights: int
    folded_weights: int
    packed_weights: int
    tables: int
    activations: int
    scratch: int
    outputs: int
    numpy_steps: int = 0
    dynamic_nodes: int = 0

    @property
    def total(self) -> int:
        return sum(getattr(self, name) for name in PARTS)

    def __str__(self) -> str:
        lines = [f"{name.replace('_', ' '):16}{bytes_text(getattr(self, name)):>12}" for name in (*PARTS, "total")]
        if self.numpy_steps:
            lines.append(f"without the temporary arrays of {self.numpy_steps} steps that NumPy computes")
        if self.dynamic_nodes:
            lines.append(f"without {self.dynamic_nodes} nodes whose shapes only a run can tell")
        return "\n".join(lines)


def predict_memory(compiled: Compiled, file: Graph, optimised: Graph, threads: int) -> MemoryPlan:
    """The plan for `compiled`, which may have been compiled without packing anything."""
    executable = compiled.executable
    weights = {id(array): array for array in _constants(file)}
    folded = {id(array): array for array in _constants(optimised) if id(array) not in weights}
    steps = [call.work for call in executable.calls if isinstance(call.work, Step)]
    return MemoryPlan(
        sum(array.nbytes for array in weights.values()),
        sum(array.nbytes for array in folded.values()),
        executable.packed_bytes,
        _tables(steps) + engine.record_bytes() * len(steps),
        executable.context_bytes,
        max((engine.scratch_bytes(step, threads) for step in steps), default=0),
        executable.output_bytes,
        len(executable.calls) - len(steps),
        len(compiled.dynamic),
    )


def _tables(steps: list[Step]) -> int:
    """Bytes of the arrays that the steps hold."""
    owners = {}
    for step in steps:
        for array in step.constants:
            while isinstance(array.base, np.ndarray):
                array = array.base
            if array.flags.owndata:
                owners[id(array)] = array
    return sum(array.nbytes for array in owners.values())


def _constants(graph: Graph) -> Iterator[np.ndarray]:
    """The arrays that a graph and its subgraphs hold."""
    yield from graph.constants.values()
    for node in graph.nodes:
        for attribute in node.attributes.values():
            if isinstance(attribute, np.ndarray):
                yield attribute
        for subgraph in node.graphs():
            yield from _constants(subgraph)
