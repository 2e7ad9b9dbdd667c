"""Writes the graph of what a module computes while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import getitem

import numpy as np

from fastconv.errors import ArgumentError
from fastconv.graph.ir import Graph, Node, ValueInfo
from fastconv.tracing.array import HINT, Traced, plain

__all__ = ["OPSET", "Recorder", "Replay"]

OPSET = 21
MOST = np.iinfo(np.int64).max
UFUNCS = {
    np.add: "Add", np.subtract: "Sub", np.multiply: "Mul", np.true_divide: "Div", np.maximum: "Max", np.minimum: "Min",
    np.negative: "Neg", np.absolute: "Abs", np.exp: "Exp", np.log: "Log", np.sqrt: "Sqrt", np.tanh: "Tanh",
    np.matmul: "MatMul",
}  # fmt: skip
REDUCTIONS = {"mean": "ReduceMean", "sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd"}
NUMPY_REDUCTIONS = {getattr(np, name): name for name in REDUCTIONS}
TYPES = {"float32": "tensor(float)", "float64": "tensor(double)", "float16": "tensor(float16)"}


@dataclass(frozen=True)
class _Place:
    """Stands for the traced array number `index` in recorded arguments."""

    index: int


@dataclass(frozen=True)
class Replay:
    """``function(*args, **kwargs)`` with the places among the arguments filled in: what no operator of ONNX does.

    Of several results those that are None are left out.
    """

    function: Callable
    args: tuple
    kwargs: dict

    def __call__(self, *arrays):
        result = self.function(*_filled(self.args, arrays), **_filled(self.kwargs, arrays))
        return tuple(value for value in result if value is not None) if isinstance(result, tuple) else result


class Recorder:
    """Nodes, constants and names.  Values are recorded as they are computed; `path` is the module that runs."""

    def __init__(self):
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.path = ""
        self.batch: int | None = None  # the size of the first axis, where it may be another one in a run
        self._names: dict[int, tuple[str, np.ndarray]] = {}  # holding the arrays keeps their ids

    def input(self, name: str, array: np.ndarray) -> Traced:
        traced = array.copy().view(Traced)
        traced.recorder, traced.name = self, name
        return traced

    def name_of(self, value, dtype=None) -> str:
        """The name of a traced array; of anything else, that of a new constant with a copy of it."""
        if isinstance(value, Traced):
            if value.name is None:
                raise ArgumentError(f"module: {self.path or 'its forward'} uses a view that cannot be followed; {HINT}")
            return value.name
        if id(value) not in self._names:
            name = f"constant.{len(self.constants)}"
            self.constants[name] = np.array(value, dtype)
            self._names[id(value)] = name, value
        return self._names[id(value)][0]

    def emit(self, op_type: str, inputs: list, result: np.ndarray, domain: str = "", **attributes) -> Traced:
        """A node with one result, whose value for the example is `result`."""
        (traced,) = self.emit_all(op_type, inputs, [result], domain, **attributes)
        return traced

    def emit_all(self, op_type: str, inputs: list, results: list, domain: str = "", **attributes) -> list[Traced]:
        count = len(self.nodes)
        names = [f"{self.path or 'forward'}/{op_type}.{count}" + (f".{i}" if i else "") for i in range(len(results))]
        given = ["" if value is None else self.name_of(value) for value in inputs]
        self.nodes.append(Node(op_type, domain, names[0], given, names, attributes, OPSET, self.path))
        traced = []
        for name, result in zip(names, results, strict=True):
            array = np.array(plain(result)).view(Traced)
            array.recorder, array.name = self, name
            traced.append(array)
        return traced

    def replay(self, function: Callable, args: tuple, kwargs: dict, result=None):
        """Record a call as it is; `result` is its value, where it has been computed."""
        traced: list[Traced] = []
        places = _with_places(args, traced), _with_places(kwargs, traced)
        result = function(*plain(args), **plain(kwargs)) if result is None else result
        several = isinstance(result, (tuple, list))
        results = [value for value in (result if several else [result]) if value is not None or not several]
        if not results or not all(isinstance(value, (np.ndarray, np.generic)) for value in results):
            raise ArgumentError(f"module: {getattr(function, '__name__', function)} returns no arrays; {HINT}")
        named = self.emit_all("Call", traced, results, "fastconv", function=Replay(function, *places))
        if not several:
            return named[0]
        return type(result)(None if value is None else named.pop(0) for value in result)

    def ufunc(self, ufunc: np.ufunc, inputs: tuple, kwargs: dict):
        result = ufunc(*plain(inputs), **kwargs)
        if ufunc not in UFUNCS or kwargs or any(np.asarray(v).dtype != result.dtype for v in inputs if np.ndim(v)):
            return self.replay(ufunc, inputs, kwargs, result)
        operands = [v if isinstance(v, Traced) else self._operand(v, result.dtype) for v in inputs]
        return self.emit(UFUNCS[ufunc], operands, result)

    def _operand(self, value, dtype) -> np.ndarray:
        """A number or another constant operand as an array of `dtype`, held so that its name stays its own."""
        return value if isinstance(value, np.ndarray) and value.dtype == dtype else np.array(value, dtype)

    def numpy_function(self, function: Callable, args: tuple, kwargs: dict):
        if function is np.concatenate and len(args) == 1 and kwargs.keys() <= {"axis"}:
            arrays = list(args[0])
            if len({array.dtype for array in arrays}) == 1 and kwargs.get("axis", 0) is not None:
                result = np.concatenate([plain(array) for array in arrays], **kwargs)
                return self.emit("Concat", arrays, result, axis=kwargs.get("axis", 0) % result.ndim)
        if function in (np.shape, np.ndim, np.size):
            return function(*plain(args), **kwargs)
        if function in NUMPY_REDUCTIONS and isinstance(args[0], Traced):
            return self.method(NUMPY_REDUCTIONS[function], args[0], args[1:], kwargs)
        if function is np.split and isinstance(args[0], Traced):
            return self._split(*args, **kwargs)
        if function is np.reshape and len(args) == 2 and not kwargs:
            return args[0].reshape(args[1])
        if function is np.transpose and not kwargs:
            return args[0].transpose(*args[1:])
        return self.replay(function, args, kwargs)

    def method(self, name: str, x: Traced, args: tuple, kwargs: dict):
        """A method of an array: reductions of some axes are operators, the others are recorded as they are."""
        result = getattr(plain(x), name)(*plain(args), **plain(kwargs))
        axis = args[0] if len(args) == 1 else kwargs.get("axis")
        known = name in REDUCTIONS and len(args) <= 1 and kwargs.keys() <= {"axis", "keepdims"} and axis is not None
        if not known or result.dtype != x.dtype:
            return self.replay(getattr(np.ndarray, name), (x, *args), kwargs, result)
        axes = np.array(np.atleast_1d(axis), np.int64)
        return self.emit(REDUCTIONS[name], [x, axes], result, keepdims=int(kwargs.get("keepdims", False)))

    def item(self, x: Traced, index):
        """``x[index]``: slices are an operator, other indices are recorded as they are."""
        result = plain(x)[index]
        parts = list(index) if isinstance(index, tuple) else [index]
        rest = [i for i, part in enumerate(parts) if part is Ellipsis]
        if rest:
            parts[rest[0] : rest[0] + 1] = [slice(None)] * (x.ndim - len(parts) + 1)
        if not all(isinstance(part, slice) and (part.step is None or part.step > 0) for part in parts):
            return self.replay(getitem, (x, index), {}, result)
        cut = [(axis, part) for axis, part in enumerate(parts) if part != slice(None)]
        if not cut:
            return self.emit("Identity", [x], result)
        numbers = [
            (part.start or 0, MOST if part.stop is None else part.stop, axis, part.step or 1) for axis, part in cut
        ]
        return self.emit("Slice", [x, *np.array(numbers, np.int64).T.copy()], result)

    def _split(self, x: Traced, indices_or_sections, axis: int = 0) -> list:
        results = np.split(plain(x), indices_or_sections, axis)
        sizes = np.array([part.shape[axis] for part in results], np.int64)
        return self.emit_all("Split", [x, sizes], results, axis=axis % x.ndim)

    def reshape(self, x: Traced, shape: tuple[int, ...], order: str = "C"):
        if order != "C":
            return self.replay(np.reshape, (x, shape), {"order": order})
        result = plain(x).reshape(shape)
        sizes = list(result.shape)
        if self.batch is not None and x.ndim and sizes and x.shape[0] == self.batch == sizes[0]:
            sizes[0] = 0  # the input's, whatever it is in a run
        elif self.batch is not None and -1 in shape:
            sizes[shape.index(-1)] = -1
        return self.emit("Reshape", [x, np.array(sizes, np.int64)], result)

    def transpose(self, x: Traced, axes):
        order = [axis % x.ndim for axis in (axes or range(x.ndim)[::-1])]
        return self.emit("Transpose", [x], plain(x).transpose(order), perm=order)

    def graph(self, inputs: dict[str, np.ndarray], outputs: list[Traced]) -> Graph:
        """The graph from the example `inputs` to the traced `outputs`."""
        infos = []
        for name, array in inputs.items():
            shape = list(array.shape)
            if self.batch is not None and shape and shape[0] == self.batch:
                shape[0] = "batch"
            kind = TYPES.get(array.dtype.name, f"tensor({array.dtype.name})")
            infos.append(ValueInfo(name, kind, shape, array.dtype, True))
        results = [ValueInfo(self.name_of(value), "", []) for value in outputs]
        return Graph("module", infos, results, self.nodes, self.constants)


def _with_places(value, traced: list[Traced]):
    """Arguments in which places stand for traced arrays, which join `traced`; other arrays are copied."""
    if isinstance(value, Traced):
        traced.append(value)
        return _Place(len(traced) - 1)
    if type(value) in (tuple, list):
        return type(value)(_with_places(entry, traced) for entry in value)
    if type(value) is dict:
        return {key: _with_places(entry, traced) for key, entry in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value


def _filled(value, arrays: tuple):
    if isinstance(value, _Place):
        return arrays[value.index]
    if type(value) in (tuple, list):
        return type(value)(_filled(entry, arrays) for entry in value)
    if type(value) is dict:
        return {key: _filled(entry, arrays) for key, entry in value.items()}
    return value
