"""InferenceSession: a model, optimised when it is loaded and compiled for each shape it meets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from fastconv.errors import ArgumentError, ModelError
from fastconv.graph.ir import Graph, Node
from fastconv.graph.lower import Dynamic
from fastconv.graph.passes import PASSES, fold_constants
from fastconv.graph.program import Executable
from fastconv.onnx.evaluate import Evaluator, check_feeds
from fastconv.onnx.model import Model, load
from fastconv.onnx.operators import OPERATORS

__all__ = ["InferenceSession", "ModelMeta", "NodeArg"]

KEPT_SHAPES = 8  # programs of the shapes met last


class NodeArg:
    """An input or output: `name`, `type` (as onnxruntime spells it) and `shape` (ints, names and None)."""

    def __init__(self, info):
        self.name, self.type, self.shape = info.name, info.type, list(info.shape)

    def __repr__(self):
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape})"


class ModelMeta:
    """What the file says about itself, under onnxruntime's names."""

    def __init__(self, model: Model):
        self.producer_name = model.producer_name
        self.graph_name = model.graph.name
        self.domain = model.domain
        self.description = model.description
        self.version = model.version
        self.custom_metadata_map = dict(model.metadata)


class InferenceSession:
    """Runs an ONNX model.

    Parameters
    ----------
    model : path, bytes, or an object with SerializeToString()
    passes : the names of the rewriting passes to run, all by default (:data:`fastconv.graph.passes.PASSES`)

    Raises ModelError for a damaged model, or, at once with all of them, for operators that are not there.
    """

    def __init__(self, model, *, passes=None):
        self._evaluator = Evaluator(model)
        self._model = self._evaluator.model
        self._graph = optimised(self._model.graph, PASSES if passes is None else passes)
        self._packings: dict = {}
        self._programs: OrderedDict[tuple, Executable | None] = OrderedDict()

    def get_inputs(self) -> list[NodeArg]:
        return [NodeArg(info) for info in self._model.graph.inputs]

    def get_outputs(self) -> list[NodeArg]:
        return [NodeArg(info) for info in self._model.graph.outputs]

    def get_modelmeta(self) -> ModelMeta:
        return ModelMeta(self._model)

    def run(self, output_names, input_feed: Mapping[str, object], run_options=None) -> list:
        """The named outputs, or all for None, for arrays by name.

        Raises ArgumentError or ArgumentTypeError for names, types and shapes that do not fit the model.
        """
        feeds = check_feeds(self._model.graph, input_feed)
        executable = self._executable(feeds)
        if executable is None:
            results = self._evaluator.run(feeds)
        else:
            results = executable.run({name: np.ascontiguousarray(array) for name, array in feeds.items()})
        if output_names is None:
            return results
        by_name = dict(zip((info.name for info in self._model.graph.outputs), results, strict=True))
        unknown = [name for name in output_names if name not in by_name]
        if unknown:
            raise ArgumentError(f"output_names: the model has {', '.join(by_name)}; got {', '.join(unknown)}")
        return [by_name[name] for name in output_names]

    def _executable(self, feeds: dict) -> Executable | None:
        """The program for the shapes of `feeds`; None where shapes depend on values, or a default is replaced."""
        overridden = any(info.name in feeds for info in self._model.graph.defaults)
        if overridden or not all(isinstance(array, np.ndarray) for array in feeds.values()):
            return None
        key = tuple((name, array.shape, array.dtype.char) for name, array in feeds.items())
        if key not in self._programs:
            shapes = {name: (array.shape, array.dtype) for name, array in feeds.items()}
            try:
                executable = Executable(self._graph, shapes, evaluate_node, self._packings)
            except Dynamic:
                executable = None
            self._programs[key] = executable
            while len(self._programs) > KEPT_SHAPES:
                self._programs.popitem(last=False)
        return self._programs[key]


def optimised(graph: Graph, passes) -> Graph:
    """The graph with constants folded and the named passes applied."""
    unknown = set(passes) - PASSES.keys()
    if unknown:
        raise ArgumentError(f"passes: expected some of {', '.join(PASSES)}, got {', '.join(sorted(unknown))}")
    graph = fold_constants(graph, evaluate_node)
    for name, rewrite in PASSES.items():
        if name in passes:
            graph = rewrite(graph)
    return graph


def evaluate_node(node: Node, inputs: list) -> tuple:
    """The outputs of one node, as NumPy computes them."""
    operator = OPERATORS[node.domain, node.op_type]
    keywords = operator.bind(node.attributes, len(node.inputs), node.opset, len(node.outputs))
    try:
        with np.errstate(all="ignore"):
            results = operator.function(*inputs, **keywords)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"{node} fails: {error}", node.where) from error
    results = results if isinstance(results, tuple) else (results,)
    return tuple(r if isinstance(r, list) or r is None else np.asarray(r) for r in results)
