"""Programs: a graph compiled for given input shapes, ready to run from any thread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastconv._kernels.engine import Program, Step
from fastconv._kernels.recent import RecentRun
from fastconv.graph import lowerings  # noqa: F401  (fills the table)
from fastconv.graph.ir import Graph
from fastconv.graph.limits import claim
from fastconv.graph.lower import Call, lower
from fastconv.graph.memory import ALIGNMENT, Tensor, plan_arena

__all__ = ["Executable"]


class Executable:
    """A graph for inputs of fixed shapes.

    ``run(feeds)`` takes C-contiguous arrays of those shapes and types and returns fresh arrays for the graph's outputs.
    Each run needs a context: the arena and the steps bound to it.  Contexts are kept, so that a steady run allocates
    nothing but its outputs; runs from several threads at once have one each.
    """

    def __init__(
        self,
        graph: Graph,
        shapes: dict[str, tuple],
        evaluate: Callable,
        packings: dict,
        precision: str = "default",
        predicting: bool = False,
        weights: str = "float32",
    ):
        build, values = lower(graph, shapes, evaluate, packings, precision, predicting, weights)
        self.calls: list[Call] = build.calls
        self.outputs = [values[info.name] for info in graph.outputs]
        self._name_outputs(shapes)
        packed_bytes = sum(packing.nbytes for packing in build.wanted.values())
        self.packed_bytes = packed_bytes and packed_bytes + ALIGNMENT
        self._results = list(zip(self.direct, self.outputs, strict=True))
        self.arena_bytes = plan_arena(build.buffers)
        claim(self.context_bytes + self.output_bytes, "the values of a run")
        self.scratch_bytes = max((call.work.scratch for call in self.calls if isinstance(call.work, Step)), default=0)
        self._free: list[_Context] = []

    @property
    def context_bytes(self) -> int:
        """Bytes of memory for the values of one run at a time."""
        return self.arena_bytes + ALIGNMENT

    @property
    def output_bytes(self) -> int:
        """Bytes of the arrays that a run returns."""
        return sum(value.nbytes for value in self.outputs)

    def _name_outputs(self, inputs) -> None:
        """Outputs that fill a buffer which no run brings are written straight into the arrays that a run returns.

        `direct` holds their names, which differ from those of the `inputs`, and "" for the others.
        """
        end = len(self.calls)
        self.direct: list[str] = []
        for i, value in enumerate(self.outputs):
            own = isinstance(value, Tensor) and value.fills_buffer and not value.buffer.name
            name = f"output {i}"
            while name in inputs:
                name += "'"
            self.direct.append(name if own else "")
            if own:
                value.buffer.name = name
            elif isinstance(value, Tensor):
                value.buffer.use(end)

    def run(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            context = self._free.pop()
        except IndexError:
            context = _Context(self)
        arrays = dict(feeds)
        for name, value in self._results:
            if name:
                arrays[name] = np.empty(value.shape, value.dtype)
        for segment in context.segments:
            segment(arrays)
        results = [arrays[name] if name else self._copied(value, context, arrays) for name, value in self._results]
        self._free.append(context)
        return results

    def reserve(self) -> None:
        """Have the memory of one run at hand, given by the system and not only promised."""
        if not self._free:
            context = _Context(self)
            context.arena.fill(0)
            self._free.append(context)

    def recent(self, feeds: dict[str, np.ndarray], threads: int) -> RecentRun:
        """Runs again on arrays like these, if one program does all the work; `threads` as for RecentRun."""
        if not all(self.direct) or not all(isinstance(call.work, Step) for call in self.calls):
            return RecentRun()
        outputs = tuple((value.buffer.name, value.shape, value.dtype) for value in self.outputs)
        return RecentRun(feeds, outputs, self._free, threads)

    def _copied(self, value, context: _Context, arrays: dict) -> np.ndarray:
        return np.array(value.view(context.arena, arrays) if isinstance(value, Tensor) else value, order="C")


class _Context:
    """An arena, and the calls bound to places in it: kernel steps in one program until Python has to step in."""

    def __init__(self, executable: Executable):
        memory = np.empty(executable.context_bytes, np.uint8)
        shift = -memory.ctypes.data % ALIGNMENT
        self.arena = memory[shift : shift + executable.arena_bytes]
        self.segments: list[Callable] = []
        steps: list[tuple[Step, tuple]] = []
        for call in executable.calls:
            if isinstance(call.work, Step):
                steps.append((call.work, tuple(self._bound(value) for value in (*call.outputs, *call.inputs))))
                continue
            if steps:
                self.segments.append(Program(steps))
                steps = []
            self.segments.append(self._python(call))
        if steps:
            self.segments.append(Program(steps))

    def _bound(self, value):
        """The array, or where it lies in one that each run brings: (name, bytes behind its start)."""
        if not isinstance(value, Tensor):
            return value
        root, shift = value.buffer.root()
        return (root.name, shift) if root.name else value.view(self.arena, {})

    def _python(self, call: Call) -> Callable:
        values = [*call.outputs, *call.inputs]
        bound = [self._bound(value) for value in values]

        def run(arrays):
            given = [
                v.view(self.arena, arrays) if isinstance(b, tuple) else b for v, b in zip(values, bound, strict=True)
            ]
            call.work(*given)

        return run
