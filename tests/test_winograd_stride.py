"""Winograd convolution with a stride of 2, checked element by element within the bound for the arrays."""

import numpy as np
import pytest
from tolerance import wider

from fastconv import _kernels, config, machine, reference
from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.ops.conv import CONV, conv_plan
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.winograd_error import winograd_error
from fastconv.ops.winograd_forms import SMALL_FORMS, STRIDED_FORMS
from fastconv.ops.winograd_tiling import Tiling

CASES = [  # images, channels of a group, input, filters of a group, stride of the depth and padding
    (1, 16, (9, 9), 32, (), ((0, 0), (0, 0))),
    (2, 17, (13, 11), 33, (), ((1, 1), (1, 1))),
    (9, 20, (7, 7), 20, (), ((1, 1), (1, 1))),
    (5, 12, (14, 14), 40, (), ((0, 1), (1, 0))),
    (2, 130, (12, 13), 130, (), ((1, 1), (2, 3))),
    (1, 5, (57, 44), 20, (), ((0, 3), (1, 0))),
    (2, 3, (3, 300), 8, (), ((0, 0), (4, 4))),
    (2, 4, (150, 4), 9, (), ((6, 0), (0, 0))),
    (1, 40, (4, 4), 16, (), ((0, 0), (0, 0))),
    (2, 6, (5, 16, 19), 10, (1,), ((1, 1), (1, 1), (1, 1))),
    (1, 6, (7, 12, 9), 10, (2,), ((0, 1), (1, 0), (1, 1))),
]


def arrays(case, dtype, rng):
    """Input, weight, bias and geometry of a convolution in two groups."""
    images, channels, size, filters, depth, padding = case
    x = rng.standard_normal((images, 2 * channels, *size)).astype(dtype)
    w = rng.standard_normal((2 * filters, channels, *(3,) * len(size))).astype(dtype)
    geometry = {"stride": (*depth, 2, 2), "padding": padding, "groups": 2}
    return x, w, rng.standard_normal(2 * filters).astype(dtype), geometry


def convolve(x, *others, **arguments):
    return (F.conv2d, F.conv3d)[x.ndim - 4](x, *others, algorithm="winograd", **arguments)


def spec_of(images, channels, side, filters):
    strides = tuple(4 * step for step in (channels * side * side, side * side, side, 1))
    f4 = np.dtype(np.float32)
    return conv_spec((images, channels, side, side), strides, f4, (filters, channels, 3, 3), f4, None, 2, 1, 1, 1)


@pytest.fixture(params=(0, 1), ids=("small", "large"))
def tiles(request, monkeypatch):
    """Small or large tiles, whichever suit a convolution."""
    forms = STRIDED_FORMS[3, 3][request.param]
    monkeypatch.setitem(STRIDED_FORMS, (3, 3), (forms, forms))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_within_the_bound_for_known_arrays(isa, tiles, case, dtype, rng):
    """Of any number of threads and images, and with channels last in memory, the bits are the same."""
    x, w, b, geometry = arrays(case, dtype, rng)
    wide = (array.astype(wider(dtype)) for array in (x, w, b))
    exact = reference.conv(*wide, **geometry, accumulate=wider(dtype))
    spec = conv_spec(x.shape, x.strides, x.dtype, w.shape, w.dtype, None, **{"dilation": 1, **geometry})
    row = next(row for row in CONV.rows if row.name == "winograd")
    bounds = row.errors(spec, x, w, b)
    magnitudes = np.abs(x).max() * np.abs(w).reshape(len(w), -1).sum(1, np.float64) + np.abs(b)
    assert (bounds <= row.error_bound(spec) * magnitudes.reshape(-1, *(1,) * (x.ndim - 2))).all()
    results = set()
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            y = convolve(x, w, b, **geometry)
        assert y.shape == bounds.shape
        assert (np.abs(y - exact) <= bounds).all()
        results.add(y.tobytes())
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    results.add(np.ascontiguousarray(convolve(last, w, b, **geometry)).tobytes())
    results.add(b"".join(convolve(x[i : i + 1], w, b, **geometry).tobytes() for i in range(len(x))))
    assert len(results) == 1


def test_errs_less_than_a_stride_of_1():
    for forms in STRIDED_FORMS[3, 3]:
        assert winograd_error(forms, 64, "float32") < winograd_error(SMALL_FORMS[3, 3], 64, "float32")


@pytest.mark.parametrize(("side", "points"), [(8, 9), (14, 9 + 7), (12, 9 + 6), (10, 9 + 5), (9, 9 + 5), (56, 7 * 9)])
def test_tiles_that_end_outside_have_products_for_their_outputs_alone(isa, side, points):
    """Of one output: four points of the even values, one of the odd ones; more have one more each."""
    assert Tiling(conv_nest(spec_of(1, 64, side, 64))).products == points**2


def test_many_filters_for_few_tiles_have_small_tiles(isa, monkeypatch):
    """Tiles of five points, and three of the last, which has one output; 25 points instead of 81 are what has to be read."""
    monkeypatch.setattr(machine, "cache_bytes", lambda level: 2 ** (15 + 5 * (level - 1)))
    spec, small = spec_of(1, 512, 14, 512), STRIDED_FORMS[3, 3][0]
    assert Tiling(conv_nest(spec)).forms == small
    assert Tiling(conv_nest(spec)).products == (3 * 5 + 3) ** 2
    assert Tiling(conv_nest(spec_of(8, 512, 14, 512))).forms == small  # the same bits for any number of images
    assert Tiling(conv_nest(spec_of(1, 512, 40, 512))).forms != small
    assert Tiling(conv_nest(spec_of(1, 64, 14, 64))).forms != small


def test_writes_its_output_and_nothing_else(isa, tiles, rng):
    x = rng.standard_normal((1, 20, 19, 23)).astype(np.float32)
    w = rng.standard_normal((35, 20, 3, 3)).astype(np.float32)
    plan = conv_plan(x, w, None, 2, 1, 1, 1, "winograd")
    memory = np.full(int(np.prod(plan.spec.y_shape)) + 128, np.nan, np.float32)
    memory[:64] = memory[-64:] = 12345
    y = memory[64:-64].reshape(plan.spec.y_shape)
    plan.loops.step(y, x, *plan.pack(w, None))
    assert not np.isnan(y).any()
    assert (memory[:64] == 12345).all()
    assert (memory[-64:] == 12345).all()


@pytest.mark.parametrize(
    ("channels", "side", "filters", "faster"),
    [
        (128, 56, 128, True),
        (64, 56, 128, True),
        (256, 28, 256, True),
        (64, 112, 64, True),
        (3, 224, 64, False),
        (16, 8, 16, False),
        (512, 14, 512, True),
        (256, 14, 512, True),
    ],
)
def test_is_chosen_where_it_is_faster(channels, side, filters, faster):
    """As measured with AVX-512."""
    if _kernels.ISA != "avx512":
        pytest.skip(f"the figures are those of AVX-512, this machine has {_kernels.ISA}")
    assert (CONV.choose(spec_of(1, channels, side, filters)).name == "winograd") == faster


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "reason"),
    [
        ((5, 5), 2, 1, r"it needs stride 1, or 2 along both axes of 3×3 taps, got \(2, 2\) of \(5, 5\)"),
        ((3, 3), 3, 1, r"it needs stride 1, or 2 along both axes of 3×3 taps, got \(3, 3\) of \(3, 3\)"),
        ((3, 3), (1, 2), 1, r"it needs stride 1, or 2 along both axes of 3×3 taps, got \(1, 2\) of \(3, 3\)"),
        ((3, 3), 2, (1, 2), r"with a stride it needs dilation 1, got \(1, 2\)"),
    ],
)
def test_refusals_are_sentences(kernel, stride, dilation, reason):
    x, w = np.ones((1, 2, 9, 9), np.float32), np.ones((4, 2, *kernel), np.float32)
    with pytest.raises(ArgumentError, match="algorithm: 'winograd' refuses this convolution: " + reason):
        F.conv2d(x, w, stride=stride, dilation=dilation, algorithm="winograd")
