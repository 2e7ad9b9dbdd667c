"""How large an operator's result will be, told before it is computed.

Only operators whose result can be much larger than their inputs have a row; the others are checked by their inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from math import prod

import numpy as np

from fastconv.geometry import window_axis
from fastconv.graph.ir import Node
from fastconv.graph.limits import Budget
from fastconv.graph.resizing import resizing, resizing_10
from fastconv.onnx.operators.windowed import padding as pairs_of

__all__ = ["check_size"]

TEMPORARIES = 4  # bytes that NumPy needs at most for one of the result, as wider numbers and padded copies
SEQUENCE_ELEMENT = 16  # numbers that the record of an array in a sequence takes the place of

_SIZES: dict[str, Callable[..., tuple]] = {}


def check_size(node: Node, inputs: list, keywords: dict, budget: Budget) -> None:
    """Claim the memory of the operator's results, and of what NumPy needs to compute them."""
    arrays = [value for value in inputs if isinstance(value, np.ndarray)]
    itemsize = max((array.itemsize for array in arrays), default=8)
    itemsize = max(itemsize, 4)  # integers of fewer bytes are computed in wider ones
    size = _SIZES.get(node.op_type)
    shapes = [array.shape for array in arrays if array.size == 0 or 0 in array.strides]
    if size is not None:
        with suppress(
            ArithmeticError, AttributeError, LookupError, TypeError, ValueError
        ):  # the operator says what is wrong
            shapes.append(size(*inputs, **keywords))
    for shape in shapes:
        elements = prod(max(int(n), 1) for n in shape)
        budget.claim(TEMPORARIES * elements * itemsize, f"{node}: computing values of shape {tuple(shape)}", node.where)


def _size_of(*op_types: str):
    def register(function):
        _SIZES.update(dict.fromkeys(op_types, function))
        return function

    return register


def _ints(values) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


@_size_of(
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "QLinearAdd", "QLinearMul", "Sub", "Sum",
    "Where", "Xor",
)  # fmt: skip
def _broadcast(*inputs, **_):
    return np.broadcast_shapes(*(x.shape for x in inputs if x is not None))


@_size_of("ConstantOfShape")
def _constant_of_shape(shape, **_):
    return _ints(shape)


@_size_of("Expand")
def _expand(x, shape):
    return np.broadcast_shapes(x.shape, _ints(shape))


@_size_of("Tile")
def _tile(x, repeats, axis=None):
    return (x.size, prod(_ints(np.atleast_1d(repeats))))


@_size_of("Range")
def _range(start, limit, delta):
    return (max(math.ceil((limit.item() - start.item()) / delta.item()), 0),)


@_size_of("OneHot")
def _one_hot(indices, depth, values, **_):
    return (*indices.shape, int(depth.item()))


@_size_of("EyeLike")
def _eye_like(x, **_):
    return x.shape


@_size_of("Concat", "ConcatFromSequence", "QLinearConcat")
def _concat(*inputs, **_):
    arrays = inputs[0] if isinstance(inputs[0], list) else inputs
    return (sum(array.size for array in arrays),)


@_size_of("SplitToSequence")
def _split_to_sequence(x, split=None, *, axis=0, **_):
    return (x.shape[axis] // (split.item() if split is not None and not split.ndim else 1), SEQUENCE_ELEMENT)


@_size_of("Gather")
def _gather(x, indices, *, axis=0):
    return (*x.shape[: axis % x.ndim], *indices.shape, *x.shape[axis % x.ndim + 1 :])


@_size_of("GatherND")
def _gather_nd(x, indices, *, batch_dims=0):
    return (*indices.shape[:-1], *x.shape[batch_dims + indices.shape[-1] :])


@_size_of("TopK")
def _top_k(x, k, *, axis=-1, **_):
    return (x.size // max(x.shape[axis], 1), max(int(k.item()), x.shape[axis]))


@_size_of("MatMul", "MatMulInteger")
def _matmul(a, b, *_, **__):
    rows = a.shape[-2:-1]
    columns = b.shape[-1:] if b.ndim > 1 else ()
    return (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *rows, *columns)


@_size_of("QLinearMatMul")
def _qlinear_matmul(a, a_scale, a_zero_point, b, *_):
    return _matmul(a, b)


@_size_of("FusedMatMul")
def _fused_matmul(a, b, *, transA=0, transB=0, **_):
    return _matmul(a.swapaxes(-1, -2) if transA else a, b.swapaxes(-1, -2) if transB else b)


@_size_of("Gemm")
def _gemm(a, b, c=None, *, transA=0, transB=0, **_):
    return (a.shape[1 if transA else 0], b.shape[0 if transB else 1])


@_size_of("Einsum")
def _einsum(*inputs, equation):
    terms, _, result = equation.replace(" ", "").replace("...", "").partition("->")
    sizes = {
        letter: n
        for term, x in zip(terms.split(","), inputs, strict=True)
        for letter, n in zip(term, x.shape, strict=False)
    }
    return tuple(sizes[letter] for letter in result)


@_size_of("QuantizeLinear", "DequantizeLinear")
def _quantize(x, scale, *_, block_size=0, **__):
    return (max(x.size, scale.size * block_size),)


@_size_of("Pad")
def _pad(x, pads=None, constant_value=None, axes=None, *, paddings=None, **_):
    pads = _ints(paddings if pads is None else pads)
    shape = list(x.shape)
    axes = range(x.ndim) if axes is None else _ints(axes)
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        shape[axis] += max(before, 0) + max(after, 0)
    return shape


@_size_of("CenterCropPad")
def _center_crop_pad(x, shape, *, axes=None):
    sizes = list(x.shape)
    for axis, wanted in zip(range(x.ndim) if axes is None else axes, _ints(shape), strict=True):
        sizes[axis] = max(sizes[axis], wanted)
    return sizes


@_size_of("Resize")
def _resize(x, roi=None, scales=None, sizes=None, *, opset, **attributes):
    if opset < 11:
        return _largest(x.shape, resizing_10(x.shape, roi, attributes.get("mode", "nearest"))[0])
    return _largest(x.shape, resizing(x.shape, roi, scales, sizes, **attributes)[0])


@_size_of("Upsample")
def _upsample(x, scales=None, *, mode="nearest", height_scale=None, width_scale=None):
    return _largest(
        x.shape, resizing_10(x.shape, [1, 1, height_scale, width_scale] if scales is None else scales, mode)[0]
    )


def _largest(shape, axes):
    """Axes are resized in turn, so that some may be large before others become small."""
    return [max(n, axes[i].output) if i in axes else n for i, n in enumerate(shape)]


def _padded(spatial, kernel, auto_pad, pads, strides, dilations, ceil_mode=0):
    """Per axis, the size of the padded input or of the output, whichever is larger."""
    rank = len(spatial)
    pairs = pads if pads and isinstance(pads[0], tuple) else pairs_of(rank, auto_pad, pads)
    pairs = [pairs] * rank if isinstance(pairs, str) else pairs
    windows = zip(spatial, kernel, strides or [1] * rank, dilations or [1] * rank, pairs, strict=True)
    axes = [window_axis(*axis, bool(ceil_mode)) for axis in windows]
    return [max(n + before + after, output) for n, (before, after, output) in zip(spatial, axes, strict=True)]


@_size_of("Conv", "ConvInteger", "FusedConv", "DeformConv")
def _conv(x, w, *_, auto_pad="NOTSET", dilations=None, padding=None, pads=None, strides=None, **__):
    """`padding` is what the passes have made of `auto_pad` and `pads`: a word or pairs."""
    if isinstance(padding, str):
        auto_pad, padding = padding, None
    sizes = _padded(x.shape[2:], w.shape[2:], auto_pad, padding or pads, strides, dilations)
    return (x.shape[0], max(x.shape[1], w.shape[0]), *sizes)


@_size_of("QLinearConv")
def _qlinear_conv(x, x_scale, x_zero_point, w, *_, **attributes):
    return _conv(x, w, **attributes)


@_size_of("ConvTranspose")
def _conv_transpose(
    x, w, b=None, *, dilations=None, group=1, output_padding=None, output_shape=None, strides=None, **_
):
    rank = x.ndim - 2
    settings = (strides or [1] * rank, dilations or [1] * rank, output_padding or [0] * rank)
    wanted = output_shape[-rank:] if output_shape else [0] * rank
    sizes = [
        max((n - 1) * s + d * (k - 1) + 1 + extra, size)
        for n, k, s, d, extra, size in zip(x.shape[2:], w.shape[2:], *settings, wanted, strict=True)
    ]
    columns = [n * k for n, k in zip(x.shape[2:], w.shape[2:], strict=True)]
    return (x.shape[0], w.shape[1] * group, *(columns if prod(columns) > prod(sizes) else sizes))


@_size_of("AveragePool", "LpPool", "MaxPool", "QLinearAveragePool")
def _pool(x, *_, auto_pad="NOTSET", ceil_mode=0, dilations=None, kernel_shape, pads=None, strides=None, **__):
    return (*x.shape[:2], *_padded(x.shape[2:], kernel_shape, auto_pad, pads, strides, dilations, ceil_mode))


@_size_of("MaxUnpool")
def _max_unpool(x, indices, output_shape=None, *, kernel_shape, strides=None, **_):
    steps = strides or [1] * len(kernel_shape)
    sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], steps, kernel_shape, strict=True)]
    wanted = sizes if output_shape is None else _ints(output_shape[2:])
    return (*x.shape[:2], *map(max, sizes, wanted))


@_size_of("Col2Im")
def _col2im(x, image_shape, block_shape, *, pads=None, **_):
    rank = len(image_shape)
    around = [before + after for before, after in zip(pads[:rank], pads[rank:], strict=True)] if pads else [0] * rank
    return (*x.shape[:2], *(n + extra for n, extra in zip(_ints(image_shape), around, strict=True)))


@_size_of("AffineGrid")
def _affine_grid(theta, size, **_):
    return (theta.shape[0], *_ints(size[2:]), 2 * (len(size) - 1))


@_size_of("GridSample")
def _grid_sample(x, grid, **_):
    return (*x.shape[:2], *grid.shape[1:])


@_size_of("RoiAlign")
def _roi_align(x, rois, indices, *, output_height=1, output_width=1, sampling_ratio=0, spatial_scale=1.0, **_):
    extents = np.abs(rois[:, 2:] - rois[:, :2]).max(axis=0, initial=0) * abs(spatial_scale)
    samples = [
        n * sampling_ratio or n + extent for n, extent in zip((output_height, output_width), extents[::-1], strict=True)
    ]
    whole = (len(rois), x.shape[1], output_height, output_width)
    return max(whole, (x.shape[1], *map(math.ceil, samples)), key=prod)


@_size_of("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
def _recurrent(x, w, r, *_, **__):
    return (*x.shape[:2], w.shape[0], max(w.shape[1:]))


@_size_of(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "LRN",
)  # fmt: skip
def _reduced(x, *_, **__):
    return x.shape
