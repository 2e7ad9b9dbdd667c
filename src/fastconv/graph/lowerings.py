"""The operators that kernels compute; everything else is NumPy's."""

from __future__ import annotations

from dataclasses import replace
from math import inf, prod

import numpy as np

from fastconv.geometry import Window
from fastconv.graph.lower import Builder, lowering
from fastconv.graph.memory import Tensor
from fastconv.ops.channelwise import BATCH_NORM, ChannelSpec
from fastconv.ops.conv import CONV, conv_nest
from fastconv.ops.conv_spec import conv_spec, result_strides
from fastconv.ops.direct import DirectLoops
from fastconv.ops.elementwise import ELEMENTWISE, ElementwiseSpec
from fastconv.ops.linear import LINEAR, LinearSpec
from fastconv.ops.normalization import LOCAL_RESPONSE, ResponseSpec
from fastconv.ops.pool import AVERAGE_POOL, MAX_POOL
from fastconv.ops.pool_plans import VectorPlan
from fastconv.ops.pool_spec import AveragePoolSpec, MaxPoolSpec
from fastconv.ops.softmax import SOFTMAX, SoftmaxSpec
from fastconv.ops.winograd import WinogradLoops

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LOOPS = {"direct": DirectLoops, "winograd": WinogradLoops}


def strides_of(x: Tensor) -> tuple[int, ...]:
    return result_strides(x.shape, x.dtype.itemsize, False)


@lowering("Conv", domain="fastconv")
def conv(build: Builder, node, x, w, b=None, residual=None):
    at = node.attributes
    if not isinstance(x, Tensor):
        return None
    facts = (x.shape, strides_of(x), x.dtype, w.shape, w.dtype, None if b is None else (b.shape, b.dtype))
    spec = conv_spec(*facts, at["strides"], at["padding"], at["dilations"], at["group"])
    row = build.choose(CONV, spec, strict=("direct",), default=("direct", "winograd"))
    if row is None:
        return None
    y = build.tensor(spec.y_shape, x.dtype)
    adds = residual is not None
    if adds and not (isinstance(residual, Tensor) and residual.shape == y.shape):
        return None
    nest = replace(conv_nest(spec), residual=adds, low=at["low"], high=at["high"])
    loops = LOOPS[row.name](nest)
    layout = (*loops.layout, spec.groups)
    pack = lambda w, b: loops.pack(np.ascontiguousarray(w), b)  # noqa: E731
    packed = build.packed(layout, pack, w, b, elements=loops.packed_elements)
    return build.emit(loops.step, [y], [x, *packed, *([residual] if adds else [])], row.name, (CONV, spec))


@lowering("Affine", domain="fastconv")
def affine(build: Builder, node, x, scale, shift):
    low, high = node.attributes["low"], node.attributes["high"]
    if x.dtype not in FLOATS or len(x.shape) < 2 or (low, high) not in ((0.0, inf), (-inf, inf)):
        return None
    channels = x.shape[1]
    spec = ChannelSpec(x.shape[0], channels, prod(x.shape[2:]), x.dtype.name, 0.0, low == 0.0)
    step = BATCH_NORM.choose(spec).plan(spec)
    zeros, ones = np.zeros(channels, x.dtype), np.ones(channels, x.dtype)
    numbers = [np.ascontiguousarray(np.broadcast_to(a, (channels,)), x.dtype) for a in (scale, shift)]
    return build.emit(step, [build.tensor(x.shape, x.dtype)], [x, zeros, ones, *numbers], "direct", (BATCH_NORM, spec))


def _pooling(node, x) -> dict | None:
    at = node.attributes
    if x.dtype not in FLOATS or not 3 <= len(x.shape) <= 5 or at.get("storage_order", 0):
        return None
    rank = len(x.shape) - 2
    word = at.get("auto_pad", "NOTSET")
    pads = at.get("pads") or (0,) * (2 * rank)
    padding = word if word in ("SAME_UPPER", "SAME_LOWER") else tuple(zip(pads[:rank], pads[rank:], strict=True))
    return {
        "kernel": at["kernel_shape"],
        "stride": at.get("strides") or 1,
        "padding": "valid" if word == "VALID" else padding,
        "dilation": at.get("dilations") or 1,
        "ceil_mode": bool(at.get("ceil_mode", 0)),
    }


def _pool(build, op, x, spec):
    row = op.choose(spec)
    plan = row.plan(spec)
    y = build.tensor(spec.y_shape, x.dtype)
    if isinstance(plan, VectorPlan):
        return build.emit(plan.step, [y], [x], row.name, (op, spec))
    return build.emit(plan, [y], [x], row.name, (op, spec))


@lowering("MaxPool")
def max_pool(build: Builder, node, x):
    window = _pooling(node, x)
    if window is None or len([name for name in node.outputs if name]) != 1:
        return None
    spec = MaxPoolSpec(*x.shape[:2], Window.of(x.shape[2:], **window), x.dtype.name, strides_of(x))
    return _pool(build, MAX_POOL, x, spec)


@lowering("AveragePool")
def average_pool(build: Builder, node, x):
    window = _pooling(node, x)
    if window is None:
        return None
    include = bool(node.attributes.get("count_include_pad", 0))
    spec = AveragePoolSpec(*x.shape[:2], Window.of(x.shape[2:], **window), x.dtype.name, strides_of(x), include)
    return _pool(build, AVERAGE_POOL, x, spec)


@lowering("GlobalAveragePool", "GlobalMaxPool")
def global_pool(build: Builder, node, x):
    if x.dtype not in FLOATS or not 3 <= len(x.shape) <= 5:
        return None
    window = Window.of(x.shape[2:], x.shape[2:])
    average = node.op_type == "GlobalAveragePool"
    spec = (AveragePoolSpec if average else MaxPoolSpec)(*x.shape[:2], window, x.dtype.name, strides_of(x))
    return _pool(build, AVERAGE_POOL if average else MAX_POOL, x, spec)


ACTIVATIONS = {
    "Relu": ("relu", ()),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "Sigmoid": ("sigmoid", ()),
    "Tanh": ("tanh", ()),
    "HardSwish": ("hardswish", ()),
    "Mish": ("mish", ()),
}


@lowering(*ACTIVATIONS)
def activation(build: Builder, node, x):
    if x.dtype not in FLOATS:
        return None
    name, parameters = ACTIVATIONS[node.op_type]
    values = tuple(float(node.attributes.get(key, default)) for key, default in parameters)
    spec = ElementwiseSpec(name, x.size, x.dtype.name, values)
    step = ELEMENTWISE.choose(spec).plan(spec)
    return build.emit(step, [build.tensor(x.shape, x.dtype)], [x], "direct", (ELEMENTWISE, spec))


@lowering("LRN")
def local_response(build: Builder, node, x):
    at = node.attributes
    if x.dtype not in FLOATS or at["size"] % 2 == 0:
        return None
    sizes = (x.shape[0], x.shape[1], prod(x.shape[2:]))
    constants = (at["size"], at.get("alpha", 1e-4), at.get("beta", 0.75), at.get("bias", 1.0))
    spec = ResponseSpec(*sizes, *constants, x.dtype.name)
    step = LOCAL_RESPONSE.choose(spec).plan(spec)
    return build.emit(step, [build.tensor(x.shape, x.dtype)], [x], "direct", (LOCAL_RESPONSE, spec))


@lowering("Softmax", "LogSoftmax")
def softmax(build: Builder, node, x):
    if x.dtype not in FLOATS or not x.shape:
        return None
    axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1) % len(x.shape)
    sizes = (prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :]))
    if node.opset < 13:
        sizes = (sizes[0], sizes[1] * sizes[2], 1)
    spec = SoftmaxSpec(*sizes, x.dtype.name, node.op_type == "LogSoftmax")
    step = SOFTMAX.choose(spec).plan(spec)
    return build.emit(step, [build.tensor(x.shape, x.dtype)], [x], "direct", (SOFTMAX, spec))


@lowering("Gemm")
def gemm(build: Builder, node, x, w, b=None):
    at = node.attributes
    if not (isinstance(x, Tensor) and isinstance(w, np.ndarray)) or at.get("transA", 0) or len(x.shape) != 2:
        return None
    outputs = w.shape[0] if at.get("transB", 0) else w.shape[1]
    if b is not None and (not isinstance(b, np.ndarray) or b.size not in (1, outputs) or b.shape[-1:] != (outputs,)):
        return None
    alpha, beta = at.get("alpha", 1.0), at.get("beta", 1.0)
    return _linear(build, x, w, bool(at.get("transB", 0)), b, alpha, beta)


@lowering("MatMul")
def matmul(build: Builder, node, x, w):
    if not (isinstance(x, Tensor) and isinstance(w, np.ndarray)) or w.ndim != 2 or len(x.shape) < 2:
        return None
    y = _linear(build, x.reshaped((prod(x.shape[:-1]), x.shape[-1])), w, False, None, 1.0, 1.0)
    return y and [y[0].reshaped((*x.shape[:-1], w.shape[1]))]


def _linear(build: Builder, x: Tensor, w, transposed: bool, b, alpha: float, beta: float):
    if x.dtype not in FLOATS or w.dtype != x.dtype or 0 in x.shape:
        return None
    spec = LinearSpec(*x.shape, w.shape[0] if transposed else w.shape[1], x.dtype.name)
    row = build.choose(LINEAR, spec, strict=("direct",), default=("direct", "few_images"))
    if row is None:
        return None
    plan = row.plan(spec)

    def pack(w, b):
        weights = np.ascontiguousarray(w if transposed else w.T)
        bias = np.zeros(spec.outputs, w.dtype) if b is None else np.ascontiguousarray(b.reshape(-1) * w.dtype.type(beta))
        return plan.pack(weights if alpha == 1.0 else weights * w.dtype.type(alpha), bias)

    copied = not (transposed and w.flags.c_contiguous) or alpha != 1.0
    elements = plan.loops.packed_elements if hasattr(plan, "loops") else (copied * w.size, spec.outputs)
    packed = build.packed((plan.layout or "rows", transposed, alpha, beta), pack, w, b, elements=elements)
    step = plan.loops.step if hasattr(plan, "loops") else plan.step
    return build.emit(step, [build.tensor((x.shape[0], spec.outputs), x.dtype)], [x, *packed], row.name, (LINEAR, spec))


@lowering("Flatten")
def flatten(build: Builder, node, x):
    axis = node.attributes.get("axis", 1)
    axis = axis + len(x.shape) if axis < 0 else axis
    return [x.reshaped((prod(x.shape[:axis]), prod(x.shape[axis:])))]


@lowering("Reshape")
def reshape(build: Builder, node, x, shape=None):
    wanted = node.attributes.get("shape") if shape is None else shape
    if not isinstance(x, Tensor) or wanted is None or isinstance(wanted, Tensor):
        return None
    wanted = [int(size) for size in wanted]
    if not node.attributes.get("allowzero", 0):
        wanted = [x.shape[i] if size == 0 and i < len(x.shape) else size for i, size in enumerate(wanted)]
    if -1 in wanted:
        rest = prod(size for size in wanted if size != -1)
        if rest <= 0 or x.size % rest:
            return None
        wanted[wanted.index(-1)] = x.size // rest
    return [x.reshaped(wanted)] if prod(wanted) == x.size and min(wanted, default=0) >= 0 else None


@lowering("Squeeze", "Unsqueeze")
def squeeze(build: Builder, node, x, axes=None):
    if not isinstance(x, Tensor) or isinstance(axes, Tensor):
        return None
    axes = node.attributes.get("axes") if axes is None else axes.tolist()
    if node.op_type == "Squeeze":
        kept = {axis % len(x.shape) for axis in axes} if axes else {i for i, size in enumerate(x.shape) if size == 1}
        if any(x.shape[axis] != 1 for axis in kept):
            return None
        return [x.reshaped(size for i, size in enumerate(x.shape) if i not in kept)]
    rank = len(x.shape) + len(axes)
    sizes = iter(x.shape)
    new = {axis % rank for axis in axes}
    return [x.reshaped(1 if axis in new else next(sizes) for axis in range(rank))]


@lowering("Identity")
def identity(build: Builder, node, x):
    return [x]


@lowering("Shape")
def shape(build: Builder, node, x):
    if not isinstance(x, Tensor):
        return None
    return [np.array(x.shape[slice(node.attributes.get("start", 0), node.attributes.get("end"))], np.int64)]


@lowering("Size")
def size(build: Builder, node, x):
    return [np.array(x.size, np.int64)]


@lowering("Concat")
def concat(build: Builder, node, *inputs):
    """Where the parts lie one behind the other in the result, they are computed in their places."""
    if not all(isinstance(value, Tensor) for value in inputs) or not inputs[0].shape:
        return None
    axis = node.attributes.get("axis", 1) % len(inputs[0].shape)
    first = inputs[0]
    if prod(first.shape[:axis]) != 1 or any(t.dtype != first.dtype for t in inputs):
        return None
    shape = (*first.shape[:axis], sum(t.shape[axis] for t in inputs), *first.shape[axis + 1 :])
    y = build.tensor(shape, first.dtype)
    shift = 0
    for tensor in inputs:
        nbytes = tensor.size * tensor.dtype.itemsize
        root, _ = tensor.buffer.root()
        if root is tensor.buffer and not root.name and root.size == nbytes and root is not y.buffer:
            first_use, last_use = root.first, root.last
            root.place_in(y.buffer, shift)
            y.buffer.use(first_use)
            y.buffer.use(last_use)
        else:
            part = Tensor.new(tensor.shape, tensor.dtype)
            part.buffer.place_in(y.buffer, shift)
            build.emit(np.copy, [part], [tensor], "copy")
        shift += nbytes
    return [y]
