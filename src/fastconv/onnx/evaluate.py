"""Running a model node by node with NumPy, in the file's own order, nothing fused and nothing left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError, ModelError
from fastconv.onnx.model import Graph, Model, Node, ValueInfo, load
from fastconv.onnx.operators import OPERATORS

__all__ = ["Evaluator", "check_feeds"]


@dataclass(frozen=True, slots=True)
class _Step:
    node: Node
    function: Callable
    keywords: dict
    programs: dict[str, _Program]
    released: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Program:
    graph: Graph
    steps: list[_Step]


class Evaluator:
    """Computes a model's outputs.  `source` is a :class:`Model` or what :func:`fastconv.onnx.model.load` reads.

    Raises ModelError where operators are missing, with all of them, or used with inputs or attributes they do not have.
    """

    def __init__(self, source):
        self.model: Model = source if isinstance(source, Model) else load(source)
        problems: list[str] = []
        self._program = _compile(self.model.graph, problems)
        if problems:
            raise ModelError("; ".join(problems))

    def run(self, inputs: Mapping[str, object], visit: Callable[[str, object], None] | None = None) -> list:
        """Fresh arrays of the outputs, in the model's order, for `inputs` by name.

        `visit` is called with the name and the value of everything that is computed on the way.
        Raises ArgumentError or ArgumentTypeError for inputs that do not fit the model, ModelError where a node fails.
        """
        feeds = check_feeds(self.model.graph, inputs)
        with np.errstate(all="ignore"):
            outputs = _run(self._program, feeds, visit)
        return [np.array(value, order="C") if isinstance(value, np.ndarray) else value for value in outputs]


def check_feeds(graph: Graph, inputs: Mapping[str, object]) -> dict[str, object]:
    """`inputs` as arrays, checked against the graph's inputs; what is omitted there must have a default."""
    known = {info.name: info for info in graph.inputs + graph.defaults}
    expected = ", ".join(f"{info.name!r} {info.type}{_shape(info)}" for info in graph.inputs) or "none"
    for name in inputs:
        if name not in known:
            raise ArgumentError(f"inputs: the model has no input {name!r}; expected {expected}")
    missing = [info.name for info in graph.inputs if info.name not in inputs and not info.type.startswith("optional")]
    if missing:
        raise ArgumentError(f"inputs: {', '.join(map(repr, missing))} missing; expected {expected}")
    return {name: _check_feed(known[name], inputs.get(name)) for name in [i.name for i in graph.inputs] + [*inputs]}


def _check_feed(info: ValueInfo, value):
    if not info.type.startswith("tensor"):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "US":
        array = array.astype(object)
    if info.dtype is not None and array.dtype != info.dtype:
        raise ArgumentTypeError(
            f"input {info.name!r}: expected {info.type}, an array of {info.dtype}, got one of {array.dtype}"
        )
    fits = len(array.shape) == len(info.shape) and all(map(_fits, info.shape, array.shape))
    if info.has_rank and not fits:
        raise ArgumentError(f"input {info.name!r}: expected shape {_shape(info)}, got {array.shape}")
    return array


def _fits(expected: int | str | None, given: int) -> bool:
    """Names and None stand for any size, and so does -1, which some exporters write."""
    return not isinstance(expected, int) or expected in (-1, given)


def _shape(info: ValueInfo) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in info.shape)})" if info.has_rank else ""


def _compile(graph: Graph, problems: list[str]) -> _Program:
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in (*filter(None, node.outputs), *node.reads())}
    for name in (*graph.constants, *(info.name for info in graph.outputs)):
        last_use.pop(name, None)
    released: list[list[str]] = [[] for _ in graph.nodes]
    for name, i in last_use.items():
        released[i].append(name)
    steps = []
    for node, names in zip(graph.nodes, released, strict=True):
        programs = {k: _compile(v, problems) for k, v in node.attributes.items() if isinstance(v, Graph)}
        operator = OPERATORS.get((node.domain, node.op_type))
        if operator is None:
            problems.append(f"there is no operator {node} (opset {node.opset}, at {node.where})")
            continue
        try:
            keywords = operator.bind(node.attributes, len(node.inputs), node.opset, len(node.outputs))
        except TypeError as error:
            problems.append(f"{node} at {node.where}: {error}")
            continue
        steps.append(_Step(node, operator.function, keywords, programs, tuple(names)))
    return _Program(graph, steps)


def _run(program: _Program, given: dict[str, object], visit: Callable | None) -> list:
    values = {"": None, **program.graph.constants, **given}
    for step in program.steps:
        keywords = step.keywords
        if step.programs:
            keywords = keywords | {name: partial(_call, p, values, visit) for name, p in step.programs.items()}
        try:
            results = step.function(*[values[name] for name in step.node.inputs], **keywords)
            results = results if isinstance(results, tuple) else (results,)
            if len(results) < len(step.node.outputs):
                raise ArgumentError(f"computes {len(results)} outputs, and the model asks for {len(step.node.outputs)}")
        except ModelError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            shapes = ", ".join(_describe(values[name]) for name in step.node.inputs)
            raise ModelError(f"{step.node} fails on inputs {shapes}: {error}", step.node.where) from error
        for name, result in zip(step.node.outputs, results, strict=False):
            if name:
                values[name] = result if isinstance(result, list) or result is None else np.asarray(result)
                if visit is not None:
                    visit(name, values[name])
        for name in step.released:
            del values[name]
    return [values[info.name] for info in program.graph.outputs]


def _call(program: _Program, outer: dict[str, object], visit: Callable | None, *inputs) -> tuple:
    """Run a subgraph on `inputs`, by position."""
    if len(inputs) != len(program.graph.inputs):
        raise ArgumentError(f"a subgraph takes {len(program.graph.inputs)} inputs, got {len(inputs)}")
    names = [info.name for info in program.graph.inputs]
    given = {name: outer[name] for name in program.graph.captures} | dict(zip(names, inputs, strict=True))
    return tuple(_run(program, given, visit))


def _describe(value) -> str:
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
