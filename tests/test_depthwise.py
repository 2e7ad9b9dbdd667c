"""Convolution with pixels as lanes: rows read where they lie and rows packed, against the reference."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tolerance import assert_within, conv_tolerance

from fastconv import config, reference
from fastconv.nn import functional as F
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.direct import PixelLanes

GUARD, MARK = 80, 12345


def pixel_lanes(x, w, b, **geometry):
    """The output of the kernel, written between guards that have to stay as they are."""
    geometry = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | geometry
    facts = (x.shape, x.strides, x.dtype, w.shape, w.dtype, (b.shape, b.dtype))
    spec = conv_spec(*facts, *geometry.values(), False)
    loops = PixelLanes(conv_nest(spec))
    size = int(np.prod(spec.y_shape))
    memory = np.full(size + 2 * GUARD, np.nan, x.dtype)
    memory[:GUARD] = memory[-GUARD:] = MARK
    y = memory[GUARD:-GUARD].reshape(spec.y_shape)
    loops.step(y, x, *loops.pack(np.ascontiguousarray(w), b))
    assert (memory[:GUARD] == MARK).all()
    assert (memory[-GUARD:] == MARK).all()
    return y


def check(rng, x_shape, w_shape, dtype=np.float32, **geometry):
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    expected = reference.conv(x, w, b, **geometry)
    tolerance = conv_tolerance(x, w, b, **geometry)
    assert_within(pixel_lanes(x, w, b, **geometry), expected, tolerance, f"{x_shape} {w_shape} {geometry}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", range(1, 72))
def test_every_width(isa, dtype, columns, rng):
    for stride in (1, 2):
        check(rng, (2, 3, 9, columns), (3, 1, 3, 3), dtype, groups=3, padding=1, stride=stride)


@pytest.mark.parametrize("rows", range(1, 25))
def test_every_height(isa, rows, rng):
    for columns in (7, 20, 40):
        check(rng, (1, 3, rows, columns), (3, 1, 3, 3), groups=3, padding=1)


@pytest.mark.parametrize(
    "kernel", [*itertools.product((1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13), (1, 2, 3, 5, 7, 12))], ids=str
)
def test_every_kernel(isa, kernel, rng):
    for stride, dilation in itertools.product((1, 2, 3), (1, 2)):
        padding = tuple(dilation * (k - 1) // 2 for k in kernel)
        check(
            rng, (1, 2, 27, 29), (2, 1, *kernel), groups=2, padding=padding, stride=stride, dilation=dilation
        )  # fmt: skip


@pytest.mark.parametrize("multiplier", range(1, 9))
def test_every_multiplier(isa, multiplier, rng):
    for columns, stride in itertools.product((5, 18, 33, 70), (1, 2)):
        check(rng, (2, 3, 8, columns), (3 * multiplier, 1, 3, 3), groups=3, padding=1, stride=stride)
        check(rng, (1, 6, 8, columns), (3 * multiplier, 2, 3, 3), groups=3, padding=1, stride=stride)


@pytest.mark.parametrize("dilation", [2, 3, 4])
@pytest.mark.parametrize("columns", [5, 28, 40])
def test_dilated_rows_that_divide_the_map_and_others(isa, dilation, columns, rng):
    for rows, kernel, padding in itertools.product((12, 13, 24), (2, 3, 5), (0, dilation, 2 * dilation, 1)):
        if rows + 2 * padding <= dilation * (kernel - 1) or columns + 2 * padding <= dilation * (kernel - 1):
            continue
        geometry = {"groups": 3, "padding": padding, "dilation": dilation}
        check(rng, (2, 3, rows, columns), (3, 1, kernel, kernel), **geometry)


def test_dilated_rows_with_any_number_of_threads(isa, rng):
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in ((2, 7, 24, 40), (7, 1, 3, 3), (7,)))
    results = []
    for threads in (1, 2, 3):
        with config.threads(threads):
            results.append(pixel_lanes(x, w, b, groups=7, padding=2, dilation=2).tobytes())
    assert results == results[:1] * 3


def test_a_residual_and_a_limit_on_dilated_rows(isa, rng):
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in ((1, 5, 24, 40), (5, 1, 3, 3), (5,)))
    geometry = {"padding": 2, "dilation": 2, "groups": 5}
    facts = (x.shape, x.strides, x.dtype, w.shape, w.dtype, (b.shape, b.dtype))
    spec = conv_spec(*facts, 1, 2, 2, 5, False)
    loops = PixelLanes(replace(conv_nest(spec), residual=True, low=-1.0))
    y = np.empty(spec.y_shape, np.float32)
    residual = rng.standard_normal(spec.y_shape, np.float32)
    loops.step(y, x, *loops.pack(w, b), residual)
    expected = np.maximum(reference.conv(x, w, b, **geometry) + residual, np.float32(-1))
    tolerance = conv_tolerance(x, w, b, **geometry) + np.finfo(np.float32).eps * np.abs(expected)
    assert_within(y, expected, tolerance, "residual")


@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((2, 0), (0, 3)), ((5, 6), (9, 8)), ((1, 30), (40, 1))], ids=str)
def test_padding_beyond_the_window(isa, pads, rng):
    for kernel, stride in itertools.product(((3, 3), (5, 2)), (1, 2)):
        check(rng, (1, 4, 6, 11), (4, 1, *kernel), groups=4, padding=pads, stride=stride)


@pytest.mark.parametrize("stride", list(itertools.product((1, 2, 3), (1, 2))), ids=str)
def test_strides_of_rows_and_columns(isa, stride, rng):
    for kernel, dilation in itertools.product(
        ((3, 3), (5, 4), (4, 5), (7, 7), (9, 2)), ((1, 1), (2, 1), (1, 2), (3, 3))
    ):
        for pads in (((0, 0), (0, 0)), ((1, 1), (1, 1)), ((3, 0), (0, 2))):
            check(
                rng, (1, 2, 28, 39), (2, 1, *kernel), groups=2, padding=pads, stride=stride, dilation=dilation
            )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stride", [1, 2])
def test_nothing_outside_the_input_is_read(isa, dtype, stride, rng):
    """A window of a larger array: what lies around it is NaN and would show in the sums."""
    for columns, kernel in itertools.product((5, 14, 16, 31, 64, 67, 130), (3, 5, 7)):
        around = np.full((2, 3, 17, columns + 80), np.nan, dtype)
        x = around[:, :, 4:13, 40:-40]
        x[:] = rng.standard_normal(x.shape)
        w, b = rng.standard_normal((3, 1, kernel, kernel)).astype(dtype), np.zeros(3, dtype)
        geometry = {"groups": 3, "padding": kernel // 2, "stride": stride}
        actual = pixel_lanes(x, w, b, **geometry)
        tolerance = conv_tolerance(x, w, b, **geometry)
        assert_within(actual, reference.conv(x, w, b, **geometry), tolerance, f"{columns} columns, kernel {kernel}")


def test_a_kernel_wider_than_the_masks(isa, rng):
    check(rng, (1, 2, 5, 60), (2, 1, 1, 45), groups=2, padding=(0, 22))


def test_one_and_three_dimensions(isa, rng):
    check(rng, (2, 5, 100), (5, 1, 9), groups=5, padding=4)
    check(rng, (1, 3, 5, 6, 17), (3, 1, 3, 3, 3), groups=3, padding=1, dilation=(2, 1, 1))
    check(rng, (1, 2, 6, 7, 16), (2, 1, 2, 3, 3), groups=2, stride=(2, 1, 1), padding=1)
    check(rng, (2, 3, 5, 6, 17), (3, 1, 1, 3, 3), groups=3, padding=(0, 1, 1))
    check(rng, (1, 3, 6, 6, 17), (3, 1, 1, 3, 2), groups=3, padding=((0, 4), (1, 1), (0, 0)), stride=(2, 1, 1))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("groups", [1, 5, 100])
def test_any_number_of_threads_and_groups(isa, batch, groups, rng):
    x, w, b = (
        rng.standard_normal(s).astype(np.float32) for s in ((batch, groups, 21, 30), (groups, 1, 3, 3), (groups,))
    )
    for stride in (1, 2):
        results = []
        for threads in (1, 2, 3):
            with config.threads(threads):
                results.append(pixel_lanes(x, w, b, groups=groups, padding=1, stride=stride).tobytes())
        assert results == results[:1] * 3


def test_infinities_and_nan_as_the_definition_has_them(isa, rng):
    x = rng.standard_normal((1, 4, 9, 7)).astype(np.float32)
    x[0, 0, 0, 0], x[0, 1, 8, 6], x[0, 2, 4, 3] = np.inf, -np.inf, np.nan
    w = rng.standard_normal((4, 1, 3, 3)).astype(np.float32)
    w[3, 0, 0, 0] = np.inf
    b = np.zeros(4, np.float32)
    for stride in (1, 2):
        actual = pixel_lanes(x, w, b, groups=4, padding=1, stride=stride)
        with np.errstate(invalid="ignore"):
            expected = reference.conv(x, w, b, groups=4, padding=1, stride=stride)
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
        np.testing.assert_array_equal(np.isposinf(actual), np.isposinf(expected))
        np.testing.assert_array_equal(np.isneginf(actual), np.isneginf(expected))


@pytest.mark.parametrize("filters", range(1, 8))
@pytest.mark.parametrize("stride", [2, 3])
def test_results_that_lie_apart(isa, filters, stride, rng):
    """Transposed convolutions store every other column at a time."""
    for columns, groups in itertools.product((1, 5, 16, 17, 40), (1, 2)):
        x = rng.standard_normal((2, 4, 3, columns)).astype(np.float32)
        w = rng.standard_normal((4, filters, 4, 4)).astype(np.float32)
        expected = reference.conv_transpose(x, w, None, stride=stride, padding=1, groups=groups)
        actual = F.conv_transpose2d(x, w, stride=stride, padding=1, groups=groups)
        tolerance = conv_tolerance(x, w, transpose=True, stride=stride, padding=1, groups=groups)
        assert_within(actual, expected, tolerance, f"{columns} columns, {groups} groups")
