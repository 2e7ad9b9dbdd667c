"""Every algorithm's answer to a problem, without arrays."""

from __future__ import annotations

from inspect import signature

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import integer, is_sequence, pads_per_axis, per_axis
from fastconv.ops.conv import CONV
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.conv_transpose import CONV_TRANSPOSE
from fastconv.ops.conv_transpose_spec import conv_transpose_spec
from fastconv.ops.linear import LINEAR, LinearSpec
from fastconv.ops.pool import AVERAGE_POOL, MAX_POOL, average_pool_spec, max_pool_spec
from fastconv.ops.table import Candidate, Op

__all__ = ["algorithms"]


def algorithms(op: str, *shapes, dtype="float32", **arguments) -> list[Candidate]:
    """Which algorithms compute a problem, at what cost, and why the others refuse; the fastest by prediction first.

    ``algorithms("conv2d", x_shape, w_shape, stride=…, padding=…, dilation=…, groups=…)``, and so for conv1d, conv3d and
    conv_transpose1d to 3d; ``algorithms("linear", x_shape, w_shape)``; ``algorithms("max_pool2d", x_shape,
    kernel_size=…)`` and avg_pool.  The arguments are those of the function in :mod:`fastconv.nn.functional`, shapes in
    place of arrays.

    Raises :class:`ArgumentError` for an unknown operation and for shapes that the function itself would refuse,
    :class:`ArgumentTypeError` for arguments that are missing, or are none.
    """
    if op not in _PROBLEMS:
        raise ArgumentError(f"op: expected one of {', '.join(_PROBLEMS)}, got {op!r}")
    table, spec = _PROBLEMS[op]
    sizes = [_sizes(shape) for shape in shapes]
    try:
        call = signature(spec).bind(*sizes, dtype=np.dtype(dtype), **arguments)
    except TypeError as error:
        raise ArgumentTypeError(f"{op}: {error}") from None
    return table.candidates(spec(*call.args, **call.kwargs))


def _sizes(shape) -> tuple[int, ...]:
    if not is_sequence(shape):
        raise ArgumentTypeError(f"shapes: expected a tuple of sizes, got {shape!r}")
    return tuple(integer(size, "shapes", 0) for size in shape)


def _convolution(rank: int):
    def spec(x_shape, w_shape, *, dtype, stride=1, padding=0, dilation=1, groups=1):
        if len(w_shape) != rank + 2:
            raise ArgumentError(f"w_shape: expected {rank + 2} axes for conv{rank}d, got {w_shape}")
        strides = _contiguous(x_shape, dtype)
        return conv_spec(x_shape, strides, dtype, w_shape, dtype, None, stride, padding, dilation, groups)

    return CONV, spec


def _transposed(rank: int):
    def spec(x_shape, w_shape, *, dtype, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        if len(w_shape) != rank + 2:
            raise ArgumentError(f"w_shape: expected {rank + 2} axes for conv_transpose{rank}d, got {w_shape}")
        return conv_transpose_spec(
            x_shape,
            _contiguous(x_shape, dtype),
            dtype,
            w_shape,
            dtype,
            None,
            per_axis(stride, rank, "stride"),
            pads_per_axis(padding, rank),
            per_axis(output_padding, rank, "output_padding", 0),
            integer(groups, "groups", 1),
            per_axis(dilation, rank, "dilation"),
        )

    return CONV_TRANSPOSE, spec


def _pooling(op: Op, function, rank: int):
    def spec(x_shape, *, dtype, kernel_size, count_include_pad=True, divisor_override=None, **window):
        average = {} if op is MAX_POOL else {"include_pad": count_include_pad, "divisor": divisor_override}
        return function(x_shape, _contiguous(x_shape, dtype), dtype, rank, kernel_size, **window, **average)

    return op, spec


def _linear(x_shape, w_shape, *, dtype):
    if len(x_shape) != 2 or len(w_shape) != 2 or x_shape[1] != w_shape[1]:
        raise ArgumentError(f"shapes: expected (images, inputs) and (outputs, inputs), got {x_shape} and {w_shape}")
    return LinearSpec(x_shape[0], x_shape[1], w_shape[0], dtype.name)


def _contiguous(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    steps = np.cumprod((dtype.itemsize, *reversed(shape[1:])))
    return tuple(int(step) for step in reversed(steps))


_PROBLEMS = {
    **{f"conv{rank}d": _convolution(rank) for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _transposed(rank) for rank in (1, 2, 3)},
    **{f"max_pool{rank}d": _pooling(MAX_POOL, max_pool_spec, rank) for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": _pooling(AVERAGE_POOL, average_pool_spec, rank) for rank in (1, 2, 3)},
    "linear": (LINEAR, _linear),
}
