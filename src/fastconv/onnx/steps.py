"""A compiled graph taken apart: its calls one by one, for those who look at what happens in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from fastconv.graph.ir import Graph, Node
from fastconv.graph.limits import current
from fastconv.graph.lower import Call, lower
from fastconv.graph.memory import ALIGNMENT, Tensor
from fastconv.onnx.compiled import Compiled, Compiler, side_by_side

__all__ = ["StepRun", "aligned_bytes", "bound", "origins", "shapes_of", "stepwise"]


@dataclass(frozen=True)
class StepRun:
    """A node about to run: its calls, its inputs as arrays, and ``run()``, which returns its outputs."""

    node: Node
    calls: list[Call]
    inputs: list
    run: Callable[[], list]


def stepwise(compiler: Compiler, compiled: Compiled, feeds: dict[str, object]) -> Iterator[StepRun]:
    """The nodes of the static part in turn; the caller has to run each.  Every value has memory of its own."""
    arrays = side_by_side(feeds)
    graph = compiled.static
    build, values = lower(
        graph, shapes_of(feeds), compiler.functions, compiler.packings, compiler.precision, weights=compiler.weights
    )
    size = 0
    for buffer in build.buffers:
        if buffer.parent is None:
            buffer.offset = size
            size += -(-buffer.size // ALIGNMENT) * ALIGNMENT
    budget = current()
    if budget is not None:
        budget.claim_whole(size)
    arena = aligned_bytes(size)

    def view(value):
        return value.view(arena, arrays) if isinstance(value, Tensor) else value

    for node in graph.nodes:
        calls = [call for call in build.calls if call.node is node]

        def run(node=node, calls=calls):
            for call in calls:
                bound(call, view)()
            return [view(values[name]) if name else None for name in node.outputs]

        yield StepRun(node, calls, [view(values[name]) for name in node.inputs], run)


def bound(call: Call, view: Callable) -> Callable[[], None]:
    """The call on the arrays that `view` gives for its tensors."""
    return partial(call.work, *[view(value) for value in (*call.outputs, *call.inputs)])


def aligned_bytes(size: int) -> np.ndarray:
    memory = np.empty(size + ALIGNMENT, np.uint8)
    shift = -memory.ctypes.data % ALIGNMENT
    return memory[shift : shift + size]


def shapes_of(feeds: dict[str, object]) -> dict[str, tuple]:
    """(shape, dtype) of every feed that is an array of numbers."""
    return {
        name: (array.shape, array.dtype)
        for name, array in feeds.items()
        if isinstance(array, np.ndarray) and not array.dtype.hasobject
    }


def origins(file: Graph, optimised: Graph) -> dict[Node, list[Node]]:
    """Which nodes of the file each node of the optimised graph stands for, in the file's order.

    A value whose name is one of the file's with quotes behind it is that value in another layout.
    """
    constant = set(file.constants)
    place, producer = {}, {}
    for i, node in enumerate(file.nodes):
        place[node] = i
        producer.update((name, node) for name in node.outputs if name)
        if all(name in constant for name in node.reads()):
            constant.update(node.outputs)
    in_file = {
        name: name if name in producer else name.rstrip("'") for node in optimised.nodes for name in node.outputs
    }
    kept = {*in_file.values()} | {info.name for info in file.inputs}
    found: dict[Node, list[Node]] = {}
    for node in optimised.nodes:
        names, sources = [in_file[name] for name in node.outputs], set()
        while names:
            name = names.pop()
            source = producer.get(name)
            if source is None or source in sources or name in constant:
                continue
            sources.add(source)
            names += [read for read in source.reads() if read not in kept]
        found[node] = sorted(sources, key=place.__getitem__) or [node]
    return found
