"""InferenceSession: a model, optimised when it is loaded and compiled for each shape it meets."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from threading import Lock
from weakref import WeakSet

import numpy as np

from fastconv import config, machine
from fastconv._kernels import preload
from fastconv._kernels.recent import RecentRun
from fastconv.errors import ArgumentError, ArgumentTypeError, ModelError
from fastconv.geometry import integer
from fastconv.graph.ir import Node
from fastconv.graph.limits import MAX_TURNS, Budget, current, default_bytes, limited
from fastconv.graph.passes import PASSES, SHAPED
from fastconv.onnx.compiled import Compiled, Compiler
from fastconv.onnx.evaluate import Evaluator, check_feeds
from fastconv.onnx.explain import Explanation, explain
from fastconv.onnx.functions import Kernels
from fastconv.onnx.input_shapes import resolved_shapes
from fastconv.onnx.loaded import load_shared
from fastconv.onnx.memory import MemoryPlan, predict_memory
from fastconv.onnx.model import Model
from fastconv.onnx.profile import Profile, profile
from fastconv.onnx.report import shapes_text
from fastconv.onnx.steps import origins, shapes_of, stepwise
from fastconv.onnx.team_limit import team_limit
from fastconv.onnx.verify import Verification, verify

__all__ = ["InferenceSession", "ModelMeta", "NodeArg"]

KEPT_SHAPES = 8  # programs of the shapes met last
PRECISIONS = ("strict", "default", "fast")
WEIGHTS = ("float32", "float16")
_OPTIONS = (
    "_source",
    "_threads",
    "_precision",
    "_weights",
    "_passes",
    "_memory_limit",
    "_max_turns",
)  # what a pickle holds


class NodeArg:
    """An input or output: `name`, `type` (as onnxruntime spells it), `shape` (ints, names and None), and `dtype` or None."""

    def __init__(self, info):
        self.name, self.type, self.shape, self.dtype = info.name, info.type, list(info.shape), info.dtype

    def __repr__(self):
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape})"


class ModelMeta:
    """What the file says about itself, under onnxruntime's names."""

    def __init__(self, model: Model):
        self.producer_name = model.producer_name
        self.graph_name = model.graph.name
        self.graph_description = ""
        self.domain = model.domain
        self.description = model.description
        self.version = model.version
        self.custom_metadata_map = dict(model.metadata)


class InferenceSession:
    """Runs an ONNX model; from many threads at once, in forked children, and after pickling.

    Parameters
    ----------
    model : path, bytes, an object with SerializeToString() such as onnx.ModelProto, or a :class:`fastconv.onnx.model.Model`
    threads : threads of a run, the calling one included; None for those of ``fastconv.get_num_threads()`` at the time
    precision : "strict" sums directly, in one order for any batch size; "default" lets Winograd's algorithm be chosen
        (largest error about 4e-6 of the largest output at 512 channels), "fast" also in larger tiles (about 3e-5)
    weights : "float16" stores large weights of fully connected layers (Gemm, MatMul by a constant, and a convolution over the
        whole input) as float16, rounded to nearest, and computes in float32: half the bytes are read where reading them
        is what takes the time.  A layer keeps float32 where a weight is beyond float16's range, where the roundings of an
        output's weights sum up to more than 2⁻¹¹ of these, and on processors without an instruction that widens them.
        The model's own arrays stay as they are.
    passes : names of the rewriting passes to run, all by default (PASSES and SHAPED of :mod:`fastconv.graph.passes`)
    memory_limit : bytes that the values of a run may take, what constants are computed from at load included; None for
        512 MiB, 4 times the weights or 1024 times the inputs, whichever is most, as far as the machine has it.  What
        would exceed it is a :class:`~fastconv.errors.MemoryLimitError` (a ModelError and a MemoryError) in advance.
    max_turns : how often one run may call the subgraphs of Loop, Scan and If; more is a ModelError

    Sessions of the same file, or of equal bytes, share its weights and their packed forms.

    Raises ModelError for a damaged model, or, at once with all of them, for operators that are not there; ArgumentError
    for the other arguments; OSError where a path cannot be read.
    """

    def __init__(
        self,
        model,
        threads: int | None = None,
        precision: str = "default",
        *,
        weights: str = "float32",
        passes: Iterable | None = None,
        memory_limit: int | None = None,
        max_turns: int = MAX_TURNS,
    ):
        if precision not in PRECISIONS:
            raise ArgumentError(f"precision: expected one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
        if weights not in WEIGHTS:
            raise ArgumentError(f"weights: expected one of {', '.join(map(repr, WEIGHTS))}, got {weights!r}")
        self._weights = weights
        self._threads = None if threads is None else integer(threads, "threads", 1)
        self._precision = precision
        self._passes = (*PASSES, *SHAPED) if passes is None else tuple(passes)
        self._memory_limit = None if memory_limit is None else integer(memory_limit, "memory_limit", 1)
        self._max_turns = integer(max_turns, "max_turns", 1)
        if isinstance(model, (str, os.PathLike)):
            model = os.path.abspath(os.fspath(model))
        elif hasattr(model, "SerializeToString"):
            model = model.SerializeToString()
        elif isinstance(model, (bytearray, memoryview)):
            model = bytes(model)
        self._source = model
        self._load()

    def _load(self) -> None:
        self._loaded = load_shared(self._source)
        self._model = self._loaded.model
        if isinstance(self._source, bytes) and isinstance(self._loaded.pieces[0], bytes):
            (self._source,) = self._loaded.pieces  # of equal bytes, one copy
        self._weight_bytes = sum(array.nbytes for array in self._model.graph.constants.values())
        self._names = [info.name for info in self._model.graph.inputs]
        self._output_names = [info.name for info in self._model.graph.outputs]
        self._compilers: dict[frozenset, Compiler] = {}
        self._compiler_of({})
        self._programs: OrderedDict[tuple, Compiled] = OrderedDict()
        self._recent = RecentRun()
        self._forget_threads()
        _sessions.add(self)

    def _forget_threads(self) -> None:
        self._lock = Lock()

    def __getstate__(self) -> dict:
        return {name: getattr(self, name) for name in _OPTIONS}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._load()

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that have to be given."""
        return [NodeArg(info) for info in self._model.graph.inputs]

    def input_shapes(self, shapes: Mapping[str, object] | None = None) -> dict[str, tuple]:
        """(shape, dtype) of every tensor input; `shapes` fills in what the file leaves open, as for :meth:`explain`."""
        return resolved_shapes(self._model.graph, shapes)

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a default in the file."""
        return [NodeArg(info) for info in self._model.graph.defaults]

    def get_outputs(self) -> list[NodeArg]:
        """The model's outputs: name, shape and type of each."""
        return [NodeArg(info) for info in self._model.graph.outputs]

    def get_modelmeta(self) -> ModelMeta:
        """Names, versions and further entries that the file says of itself."""
        return ModelMeta(self._model)

    def get_providers(self) -> list[str]:
        """What computes, under onnxruntime's name."""
        return ["CPUExecutionProvider"]

    def run(self, output_names: Iterable[str] | None, input_feed: Mapping[str, object], run_options=None) -> list:
        """The named outputs, or all for None, for arrays by name; fresh arrays that belong to the caller.

        Raises ArgumentError or ArgumentTypeError for names, types and shapes that do not fit the model, ModelError where a
        node fails, MemoryError, after which the session is as usable as before.
        """
        results = self._recent.run(input_feed)
        if results is None:
            results = self._run_checked(*self._prepared(input_feed))
        if output_names is None or (type(output_names) is list and output_names == self._output_names):
            return results
        return self._chosen(results, output_names)

    def _run_checked(self, compiled: Compiled, feeds: dict) -> list:
        with team_limit(self._threads), _model_errors:
            if compiled.dynamic:
                with self._limited(feeds):
                    return compiled.run(feeds)
            results = compiled.run(feeds)  # whose memory was claimed when it was compiled
            self._recent = compiled.recent(feeds, self._threads or 0)
            return results

    def explain(self, shapes: Mapping[str, object] | None = None) -> Explanation:
        """The plan of every step for inputs of these `shapes`: algorithm, reason, refusals, FLOPs, bytes, predicted seconds.

        Symbolic sizes of a first axis are 1 unless given; `shapes` holds shapes by input, or sizes by symbolic name.
        Raises ArgumentError for a size that is neither in the file nor given.  No weights are packed.
        """
        given = self.input_shapes(shapes)
        with team_limit(self._threads):
            compiled = self._compilers[frozenset()].compile(given, self._unknown(given), predicting=True)
            return explain(compiled, self._origins(), self._precision, self._summary(given))

    def predict_memory(self, shapes: Mapping[str, object] | None = None) -> MemoryPlan:
        """Bytes for inputs of these `shapes` (as for :meth:`explain`), before anything is packed or allocated."""
        given = self.input_shapes(shapes)
        with team_limit(self._threads):
            compiler = self._compilers[frozenset()]
            compiled = compiler.compile(given, self._unknown(given), predicting=True)
            return predict_memory(compiled, self._model.graph, compiler.graph, config.get_num_threads())

    def prepare(self, shapes: Mapping[str, object] | None = None) -> None:
        """What the first run on inputs of these `shapes` (as for :meth:`explain`) would do ahead of its work.

        The steps are chosen, weights packed and the memory of a run taken, so that the first run is like any other.
        Raises as :meth:`explain` and :meth:`run` do.
        """
        given = self.input_shapes(shapes)
        feeds = {name: np.broadcast_to(np.zeros((), dtype), shape) for name, (shape, dtype) in given.items()}
        compiled, feeds = self._prepared(feeds)
        with team_limit(self._threads), _model_errors:
            compiled.executable.reserve()
            self._recent = compiled.recent({name: _as_given(feed) for name, feed in feeds.items()}, self._threads or 0)

    def profile(self, input_feed: Mapping[str, object], repeats: int = 10) -> Profile:
        """The time of every step, the median of `repeats` runs, beside what the machine could do at best.

        The machine's limits are measured once per process and number of threads, which takes about two seconds.
        """
        repeats = integer(repeats, "repeats", 1)
        compiled, feeds = self._prepared(input_feed)
        summary = self._summary(shapes_of(feeds))
        with team_limit(self._threads), _model_errors:
            limit = partial(self._limited, feeds)
            return profile(compiled, feeds, self._origins(), self._precision, repeats, summary, limit)

    def verify(self, input_feed: Mapping[str, object]) -> Verification:
        """Every step again in float64 NumPy on its actual inputs; ``.ok``, and the first step beyond its error bound.

        Takes as long as NumPy does, and the memory of all intermediate values at once; MemoryLimitError where that is
        more than `memory_limit`, or without one more than the machine has.
        """
        compiled, feeds = self._prepared(input_feed)
        with team_limit(self._threads), self._limited(feeds), _model_errors:
            return verify(self._compiler_of(feeds), compiled, feeds, self._origins(), self._summary(shapes_of(feeds)))

    def trace(self, input_feed: Mapping[str, object]) -> dict[str, object]:
        """Every value that the file names, inputs and weights aside, by name.

        What the engine computes is what a run computes; values that the passes have fused away are computed node by node.
        All of them are kept, twice for a while: MemoryLimitError as for :meth:`verify`.
        """
        compiled, feeds = self._prepared(input_feed)
        compiler = self._compiler_of(feeds)
        values: dict[str, object] = {}

        kept = 0

        def observe(node: Node, inputs: list, results: tuple, seconds: float) -> None:
            nonlocal kept
            for name, result in zip(node.outputs, results, strict=False):
                if name:
                    kept += _bytes(result) - _bytes(values.get(name))
                    current().claim_whole(kept)
                    values[name] = _owned(result)

        with team_limit(self._threads), _model_errors:
            with self._limited(feeds):
                Evaluator(self._model, Kernels(compiler.functions, {})).run_checked(feeds, observe)
            own = {}
            with self._limited(feeds):
                for step in stepwise(compiler, compiled, feeds):
                    own.update(zip(step.node.outputs, map(_owned, step.run()), strict=True))
                compiled.run_rest(feeds, {name: own.get(name) for name in compiled.handed_on}, observe)
        return values | {name: array for name, array in own.items() if name in values}

    def _prepared(self, input_feed: Mapping[str, object]) -> tuple[Compiled, dict]:
        """What runs for these feeds, and the feeds as checked arrays."""
        if type(input_feed) is not dict and not isinstance(input_feed, Mapping):
            what = type(input_feed).__name__
            raise ArgumentTypeError(f"input_feed: expected a mapping of input names to arrays, got {what}")
        threads = self._threads or config.get_num_threads()
        if len(input_feed) == len(self._names):
            feeds = {name: input_feed.get(name) for name in self._names}
            key = (threads, *[(a.shape, a.dtype) for a in feeds.values() if type(a) is np.ndarray])
            compiled = self._programs.get(key) if len(key) == len(feeds) + 1 else None
            if compiled is not None:
                return compiled, feeds
        feeds = check_feeds(self._model.graph, input_feed)
        key = (threads, *((a.shape, a.dtype) if isinstance(a, np.ndarray) else None for a in feeds.values()))
        if len(feeds) > len(self._names):
            key = (*key, *(name for name in feeds if name not in self._names))
        with self._lock:
            if key not in self._programs:
                shapes = shapes_of(feeds)
                compiler = self._compiler_of(feeds)
                with team_limit(self._threads), self._limited(feeds), _model_errors:
                    self._programs[key] = compiler.compile(shapes, feeds.keys() - shapes.keys())
                while len(self._programs) > KEPT_SHAPES:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return self._programs[key], feeds

    def _compiler_of(self, feeds: Mapping[str, object]) -> Compiler:
        """The compiler of the graph in which the defaults that `feeds` replaces are inputs."""
        replaced = frozenset(feeds.keys() - set(self._names))
        if replaced not in self._compilers:
            with self._limited({}), _ModelErrors("the model cannot be prepared"):
                self._compilers[replaced] = self._loaded.compiler(
                    self._passes, self._precision, replaced, self._weights
                )
        return self._compilers[replaced]

    def _limited(self, feeds: Mapping[str, object]) -> limited:
        """The context of one run on these feeds, with what it may take."""
        limit = whole = self._memory_limit
        if limit is None:
            limit = default_bytes(self._weight_bytes, (a for a in feeds.values() if isinstance(a, np.ndarray)))
            whole = machine.memory_bytes()
        return limited(Budget(limit, self._max_turns, whole))

    def _unknown(self, shapes: Mapping[str, tuple]) -> set[str]:
        return {info.name for info in self._model.graph.inputs if info.name not in shapes}

    def _origins(self) -> dict[Node, list[Node]]:
        return origins(self._model.graph, self._compilers[frozenset()].graph)

    def _summary(self, shapes: Mapping[str, tuple]) -> dict[str, str]:
        inputs = ", ".join(
            f"{name} {shapes_text([shape])} {np.dtype(dtype)}" for name, (shape, dtype) in shapes.items()
        )
        return {
            "model": self._source if isinstance(self._source, str) else self._model.graph.name,
            "inputs": inputs,
            "threads": str(config.get_num_threads()),
            "precision": self._precision,
            "weights": self._weights,
        }

    def _chosen(self, results: list, output_names: Iterable[str]) -> list:
        by_name = dict(zip(self._output_names, results, strict=True))
        if isinstance(output_names, str) or not isinstance(output_names, Iterable):
            raise ArgumentTypeError(f"output_names: expected None or a list of names, got {output_names!r}")
        names = list(output_names)
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise ArgumentError(f"output_names: the model has {', '.join(by_name)}; got {', '.join(map(str, unknown))}")
        return [by_name[name] for name in names]


class _ModelErrors:
    """``with _ModelErrors(what): ...`` turns what a node's function raises on impossible arguments into a ModelError."""

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        failed = isinstance(error, (ArithmeticError, AttributeError, LookupError, TypeError, ValueError))
        if failed and not isinstance(error, (ArgumentError, ArgumentTypeError)):
            raise ModelError(f"{self.what}: {error}") from error


_model_errors = _ModelErrors("the model cannot be run on these inputs")


def _as_given(feed):
    """An array as a run gets it, of memory that nobody writes and the system therefore only promises."""
    return np.empty(feed.shape, feed.dtype) if isinstance(feed, np.ndarray) else feed


def _owned(value):
    return value.copy() if isinstance(value, np.ndarray) else value


def _bytes(value) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else 0


def _fresh_locks() -> None:
    """In a forked child: locks may be held by threads that do not exist there."""
    for session in _sessions:
        session._forget_threads()


# What all sessions ask of the machine, and what nearly all run, is there before the first one waits for it.
machine.memory_bytes()
machine.cache_bytes(2)
preload("float32")

_sessions: WeakSet[InferenceSession] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_locks)
