"""Winograd convolution with dilations: tiles that interleave, checked element by element within the bound for the arrays."""

import numpy as np
import pytest
from tolerance import wider

from fastconv import config, reference
from fastconv.errors import ArgumentError
from fastconv.geometry import Window
from fastconv.nn import functional as F
from fastconv.ops.conv import CONV
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.winograd_tiling import count_tiles

CASES = [  # input of one image, filters, kernel, dilation, padding
    ((16, 14, 14), 32, (3, 3), (2, 2), ((2, 2), (2, 2))),
    ((5, 17, 23), 7, (3, 3), (2, 2), ((0, 3), (1, 0))),
    ((3, 30, 31), 20, (3, 3), (3, 3), ((0, 0), (4, 4))),
    ((4, 40, 41), 8, (3, 3), (2, 1), ((1, 1), (1, 1))),
    ((4, 40, 75), 8, (3, 3), (1, 2), ((1, 1), (5, 0))),
    ((2, 33, 33), 16, (3, 3), (12, 12), ((12, 12), (12, 12))),
    ((2, 65, 70), 8, (3, 3), (18, 36), ((18, 18), (36, 36))),
    ((3, 90, 150), 8, (3, 3), (4, 5), ((3, 3), (3, 3))),
    ((2, 5, 9), 3, (3, 3), (2, 4), ((0, 0), (0, 0))),
    ((6, 26, 40), 17, (5, 5), (2, 2), ((4, 4), (4, 4))),
    ((6, 40, 26), 17, (5, 5), (3, 5), ((0, 1), (4, 4))),
    ((6, 50, 3), 17, (3, 1), (4, 7), ((4, 4), (0, 0))),
    ((6, 3, 90), 17, (1, 5), (7, 2), ((0, 0), (4, 0))),
    ((6, 3, 200), 17, (1, 7), (1, 16), ((0, 0), (48, 48))),
    ((6, 9, 20, 22), 8, (3, 3, 3), (2, 2, 3), ((2, 2), (2, 2), (3, 3))),
    ((20, 70), 9, (3,), (2,), ((2, 2),)),
    ((20, 400), 9, (3,), (64,), ((64, 64),)),
]


def arrays(case, dtype, rng, images=2):
    """Input, weight, bias and geometry of a convolution in two groups."""
    (channels, *size), filters, kernel, dilation, padding = case
    x = rng.standard_normal((images, 2 * channels, *size)).astype(dtype)
    w = rng.standard_normal((2 * filters, channels, *kernel)).astype(dtype)
    return x, w, rng.standard_normal(2 * filters).astype(dtype), {"dilation": dilation, "padding": padding}


def convolve(x, *others, **arguments):
    return (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3](x, *others, groups=2, **arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_within_the_bound_for_known_arrays(isa, case, dtype, rng):
    x, w, b, geometry = arrays(case, dtype, rng)
    wide = (array.astype(wider(dtype)) for array in (x, w, b))
    exact = reference.conv(*wide, **geometry, groups=2, accumulate=wider(dtype))
    spec = conv_spec(x.shape, x.strides, x.dtype, w.shape, w.dtype, None, 1, groups=2, **geometry)
    bounds = next(row for row in CONV.rows if row.name == "winograd").errors(spec, x, w, b)
    results = set()
    for threads in (1, 2, 5):
        with config.threads(threads):
            y = convolve(x, w, b, algorithm="winograd", **geometry)
        assert y.shape == bounds.shape
        assert (np.abs(y - exact) <= bounds).all()
        results.add(y.tobytes())
    alone = convolve(x[1:], w, b, algorithm="winograd", **geometry)
    results.add(np.concatenate([y[:1], alone]).tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("case", CASES[:2] + CASES[5:8], ids=str)
def test_columns_that_are_apart_in_memory_give_the_same_bits(isa, case, rng):
    x, w, b, geometry = arrays(case, np.float32, rng)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y, y_last = (convolve(array, w, b, algorithm="winograd", **geometry) for array in (x, last))
    np.testing.assert_array_equal(y, y_last)


@pytest.mark.parametrize("outputs", range(1, 60))
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("spread", [1, 2, 3, 7, 20])
def test_tiles_that_interleave_cover_an_axis_once(outputs, m, spread):
    tiles = np.arange(count_tiles(outputs, m, spread))
    pixels = (tiles // spread * m * spread + tiles % spread)[:, None] + np.arange(m) * spread
    inside = np.sort(pixels[pixels < outputs])
    assert inside.tolist() == list(range(outputs))
    assert (pixels[:, 0] < outputs).all()


def test_is_chosen_for_dilations_of_many_channels():
    window = Window.of((56, 56), (3, 3), 1, 2, 2)
    assert window.output == (56, 56)
    spec = conv_spec((1, 64, 56, 56), (4,) * 4, np.dtype("f4"), (64, 64, 3, 3), np.dtype("f4"), None, 1, 2, 2, 1)
    assert CONV.choose(spec).name == "winograd"
    few = conv_spec((1, 2, 9, 9), (4,) * 4, np.dtype("f4"), (3, 2, 3, 3), np.dtype("f4"), None, 1, 2, 2, 1)
    assert CONV.choose(few).name != "winograd"


def test_refuses_dilations_whose_tiles_do_not_fit_a_chunk():
    x, w = np.ones((1, 2, 300, 300), np.float32), np.ones((4, 2, 3, 3), np.float32)
    with pytest.raises(ArgumentError, match="it computes dilations of columns up to 64, got 65"):
        F.conv2d(x, w, dilation=(1, 65), algorithm="winograd")
    assert F.conv2d(x, w, dilation=(140, 64), algorithm="winograd").max() == pytest.approx(18, abs=1e-4)
