"""Models in memory, shared by the sessions that were made of the same file.

Sessions of one file, or of equal bytes, have one copy of its weights and of their packed forms.  A model is forgotten
with the last session that holds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from weakref import WeakValueDictionary

from fastconv._kernels.array_memory import fingerprint
from fastconv.errors import ArgumentError
from fastconv.graph.ir import Graph
from fastconv.graph.passes import LESS_ROUNDING, PASSES, SHAPED, fold_constants
from fastconv.onnx.compiled import Compiler
from fastconv.onnx.evaluate import Evaluator
from fastconv.onnx.file_bytes import FileBytes, are_equal
from fastconv.onnx.functions import Functions
from fastconv.onnx.model import Model, load

__all__ = ["LoadedModel", "load_shared", "optimised"]

SAMPLES, SAMPLE = 16, 1024  # of a model's bytes: how many, and the bytes of one


class LoadedModel:
    """A model, and what its sessions have made of its weights; `pieces` are the file's bytes, which hold most of them."""

    def __init__(self, model: Model, pieces=()):
        self.model = model
        self.pieces = pieces
        self._compilers: dict[tuple, Compiler] = {}
        Evaluator(model)  # finds the operators that are missing

    def compiler(
        self, passes: tuple[str, ...], precision: str, replaced: frozenset = frozenset(), weights: str = "float32"
    ) -> Compiler:
        """For the graph after these passes, in which the defaults that `replaced` names are inputs."""
        if precision == "strict":
            passes = tuple(name for name in passes if name not in LESS_ROUNDING)
        key = (passes, precision, replaced, weights)
        if key not in self._compilers:
            graph = optimised(self._with_inputs(replaced), passes)
            shaped = [rewrite for name, rewrite in SHAPED.items() if name in passes]
            compiler = Compiler(graph, precision, shaped, weights)
            return self._compilers.setdefault(key, compiler)  # that of the thread which came first
        return self._compilers[key]

    def _with_inputs(self, replaced: frozenset) -> Graph:
        graph = self.model.graph
        if not replaced:
            return graph
        return Graph(
            graph.name,
            graph.inputs + [info for info in graph.defaults if info.name in replaced],
            graph.outputs,
            graph.nodes,
            {name: array for name, array in graph.constants.items() if name not in replaced},
            value_info=graph.value_info,
        )


_known: WeakValueDictionary[tuple, LoadedModel] = WeakValueDictionary()


def load_shared(source) -> LoadedModel:
    """The model that `source` holds: a Model, a path, or bytes.  Raises as :func:`fastconv.onnx.model.load` does.

    Equal bytes are one model, if the files beside it that hold its tensors are the same, too, and have not changed since.
    """
    if isinstance(source, Model):
        return LoadedModel(source)
    if not isinstance(source, (str, bytes)):
        return LoadedModel(load(source))
    if isinstance(source, bytes):
        return _load_once(source, None)
    with open(source, "rb", buffering=0) as file:
        return _load_once(FileBytes.of(file) if file.seekable() else file.readall(), source)


def _load_once(data: bytes | FileBytes, path: str | None) -> LoadedModel:
    # Data of a model that is a link lies beside the link or beside the file.
    places = () if path is None else (os.path.dirname(os.path.abspath(path)), os.path.dirname(os.path.realpath(path)))
    mark = _mark(data)
    for key in ((mark, ()), (mark, places)):
        known = _known.get(key)
        if known is not None and are_equal(known.pieces, data) and known.model.data_files_unchanged():
            return known
    model = load(data, path)
    loaded = LoadedModel(model, data.pieces() if isinstance(data, FileBytes) else [data])
    _known[mark, places if model.data_files else ()] = loaded
    return loaded


def _mark(data: bytes | FileBytes) -> tuple[int, int]:
    """What equal bytes have in common: their number, and a hash of samples of them."""
    step = max(len(data) // SAMPLES, 1)
    places = [*range(0, len(data), step), max(len(data) - SAMPLE, 0)]
    if isinstance(data, FileBytes):
        samples = [data.sample(start, SAMPLE) for start in places]
    else:
        samples = [data[start : start + SAMPLE] for start in places]
    return len(data), fingerprint(b"".join(samples))


def optimised(graph: Graph, passes: Iterable[str]) -> Graph:
    """The graph with constants folded and the named passes applied, as far as they need no shapes."""
    unknown = set(passes) - PASSES.keys() - SHAPED.keys()
    if unknown:
        raise ArgumentError(
            f"passes: expected some of {', '.join((*PASSES, *SHAPED))}, got {', '.join(sorted(unknown))}"
        )
    graph = fold_constants(graph, Functions())
    for name, rewrite in PASSES.items():
        if name in passes:
            graph = rewrite(graph)
    return graph
