"""Transposed convolutions against the reference, for every remainder of strides, dilations and paddings."""

import itertools

import numpy as np
import pytest
from tolerance import assert_within, conv_tolerance

from fastconv import reference
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import functional as F
from fastconv.ops.conv_transpose import conv_transpose_plan

BY_RANK = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def check(rng, x_shape, w_shape, dtype=np.float32, **geometry):
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    b = rng.standard_normal(w_shape[1] * geometry.get("groups", 1)).astype(dtype)
    y = BY_RANK[len(x_shape) - 2](x, w, b, **geometry)
    expected = reference.conv_transpose(x, w, b, **geometry)
    tolerance = conv_tolerance(x, w, b, transpose=True, **geometry)
    assert_within(y, expected, tolerance, f"{x_shape} {w_shape} {geometry}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "geometry"),
    [
        ((2, 16, 7, 9), (16, 24, 4, 4), {"stride": 2, "padding": 1}),
        ((1, 8, 12, 12), (8, 33, 2, 2), {"stride": 2}),
        ((1, 6, 5, 6), (6, 4, 3, 5), {"stride": (3, 2), "padding": (1, 2), "output_padding": (2, 1), "groups": 2}),
        ((1, 4, 6, 6), (4, 3, 3, 3), {"stride": 2, "dilation": 3, "groups": 4, "output_padding": 2}),
        ((2, 3, 9), (3, 40, 7), {"stride": 4, "padding": 2}),
        ((1, 3, 9), (3, 5, 2), {"stride": 5, "output_padding": 4}),
        ((1, 4, 3, 4, 5), (4, 6, 2, 3, 3), {"stride": (1, 2, 2), "padding": (0, 1, 1)}),
        ((1, 20, 8, 8), (20, 20, 3, 3), {"padding": 1}),
        ((2, 30, 1, 1), (30, 40, 4, 4), {}),
        ((1, 40, 1, 5), (40, 33, 3, 7), {"dilation": (2, 1), "stride": (1, 2)}),
    ],
)
def test_cases(isa, team, x_shape, w_shape, geometry, dtype, rng):
    check(rng, x_shape, w_shape, dtype, **geometry)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "geometry"),
    [
        ((1, 100, 1, 1), (100, 32, 4, 4), {}),
        ((3, 8, 1, 1), (8, 6, 4, 5), {"stride": (3, 1), "padding": (1, 2), "groups": 2}),
        ((2, 4, 1), (4, 3, 3), {"stride": 2, "output_padding": 1, "dilation": 2}),
        ((1, 4, 1, 1), (4, 3, 3, 2), {"dilation": (9, 1)}),  # more positions than two to a tap
        ((2, 4, 1, 1, 1), (4, 5, 2, 3, 2), {"padding": (0, 1, 0), "groups": 4}),
    ],
)
def test_an_input_of_one_position(isa, team, x_shape, w_shape, geometry, dtype, rng):
    check(rng, x_shape, w_shape, dtype, **geometry)


def test_one_position_is_one_product(rng):
    plan = conv_transpose_plan(np.ones((1, 100, 1, 1)), np.ones((100, 8, 4, 4)), None, 2, 1, 0, 1, 1)
    assert [part.nest.filters for part, _ in plan.parts] == [8 * 2 * 2]


def test_every_remainder(rng):
    for kernel, stride, dilation, padding in itertools.product(range(1, 6), range(1, 5), range(1, 4), range(4)):
        if (6 - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 < 1:
            continue
        for extra in range(max(stride, dilation)):
            geometry = {"stride": stride, "dilation": dilation, "padding": padding, "output_padding": extra}
            check(rng, (1, 2, 6), (2, 3, kernel), np.float64, **geometry)


def test_positions_that_no_tap_reaches_hold_the_bias():
    y = F.conv_transpose1d(np.ones((1, 1, 3)), np.ones((1, 1, 1)), np.full(1, 7.0), stride=3)
    np.testing.assert_array_equal(y, [[[8, 7, 7, 8, 7, 7, 8]]])


def test_an_infinite_weight_meets_no_padding(rng):
    """The taps of a whole row or tile that lie outside of the input are no part of the sum."""
    w = np.ones((40, 40, 4, 4), np.float32)
    w[0, 0, 0, 0] = np.inf
    y = F.conv_transpose2d(np.ones((1, 40, 1, 1), np.float32), w)
    assert np.isfinite(y[0, :, 1:]).all()
    assert np.isinf(y[0, 0, 0, 0])
    assert np.isfinite(y[0, 1:]).all()


def test_channels_last_stays_so(rng):
    x = np.moveaxis(rng.standard_normal((2, 5, 6, 4)), -1, 1)
    w = rng.standard_normal((4, 3, 3, 3))
    y = F.conv_transpose2d(x, w, stride=2)
    assert np.moveaxis(y, 1, -1).flags.c_contiguous
    np.testing.assert_allclose(y, reference.conv_transpose(x, w, stride=2), atol=1e-12)


def test_unbatched_and_empty():
    w = np.ones((3, 2, 2, 2), np.float32)
    assert F.conv_transpose2d(np.ones((3, 4, 4), np.float32), w).shape == (2, 5, 5)
    assert F.conv_transpose2d(np.ones((0, 3, 4, 4), np.float32), w).shape == (0, 2, 5, 5)


def test_half_and_integers_take_the_reference():
    for dtype in (np.float16, np.int32):
        x, w = np.ones((1, 2, 3, 3), dtype), np.ones((2, 1, 2, 2), dtype)
        assert F.conv_transpose2d(x, w).dtype == dtype
        assert F.conv_transpose2d(x, w)[0, 0, 1, 1] == 8
    with pytest.raises(ArgumentError, match="algorithm: 'direct' refuses this transposed convolution: the kernels"):
        F.conv_transpose2d(x, w, algorithm="direct")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"input": np.ones((1, 3, 4, 4))}, ArgumentError, r"input: expected 2 channels for the weight \(2, 1, 2, 2\)"),
        ({"input": np.ones((4, 4))}, ArgumentError, "input: expected 3 axes"),
        ({"weight": np.ones((2, 1, 2))}, ArgumentError, r"weight: expected 4 axes \(channels, filters / groups, 2 of"),
        ({"bias": np.ones(2)}, ArgumentError, r"bias: expected shape \(1,\), one value per filter, got \(2,\)"),
        ({"output_padding": 1}, ArgumentError, "output_padding: expected less than the larger of stride"),
        ({"padding": 3}, ArgumentError, "padding: it takes more than there is"),
        ({"padding": "same"}, ArgumentError, "padding: expected numbers, got 'same'"),
        ({"groups": 3}, ArgumentError, "groups: 3 groups do not divide the 2 channels"),
        ({"stride": 0}, ArgumentError, "stride: expected at least 1, got 0"),
        ({"weight": np.ones((2, 1, 2, 2), np.float32)}, ArgumentTypeError, "expected one element type"),
    ],
)
def test_bad_arguments(arguments, error, text):
    good = {"input": np.ones((1, 2, 4, 4)), "weight": np.ones((2, 1, 2, 2))}
    with pytest.raises(error, match=text):
        F.conv_transpose2d(**(good | arguments))
