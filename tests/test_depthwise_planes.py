"""Depthwise convolution of small maps, whose planes are packed whole, against the reference."""

import itertools

import numpy as np
import pytest
from protected import run_protected
from tolerance import assert_within, conv_tolerance

from fastconv import config, reference
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.direct import direct_loops
from fastconv.ops.pixel_lanes import PlaneLanes, fits_planes

GUARD, MARK = 80, 12345


def nest_of(x, w, b, **geometry):
    geometry = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | geometry
    facts = (x.shape, x.strides, x.dtype, w.shape, w.dtype, (b.shape, b.dtype))
    spec = conv_spec(*facts, *geometry.values(), False)
    return conv_nest(spec), spec.y_shape


def planes(x, w, b, **geometry):
    """The output of the kernel, written between guards that have to stay as they are."""
    nest, y_shape = nest_of(x, w, b, **geometry)
    assert fits_planes(nest)
    loops = PlaneLanes(nest)
    size = int(np.prod(y_shape))
    memory = np.full(size + 2 * GUARD, np.nan, x.dtype)
    memory[:GUARD] = memory[-GUARD:] = MARK
    y = memory[GUARD:-GUARD].reshape(y_shape)
    loops.step(y, x, *loops.pack(np.ascontiguousarray(w), b))
    assert (memory[:GUARD] == MARK).all()
    assert (memory[-GUARD:] == MARK).all()
    return y


def arrays(rng, x_shape, w_shape):
    return (rng.standard_normal(shape, np.float32) for shape in (x_shape, w_shape, w_shape[:1]))


def check(rng, x_shape, w_shape, **geometry):
    x, w, b = arrays(rng, x_shape, w_shape)
    expected = reference.conv(x, w, b, **geometry)
    tolerance = conv_tolerance(x, w, b, **geometry)
    assert_within(planes(x, w, b, **geometry), expected, tolerance, f"{x_shape} {w_shape} {geometry}")


@pytest.fixture(autouse=True)
def masked_loads(isa):
    if isa == "baseline":
        pytest.skip("planes are packed with masked loads, which the baseline lacks")


@pytest.mark.parametrize("columns", range(1, 15))
def test_every_width(columns, rng):
    for rows in (1, 5, columns):
        check(rng, (2, 9, rows, columns), (9, 1, 3, 3), groups=9, padding=1)
        check(rng, (2, 9, rows, columns), (9, 1, 3, 3), groups=9, padding=1, stride=2)


@pytest.mark.parametrize("rows", range(1, 35))
def test_every_height(rows, rng):
    for columns, stride in itertools.product((1, 7, 13), (1, 2)):
        check(rng, (1, 11, rows, columns), (11, 1, 3, 3), groups=11, padding=1, stride=stride)


@pytest.mark.parametrize("columns", [17, 24, 28, 30])
def test_maps_of_several_registers(columns, rng):
    for rows, stride in itertools.product((1, 9, 28), (1, 2)):
        check(rng, (2, 5, rows, columns), (5, 1, 3, 3), groups=5, padding=1, stride=stride)


@pytest.mark.parametrize("kernel", [*itertools.product((1, 2, 3, 4, 5, 6, 7, 9, 11, 13), (1, 2, 3, 5, 7))][1:], ids=str)
def test_every_kernel(kernel, rng):
    for stride, dilation in itertools.product((1, 2, (3, 1), (1, 2)), (1, (2, 1))):
        down, across = (dilation,) * 2 if isinstance(dilation, int) else dilation
        step = stride if isinstance(stride, int) else stride[1]
        if step == 2 and kernel[1] == 1:
            continue  # every other column alone is no form of a plane
        padding = (down * (kernel[0] - 1) // 2, across * (kernel[1] - 1) // 2)
        check(
            rng, (1, 3, 14, 11), (3, 1, *kernel), groups=3, padding=padding, stride=stride, dilation=dilation
        )  # fmt: skip


@pytest.mark.parametrize("dilation", [2, 3, (1, 2), (1, 3)], ids=str)
def test_dilated_columns(dilation, rng):
    across = dilation if isinstance(dilation, int) else dilation[1]
    for kernel, stride in itertools.product((2, 3), (1, 2)):
        if stride == 2 and across == 2:
            continue
        check(rng, (2, 3, 9, 8), (3, 1, kernel, kernel), groups=3, padding=2, dilation=dilation, stride=stride)


@pytest.mark.parametrize("dilation", [2, 3, 4])
def test_dilated_rows_that_divide_the_map_and_others(dilation, rng):
    for rows, columns in itertools.product((12, 13, 14, 24), (3, 7, 11, 14)):
        for padding in (dilation, 2 * dilation, 5):
            geometry = {"groups": 5, "padding": padding, "dilation": dilation}
            check(rng, (2, 5, rows, columns), (5, 1, 3, 3), **geometry)


@pytest.mark.parametrize("multiplier", range(2, 8))
def test_every_multiplier(multiplier, rng):
    for columns, stride in itertools.product((1, 4, 7, 14), (1, 2)):
        check(rng, (2, 3, 8, columns), (3 * multiplier, 1, 3, 3), groups=3, padding=1, stride=stride)


def test_several_channels_of_one_filter(rng):
    for columns, stride in itertools.product((1, 4, 7, 14), (1, 2)):
        check(rng, (2, 8, 8, columns), (2, 4, 3, 3), groups=2, padding=1, stride=stride)


@pytest.mark.parametrize("pads", [((0, 0), (0, 0)), ((2, 0), (0, 3)), ((5, 6), (4, 3)), ((1, 9), (3, 0))], ids=str)
def test_padding_of_any_size(pads, rng):
    for kernel, stride in itertools.product(((3, 3), (5, 2)), (1, 2)):
        check(rng, (1, 4, 6, 7), (4, 1, *kernel), groups=4, padding=pads, stride=stride)


def test_one_and_three_dimensions(rng):
    check(rng, (2, 5, 12), (5, 1, 3), groups=5, padding=1)
    check(rng, (2, 3, 5, 6, 7), (3, 1, 1, 3, 3), groups=3, padding=(0, 1, 1))
    check(rng, (2, 3, 5, 6, 7), (6, 1, 1, 3, 3), groups=3, padding=(0, 1, 1), stride=(2, 1, 1))


def test_a_window_of_a_larger_array(rng):
    """What lies around the input is NaN and would show in the sums."""
    for columns, kernel, stride in itertools.product((1, 5, 7, 13), (3, 5), (1, 2)):
        around = np.full((2, 3, 17, columns + 80), np.nan, np.float32)
        x = around[:, :, 4:13, 40:-40]
        x[:] = rng.standard_normal(x.shape)
        w, b = rng.standard_normal((3, 1, kernel, kernel)).astype(np.float32), np.zeros(3, np.float32)
        geometry = {"groups": 3, "padding": kernel // 2, "stride": stride}
        tolerance = conv_tolerance(x, w, b, **geometry)
        expected = reference.conv(x, w, b, **geometry)
        assert_within(planes(x, w, b, **geometry), expected, tolerance, f"{columns} columns, kernel {kernel}")


@pytest.mark.parametrize("groups", [1, 5, 100])
def test_any_number_of_threads_and_groups(groups, rng):
    x, w, b = arrays(rng, (3, groups, 13, 13), (groups, 1, 3, 3))
    for stride in (1, 2):
        results = []
        for threads in (1, 2, 3):
            with config.threads(threads):
                results.append(planes(x, w, b, groups=groups, padding=1, stride=stride).tobytes())
        assert results == results[:1] * 3


def test_infinities_and_nan_as_the_definition_has_them(rng):
    x, w, b = arrays(rng, (1, 4, 9, 7), (4, 1, 3, 3))
    x[0, 0, 0, 0], x[0, 1, 8, 6], x[0, 2, 4, 3] = np.inf, -np.inf, np.nan
    w[3, 0, 0, 0] = np.inf
    for stride in (1, 2):
        actual = planes(x, w, b, groups=4, padding=1, stride=stride)
        with np.errstate(invalid="ignore"):
            expected = reference.conv(x, w, b, groups=4, padding=1, stride=stride)
        for what in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(what(actual), what(expected))


def test_small_maps_take_planes_and_large_ones_do_not(rng):
    for size, loops in ((7, "PlaneLanes"), (14, "PlaneLanes"), (56, "PixelLanes")):
        x, w, b = arrays(rng, (1, 96, size, size), (96, 1, 3, 3))
        nest, _ = nest_of(x, w, b, padding=1, groups=96)
        assert type(direct_loops(nest)).__name__ == loops


PROTECTED = """
from fastconv import reference
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.pixel_lanes import PlaneLanes

for columns, at_end, stride in itertools.product((1, 3, 7, 8, 13), (False, True), (1, 2)):
    x = protected((1, 5, 6, columns), "f4", at_end)
    x[:] = 1
    w, b = np.ones((5, 1, 3, 3), "f4"), np.zeros(5, "f4")
    spec = conv_spec(x.shape, x.strides, x.dtype, w.shape, w.dtype, (b.shape, b.dtype), stride, 1, 1, 5, False)
    loops, y = PlaneLanes(conv_nest(spec)), np.empty(spec.y_shape, np.float32)
    loops.step(y, x, *loops.pack(w, b))
    assert (y == reference.conv(x, w, b, stride=stride, padding=1, groups=5)).all()
"""


def test_nothing_outside_the_input_is_touched(isa):
    run_protected(PROTECTED, isa)
