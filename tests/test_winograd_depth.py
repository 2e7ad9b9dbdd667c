"""Winograd convolution of kernels with depth: the taps of the depth are further channels."""

import numpy as np
import pytest
from tolerance import wider

from fastconv import config, reference
from fastconv.geometry import Window
from fastconv.nn import functional as F
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.winograd_error import winograd_errors, winograd_forms
from fastconv.ops.winograd_tiling import Tiling

# images, channels, input, filters, kernel, and stride, padding and dilation along the depth
VOLUMES = [
    (1, 16, (8, 14, 14), 32, (3, 3, 3), 1, 1, 1),
    (2, 5, (7, 9, 13), 37, (3, 3, 3), 2, 1, 1),
    (1, 7, (9, 11, 6), 20, (3, 5, 5), 1, 2, 2),
    (3, 4, (5, 5, 5), 33, (2, 3, 3), 3, 0, 1),
    (1, 6, (4, 30, 31), 16, (1, 3, 3), 1, 0, 1),
    (1, 3, (2, 8, 8), 9, (4, 3, 3), 1, 5, 1),
    (1, 2, (20, 7, 7), 8, (8, 3, 3), 2, 3, 2),
]


def volume(case, dtype, rng):
    """Arrays and the geometry of a convolution in two groups."""
    images, channels, size, filters, kernel, stride, padding, dilation = case
    x = rng.standard_normal((images, 2 * channels, *size)).astype(dtype)
    w = rng.standard_normal((2 * filters, channels, *kernel)).astype(dtype)
    pads = ((padding, padding), (0, 2), (1, 1))
    geometry = {"stride": (stride, 1, 1), "padding": pads, "dilation": (dilation, 1, 1)}
    return x, w, rng.standard_normal(2 * filters).astype(dtype), geometry


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", VOLUMES, ids=str)
def test_depth_within_the_bound_for_known_arrays(isa, case, dtype, rng):
    x, w, b, geometry = volume(case, dtype, rng)
    wide = (array.astype(wider(dtype)) for array in (x, w, b))
    exact = reference.conv(*wide, **geometry, groups=2, accumulate=wider(dtype))
    forms = winograd_forms(w.shape[-2:], w.shape[1] * w.shape[2])
    bounds = winograd_errors(x, w, b, Window.of(x.shape[2:], w.shape[2:], **geometry), 2, np.dtype(dtype).name, forms)
    results = set()
    for threads in (1, 2, 5):
        with config.threads(threads):
            y = F.conv3d(x, w, b, **geometry, groups=2, algorithm="winograd")
        assert (np.abs(y - exact) <= bounds).all()
        results.add(y.tobytes())
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    results.add(np.ascontiguousarray(F.conv3d(last, w, b, **geometry, groups=2, algorithm="winograd")).tobytes())
    assert len(results) == 1


def test_depth_of_padding_alone_gives_the_bias(isa, rng):
    x, w, b, _ = volume(VOLUMES[5], np.float32, rng)
    y = F.conv3d(x, w, b, padding=(5, 1, 1), groups=2, algorithm="winograd")
    assert y.shape[2] == 9
    for depth in (0, 1, 7, 8):  # whose four planes, from depth - 5 on, all lie in the padding
        assert (y[:, :, depth] == b[:, None, None]).all()
    assert (y[:, :, 2:7] != b[:, None, None, None]).all()


@pytest.mark.parametrize("case", VOLUMES, ids=str)
def test_products_and_planes_are_counted(case):
    images, channels, size, filters, kernel, stride, padding, dilation = case
    spec = conv_spec(
        (images, channels, *size), (4,) * 5, np.dtype(np.float32), (filters, channels, *kernel), np.dtype(np.float32),
        None, (stride, 1, 1), (padding, 1, 1), (dilation, 1, 1), 1,
    )  # fmt: skip
    tiling = Tiling(conv_nest(spec))
    first = np.arange(spec.window.output[0])[:, None] * stride - padding
    planes = first + np.arange(kernel[0]) * dilation
    inside = (planes >= 0) & (planes < size[0])
    assert tiling.depth_taps == inside.sum()
    ring, loads = {}, 0
    for depth, (row, used) in enumerate(zip(planes, inside, strict=True)):
        for tap in np.flatnonzero(used):
            slot = (depth * stride // dilation + tap) % kernel[0]
            loads += ring.get(slot) != row[tap]
            ring[slot] = row[tap]
    assert tiling.depth_planes == loads if stride % dilation == 0 else tiling.depth_planes >= loads


@pytest.mark.parametrize(("side", "points"), [(7, 6 + 5), (8, 6 + 6), (13, 6 * 3 + 5), (14, 6 * 3 + 5)])
def test_tiles_that_end_outside_have_no_products_at_infinity(isa, side, points):
    spec = conv_spec(
        (1, 64, side, side), tuple(4 * step for step in (64 * side * side, side * side, side, 1)), np.dtype(np.float32),
        (64, 64, 3, 3), np.dtype(np.float32), None, 1, 1, 1, 1,
    )  # fmt: skip
    tiling = Tiling(conv_nest(spec))
    assert tiling.products == points**2
