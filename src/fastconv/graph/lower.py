"""Lowering: from nodes, for given input shapes, to calls of kernels on tensors.

A lowering is a function ``(build, node, *inputs) -> outputs`` in :data:`LOWERINGS`.  Inputs are Tensors, arrays where they
are constant, or None; it emits calls through the builder and returns Tensors or arrays, or None where it does not apply:
then the operator's NumPy function runs in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fastconv._kernels.engine import Step
from fastconv.errors import ModelError
from fastconv.graph.ir import Graph, Node
from fastconv.graph.limits import claim
from fastconv.graph.memory import Buffer, Tensor
from fastconv.graph.passes.constants import RANDOM
from fastconv.graph.slab import Slab, slab_bytes
from fastconv.ops.linear import stores_half
from fastconv.ops.strided_copy import copy_step
from fastconv.ops.table import Algorithm, Op

__all__ = ["FLOATS", "LOWERINGS", "Builder", "Call", "Dynamic", "arrival_seconds", "lower", "lowering"]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # the element types that kernels compute
LOWERINGS: dict[tuple[str, str], Callable] = {}

# operators whose outputs' shapes depend on the values of their inputs: of all inputs, or of those at these places
DATA_DEPENDENT = {"NonZero", "NonMaxSuppression", "Unique", "Compress", "If", "Loop", "Scan", "SequenceMap"}
SHAPE_INPUTS = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "ConstantOfShape": (0,),
    "DFT": (1, 2), "Expand": (1,), "HammingWindow": (0,), "HannWindow": (0,), "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4), "OneHot": (1,), "Pad": (1, 3), "Range": (0, 1, 2), "Reshape": (1,),
    "Resize": (1, 2, 3), "STFT": (1, 3), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Tile": (1,),
    "TopK": (1,), "Unsqueeze": (1,), "Upsample": (1,),
}  # fmt: skip
ARRIVAL = 0.1  # of the time it takes to pack weights, which writes 2 GB/s: memory is read at 20
LEAST_HALVED = 1 << 18  # bytes of weights that are stored as float16; fewer stay in the caches
REDUCTION_AXES = (1,)  # of the operators whose names begin with Reduce


class Dynamic(Exception):
    """`node` has a result whose shape only a run can tell, for the `reason` that is a sentence."""

    def __init__(self, node: Node, reason: str):
        super().__init__(f"{node} {reason}")
        self.node = node
        self.reason = reason


@dataclass(eq=False)
class Call:
    """One piece of work, ``work(*outputs, *inputs)`` on arrays: a kernel step, or a Python function that writes outputs."""

    node: Node
    work: Step | Callable
    outputs: list[Tensor]
    inputs: list[Tensor | np.ndarray]
    algorithm: str = ""
    detail: object = None  # what explains the choice: the spec and the op
    with_image_stride: Callable[[int], Step] | None = (
        None  # the step for an output whose images lie so many bytes apart
    )


def lowering(*op_types: str, domain: str = ""):
    def register(function):
        for op_type in op_types:
            LOWERINGS[domain, op_type] = function
        return function

    return register


@dataclass(eq=False)
class Packing:
    """Weights to be packed: ``pack(*arrays, slab)`` returns as many arrays as `elements` has sizes."""

    pack: Callable
    arrays: tuple
    elements: tuple[int, ...]
    dtypes: tuple[np.dtype, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of a slab."""
        sizes = zip(self.elements, self.dtypes, strict=True)
        return sum(slab_bytes(count * dtype.itemsize) for count, dtype in sizes)


@dataclass(frozen=True, slots=True)
class Packed:
    """Stands for one array of a packing until it is made; `shape` and `dtype` are those of the array."""

    key: tuple
    place: int
    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(eq=False)
class Builder:
    """Collects calls, and keeps packed weights for all the programs of a session."""

    packings: dict = field(default_factory=dict)
    precision: str = "default"
    weights: str = "float32"  # "float16": large ones of fully connected layers are stored so, where a kernel reads them
    wanted: dict[tuple, Packing] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    node: Node | None = None
    place: int = 0  # of the node among the graph's
    reads: Counter = field(default_factory=Counter)  # of every value, by nodes and as an output
    made: dict = field(default_factory=dict)

    def once(self, make: Callable, *arguments):
        """``make(*arguments)``, one for all layers of the same form; the arguments are hashable."""
        key = (make, *arguments)
        if key not in self.made:
            self.made[key] = make(*arguments)
        return self.made[key]

    def tensor(self, shape, dtype) -> Tensor:
        tensor = Tensor.new(shape, dtype)
        claim(tensor.nbytes, f"{self.node}: a value of shape {tensor.shape}", self.node.where)
        self.buffers.append(tensor.buffer)
        return tensor

    def may_overwrite(self, x: Tensor, *others, kept=()) -> bool:
        """Whether a result may take the place of `x`: a later node reads nothing there, `others` do not overlap it.

        `others` may be `x` itself, because every element is read before it is written, and `kept`, which this node goes
        on to read, may not.  Parts of a buffer stay: a result with a buffer of its own can move into a concatenation.
        """
        root, _ = x.buffer.root()
        if root.name or root.needed > self.place or not x.is_contiguous or x.nbytes != root.size:
            return False

        def within(values):
            return [t for t in values if isinstance(t, Tensor) and t.buffer.root()[0] is root]

        copies = [t.copy for t in kept if isinstance(t, Tensor)]
        return not within((*kept, *copies)) and all(t.is_same_array(x) for t in within(others))

    def result_over(self, x: Tensor, *others) -> Tensor:
        """For a result of the shape and type of `x`, in the memory of `x` where that is free."""
        return x.reshaped(x.shape) if self.may_overwrite(x, *others) else self.tensor(x.shape, x.dtype)

    def contiguous(self, x: Tensor) -> Tensor:
        """`x` with its values side by side; a copy is made once for all that read it."""
        if x.is_contiguous:
            return x
        if x.copy is None:
            x.copy = self.copy(self.tensor(x.shape, x.dtype), x)
        x.copy.buffer.need(x.buffer.root()[0].needed)
        return x.copy

    def reshaped(self, x: Tensor, shape) -> Tensor:
        """`x` in another shape, copied where its strides do not allow it."""
        return x.reshaped(shape) or self.contiguous(x).reshaped(shape)

    def copy(self, y: Tensor, x: Tensor) -> Tensor:
        """`y`, with the values of `x` copied to it."""
        step = self.once(copy_step, x.shape, y.strides, x.strides, x.dtype.itemsize)
        return self.emit(step or np.copyto, [y], [x], "copy")[0]

    def kernel(self, op: Op, spec):
        """The plan of the row "direct"; None where it refuses."""
        row = self.choose(op, spec, strict=("direct",), default=("direct",))
        return row and self.once(row.plan, spec)

    def emit(self, work, outputs: list[Tensor], inputs: list, algorithm="", detail=None) -> list[Tensor]:
        index = len(self.calls)
        for tensor in (*outputs, *(i for i in inputs if isinstance(i, Tensor))):
            tensor.buffer.use(index)
        self.calls.append(Call(self.node, work, outputs, inputs, algorithm, detail))
        return outputs

    def choose(self, op: Op, spec, strict: tuple[str, ...], default: tuple[str, ...], larger: tuple[str, ...] = ()):
        """The row predicted fastest among those of these names that accept `spec`, for the precision; None without one.

        Those of `larger` errors are for fast precision.  A strict sum is formed in one order, whatever the number of images.
        """
        names = {"strict": strict, "default": default, "fast": default + larger}
        return self.once(_fastest, op, spec, names[self.precision])

    def packed(self, layout, pack: Callable, *arrays, elements: tuple[int, ...], dtypes=()) -> list[Packed]:
        """Weights in a kernel's form, packed once for a session however many shapes it sees.

        ``pack(*arrays, slab)`` returns arrays of as many elements as `elements` has, in memory from the slab; 0 stands
        for one that it returns as it came.  `dtypes` are their types, where they are not all that of the first array.
        """
        key = (layout, *(id(array) for array in arrays))
        dtypes = dtypes or (arrays[0].dtype,) * len(elements)
        self.wanted[key] = Packing(pack, arrays, elements, dtypes)
        return [Packed(key, place, (elements[place],), dtype) for place, dtype in enumerate(dtypes)]

    def stores_half(self, w: np.ndarray, rows: np.ndarray) -> bool:
        """Whether the session stores these weights as float16: `w` as (outputs, inputs) are `rows`.

        What their values allow is found once, and kept with the packed weights.
        """
        if self.weights != "float16" or w.dtype != np.float32 or w.nbytes < LEAST_HALVED:
            return False
        key = ("stored half", id(w))
        if key not in self.packings:
            self.packings[key] = (stores_half(rows), w)  # holding the array keeps its id
        return self.packings[key][0]

    def pack(self) -> None:
        """Make what is wanted and not there yet, and put the arrays in their places among the calls' inputs."""
        missing = {key: packing for key, packing in self.wanted.items() if key not in self.packings}
        slab = Slab(sum(packing.nbytes for packing in missing.values()))
        for key, packing in missing.items():
            packed = packing.pack(*packing.arrays, slab)
            # Holding the arrays keeps their ids; of threads that pack at the same time the first one's stays.
            self.packings.setdefault(key, (packed, packing.arrays))
        for call in self.calls:
            call.inputs = [self.packings[v.key][0][v.place] if isinstance(v, Packed) else v for v in call.inputs]


def _fastest(op: Op, spec, names: tuple[str, ...]) -> Algorithm | None:
    rows = [row for row in op.rows if row.name in names and not row.refusal(spec)]
    if len(rows) == 1:
        return rows[0]
    return min(rows, key=lambda row: row.seconds(spec) + arrival_seconds(row, spec), default=None)


def arrival_seconds(row: Algorithm, spec) -> float:
    """Time in which a row's packed weights come from memory, where those of all other steps have displaced them."""
    return row.pack_seconds(spec) * ARRIVAL


def lower(
    graph: Graph,
    shapes: dict[str, tuple],
    evaluate: Callable,
    packings: dict,
    precision: str = "default",
    predicting: bool = False,
    weights: str = "float32",
):
    """Calls for inputs of these `shapes` ((shape, dtype) by name); raises :class:`Dynamic` where shapes depend on values.

    Returns the builder and the values by name.  With `predicting`, no weights are packed.
    """
    build = Builder(packings, precision, weights)
    build.reads.update(name for node in graph.nodes for name in node.reads())
    build.reads.update(info.name for info in graph.outputs)
    last_read = {name: place for place, node in enumerate(graph.nodes) for name in node.reads()}
    last_read |= {info.name: len(graph.nodes) for info in graph.outputs}
    values: dict[str, object] = {"": None, **graph.constants}
    for name, (shape, dtype) in shapes.items():
        values[name] = Tensor.new(shape, dtype, name)
    for place, node in enumerate(graph.nodes):
        build.node, build.place = node, place
        inputs = [values[name] for name in node.inputs]
        results = _lower_node(build, node, inputs, evaluate)
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                values[name] = result
            if name and isinstance(result, Tensor):
                result.buffer.need(last_read.get(name, place))
    producers = {name: node for node in graph.nodes for name in node.outputs}
    for info in graph.outputs:
        value = values[info.name]
        if isinstance(value, Tensor) and not value.is_contiguous and info.name in producers:
            build.node = producers[info.name]
            values[info.name] = build.copy(build.tensor(value.shape, value.dtype), value)
    if not predicting:
        build.pack()
    return build, values


def _lower_node(build: Builder, node: Node, inputs: list, evaluate: Callable):
    if node.graphs():
        raise Dynamic(node, "runs a subgraph")
    if not any(isinstance(value, Tensor) for value in inputs) and node.op_type not in RANDOM:
        results = evaluate(node, inputs)
        if not all(isinstance(result, np.ndarray) for result in results):
            raise Dynamic(node, "returns a sequence or an optional value")
        return results
    if any(isinstance(value, Tensor) and value.dtype.hasobject for value in inputs):
        raise Dynamic(node, "reads strings")
    function = LOWERINGS.get((node.domain, node.op_type))
    if function is not None:
        try:
            results = function(build, node, *inputs)
        except ModelError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{node} fails: {error}", node.where) from error
        if results is not None:
            return results
    shape_inputs = REDUCTION_AXES if node.op_type.startswith("Reduce") else SHAPE_INPUTS.get(node.op_type, ())
    computed = [i for i in shape_inputs if i < len(inputs) and isinstance(inputs[i], Tensor)]
    if not node.domain and (computed or node.op_type in DATA_DEPENDENT):
        raise Dynamic(node, "has a result whose shape depends on values")
    return _numpy(build, node, inputs, evaluate)


def _numpy(build: Builder, node: Node, inputs: list, evaluate: Callable):
    """The operator's NumPy function on arrays; one run on zeros tells the shapes of its results."""
    if any(isinstance(value, list) for value in inputs):
        raise Dynamic(node, "takes a sequence")
    zeros = [np.broadcast_to(np.zeros((), v.dtype), v.shape) if isinstance(v, Tensor) else v for v in inputs]
    try:
        trial = evaluate(node, zeros)
    except ModelError:
        raise Dynamic(node, "cannot be tried on zeros") from None
    if not all(isinstance(result, np.ndarray) and not result.dtype.hasobject for result in trial):
        raise Dynamic(node, "returns sequences or strings")
    outputs = [build.tensor(result.shape, result.dtype) for result in trial]
    tensors = [value for value in inputs if isinstance(value, Tensor)]

    def run(*arrays):
        given = iter(arrays[len(outputs) :])
        computed = evaluate(node, [next(given) if isinstance(value, Tensor) else value for value in inputs])
        for y, result in zip(arrays, computed, strict=False):
            if result.shape != y.shape:
                raise ModelError(f"{node} has a result of shape {result.shape}, and had {y.shape} on zeros", node.where)
            np.copyto(y, result)

    return build.emit(run, outputs, tensors, "numpy")
