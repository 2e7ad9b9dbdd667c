"""Convolution, pooling and the rearrangement of windows."""

from math import prod

import numpy as np

from fastconv import reference
from fastconv.onnx.operators.registry import operator
from fastconv.reference.precision import rounded_once


def padding(rank, auto_pad, pads):
    """The padding of a window as fastconv writes it: a word, or a pair per axis."""
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return auto_pad
    if auto_pad == "VALID" or not pads:
        return "valid"
    if len(pads) != 2 * rank:
        raise ValueError(f"pads: expected {2 * rank} values for {rank} axes, got {len(pads)}")
    return list(zip(pads[:rank], pads[rank:], strict=True))


def _window(rank, auto_pad, pads, strides, dilations):
    return {"stride": strides or 1, "dilation": dilations or 1, "padding": padding(rank, auto_pad, pads)}


def _check_kernel(w, kernel_shape):
    if kernel_shape and tuple(kernel_shape) != w.shape[2:]:
        raise ValueError(f"kernel_shape: {tuple(kernel_shape)} differs from the kernel of the weights {w.shape}")


@operator
def Conv(x, w, b=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None):
    _check_kernel(w, kernel_shape)
    if x.shape[1] != w.shape[1] * group or w.shape[0] % group:
        raise ValueError(f"weights {w.shape} with {group} groups do not fit an input of {x.shape[1]} channels")
    return reference.conv(x, w, b, groups=group, **_window(x.ndim - 2, auto_pad, pads, strides, dilations))


@operator
def ConvInteger(x, w, x_zero_point=None, w_zero_point=None, **attributes):
    """The sums are exact in float64, whose 53 bits no sum of products of bytes outgrows."""
    x = x.astype(np.float64) - (0 if x_zero_point is None else x_zero_point)
    w = w.astype(np.float64) - (0 if w_zero_point is None else w_zero_point.reshape(-1, *[1] * (w.ndim - 1)))
    return Conv(x, w, **attributes).astype(np.int64).astype(np.int32)


@operator
def ConvTranspose(
    x,
    w,
    b=None,
    *,
    auto_pad="NOTSET",
    dilations=None,
    group=1,
    kernel_shape=None,
    output_padding=None,
    output_shape=None,
    pads=None,
    strides=None,
):
    """With `output_shape`, or with SAME (input * stride), the size is what is given and the padding follows from it."""
    _check_kernel(w, kernel_shape)
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    extra = list(output_padding or [0] * rank)
    pairs = padding(rank, auto_pad, pads)
    if isinstance(pairs, str):
        pairs = [(0, 0)] * rank
    if output_shape or auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        wanted = output_shape[-rank:] if output_shape else [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
        for i, (n, k) in enumerate(zip(x.shape[2:], w.shape[2:], strict=True)):
            surplus = (n - 1) * strides[i] + dilations[i] * (k - 1) + 1 + extra[i] - wanted[i]
            extra[i] += max(-surplus, 0)
            smaller, larger = max(surplus, 0) // 2, -(-max(surplus, 0) // 2)
            pairs[i] = (smaller, larger) if auto_pad == "SAME_UPPER" else (larger, smaller)
    return reference.conv_transpose(
        x, w, b, stride=strides, padding=pairs, output_padding=extra, groups=group, dilation=dilations
    )


@operator
def MaxPool(
    x,
    *,
    auto_pad="NOTSET",
    ceil_mode=0,
    dilations=None,
    kernel_shape,
    pads=None,
    storage_order=0,
    strides=None,
):
    """(values, indices); an index counts through the whole tensor, in its planes by columns with `storage_order` 1."""
    window = _window(x.ndim - 2, auto_pad, pads, strides, dilations)
    values, indices = reference.max_pool(x, kernel_shape, ceil_mode=bool(ceil_mode), **window)
    spatial = x.shape[2:]
    if storage_order:
        indices = np.ravel_multi_index(np.unravel_index(indices.clip(0), spatial), spatial, order="F")
    planes = np.arange(prod(x.shape[:2]), dtype=np.int64).reshape(*x.shape[:2], *[1] * len(spatial))
    return values, indices + planes * prod(spatial)


@operator
def AveragePool(
    x,
    *,
    auto_pad="NOTSET",
    ceil_mode=0,
    count_include_pad=0,
    dilations=None,
    kernel_shape,
    pads=None,
    strides=None,
):
    return reference.avg_pool(
        x,
        kernel_shape,
        ceil_mode=bool(ceil_mode),
        count_include_pad=bool(count_include_pad),
        **_window(x.ndim - 2, auto_pad, pads, strides, dilations),
    )


@operator
def LpPool(x, *, auto_pad="NOTSET", ceil_mode=0, dilations=None, kernel_shape, p=2, pads=None, strides=None):
    window = _window(x.ndim - 2, auto_pad, pads, strides, dilations)
    return reference.lp_pool(x, p, kernel_shape, ceil_mode=bool(ceil_mode), **window)


def _spatial(x):
    return tuple(range(2, x.ndim))


@operator
@rounded_once
def GlobalAveragePool(x):
    return x.mean(axis=_spatial(x), keepdims=True)


@operator
def GlobalMaxPool(x):
    return x.max(axis=_spatial(x), keepdims=True)


@operator
@rounded_once
def GlobalLpPool(x, *, p=2):
    return (np.abs(x) ** p).sum(axis=_spatial(x), keepdims=True) ** (1 / p)


@operator
def MaxUnpool(x, indices, output_shape=None, *, kernel_shape, pads=None, strides=None):
    """The inverse of MaxPool; `indices` count in the size that follows from the attributes, whatever `output_shape`."""
    rank = x.ndim - 2
    strides = strides or [1] * rank
    pads = pads or [0] * (2 * rank)
    inferred = [
        (n - 1) * s + k - before - after
        for n, s, k, before, after in zip(x.shape[2:], strides, kernel_shape, pads[:rank], pads[rank:], strict=True)
    ]
    y = np.zeros((*x.shape[:2], *inferred), x.dtype)
    y.reshape(-1)[indices.reshape(-1)] = x.reshape(-1)
    if output_shape is None:
        return y
    pairs = [(0, int(wanted) - n) for wanted, n in zip(output_shape[2:], inferred, strict=True)]
    return reference.pad(y, [side for pair in reversed(pairs) for side in pair])


@operator
def Col2Im(x, image_shape, block_shape, *, dilations=None, pads=None, strides=None):
    window = _window(len(image_shape), "NOTSET", pads, strides, dilations)
    return reference.fold(x, [int(n) for n in image_shape], [int(n) for n in block_shape], **window)
