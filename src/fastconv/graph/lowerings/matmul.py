"""Matrix products: with constant weights through the linear layer, otherwise NumPy's, into their place."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.memory import Tensor
from fastconv.ops.linear import LINEAR, LinearSpec
from fastconv.reference.precision import silent


@lowering("Gemm")
def gemm(build: Builder, node, x, w, b=None):
    at = node.attributes
    if x.dtype not in FLOATS or w.dtype != x.dtype or (b is not None and b.dtype != x.dtype):
        return None
    transposed, (alpha, beta) = bool(at.get("transB", 0)), (at.get("alpha", 1.0), at.get("beta", 1.0))
    constant = isinstance(w, np.ndarray) and not isinstance(b, Tensor)
    if isinstance(x, Tensor) and constant and not at.get("transA", 0) and len(x.shape) == 2:
        outputs = w.shape[0] if transposed else w.shape[1]
        if b is None or b.size == outputs == b.shape[-1]:
            return _linear(build, x, w, transposed, b, alpha, beta)
    rows, columns = (array.shape[::-1] if at.get(f"trans{n}", 0) else array.shape for n, array in (("A", x), ("B", w)))
    return _gemm(build, at, (rows[0], columns[1]), x, w, b)


def _gemm(build: Builder, at: dict, shape, *arrays):
    @silent
    def run(y, x, w, b=None):
        np.matmul(x.T if at.get("transA", 0) else x, w.T if at.get("transB", 0) else w, out=y)
        if at.get("alpha", 1.0) != 1.0:
            y *= y.dtype.type(at["alpha"])
        if b is not None:
            y += b * y.dtype.type(at.get("beta", 1.0))

    return build.emit(run, [build.tensor(shape, arrays[0].dtype)], [a for a in arrays if a is not None], "numpy")


@lowering("MatMul", domain="fastconv")
def linear(build: Builder, node, x, w, b=None):
    if x.dtype not in FLOATS or w.dtype != x.dtype or len(x.shape) < 2:
        return None
    x = build.contiguous(x)
    y = _linear(build, x.reshaped((prod(x.shape[:-1]), x.shape[-1])), w, False, b, 1.0, 1.0)
    return y and [y[0].reshaped((*x.shape[:-1], w.shape[1]))]


@lowering("MatMul")
def matmul(build: Builder, node, x, w):
    if x.dtype not in FLOATS or w.dtype != x.dtype or min(len(x.shape), len(w.shape)) < 2:
        return None
    if isinstance(x, Tensor) and isinstance(w, np.ndarray) and w.ndim == 2:
        return linear(build, node, x, w)
    shape = (*np.broadcast_shapes(x.shape[:-2], w.shape[:-2]), x.shape[-2], w.shape[-1])
    product = silent(lambda y, a, b: np.matmul(a, b, out=y))
    return build.emit(product, [build.tensor(shape, x.dtype)], [x, w], "numpy")


def _linear(build: Builder, x: Tensor, w, transposed: bool, b, alpha: float, beta: float):
    if 0 in x.shape:
        return None
    spec = LinearSpec(*x.shape, w.shape[0] if transposed else w.shape[1], x.dtype.name)
    row = build.choose(LINEAR, spec, strict=("direct",), default=("direct", "few_images"))
    if row is None or w.shape[1 if transposed else 0] != spec.inputs:
        return None
    plan = row.plan(spec)

    def pack(w, b):
        weights = np.ascontiguousarray(w if transposed else w.T)
        bias = (
            np.zeros(spec.outputs, w.dtype) if b is None else np.ascontiguousarray(b.reshape(-1) * w.dtype.type(beta))
        )
        return plan.pack(weights if alpha == 1.0 else weights * w.dtype.type(alpha), bias)

    copied = not (transposed and w.flags.c_contiguous) or alpha != 1.0
    elements = plan.loops.packed_elements if hasattr(plan, "loops") else (copied * w.size, spec.outputs)
    packed = build.packed((plan.layout or "rows", transposed, alpha, beta), pack, w, b, elements=elements)
    step = plan.loops.step if hasattr(plan, "loops") else plan.step
    y = build.tensor((x.shape[0], spec.outputs), x.dtype)
    return build.emit(step, [y], [build.contiguous(x), *packed], row.name, (LINEAR, spec))
