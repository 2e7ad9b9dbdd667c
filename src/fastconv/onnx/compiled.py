"""A graph for inputs of given shapes: one program, and node by node what needs values to know its shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from fastconv._kernels.recent import RecentRun
from fastconv.graph.ir import Graph, Node, ValueInfo
from fastconv.graph.lower import Dynamic, lower
from fastconv.graph.program import Executable
from fastconv.onnx.evaluate import Evaluator, Observer
from fastconv.onnx.functions import FastFunctions, Kernels

__all__ = ["Compiled", "Compiler", "side_by_side"]


class Compiler:
    """Compiles a graph for shapes; weights are packed once for all of them.

    `precision` and `weights` are those of the lowerings, `shaped` the rewriting passes that need shapes.
    """

    def __init__(self, graph: Graph, precision: str, shaped: Iterable[Callable] = (), weights: str = "float32"):
        self.graph = graph
        self.precision = precision
        self.weights = weights
        self.functions = FastFunctions(precision)
        self.packings: dict = {}
        self.shaped = tuple(shaped)

    def executable(self, graph: Graph, shapes: dict[str, tuple], predicting: bool = False) -> Executable:
        return Executable(graph, shapes, self.functions, self.packings, self.precision, predicting, self.weights)

    def _rewritten(self, graph: Graph, shapes: dict[str, tuple]) -> Graph:
        """After the passes that need shapes, which have nothing to do for a single image."""
        if all(shape[:1] == (1,) for shape, _ in shapes.values()):
            return graph
        for rewrite in self.shaped:
            _, values = lower(graph, shapes, self.functions, self.packings, self.precision, predicting=True)
            graph = rewrite(graph, values)
        return graph

    def compile(self, shapes: dict[str, tuple], unknown: Iterable[str] = (), predicting: bool = False) -> Compiled:
        """For inputs of these `shapes`, (shape, dtype) by name, and inputs that are `unknown` until a run brings them."""
        dynamic: dict[Node, str] = {}
        graph = self.graph
        _spread(graph, dynamic, set(unknown))
        while True:
            static = _without(graph, dynamic)
            try:
                static = self._rewritten(static, shapes)
                executable = self.executable(static, shapes, predicting)
            except Dynamic as error:
                dynamic[error.node] = error.reason
                _spread(graph, dynamic, set(unknown))
            else:
                return Compiled(self, executable, static, dynamic)


class Compiled:
    """What runs for inputs of given shapes.

    `executable` computes `static`, the part of the graph whose shapes are known, and with it the values named in `handed_on`;
    `dynamic` says of every other node why it is not in there.
    """

    def __init__(self, compiler: Compiler, executable: Executable, static: Graph, dynamic: dict[Node, str]):
        self.executable = executable
        self.static = static
        self.dynamic = dynamic
        self.handed_on = [info.name for info in static.outputs]
        self._rest: Evaluator | None = None
        if dynamic:
            graph = compiler.graph
            nodes = [node for node in graph.nodes if node in dynamic]
            given = [info.name for info in graph.inputs] + self.handed_on
            rest = replace(graph, nodes=nodes, inputs=[ValueInfo(name, "", []) for name in given], defaults=[])
            self._rest = Evaluator(rest, Kernels(compiler.functions, compiler.packings))

    def run(self, feeds: dict[str, object], observe: Observer | None = None) -> list:
        """Fresh arrays of the graph's outputs; `observe` is told of the nodes outside of the program."""
        results = self.executable.run(side_by_side(feeds))
        if self._rest is None:
            return results
        return self.run_rest(feeds, dict(zip(self.handed_on, results, strict=True)), observe)

    def recent(self, feeds: dict[str, object], threads: int) -> RecentRun:
        """Runs again on feeds like these, which it has run on, where a program alone does it."""
        usual = not self.dynamic and all(type(a) is np.ndarray and a.flags.c_contiguous for a in feeds.values())
        return self.executable.recent(feeds, threads) if usual else RecentRun()

    def run_rest(self, feeds: dict[str, object], static: dict[str, object], observe: Observer | None = None) -> list:
        """The graph's outputs from the values that the program has computed."""
        if self._rest is None:
            return [static[name] for name in self.handed_on]
        return self._rest.run_checked(feeds | static, observe)


def side_by_side(feeds: dict[str, object]) -> dict[str, np.ndarray]:
    """The arrays among the feeds as the kernels read them: C-contiguous and aligned."""
    return {
        name: array if (flags := array.flags).c_contiguous and flags.aligned else np.array(array, order="C")
        for name, array in feeds.items()
        if isinstance(array, np.ndarray)
    }


def _spread(graph: Graph, dynamic: dict[Node, str], unknown: set[str]) -> None:
    """Enter into `dynamic` the nodes that read what a dynamic node computes."""
    for node in graph.nodes:
        if node not in dynamic and not unknown.isdisjoint(node.reads()):
            dynamic[node] = "reads a value whose shape only a run can tell"
        if node in dynamic:
            unknown.update(name for name in node.outputs if name)


def _without(graph: Graph, dynamic: dict[Node, str]) -> Graph:
    """The graph without the dynamic nodes; its outputs are what they, or the outputs of the whole, read of the others."""
    if not dynamic:
        return graph
    nodes = [node for node in graph.nodes if node not in dynamic]
    computed = {name for node in nodes for name in node.outputs if name}
    wanted = [name for node in dynamic for name in node.reads()] + [info.name for info in graph.outputs]
    outputs = [ValueInfo(name, "", []) for name in dict.fromkeys(wanted) if name in computed]
    return replace(graph, nodes=nodes, outputs=outputs)
