"""What convolutions do to their results before they leave the cache: the same bits as if it were done afterwards."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from fastconv import config
from fastconv.ops.conv_kernel import conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.direct import FilterLanes, PixelLanes, PointwiseLanes
from fastconv.ops.elementwise import ACTIVATIONS, elementwise
from fastconv.ops.pixel_lanes import PlaneLanes, fits_planes
from fastconv.ops.winograd import WinogradLoops, large_winograd
from fastconv.ops.winograd_lanes import WinogradLanes, computes

# loops, x, w, groups, padding; maps with ragged last rows, columns and panels, and small ones whose rows and filters are
# one run
CASES = {
    "filters": (FilterLanes, (2, 5, 11, 19), (37, 5, 3, 3), 1, 1),
    "pixels": (PixelLanes, (2, 6, 9, 21), (6, 1, 3, 3), 6, 1),
    "few filters": (PixelLanes, (1, 4, 10, 33), (6, 2, 3, 3), 2, 1),
    "pointwise": (PointwiseLanes, (2, 6, 9, 17), (10, 3, 2, 1), 2, 0),
    "pointwise, short rows": (PointwiseLanes, (1, 3, 1, 3), (8, 3, 1, 1), 1, 0),
    "pointwise, rows by the band": (PointwiseLanes, (1, 3, 41, 150), (6, 3, 2, 1), 1, 0),
    "filters of a small map": (FilterLanes, (2, 5, 7, 7), (37, 5, 3, 3), 1, 1),
    "filters with depth": (FilterLanes, (2, 4, 3, 5, 7), (18, 4, 3, 3, 3), 1, 1),
    "pixels of a small map": (PixelLanes, (2, 6, 7, 7), (6, 1, 3, 3), 6, 1),
    "few filters of a small map": (PixelLanes, (2, 4, 5, 9), (10, 2, 3, 3), 2, 1),
    "planes": (PlaneLanes, (2, 6, 7, 7), (6, 1, 3, 3), 6, 1),
    "planes of several filters": (PlaneLanes, (1, 3, 5, 4), (6, 1, 3, 3), 3, 1),
    "winograd": (WinogradLoops, (1, 7, 13, 22), (35, 7, 3, 3), 1, 1),
    "winograd of a small map": (WinogradLoops, (3, 7, 4, 4), (35, 7, 3, 3), 1, 1),
    "winograd in large tiles": (large_winograd, (1, 7, 13, 22), (35, 7, 3, 3), 1, 1),
    "winograd in large tiles of 4×4": (WinogradLoops, (1, 7, 13, 22), (35, 7, 5, 5), 1, 2),
    "winograd along rows": (WinogradLoops, (2, 7, 9, 17), (35, 7, 1, 7), 1, 3),
    "winograd along columns": (WinogradLoops, (2, 7, 17, 9), (35, 7, 3, 1), 1, 1),
    "winograd by tiles": (WinogradLanes, (2, 6, 13, 67), (14, 3, 3, 3), 2, 1),
    "winograd by tiles of a small map": (WinogradLanes, (3, 8, 7, 7), (6, 4, 3, 3), 2, 1),
    "winograd with depth": (WinogradLoops, (1, 4, 3, 6, 9), (18, 4, 3, 3, 3), 1, 1),
}
PARAMETERS = {
    "celu": (0.7,), "elu": (0.5,), "hardshrink": (0.5,), "hardtanh": (-0.5, 0.8), "leaky_relu": (0.1,),
    "softplus": (1.0, 20.0), "softshrink": (0.5,), "threshold": (0.1, 3.0),
}  # fmt: skip


def convolution(case, dtype):
    """A function of what is fused that runs the case's kernel, and an array to add."""
    make, x_shape, w_shape, groups, padding = CASES[case]
    rng = np.random.default_rng(7)
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    spec = conv_spec(x.shape, x.strides, x.dtype, w.shape, w.dtype, (b.shape, b.dtype), 1, padding, 1, groups, False)
    if make is WinogradLanes and not computes(conv_nest(spec)):
        pytest.skip("a register has too few lanes for tiles")
    if make is PlaneLanes and not fits_planes(conv_nest(spec)):
        pytest.skip("planes are packed for float32, with masked loads, which SSE lacks")

    def run(*added, **fused):
        loops = make(replace(conv_nest(spec), residual=bool(added), **fused))
        y = np.full(spec.y_shape, np.nan, dtype)
        loops.step(y, x, *loops.pack(w, b), *added)
        return y

    return run, rng.standard_normal(spec.y_shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("limits", [(-inf, inf), (0.0, inf), (-1.0, 0.5)], ids=str)
def test_residual_and_clamp(isa, case, dtype, limits):
    run, added = convolution(case, dtype)
    low, high = limits
    plain = run()
    assert np.isfinite(plain).all()
    np.testing.assert_array_equal(run(low=low, high=high), np.clip(plain, low, high))
    np.testing.assert_array_equal(run(added, low=low, high=high), np.clip(plain + added, low, high))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(isa, case, activation):
    run, added = convolution(case, np.float32)
    parameters = PARAMETERS.get(activation, ())
    fused = run(activation=(activation, parameters))
    assert fused.tobytes() == elementwise(activation, run(), parameters).tobytes()
    fused = run(added, low=-1.0, activation=(activation, parameters))
    assert fused.tobytes() == elementwise(activation, run(added, low=-1.0), parameters).tobytes()


@pytest.mark.parametrize("case", CASES)
def test_any_number_of_threads(isa, case):
    run, added = convolution(case, np.float32)
    results = set()
    for threads in (1, 2, 5):
        with config.threads(threads):
            results.add(run(added, low=0.0, activation=("silu", ())).tobytes())
    assert len(results) == 1
