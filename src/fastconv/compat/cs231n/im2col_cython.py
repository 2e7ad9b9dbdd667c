"""``im2col_cython``: the course's compiled extension by name, in NumPy.

The rows of the column matrix are (channel, row, column) of the window for fields of any shape; those of the course are
so for square fields, and overwrite each other for others.
"""

from __future__ import annotations

from math import prod

from fastconv.arrays import as_array
from fastconv.compat.cs231n.arguments import check_images
from fastconv.compat.cs231n.columns import IMAGES_FIRST, IMAGES_LAST, columns_of, images_of
from fastconv.compat.cs231n.im2col import added_up, image_window
from fastconv.errors import ArgumentError

__all__ = ["col2im_6d_cython", "col2im_cython", "im2col_cython"]


def im2col_cython(x, field_height, field_width, padding, stride):
    """Every window of `x` (N, C, H, W) as a column, (C * field_height * field_width, H' * W' * N), images fastest.

    What a stride leaves over at the right and bottom is in no window.
    """
    x = as_array(x, "x")
    check_images(x)
    return columns_of(x, image_window(x.shape, field_height, field_width, padding, stride), IMAGES_LAST)


def col2im_cython(cols, N, C, H, W, field_height, field_width, padding, stride):
    """The adjoint of :func:`im2col_cython`: the columns added up where they came from, (N, C, H, W)."""
    shape = (N, C, H, W)
    return added_up(cols, shape, image_window(shape, field_height, field_width, padding, stride))


def col2im_6d_cython(cols, N, C, H, W, HH, WW, pad, stride):
    """:func:`col2im_cython` of columns (C, HH, WW, N, H', W'), the order of ``conv_forward_strides``."""
    columns, shape = as_array(cols, "cols"), (N, C, H, W)
    window = image_window(shape, HH, WW, pad, stride)
    expected = (C, HH, WW, N, *window.output)
    if columns.shape != expected:
        raise ArgumentError(f"cols: expected shape {expected} for images {shape}, got {columns.shape}")
    return images_of(columns.reshape(prod(expected[:3]), -1), shape, window, IMAGES_FIRST)
