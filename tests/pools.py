"""Pooling of given arrays by a given algorithm, and its comparison with the reference."""

import numpy as np
from tolerance import assert_within, sum_tolerance

from fastconv import reference
from fastconv.ops.pool import average_pool_plan, max_pool_plan

NAN, INF = np.nan, np.inf


def numbers(rng, shape, dtype):
    """Few distinct values with many ties; in floats also zeros of both signs, infinities and, in places, NaN."""
    x = rng.integers(0, 7, shape).astype(dtype)
    if x.dtype.kind == "f":
        x[rng.random(shape) < 0.3] = -0.0
        x *= np.where(rng.random(shape) < 0.7, -1, 1).astype(dtype)
        for value in (NAN, INF, -INF, -INF):
            x[rng.random(shape) < 0.01] = value
    elif x.dtype.kind == "i":
        x *= np.where(rng.random(shape) < 0.7, -1, 1).astype(dtype)
    return x


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def same_bits(actual, expected, problem=""):
    """Equal to the last bit; every NaN is as good as another."""
    assert actual.dtype == expected.dtype, problem
    assert actual.shape == expected.shape, problem
    bits = f"u{actual.itemsize}"
    same = (np.ascontiguousarray(actual).view(bits) == np.ascontiguousarray(expected).view(bits)) | (
        (actual != actual) & (expected != expected)
    )
    assert same.all(), f"{problem}: {np.argwhere(~same)[:3].tolist()}"


def max_pool(x, kernel, stride=None, padding=0, dilation=1, ceil_mode=False, indices=False, algorithm="direct"):
    return max_pool_plan(x, x.ndim - 2, kernel, stride, padding, dilation, ceil_mode, indices, algorithm)(x)


def average_pool(
    x, kernel, stride=None, padding=0, ceil_mode=False, include_pad=True, divisor=None, dilation=1, algorithm="direct"
):
    plan = average_pool_plan(
        x, x.ndim - 2, kernel, stride, padding, ceil_mode, include_pad, divisor, algorithm, dilation
    )
    return plan(x)


def check_max(x, *arguments):
    problem = f"max_pool {x.shape} {x.strides} {arguments} {x.dtype}"
    expected = reference.max_pool(x, *arguments)
    same_bits(max_pool(x, *arguments), expected[0], problem)
    for actual, wanted in zip(max_pool(x, *arguments, indices=True), expected, strict=True):
        same_bits(actual, wanted, problem)


def check_average(x, *arguments, dilation=1):
    problem = f"average_pool {x.shape} {x.strides} {arguments} {x.dtype}"
    expected = reference.avg_pool(x, *arguments, dilation=dilation)
    magnitude = np.abs(reference.avg_pool(np.abs(x.astype(np.float64)), *arguments, dilation=dilation))
    taps = np.prod(arguments[0]) if np.ndim(arguments[0]) else arguments[0] ** (x.ndim - 2)
    tolerance = sum_tolerance(taps + 1, magnitude, x.dtype)
    assert_within(average_pool(x, *arguments, dilation=dilation), expected, tolerance, problem)
