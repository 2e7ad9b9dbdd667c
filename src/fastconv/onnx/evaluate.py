"""Running a model node by node with NumPy, in the file's own order, nothing fused and nothing left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError, ModelError
from fastconv.graph import limits
from fastconv.onnx.model import Graph, Model, Node, ValueInfo, load
from fastconv.onnx.operators import OPERATORS
from fastconv.onnx.operators.sizes import check_size

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


# What is told of each node that has run: the node, its inputs, its results, and the seconds they took.
Observer = Callable[[Node, list, tuple, float], None]


class Evaluator:
    """Computes a model's outputs.

    Parameters
    ----------
    source : a Model, a Graph, or what :func:`fastconv.onnx.model.load` reads
    kernels : ``kernels(node, constants)`` is the function to use in the place of an operator's, or None; `constants`
        holds by name the arrays that are the same in every run

    Raises ModelError where operators are missing, with all of them, or used with inputs or attributes they do not have.
    """

    def __init__(self, source, kernels: Callable[[Node, Mapping], Callable | None] | None = None):
        self.model: Model | None = None
        if not isinstance(source, Graph):
            self.model = source if isinstance(source, Model) else load(source)
        self.graph: Graph = source if self.model is None else self.model.graph
        problems: list[str] = []
        self._program = _compile(self.graph, problems, kernels, {})
        if problems:
            raise ModelError("; ".join(problems))

    def run(self, inputs: Mapping[str, object], visit: Callable[[str, object], None] | None = None) -> list:
        """Fresh arrays of the outputs, in the model's order, for `inputs` by name.

        `visit` is called with the name and the value of everything that is computed on the way.
        Raises ArgumentError or ArgumentTypeError for inputs that do not fit the model, ModelError where a node fails.
        """
        feeds = check_feeds(self.graph, inputs)
        return self.run_checked(feeds, None if visit is None else partial(_visit_names, visit))

    def run_checked(self, feeds: dict[str, object], observe: Observer | None = None) -> list:
        """As :meth:`run`, for feeds that :func:`check_feeds` returned; `observe` is called for every node that has run."""
        with np.errstate(all="ignore"):
            outputs = _run(self._program, feeds, observe)
        return [np.array(value, order="C") if isinstance(value, np.ndarray) else value for value in outputs]


def _visit_names(
    visit: Callable[[str, object], None], node: Node, inputs: list, results: tuple, seconds: float
) -> None:
    for name, result in zip(node.outputs, results, strict=False):
        if name:
            visit(name, result)


def check_feeds(graph: Graph, inputs: Mapping[str, object]) -> dict[str, object]:
    """`inputs` as arrays, checked against the graph's inputs; what is omitted there must have a default."""
    known = {info.name: info for info in graph.inputs + graph.defaults}
    for name in inputs:
        if name not in known:
            raise ArgumentError(f"inputs: the model has no input {name!r}; expected {_expected(graph)}")
    missing = [info.name for info in graph.inputs if info.name not in inputs and not info.type.startswith("optional")]
    if missing:
        raise ArgumentError(f"inputs: {', '.join(map(repr, missing))} missing; expected {_expected(graph)}")
    return {name: _check_feed(known[name], inputs.get(name)) for name in [i.name for i in graph.inputs] + [*inputs]}


def _expected(graph: Graph) -> str:
    return ", ".join(f"{info.name!r} {info.type}{_shape(info)}" for info in graph.inputs) or "none"


def _check_feed(info: ValueInfo, value):
    if not info.type.startswith("tensor"):
        return value
    if type(value) is not np.ndarray and isinstance(value, np.ma.MaskedArray):  # np.ma is loaded on first use
        raise ArgumentTypeError(f"input {info.name!r}: expected an array without a mask; fill it, x.filled(value)")
    array = np.asarray(value)
    if array.dtype.kind in "US":
        array = array.astype(object)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
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


def _compile(graph: Graph, problems: list[str], kernels: Callable | None, outer: Mapping) -> _Program:
    last_use = {name: i for i, node in enumerate(graph.nodes) for name in (*filter(None, node.outputs), *node.reads())}
    for name in (*graph.constants, *(info.name for info in graph.outputs)):
        last_use.pop(name, None)
    released: list[list[str]] = [[] for _ in graph.nodes]
    for name, i in last_use.items():
        released[i].append(name)
    own = {info.name for info in graph.inputs} | {name for node in graph.nodes for name in node.outputs}
    constants = {name: array for name, array in outer.items() if name not in own} | graph.constants
    steps = []
    for node, names in zip(graph.nodes, released, strict=True):
        programs = {
            k: _compile(v, problems, kernels, constants) for k, v in node.attributes.items() if isinstance(v, Graph)
        }
        operator = OPERATORS.get((node.domain, node.op_type))
        if operator is None:
            problems.append(f"there is no operator {node} (opset {node.opset}, at {node.where})")
            continue
        try:
            keywords = operator.bind(node.attributes, len(node.inputs), node.opset, len(node.outputs))
        except TypeError as error:
            problems.append(f"{node} at {node.where}: {error}")
            continue
        if omitted := operator.omitted(node.inputs):
            problems.append(f"{node} at {node.where}: needs its input {', '.join(omitted)}")
            continue
        function = kernels(node, constants) if kernels is not None else None
        steps.append(_Step(node, function or operator.function, keywords, programs, tuple(names)))
    return _Program(graph, steps)


def _run(program: _Program, given: dict[str, object], observe: Observer | None) -> list:
    values = {"": None, **program.graph.constants, **given}
    budget = limits.current()
    held: dict[str, int] = {}
    for step in program.steps:
        keywords = step.keywords
        if step.programs:
            keywords = keywords | {name: partial(_call, p, values, observe) for name, p in step.programs.items()}
        inputs = [values[name] for name in step.node.inputs]
        if budget is not None:
            check_size(step.node, inputs, step.keywords, budget)
        start = perf_counter()
        try:
            results = step.function(*inputs, **keywords)
            results = results if isinstance(results, tuple) else (results,)
            if len(results) < len(step.node.outputs):
                raise ArgumentError(f"computes {len(results)} outputs, and the model asks for {len(step.node.outputs)}")
        except ModelError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            shapes = ", ".join(map(_describe, inputs))
            raise ModelError(f"{step.node} fails on inputs {shapes}: {error}", step.node.where) from error
        except MemoryError as error:
            raise MemoryError(f"no memory for {step.node} ({step.node.where}): {error}") from error
        seconds = perf_counter() - start
        results = tuple(r if isinstance(r, list) or r is None else np.asarray(r) for r in results)
        values.update((name, result) for name, result in zip(step.node.outputs, results, strict=False) if name)
        if observe is not None:
            observe(step.node, inputs, results, seconds)
        if budget is not None:
            owned = {name: _owned_bytes(values[name]) for name in step.node.outputs if name}
            held |= owned
            budget.held += sum(owned.values()) - sum(held.pop(name, 0) for name in step.released)
        for name in step.released:
            del values[name]
    if budget is not None:
        budget.held -= sum(held.values())
    return [values[info.name] for info in program.graph.outputs]


def _call(program: _Program, outer: dict[str, object], observe: Observer | None, *inputs) -> tuple:
    """Run a subgraph on `inputs`, by position."""
    budget = limits.current()
    if budget is not None:
        budget.turn()
    if len(inputs) != len(program.graph.inputs):
        raise ArgumentError(f"a subgraph takes {len(program.graph.inputs)} inputs, got {len(inputs)}")
    names = [info.name for info in program.graph.inputs]
    given = {name: outer[name] for name in program.graph.captures} | dict(zip(names, inputs, strict=True))
    return tuple(_run(program, given, observe))


def _owned_bytes(value) -> int:
    """Bytes that the value keeps from being freed, as far as it does not share them with others."""
    return value.nbytes if isinstance(value, np.ndarray) and value.base is None else 0


def _describe(value) -> str:
    return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
