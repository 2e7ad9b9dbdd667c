"""``fast_layers.py``: convolution and max pooling by fastconv's kernels.

All three convolutions compute the same; they differ in the column matrix that the course keeps in the cache.  The kernels
need none, so it is made when a backward pass first touches it, from `x` as it then is.
"""

from __future__ import annotations

import numpy as np

from fastconv.arrays import as_array
from fastconv.compat.cs231n.arguments import check_images, conv_arguments, missing_backward, sizes
from fastconv.compat.cs231n.columns import IMAGES_FIRST, IMAGES_LAST, Deferred, columns_of
from fastconv.compat.cs231n.im2col import fitting
from fastconv.errors import ArgumentError
from fastconv.geometry import Window
from fastconv.nn import functional as F

__all__ = [
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_strides",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]


def conv_forward_im2col(x, w, b, conv_param):
    """:func:`conv_forward_strides` for windows that cover the padded image; ArgumentError for others.

    In the cache's columns the images change fastest, as in ``im2col_cython``.
    """
    images, *_, stride, pad = conv_arguments(x, w, b, conv_param)
    fitting(Window.of(images.shape[2:], np.shape(w)[2:], stride, pad))
    return _conv_forward(x, w, b, conv_param, IMAGES_LAST)


def conv_forward_strides(x, w, b, conv_param):
    """Convolve `x` (N, C, H, W) with `w` (F, C, HH, WW) and add `b` (F,): out (N, F, H', W').

    `conv_param` has 'stride' and 'pad', H' is (H + 2 pad - HH) // stride + 1, and W' likewise.  The cache is
    ``(x, w, b, conv_param, x_cols)``, with columns (C * HH * WW, N * H' * W').
    """
    return _conv_forward(x, w, b, conv_param, IMAGES_FIRST)


conv_forward_fast = conv_forward_strides


def _conv_forward(x, w, b, conv_param, order):
    images, filters, biases, stride, pad = conv_arguments(x, w, b, conv_param)
    out = F.conv2d(images, filters, biases, stride, pad)
    window = Window.of(images.shape[2:], filters.shape[2:], stride, pad)
    return out, (x, w, b, conv_param, Deferred(columns_of, images, window, order))


def max_pool_forward_fast(x, pool_param):
    """The largest values of windows of `x` (N, C, H, W): out (N, C, H', W').

    `pool_param` has 'pool_height', 'pool_width' and 'stride'.  The cache is ``("reshape", cache)`` of
    :func:`max_pool_forward_reshape` for square windows that tile the image, else ``("im2col", cache)`` of
    :func:`max_pool_forward_im2col`.
    """
    x = as_array(x, "x")
    check_images(x)
    height, width, stride = _pool_sizes(pool_param)
    tiles = height == width == stride and x.shape[2] % height == 0 and x.shape[3] % width == 0
    name, forward = ("reshape", max_pool_forward_reshape) if tiles else ("im2col", max_pool_forward_im2col)
    out, cache = forward(x, pool_param)
    return out, (name, cache)


def max_pool_forward_reshape(x, pool_param):
    """:func:`max_pool_forward_fast` for square windows that tile the image; the cache is ``(x, x_reshaped, out)``."""
    x = as_array(x, "x")
    check_images(x)
    height, width, stride = _pool_sizes(pool_param)
    n, c, rows, columns = x.shape
    if not height == width == stride or rows % height or columns % width:
        raise ArgumentError(
            f"pool_param: the reshape method needs square windows, a stride of their size, and images that they tile; "
            f"got windows of {height} × {width} with stride {stride} for images of {rows} × {columns}; "
            f"max_pool_forward_fast takes others"
        )
    out = F.max_pool2d(x, (height, width), stride)
    return out, (x, x.reshape(n, c, rows // height, height, columns // width, width), out)


def max_pool_forward_im2col(x, pool_param):
    """:func:`max_pool_forward_fast` for windows that cover the image, overlapping or not; ArgumentError for others.

    The cache is ``(x, x_cols, x_cols_argmax, pool_param)``, with a column (pool_height * pool_width) for each window of
    each channel, and for each column the row of its largest value.
    """
    x = as_array(x, "x")
    check_images(x)
    height, width, stride = _pool_sizes(pool_param)
    window = fitting(Window.of(x.shape[2:], (height, width), stride))
    planes = x.reshape(x.shape[0] * x.shape[1], 1, *x.shape[2:])
    x_cols = Deferred(columns_of, planes, window, IMAGES_LAST)
    return F.max_pool2d(x, window.kernel, stride), (x, x_cols, Deferred(_argmax, x_cols), pool_param)


def _argmax(x_cols: Deferred) -> np.ndarray:
    return np.asarray(x_cols).argmax(axis=0)


def _pool_sizes(pool_param) -> list[int]:
    return sizes(pool_param, "pool_param", pool_height=1, pool_width=1, stride=1)


conv_backward_im2col = missing_backward("conv_backward_im2col")
conv_backward_strides = missing_backward("conv_backward_strides")
conv_backward_fast = missing_backward("conv_backward_fast")
max_pool_backward_fast = missing_backward("max_pool_backward_fast")
max_pool_backward_im2col = missing_backward("max_pool_backward_im2col")
max_pool_backward_reshape = missing_backward("max_pool_backward_reshape")
