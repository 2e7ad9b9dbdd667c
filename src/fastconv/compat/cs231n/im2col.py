"""``im2col.py``: windows as columns and back, for which the course indexes with arrays."""

from __future__ import annotations

import numpy as np

from fastconv.arrays import as_array
from fastconv.compat.cs231n.arguments import check_images
from fastconv.compat.cs231n.columns import IMAGES_LAST, columns_of, images_of
from fastconv.errors import ArgumentError
from fastconv.geometry import Window, integer, per_axis

__all__ = ["col2im_indices", "get_im2col_indices", "im2col_indices"]


def get_im2col_indices(x_shape, field_height, field_width, padding=1, stride=1):
    """(k, i, j), the channel, row and column in the padded image of every entry of the column matrix of one image.

    k is (C * field_height * field_width, 1), i and j have a column for each window.  As in the course the windows have to
    fit; unlike there the width is held against `field_width`.
    """
    window = image_window(x_shape, field_height, field_width, padding, stride, exact=True)
    height, width = window.kernel
    rows, columns = window.output
    k = np.arange(x_shape[1]).repeat(height * width)[:, None]
    i = np.tile(np.arange(height).repeat(width), x_shape[1])[:, None] + stride * np.arange(rows).repeat(columns)
    j = np.tile(np.arange(width), height * x_shape[1])[:, None] + stride * np.tile(np.arange(columns), rows)
    return k, i, j


def im2col_indices(x, field_height, field_width, padding=1, stride=1):
    """Every window of `x` (N, C, H, W) as a column, (C * field_height * field_width, H' * W' * N), images fastest."""
    x = as_array(x, "x")
    check_images(x)
    return columns_of(x, image_window(x.shape, field_height, field_width, padding, stride, exact=True), IMAGES_LAST)


def col2im_indices(cols, x_shape, field_height=3, field_width=3, padding=1, stride=1):
    """The adjoint of :func:`im2col_indices`: the columns added up where they came from, an array of `x_shape`."""
    return added_up(cols, x_shape, image_window(x_shape, field_height, field_width, padding, stride, exact=True))


def added_up(cols, x_shape, window: Window) -> np.ndarray:
    columns = as_array(cols, "cols")
    n, c, *_ = x_shape
    expected = (c * window.kernel[0] * window.kernel[1], window.output[0] * window.output[1] * n)
    if columns.shape != expected:
        raise ArgumentError(f"cols: expected shape {expected} for images {tuple(x_shape)}, got {columns.shape}")
    return images_of(columns, tuple(x_shape), window, IMAGES_LAST)


def image_window(x_shape, height, width, padding, stride, exact=False) -> Window:
    """The windows over images of `x_shape`; with `exact` they have to cover the padded image."""
    shape = per_axis(x_shape, 4, "x_shape", 0)
    stride, padding = integer(stride, "stride", 1), integer(padding, "padding", 0)
    window = Window.of(shape[2:], (height, width), stride, padding)
    return fitting(window) if exact else window


def fitting(window: Window) -> Window:
    """The window; ArgumentError where its positions leave a part of the padded image out."""
    for name, padded, kernel, stride in zip(
        ("height", "width"), window.padded, window.kernel, window.stride, strict=True
    ):
        if (padded - kernel) % stride:
            raise ArgumentError(
                f"stride: windows of {name} {kernel} with stride {stride} do not fit the padded {name} of {padded}: "
                f"({padded} - {kernel}) / {stride} + 1 = {(padded - kernel) / stride + 1:.2f}"
            )
    return window
