"""Compiling a module: run it once on traced arrays, and hand the graph to an inference session."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import Module, functional
from fastconv.onnx.model import Model
from fastconv.onnx.session import InferenceSession
from fastconv.tracing.array import HINT, Traced, plain
from fastconv.tracing.layers import FUNCTIONS, LAYERS
from fastconv.tracing.recorder import OPSET, Recorder

__all__ = ["CompiledModule", "compile"]

_tracing = RLock()  # functions are replaced for the whole process while a module is traced


class CompiledModule:
    """A module's forward for inputs of the example's shapes: ``compiled(*inputs)`` returns what the module would.

    The size of the first axis may be another one where the example is a batch.  Weights are those of the moment of
    compiling.  `session` is the :class:`fastconv.InferenceSession` behind it, for ``session.explain()`` and its like.
    """

    def __init__(self, session: InferenceSession, structure):
        self.session = session
        self._structure = structure

    def __call__(self, *inputs):
        names = [info.name for info in self.session.get_inputs()]
        if len(inputs) != len(names):
            raise ArgumentTypeError(f"inputs: expected {len(names)}, got {len(inputs)}")
        feeds = {name: as_array(value, name) for name, value in zip(names, inputs, strict=True)}
        return _rebuilt(self._structure, self.session.run(None, feeds))

    def __repr__(self) -> str:
        return f"CompiledModule({', '.join(f'{i.name}: {i.shape}' for i in self.session.get_inputs())})"


def compile(
    module: Module,
    example_input,
    *,
    threads: int | None = None,
    precision: str = "default",
    weights: str = "float32",
) -> CompiledModule:
    """Compile ``module.eval()(*example_input)`` into one program with fused steps and planned memory.

    `example_input` is an array (N, …), or a tuple of arrays for several inputs.  The forward is run on it once: layers,
    functions of ``fastconv.nn.functional`` and NumPy's functions and operators are recorded.  The result is compared
    with the module's for a second input.  The module itself stays as it is.  `threads`, `precision` and `weights` are those
    of the session.

    Raises :class:`ArgumentError` where the forward decides by values that it computes, or does what cannot be followed.
    """
    if not isinstance(module, Module):
        raise ArgumentTypeError(f"module: expected a fastconv.nn.Module, got {type(module).__name__}")
    given = example_input if isinstance(example_input, (tuple, list)) else (example_input,)
    if given and all(isinstance(value, (int, np.integer)) for value in given):
        raise ArgumentTypeError(
            f"example_input: expected an array, or a tuple of arrays, got the sizes {tuple(given)}; "
            "pass numpy.zeros(sizes, 'float32')"
        )
    arrays = [as_array(value, "example_input") for value in given]
    with _evaluating(module):
        recorder, inputs, structure, outputs = _traced(module, arrays)
        graph = recorder.graph(inputs, outputs)
        model = Model(graph, {"": OPSET, "fastconv": 1}, 10, "fastconv", "", "", 0, "", {})
        compiled = CompiledModule(InferenceSession(model, threads, precision, weights=weights), structure)
        _check(module, compiled, arrays)
    return compiled


def _traced(module: Module, arrays: list[np.ndarray]):
    """(recorder, inputs by name, structure of the result, traced arrays in it)."""
    recorder = Recorder()
    first = {array.shape[0] for array in arrays if array.ndim > 1}
    recorder.batch = first.pop() if len(first) == 1 else None
    parameters = inspect.signature(module.forward).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = (named + [f"input{i}" for i in range(len(arrays))])[: len(arrays)]
    inputs = dict(zip(names, arrays, strict=True))
    with _tracing, ExitStack() as stack:
        stack.enter_context(_recorded_functions(recorder, module))
        for path, child in module.named_modules():
            stack.enter_context(_recorded_module(recorder, path, child))
        result = module(*(recorder.input(name, array) for name, array in inputs.items()))
    outputs: list[Traced] = []
    structure = _structure(result, outputs)
    if not outputs:
        raise ArgumentError(f"module: its result does not depend on the input in a way that can be followed; {HINT}")
    return recorder, inputs, structure, outputs


@contextmanager
def _evaluating(module: Module) -> Iterator[None]:
    """Evaluation mode inside, what was before it after."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.__dict__["training"] = training


@contextmanager
def _recorded_functions(recorder: Recorder, module: Module) -> Iterator[None]:
    """The functions of ``fastconv.nn.functional`` record calls with traced arrays, and are themselves again after.

    Code may hold them by other names, too: ``self.activation = F.relu``, or ``from … import relu``.
    """
    recorded = {}
    for name in functional.__all__:
        original = getattr(functional, name)
        recorded[id(original)] = _recorded(recorder, name, original)
    changed = []
    try:
        for names in _namespaces(module):
            for name, value in list(names.items()):
                if id(value) in recorded:
                    changed.append((names, name, value))
                    names[name] = recorded[id(value)]
        yield
    finally:
        for names, name, value in changed:
            names[name] = value


def _namespaces(module: Module) -> list[dict]:
    """Where the code of a module may find functions: in ``functional``, its own files, and the modules' attributes."""
    children = list(module.modules())
    classes = {base for child in children for base in type(child).__mro__}
    functions = (value for base in classes for value in vars(base).values() if inspect.isfunction(value))
    files = {id(function.__globals__): function.__globals__ for function in functions}
    return [vars(functional), *files.values(), *(vars(child) for child in children)]


def _recorded(recorder: Recorder, name: str, original: Callable) -> Callable:
    signature = inspect.signature(original)
    translate = FUNCTIONS.get(name)
    extra = {"rank": int(name[-2])} if "pool" in name and name[-2:-1].isdigit() else {}
    extra |= {"name": name} if name in ("softmax", "log_softmax") else {}

    def call(*args, **kwargs):
        result = original(*plain(args), **plain(kwargs))
        if not any(isinstance(value, Traced) for value in (*args, *kwargs.values())):
            return result
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        traced = translate(recorder, result, **bound.arguments, **extra) if translate is not None else None
        if traced is None:
            traced = recorder.replay(original, args, kwargs, result)
        if bound.arguments.get("inplace") and isinstance(args[0], Traced):
            args[0].name = traced.name
        return traced

    return call


@contextmanager
def _recorded_module(recorder: Recorder, path: str, module: Module) -> Iterator[None]:
    """Layers of a known kind record an operator; any other module whose result got lost is recorded as a call of itself."""
    outside: list[str] = []

    def before(module, args, kwargs):
        outside.append(recorder.path)
        recorder.path = path

    def after(module, args, kwargs, result):
        recorder.path = path
        try:
            if any(isinstance(value, Traced) for value in (*args, *kwargs.values())) and _is_plain(result):
                translate = LAYERS.get(type(module))
                traced = translate(recorder, result, module, *args, **kwargs) if translate is not None else None
                return recorder.replay(_frozen(module), args, kwargs, result) if traced is None else traced
            return None
        finally:
            recorder.path = outside.pop()

    with (
        module.register_forward_pre_hook(before, prepend=True, with_kwargs=True),
        module.register_forward_hook(after, with_kwargs=True),
    ):
        yield


def _frozen(module: Module) -> Module:
    """A copy of the module with weights of its own, and without the hooks that record."""
    modules = list(module.modules())
    hooks = [(child, dict(child._hooks)) for child in modules]
    for child in modules:
        child._hooks.clear()
    try:
        return copy.deepcopy(module)
    finally:
        for child, kept in hooks:
            child._hooks.update(kept)


def _is_plain(result) -> bool:
    """Whether it is an array, or arrays, without a trace."""
    parts = result if isinstance(result, (tuple, list)) else (result,)
    return all(isinstance(part, np.ndarray) and not isinstance(part, Traced) for part in parts)


def _structure(result, outputs: list[Traced]):
    """The result with an index in the place of every traced array, which joins `outputs`."""
    if isinstance(result, Traced):
        outputs.append(result)
        return len(outputs) - 1
    if isinstance(result, dict):
        return {key: _structure(value, outputs) for key, value in result.items()}
    if isinstance(result, (tuple, list)):
        parts = [_structure(value, outputs) for value in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    if isinstance(result, np.ndarray):
        raise ArgumentError(f"module: its result has an array that cannot be followed back to the input; {HINT}")
    kind = type(result).__name__
    raise ArgumentError(f"module: expected arrays, or tuples, lists and dicts of them, as its result, got {kind}")


def _rebuilt(structure, results: list):
    if isinstance(structure, int):
        return results[structure]
    if isinstance(structure, dict):
        return {key: _rebuilt(value, results) for key, value in structure.items()}
    parts = [_rebuilt(value, results) for value in structure]
    return type(structure)(*parts) if hasattr(structure, "_fields") else type(structure)(parts)


def _check(module: Module, compiled: CompiledModule, arrays: list[np.ndarray]) -> None:
    """What was computed behind the trace's back would be a constant: it shows with other values."""
    others = [array[..., ::-1] * array.dtype.type(0.75) if array.dtype.kind == "f" else array for array in arrays]
    expected: list = []
    structure = _flattened(module(*others), expected)
    actual: list = []
    if structure != _flattened(compiled(*others), actual):
        raise ArgumentError(f"module: its forward returns other things for other values; {HINT}")
    for mine, theirs in zip(actual, expected, strict=True):
        scale = float(np.abs(theirs).max(initial=0, where=np.isfinite(theirs))) if theirs.dtype.kind == "f" else 0.0
        if mine.shape != theirs.shape or not np.allclose(mine, theirs, rtol=1e-3, atol=1e-3 * scale, equal_nan=True):
            raise ArgumentError(
                "module: compiled, its forward gives another result for a second input: it computes something from arrays "
                f"that does not go through layers, fastconv.nn.functional or NumPy's functions; {HINT}"
            )


def _flattened(result, arrays: list):
    """The arrays of a result, and its structure."""
    if isinstance(result, dict):
        return {key: _flattened(value, arrays) for key, value in result.items()}
    if isinstance(result, (tuple, list)):
        return [_flattened(value, arrays) for value in result]
    arrays.append(result)
    return None
