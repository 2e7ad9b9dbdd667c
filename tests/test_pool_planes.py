"""Pooling of many small planes, several to a vector or all as one row, and windows of one value."""

import itertools

import numpy as np
import pytest
from pools import NAN, average_pool, channels_last, check_average, check_max, numbers, same_bits

import fastconv.nn.functional as F
from fastconv import reference
from fastconv._kernels import has
from fastconv.ops.pool import average_pool_plan, max_pool_plan
from fastconv.ops.pool_flat import FlatLoops, GrownLoops, is_flat, is_grown
from fastconv.ops.pool_plans import axes_of, planes_of

FLOATS = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (3, 1, 0), (5, 1, 2)], ids=str)
def test_many_small_planes(isa, team, window, dtype, rng):
    """Several rows to a vector, and more planes than are done again where one of them has a NaN."""
    for rows, columns in itertools.product((5, 6, 7, 14), (5, 6, 7, 8, 13, 16, 17)):
        x = rng.integers(-9, 10, (2, 37, rows, columns)).astype(dtype)
        check_max(x, *window, 1, rows % 2 > 0)
        for include_pad in (False, True):
            arguments = (*window, rows % 2 > 0, include_pad)
            same_bits(average_pool(x, *arguments), reference.avg_pool(x, *arguments), (x.shape, arguments))
        x[1, 20, rows - 1, columns - 1] = NAN
        check_max(x, *window, 1, True)


@pytest.mark.parametrize(
    "size", [(1, 2), (3, 3), (5, 4), (7, 7), (8, 8), (2, 16), (13, 17), (33, 35), (64, 64)], ids=str
)
def test_planes_as_one_row(isa, size, rng):
    """Whole groups of planes, the last one of fewer, less than a vector of them, and a NaN at the ends of a group."""
    if not has("pool_flat", "float32"):
        pytest.skip("there is such a kernel for AVX-512 only")
    for images, channels in ((1, 1), (2, 3), (1, 70), (5, 41)):
        x = rng.integers(-9, 10, (images, channels, *size)).astype(np.float32) * rng.choice([1, -0.0], size=size)
        x = x.astype(np.float32)
        for place in (None, 0, -1, x.size // 2):
            if place is not None:
                x.flat[place] = NAN
            spec = max_pool_plan(x, 2, 3, 1, 1, 1, False, False, "direct").spec
            y = np.full(x.shape, 12345, np.float32)
            FlatLoops(planes_of(spec, axes_of(spec), 1)).step(y, x)
            same_bits(y, reference.max_pool(x, 3, 1, 1)[0], (x.shape, place))
        x = rng.integers(-9, 10, x.shape).astype(np.float32)
        for include_pad in (False, True):
            spec = average_pool_plan(x, 2, 3, 1, 1, False, include_pad, None, "direct").spec
            axes = axes_of(spec)
            FlatLoops(planes_of(spec, axes, 1), spec.divisors(axes)).step(y, x)
            same_bits(y, reference.avg_pool(x, 3, 1, 1, False, include_pad), x.shape)


@pytest.mark.parametrize("kernel", [5, 7, 9, 13, 17])
def test_large_windows_grow(isa, kernel, rng):
    """Rows of up to two vectors, windows larger than the plane, and in one plane a NaN or zeros of both signs."""
    if not has("pool_flat", "float32"):
        pytest.skip("there is such a kernel for AVX-512 only")
    for rows, columns in ((9, 9), (13, 13), (16, 15), (10, 16), (20, 17), (33, 32), (40, 31)):
        x = rng.integers(1, 10, (2, 3, rows, columns)).astype(np.float32) - 5
        for change in (None, [NAN], [-0.0, 0.0, -1.0]):
            if change is not None:
                x[1, 1] = rng.choice([*change, -2.0], x.shape[2:])
            spec = max_pool_plan(x, 2, kernel, 1, kernel // 2, 1, False, False, "direct").spec
            planes = planes_of(spec, axes_of(spec), 1)
            assert is_grown(planes)
            y = np.full(x.shape, 12345, np.float32)
            GrownLoops(planes).step(y, x)
            same_bits(y, reference.max_pool(x, kernel, 1, kernel // 2)[0], (x.shape, kernel, change))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1), (3, 1, 0), (5, 1, 2)], ids=str)
def test_zeros_of_both_signs(isa, window, dtype, rng):
    """Of equal values the first of a window wins, in the order of its rows, whichever order a kernel takes."""
    for size in ((5, 6), (13, 13), (14, 14), (28, 28), (9, 40)):
        x = rng.choice([-0.0, 0.0, -1.0], (2, 35, *size)).astype(dtype)
        check_max(x, *window, 1, False)
        x[0] = rng.integers(-9, 10, x.shape[1:])
        check_max(x, *window, 1, True)


def test_planes_with_gaps_are_no_row(isa, rng):
    x = rng.standard_normal((2, 6, 7, 8)).astype(np.float32)
    for view in (x[:, ::2], x[:, :, 1:], x[..., 1:], x[:, 1:]):
        check_max(view, 3, 1, 1)
        check_average(view, 3, 1, 1)
        spec = max_pool_plan(view, 2, 3, 1, 1, 1, False, False, "direct").spec
        assert not is_flat(planes_of(spec, axes_of(spec), 1))


@pytest.mark.parametrize("dtype", [np.float16, *FLOATS])
def test_windows_of_one_value(isa, dtype, rng):
    """A copy, but for the zeros: a sum starts at +0."""
    x = numbers(rng, (2, 5, 6, 7), dtype)
    for memory in (np.asarray, channels_last, lambda x: x[:, ::2, ::-1]):
        x = memory(x)
        check_max(x, 1)
        for y in (F.avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, x.shape[2:]), F.avg_pool2d(x, 1, divisor_override=1)):
            same_bits(y, np.where(x == 0, 0, x).astype(dtype))
        same_bits(F.avg_pool2d(x, 1, divisor_override=-2), reference.avg_pool(x, 1, divisor_override=-2))
        same_bits(F.max_pool2d(x, 1, 2), x[:, :, ::2, ::2])
