"""Matrix products: with constant weights through the linear layer, of two computed matrices through the same tile."""

from __future__ import annotations

from math import prod

import numpy as np

from fastconv.graph.lower import FLOATS, Builder, lowering
from fastconv.graph.memory import Tensor
from fastconv.ops.linear import LINEAR, LinearSpec, halved
from fastconv.ops.matmul import MATMUL, MatmulSpec
from fastconv.reference.precision import silent

MOST_COPIED = 1 << 20  # bytes of weights that are packed whatever they are read from


@lowering("Gemm")
def gemm(build: Builder, node, x, w, b=None):
    at = node.attributes
    if x.dtype not in FLOATS or w.dtype != x.dtype or (b is not None and b.dtype != x.dtype):
        return None
    turned = bool(at.get("transA", 0)), bool(at.get("transB", 0))
    alpha, beta = at.get("alpha", 1.0), at.get("beta", 1.0)
    shape = _product_shape(
        *(array.shape[::-1] if turn else array.shape for array, turn in ((x, turned[0]), (w, turned[1])))
    )
    if len(shape) != 2 or (b is not None and np.broadcast_shapes(shape, b.shape) != shape):
        raise ValueError(f"no Gemm of shapes {x.shape}, {w.shape}" + ("" if b is None else f" and {b.shape}"))
    of_a_layer = isinstance(x, Tensor) and isinstance(w, np.ndarray) and not isinstance(b, Tensor) and not turned[0]
    if of_a_layer and (b is None or (b.size == shape[1] and b.shape[-1:] == shape[1:])):
        return _linear(build, x, w, turned[1], b, alpha, beta)

    @silent
    def run(y, x, w, b=None):
        np.matmul(x.T if turned[0] else x, w.T if turned[1] else w, out=y)
        if alpha != 1.0:
            y *= y.dtype.type(alpha)
        if b is not None:
            y += b * y.dtype.type(beta)

    return build.emit(run, [build.tensor(shape, x.dtype)], [a for a in (x, w, b) if a is not None], "numpy")


def _product_shape(x, w) -> tuple[int, ...]:
    """Of the product of arrays of two or more axes; ValueError where they do not fit."""
    if min(len(x), len(w)) < 2 or x[-1] != w[-2]:
        raise ValueError(f"matrices of shapes {tuple(x)} and {tuple(w)} have no product")
    return (*np.broadcast_shapes(x[:-2], w[:-2]), x[-2], w[-1])


@lowering("MatMul", domain="fastconv")
def linear(build: Builder, node, x, w, b=None):
    if x.dtype not in FLOATS or w.dtype != x.dtype or len(x.shape) < 2:
        return None
    _product_shape(x.shape, w.shape)
    x = build.contiguous(x)
    y = _linear(build, x.reshaped((prod(x.shape[:-1]), x.shape[-1])), w, False, b, 1.0, 1.0)
    return y and [y[0].reshaped((*x.shape[:-1], w.shape[1]))]


@lowering("MatMul")
def matmul(build: Builder, node, x, w):
    if x.dtype not in FLOATS or w.dtype != x.dtype or min(len(x.shape), len(w.shape)) < 2:
        return None
    if isinstance(x, Tensor) and isinstance(w, np.ndarray) and w.ndim == 2:
        return linear(build, node, x, w)
    shape = _product_shape(x.shape, w.shape)
    if (
        isinstance(x, Tensor)
        and isinstance(w, Tensor)
        and x.shape[:-2] == w.shape[:-2]
        and 0 not in (*shape, x.shape[-1])
    ):
        return [_products(build, x, w).reshaped(shape)]
    product = silent(lambda y, a, b: np.matmul(a, b, out=y))
    return build.emit(product, [build.tensor(shape, x.dtype)], [x, w], "numpy")


def _products(build: Builder, x: Tensor, w: Tensor) -> Tensor:
    """As many products as there are pairs of matrices; what stands where the weights of a layer do is packed in every run."""
    count, (rows, inner), columns = prod(x.shape[:-2]), x.shape[-2:], w.shape[-1]
    size = x.dtype.itemsize
    along = x.reshaped((count, rows, inner))
    if along is None or (inner > 1 and along.strides[-1] != size):
        along = build.contiguous(x).reshaped((count, rows, inner))
    *others, last_but_one, last = range(len(w.shape))
    turned = w.turned((*others, last, last_but_one))
    steps = tuple(stride // size for stride in along.strides[:2])
    spec = build.once(MatmulSpec, count, rows, inner, columns, x.dtype.name, steps)
    row = build.choose(MATMUL, spec, strict=("direct",), default=("direct",))
    plan = build.once(row.plan, spec)
    packed = build.tensor((plan.packed_elements,), x.dtype)
    build.emit(plan.pack_step, [packed], [build.contiguous(turned)], "pack")
    y = build.tensor((count, rows, columns), x.dtype)
    return build.emit(plan.step, [y], [along, packed, plan.bias], row.name, (MATMUL, spec))[0]


def _linear(build: Builder, x: Tensor, w, transposed: bool, b, alpha: float, beta: float):
    if 0 in x.shape:
        return None
    half = alpha == 1.0 and build.stores_half(w, w if transposed else w.T)
    spec = LinearSpec(*x.shape, w.shape[0] if transposed else w.shape[1], x.dtype.name)
    spec = halved(spec) if half else spec
    strict = ("direct", "panels")
    row = build.choose(LINEAR, spec, strict=strict, default=strict if half else _rows(w))
    if row is None:
        return None
    plan = build.once(row.plan, spec)
    copied = not (transposed and w.flags.c_contiguous) or alpha != 1.0
    reads_rows = row.name == "few_images"

    def pack(w, b, slab):
        rows = w if transposed else w.T
        if half:
            rows = rows.astype(np.float16)
        elif copied:
            memory = slab.empty if reads_rows else slab.temporary
            rows = np.multiply(rows, w.dtype.type(alpha), out=memory(w.size, w.dtype).reshape(rows.shape))
        scaled_bias = None if b is None else b.reshape(-1) * w.dtype.type(beta)
        if not reads_rows:
            return plan.pack(rows, scaled_bias, slab.empty)
        bias = slab.empty(spec.outputs, w.dtype)
        bias[:] = 0 if b is None else scaled_bias
        return rows, bias

    elements = (copied * w.size, spec.outputs) if reads_rows else plan.packed_elements
    dtypes = (plan.weight_type, x.dtype) if half else ()
    layout = (plan.layout or "rows", transposed, alpha, beta, half)
    packed = build.packed(layout, pack, w, b, elements=elements, dtypes=dtypes)
    y = build.tensor((x.shape[0], spec.outputs), x.dtype)
    return build.emit(plan.step, [y], [build.contiguous(x), *packed], row.name, (LINEAR, spec))


def _rows(w: np.ndarray) -> tuple[str, ...]:
    """The rows of the op table for weights `w`; small ones, of which a copy is little, and those of a mapped file are packed.

    NumPy's large arrays have large pages, and are read where they lie.  A mapped file has small ones: a third slower.
    """
    owner = w
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    packs = w.nbytes <= MOST_COPIED or not isinstance(owner, np.ndarray)
    return ("panels", "direct") if packs else ("few_images", "panels", "direct")
