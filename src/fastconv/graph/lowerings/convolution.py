"""Convolution and transposed convolution, with what the passes have fused into them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.lowerings.activation import clamp, elementwise
from fastconv.graph.lowerings.arithmetic import arithmetic
from fastconv.graph.memory import Tensor
from fastconv.graph.passes.affine import scaled
from fastconv.ops.arguments import settled
from fastconv.ops.conv import CONV, as_linear, trimmed_loops
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.conv_transpose import CONV_TRANSPOSE, covers_output, parts_of
from fastconv.ops.conv_transpose_spec import ConvTransposeSpec
from fastconv.ops.conv_transpose_winograd import transposed_winograd, weights
from fastconv.ops.direct import direct_loops, transposed_loops
from fastconv.ops.linear import LINEAR, PANELS, halved
from fastconv.ops.winograd import large_winograd
from fastconv.ops.winograd_lanes import winograd_loops

DEFAULT = ("direct", "trimmed", "winograd", "few_images")
WINOGRAD = {"winograd": winograd_loops, "winograd_large": large_winograd}
LOOPS = {"direct": direct_loops, "trimmed": trimmed_loops, **WINOGRAD}


@lowering("Conv", domain="fastconv")
def conv(build: Builder, node, x, w, b=None, residual=None):
    at = node.attributes
    if not isinstance(x, Tensor) or x.dtype not in FLOATS or len(x.shape) > 5:
        return None
    facts = (x.shape, x.strides, x.dtype, w.shape, w.dtype, None if b is None else (b.shape, b.dtype))
    geometry = (settled(at[name], name) for name in ("strides", "padding", "dilations"))
    spec = build.once(conv_spec, *facts, *geometry, at["group"])
    row = build.choose(CONV, spec, strict=("direct",), default=DEFAULT, larger=("winograd_large",))
    if row is None:
        return None
    if row.name == "few_images":
        half = at.get("scale") is None and build.stores_half(w, w.reshape(spec.filters, -1))
        y = _half_images(build, spec, x, w, b) if half else _few_images(build, at, row, spec, x, w, b)
        return _followed(build, at, y, residual)
    low, high = at["low"], at["high"]
    adds = isinstance(residual, Tensor) and residual.shape == spec.y_shape and residual.is_contiguous
    apart = residual is not None and not adds
    activation = at.get("activation")
    fused = {} if apart else {"low": low, "high": high, "activation": activation}
    nest = replace(conv_nest(spec), residual=adds, **fused)
    loops = build.once(LOOPS[row.name], nest)
    layout = (*loops.layout, spec.groups)

    def pack(w, b, scale, slab):
        if row.name in WINOGRAD:
            return loops.pack(scaled(w, scale, slab.temporary), b, slab.empty)
        return loops.pack(np.ascontiguousarray(w), b, slab.empty, scale)

    packed = build.packed(layout, pack, w, b, at.get("scale"), elements=loops.packed_elements)
    y = build.tensor(spec.y_shape, x.dtype)
    build.emit(loops.step, [y], [x, *packed, *([residual] if adds else [])], row.name, (CONV, spec))
    if not adds:  # a residual is laid out as the result

        def with_image_stride(stride):
            y_strides = (stride // spec.itemsize, nest.y_strides[1])
            return LOOPS[row.name](replace(nest, y_strides=y_strides)).step

        build.calls[-1].with_image_stride = with_image_stride
    if apart:
        (y,) = arithmetic(build, "add", y, residual, low, high)
    return elementwise(build, y, *activation) if apart and activation else [y]


def _followed(build: Builder, at: dict, y: Tensor, residual) -> list[Tensor]:
    """What the passes have fused into a convolution, in steps of its own."""
    if residual is not None:
        (y,) = arithmetic(build, "add", y, residual, at["low"], at["high"])
    else:
        (y,) = clamp(build, y, at["low"], at["high"])
    return elementwise(build, y, *at["activation"]) if at.get("activation") else [y]


def _half_images(build: Builder, spec, x, w, b) -> Tensor:
    """The product that such a convolution is, by weights that are stored as float16."""
    linear = halved(as_linear(spec))
    plan = build.once(PANELS.plan, linear)

    def pack(w, b, slab):
        return plan.pack(w.reshape(spec.filters, -1).astype(np.float16), b, slab.empty)

    types = (plan.weight_type, x.dtype)
    packed = build.packed(plan.layout, pack, w, b, elements=plan.packed_elements, dtypes=types)
    return build.emit(plan.step, [build.tensor(spec.y_shape, x.dtype)], [x, *packed], PANELS.name, (LINEAR, linear))[0]


def _few_images(build: Builder, at: dict, row, spec, x, w, b) -> Tensor:
    """Weights are read where they lie, unless a scale has to be applied to them."""
    plan = row.plan(spec).loops
    scale = at.get("scale")
    copied = scale is not None or not w.flags.c_contiguous
    bias_copied = b is None or not b.flags.c_contiguous

    def pack(w, b, scale, slab):
        if copied:
            rows = slab.empty(w.size, w.dtype)
            factors = 1 if scale is None else scale.reshape(-1, 1)
            np.multiply(w.reshape(spec.filters, -1), factors, out=rows.reshape(spec.filters, -1))
            w = rows
        if bias_copied:
            bias = slab.empty(spec.filters, w.dtype)
            bias[:] = 0 if b is None else b.reshape(-1)
            b = bias
        return w, b

    elements = (copied * w.size, bias_copied * spec.filters)
    packed = build.packed(("rows",), pack, w, b, scale, elements=elements)
    y = build.tensor(spec.y_shape, x.dtype)
    return build.emit(plan.step, [y], [x, *packed], row.name, (CONV, spec))[0]


@lowering("ConvTranspose", domain="fastconv")
def conv_transpose(build: Builder, node, x, w, b=None):
    at = node.attributes
    if not isinstance(x, Tensor) or x.dtype not in FLOATS or w.dtype != x.dtype or not 3 <= len(x.shape) <= 5:
        return None
    filters = w.shape[1] * at["group"]
    sizes = (x.shape[0], x.shape[1], filters, at["group"], x.shape[2:], w.shape[2:])
    geometry = (at["strides"], at["pads"], at["output_padding"], at["dilations"])
    spec = ConvTransposeSpec(*sizes, *geometry, x.dtype.name, x.strides)
    if min(spec.output) < 1 or 0 in x.shape or len(w.shape) != len(x.shape) or w.shape[0] != x.shape[1]:
        return None
    y = build.tensor(spec.y_shape, x.dtype)
    row = build.choose(CONV_TRANSPOSE, spec, strict=("direct",), default=("direct", "winograd"))
    if row is not None and row.name == "winograd":
        loops = build.once(partial(transposed_winograd, low=at["low"], high=at["high"]), spec)

        def pack(w, b, slab):
            return loops.pack(weights(spec, w), b, slab.empty)

        packed = build.packed((*loops.layout, spec.groups), pack, w, b, elements=loops.packed_elements)
        return build.emit(loops.step, [y], [x, *packed], row.name, (CONV_TRANSPOSE, spec))
    parts = parts_of(spec)
    if not covers_output(spec, parts):
        filling = np.clip(np.zeros((1,), x.dtype) if b is None else b, at["low"], at["high"]).astype(x.dtype)
        filling = filling.reshape(-1, *(1,) * len(spec.output))
        build.emit(np.copyto, [y], [filling], "numpy")
    for part in parts:
        loops = transposed_loops(replace(part.nest, low=at["low"], high=at["high"]))

        def pack(w, b, slab, part=part, loops=loops):
            return loops.pack(part.weights(w), part.bias(b), slab.empty)

        packed = build.packed((*part.layout, *loops.layout), pack, w, b, elements=loops.packed_elements)
        target = _at(y, part.positions())
        build.emit(loops.step, [target], [x, *packed], "direct", (CONV_TRANSPOSE, spec))
    return [y]


def _at(y: Tensor, positions: tuple[slice, ...]) -> Tensor:
    """The positions of `y` that are some steps apart along its spatial axes."""
    steps, starts = zip(*((at.step or 1, at.start or 0) for at in positions), strict=True)
    counts = [-(-(size - start) // step) for size, start, step in zip(y.shape[2:], starts, steps, strict=True)]
    shift = sum(start * stride for start, stride in zip(starts, y.strides[2:], strict=True))
    strides = (stride * step for stride, step in zip(y.strides[2:], steps, strict=True))
    return y.strided((*y.shape[:2], *counts), (*y.strides[:2], *strides), shift)
