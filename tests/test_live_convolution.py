"""Convolutions and linear maps against torch, over generated arguments."""

from math import prod

import numpy as np
import pytest
from live import FLOATS, agree, amounts, array, batch, chance, generated, pick, shape, size
from tolerance import conv_tolerance, sum_tolerance

from fastconv.nn import functional as F

TYPES = (*FLOATS, np.float32, np.float32, np.int8, np.uint8, np.int32, np.int64)


def drawn_arrays(draw, rank, transposed):
    """Input, weight, bias and groups; one time in six something about them does not fit."""
    dtype = pick(draw, *TYPES[: 5 if transposed else None])
    groups, inner, outer = pick(draw, 1, 1, 2, 3), size(draw, 1, 4), size(draw, 1, 4)
    sizes = shape(draw, rank, 1, 9 if rank < 3 else 5)
    channels, filters = groups * inner, groups * outer
    kernel = shape(draw, rank, 1, 4 if rank < 3 else 3)
    weight_shape = (channels, outer, *kernel) if transposed else (filters, inner, *kernel)
    x = array(draw, batch(draw, channels, *sizes), dtype)
    w = array(draw, weight_shape, dtype)
    b = None if chance(draw, 2) else array(draw, (filters,), dtype, layout=False)
    fault = size(draw, 0, 40)
    if fault == 0:
        x = array(draw, (2, channels + 1, *sizes), dtype)
    elif fault == 1:
        b = array(draw, (filters + 1,), dtype)
    elif fault == 2:
        w = w[..., 0]
    elif fault == 3 and len(x):
        x = x[0]
    elif fault == 4:
        w = w.astype(np.float64 if dtype != np.float64 else np.float32)
    elif fault == 5:
        groups += 1
    elif fault == 6 and b is not None and dtype != np.float16:  # torch widens it here and there
        b = b.astype(np.float64 if dtype != np.float64 else np.float32)
    elif fault == 7:
        x = x[..., :0]
    return x, w, b, groups


def within(x, w, b, rank, *, transpose=False, **geometry):
    """The bound for these arguments, once torch has accepted them."""

    def bound(expected):
        axes = {
            name: tuple(value) * (rank if len(value) == 1 else 1) if isinstance(value, (tuple, list)) else value
            for name, value in geometry.items()
        }
        arrays = x if x.ndim == rank + 2 else x[None], w, b
        allowed = conv_tolerance(*arrays, transpose=transpose, **axes)
        if transpose and x.dtype == np.float16:  # torch adds the overlapping windows up in float16
            allowed = allowed * prod(w.shape[2:])
        return allowed if x.ndim == rank + 2 else allowed[0]

    return bound


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv(torch, rank):
    ours, theirs = getattr(F, f"conv{rank}d"), getattr(torch.nn.functional, f"conv{rank}d")

    def check(draw):
        x, w, b, groups = drawn_arrays(draw, rank, False)
        stride, dilation = amounts(draw, rank, 1, 3), amounts(draw, rank, 1, 2)
        padding = pick(draw, "same", "valid", "full", "same") if chance(draw, 6) else amounts(draw, rank, 0, 3)
        if padding == "same" and np.any(np.array(stride, object) != 1):
            return None  # an extension: TensorFlow's rule
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return agree(torch, ours, theirs, x, w, b, **geometry, tolerance=within(x, w, b, rank, **geometry))

    generated(check, 400)


def nonempty(function):
    """`function`, which refuses empty planes in every rank; torch has them in three dimensions."""

    def run(x, *arguments, **keywords):
        y = function(x, *arguments, **keywords)
        if 0 in y.shape[-(len(arguments[0].shape) - 2) :]:
            raise ValueError("the output would be empty")
        return y

    return run


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_transpose(torch, rank):
    ours, theirs = getattr(F, f"conv_transpose{rank}d"), getattr(torch.nn.functional, f"conv_transpose{rank}d")

    def check(draw):
        x, w, b, groups = drawn_arrays(draw, rank, True)
        geometry = {
            "stride": amounts(draw, rank, 1, 3),
            "padding": amounts(draw, rank, 0, 2),
            "output_padding": amounts(draw, rank, 0, 2) if chance(draw, 3) else 0,
            "groups": groups,
            "dilation": amounts(draw, rank, 1, 2),
        }
        if np.any(np.array(geometry["dilation"], object) == 0):
            return None  # torch takes a dilation of 0 with kernels of 1
        return agree(
            torch,
            ours,
            nonempty(theirs),
            x,
            w,
            b,
            **geometry,
            tolerance=within(x, w, b, rank, transpose=True, **geometry),
        )

    generated(check, 400)


def test_linear(torch):
    def check(draw):
        dtype = pick(draw, *TYPES)
        rows, inner, outer = shape(draw, size(draw, 0, 3), 0, 6), size(draw, 1, 40), size(draw, 1, 40)
        x, w = array(draw, (*rows, inner), dtype), array(draw, (outer, inner), dtype)
        b = None if chance(draw, 2) else array(draw, (outer,), dtype, layout=False)
        fault = size(draw, 0, 24)
        if fault == 0:
            w = array(draw, (outer, inner + 1), dtype)
        elif fault == 1:
            b = array(draw, (outer + 1,), dtype)
        elif fault == 2:
            w = w.astype(np.float64 if dtype != np.float64 else np.float32)
        elif fault == 3:
            x = np.asarray(x.reshape(-1)[:1].sum(dtype=x.dtype))
        elif fault == 4:
            w, b = w[0], None
        elif fault == 5:
            w = w[None]

        def bound(expected):
            magnitude = np.abs(x.astype(np.float64)) @ np.abs(w.astype(np.float64)).T
            return sum_tolerance(inner + 1, magnitude if b is None else magnitude + np.abs(b.astype(float)), dtype)

        return agree(torch, F.linear, torch.nn.functional.linear, x, w, b, tolerance=bound)

    generated(check, 500)


def test_bilinear(torch):
    def check(draw):
        dtype = pick(draw, np.float32, np.float64)
        rows, first, second, outer = shape(draw, size(draw, 0, 3), 0, 4), *shape(draw, 3, 1, 6)
        x, y = array(draw, (*rows, first), dtype), array(draw, (*rows, second), dtype)
        w = array(draw, (outer, first, second), dtype)
        b = None if chance(draw, 2) else array(draw, (outer,), dtype)
        fault = size(draw, 0, 16)
        if fault == 0:
            w = array(draw, (outer, first + 1, second), dtype)
        elif fault == 1:
            b = array(draw, (outer + 1,), dtype)
        elif fault == 2:
            y = array(draw, (*rows, 2, second), dtype)
        elif fault == 3:
            y = y.astype(np.float64 if dtype != np.float64 else np.float32)

        def bound(expected):
            absolute = [np.abs(a.astype(np.float64)) for a in (x, w, y)]
            magnitude = np.einsum("...i,kij,...j->...k", *absolute) + (0 if b is None else np.abs(b))
            return sum_tolerance(2 * first * second + 1, magnitude, dtype)

        return agree(torch, F.bilinear, torch.nn.functional.bilinear, x, y, w, b, tolerance=bound)

    generated(check, 200)
