"""Convolution with pixels as lanes that several filters share, against the reference."""

import itertools

import numpy as np
import pytest
from protected import run_protected
from tolerance import assert_within, conv_tolerance

from fastconv import config, reference
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.direct import FilterLanes, PointwiseLanes, direct_loops, is_pointwise

GUARD, MARK = 80, 12345


def nest_of(x, w, b, stride=1, padding=0, dilation=1, groups=1):
    facts = (x.shape, x.strides, x.dtype, w.shape, w.dtype, (b.shape, b.dtype))
    return conv_nest(conv_spec(*facts, stride, padding, dilation, groups, False))


def run(loops_of, x, w, b, **geometry):
    """The output of the kernel, written between guards that have to stay as they are."""
    loops = loops_of(nest_of(x, w, b, **geometry))
    expected = reference.conv(x, w, b, **geometry)
    memory = np.full(expected.size + 2 * GUARD, np.nan, x.dtype)
    memory[:GUARD] = memory[-GUARD:] = MARK
    y = memory[GUARD:-GUARD].reshape(expected.shape)
    loops.step(y, x, *loops.pack(np.ascontiguousarray(w), b))
    assert (memory[:GUARD] == MARK).all()
    assert (memory[-GUARD:] == MARK).all()
    assert_within(y, expected, conv_tolerance(x, w, b, **geometry), f"{x.shape} {w.shape} {geometry}")
    return y


def arrays(rng, x_shape, w_shape, dtype=np.float32):
    return [rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1])]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [*range(1, 82), 127, 128, 129, 1023, 1024, 1025, 1100])
def test_every_width(isa, dtype, columns, rng):
    for filters in (1, 6, 10):
        run(PointwiseLanes, *arrays(rng, (2, 5, columns), (filters, 5, 1), dtype))
        run(PointwiseLanes, *arrays(rng, (1, 2, 3, columns), (filters, 2, 3, 3), dtype), stride=2, padding=1)


@pytest.mark.parametrize("filters", range(1, 26))
def test_every_number_of_filters(isa, filters, rng):
    for columns in (9, 35, 64, 70):
        run(PointwiseLanes, *arrays(rng, (1, 3, 4, columns), (filters, 3, 2, 3)))


CASES = [
    ((1, 50, 24, 25), (70, 50, 1, 1), {}),
    ((2, 17, 9, 11), (13, 17, 1, 1), {}),
    ((1, 300, 7, 7), (7, 300, 1, 1), {}),
    ((1, 2, 130, 130), (20, 2, 1, 1), {}),
    ((3, 12, 9, 40), (15, 4, 1, 1), {"groups": 3}),
    ((1, 4, 20, 33), (9, 4, 3, 3), {"dilation": (2, 5)}),
    ((1, 4, 21, 33), (9, 4, 3, 4), {"stride": (2, 1)}),
    ((2, 3, 5, 8, 19), (8, 3, 2, 3, 3), {"stride": (2, 3, 1), "dilation": (1, 2, 1)}),
    ((1, 4, 30), (5, 4, 30), {}),
    ((1, 3, 50, 47), (16, 3, 3, 3), {"stride": 2, "padding": 1}),
    ((1, 3, 60, 70), (11, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((2, 1, 40, 41), (32, 1, 3, 3), {"padding": ((0, 2), (3, 1))}),
    ((1, 2, 700, 300), (7, 2, 3, 3), {"padding": 1}),
    ((1, 12, 30, 33), (15, 4, 5, 2), {"groups": 3, "dilation": (1, 3), "padding": 2, "stride": (1, 4)}),
    ((1, 3, 6, 20, 21), (9, 3, 3, 3, 3), {"stride": (2, 1, 1), "padding": (1, 0, 2)}),
    ((1, 1, 3000), (8, 1, 80), {"stride": 4, "padding": 38}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_bits_as_filter_lanes_for_any_team(isa, dtype, case, rng):
    """Both sum in the order of the taps, so that a choice between them changes no result."""
    x_shape, w_shape, geometry = case
    x, w, b = arrays(rng, x_shape, w_shape, dtype)
    results = set()
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            results.add(run(PointwiseLanes, x, w, b, **geometry).tobytes())
    results.add(run(FilterLanes, x, w, b, **geometry).tobytes())
    assert len(results) == 1


def test_the_same_bits_for_any_batch(isa, rng):
    x, w, b = arrays(rng, (5, 7, 9, 9), (10, 7, 1, 1))
    whole = run(PointwiseLanes, x, w, b)
    for image in range(5):
        assert run(PointwiseLanes, x[image : image + 1], w, b).tobytes() == whole[image].tobytes()


@pytest.mark.parametrize("columns", [5, 18, 64])
def test_gaps_between_rows_and_channels(isa, columns, rng):
    """What lies between the rows of a view is never part of a sum."""
    memory = np.full((2, 6, 9, columns + 20), np.nan, np.float32)
    x = memory[:, ::2, 1:-1, 10:-10]
    x[...] = rng.standard_normal(x.shape)
    for kernel in (1, 3):
        w = rng.standard_normal((8, 3, kernel, kernel)).astype(np.float32)
        assert is_pointwise(nest_of(x, w, w[:, 0, 0, 0]))
        run(PointwiseLanes, x, w, np.ascontiguousarray(w[:, 0, 0, 0]))


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "geometry", "pointwise"),
    [
        ((1, 24, 56, 56), (144, 24, 1, 1), {}, True),
        ((1, 16, 112, 112), (96, 16, 1, 1), {}, True),
        ((1, 64, 56, 56), (128, 64, 1, 1), {"stride": 2}, False),
        ((1, 24, 56, 56), (144, 24, 3, 3), {"padding": 1}, False),
        ((1, 960, 7, 7), (160, 960, 1, 1), {}, False),
        ((1, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}, True),
        ((1, 3, 640, 640), (16, 3, 3, 3), {"stride": 2, "padding": 1}, True),
        ((1, 64, 56, 56), (64, 8, 3, 3), {"padding": 1, "groups": 8}, True),
        ((1, 3, 9, 9), (32, 3, 3, 3), {"padding": 1}, False),
    ],
)
def test_what_it_is_chosen_for(x_shape, w_shape, geometry, pointwise, rng):
    nest = nest_of(*arrays(rng, x_shape, w_shape), **geometry)
    assert (type(direct_loops(nest)) is PointwiseLanes) == pointwise


def test_channels_last_is_not_pointwise(rng):
    x, w, b = arrays(rng, (1, 9, 8, 24), (12, 24, 1, 1))
    assert not is_pointwise(nest_of(np.moveaxis(x, -1, 1), w, b))


PROTECTED = """
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.direct import FilterLanes, PointwiseLanes

for at_end, dtype, columns, kernel in itertools.product((0, 1), "fd", (1, 3, 5, 15, 16, 17, 31, 50, 70), (1, 3)):
    if kernel > columns:
        continue
    x = protected((2, 5, 4, columns), dtype, at_end)
    w = np.ones((7, 5, kernel, kernel), dtype)
    for loops_of, (stride, padding) in itertools.product(
        (PointwiseLanes, FilterLanes), ((1, 0), (2, 0), (3, 0), (1, 1), (2, 2))
    ):
        spec = conv_spec(x.shape, x.strides, x.dtype, w.shape, w.dtype, None, stride, padding, 1, 1, False)
        loops = loops_of(conv_nest(spec))
        loops.step(np.empty(spec.y_shape, dtype), x, *loops.pack(w, None))
"""


def test_reads_its_input_and_nothing_else(isa):
    run_protected(PROTECTED, isa)


def test_infinities_and_nan_as_the_definition_has_them(isa, rng):
    for columns, (filters, channels) in itertools.product((7, 40), ((7, 4), (2, 4))):
        x, w, b = arrays(rng, (1, channels, 1, columns), (filters, channels, 1, 1))
        x[0, 0, 0, 0], x[0, 1, 0, -1], x[0, 2, 0, 3] = np.inf, -np.inf, np.nan
        loops = PointwiseLanes(nest_of(x, w, b))
        y = np.empty((1, filters, 1, columns), np.float32)
        loops.step(y, x, *loops.pack(w, b))
        with np.errstate(invalid="ignore"):
            expected = reference.conv(x, w, b)
        for kind in (np.isnan, np.isposinf, np.isneginf):
            np.testing.assert_array_equal(kind(y), kind(expected))
