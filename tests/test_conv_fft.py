"""Convolution by spectra: every argument against the reference in float64, within the bound for the arrays."""

import numpy as np
import pytest

import fastconv as fc
from fastconv import reference
from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.ops.conv import CONV
from fastconv.ops.conv_fft import FFT, count_of
from fastconv.ops.conv_spec import conv_spec

CASES = [
    ((2, 3, 40), (4, 3, 7), {"padding": ((5, 1),)}),
    ((1, 4, 31, 33), (6, 4, 15, 15), {"padding": 7}),
    ((2, 6, 17, 19), (4, 3, 5, 3), {"padding": (2, 0), "stride": (2, 3), "dilation": (1, 2), "groups": 2}),
    ((1, 1, 3, 3), (2, 1, 7, 7), {"padding": 3}),
    ((1, 5, 20, 8), (5, 1, 1, 8), {"groups": 5}),
    ((1, 2, 5, 6, 7), (3, 2, 3, 3, 3), {"padding": 1, "stride": (1, 2, 1)}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("x_shape", "w_shape", "arguments"), CASES, ids=str)
@pytest.mark.parametrize("spread", [1, 1e6], ids=["normal", "wide"])
def test_within_the_bound_for_known_arrays(x_shape, w_shape, arguments, dtype, spread, rng):
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape))
    x[..., : x_shape[-1] // 2] *= spread
    b = rng.standard_normal(w_shape[0]).astype(dtype)
    y = getattr(F, f"conv{len(x_shape) - 2}d")(x, w, b, algorithm="fft", **arguments)
    wide = np.longdouble if dtype == np.float64 else np.float64
    exact = reference.conv(*(array.astype(wide) for array in (x, w, b)), accumulate=wide, **arguments)
    given = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | arguments
    facts = (x.shape, x.strides, x.dtype, w.shape, w.dtype, (b.shape, b.dtype))
    spec = conv_spec(*facts, given["stride"], given["padding"], given["dilation"], given["groups"])
    errors, bounds = abs(y - exact), FFT().errors(spec, x, w, b)
    assert y.dtype == dtype
    assert (errors <= bounds).all()
    sums = abs(w).reshape(len(w), -1).sum(1).reshape(-1, *(1,) * (x.ndim - 2))
    tightness = FFT().error_bound(spec) * abs(x).max() * sums
    assert (bounds <= tightness * (1 + 1e-6) + np.finfo(dtype).eps * abs(b).max()).all()


def test_transforms_have_lengths_of_small_factors():
    spec = conv_spec(
        (1, 1, 97, 3), (1164, 1164, 12, 4), np.dtype("f4"), (1, 1, 5, 9), np.dtype("f4"), None, 1, (2, 4), 1, 1
    )
    assert count_of(spec.window) == (100, 9)  # 97 + 2 and 3 + 4, which is shorter than the kernel


def test_halves_channels_last_and_no_bias(rng):
    x, w = rng.standard_normal((1, 3, 20, 20)), rng.standard_normal((4, 3, 9, 9))
    exact = reference.conv(x, w, padding=4)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(F.conv2d(last, w, padding=4, algorithm="fft"), exact, atol=1e-11)
    y = F.conv2d(x.astype(np.float16), w.astype(np.float16), padding=4, algorithm="fft")
    assert y.dtype == np.float16
    exact = reference.conv(x.astype(np.float16).astype(float), w.astype(np.float16).astype(float), padding=4)
    assert (abs(y - exact) <= 2.0**-11 * abs(exact) + 1e-3).all()


def test_it_is_taken_by_name_alone(rng):
    candidates = {c.algorithm: c for c in fc.algorithms("conv2d", (1, 2, 200, 200), (2, 2, 63, 63), padding=31)}
    assert not candidates["fft"].automatic
    assert candidates["fft"].seconds < candidates["direct"].seconds
    assert candidates["fft"].scratch_bytes > 0
    spec = conv_spec((1, 0, 3, 3), (0, 36, 12, 4), np.dtype("f4"), (1, 0, 3, 3), np.dtype("f4"), None, 1, 0, 1, 1)
    assert FFT().refusal(spec) == "there are no input channels"
    with pytest.raises(ArgumentError, match="fft"):
        F.conv2d(np.ones((1, 1, 5, 5), int), np.ones((1, 1, 3, 3), int), algorithm="fft")
    assert CONV.rows[-1].name == "reference"


def test_a_layer_keeps_the_spectra_of_its_weights(rng):
    layer = fc.nn.Conv2d(2, 3, 15, padding=7, algorithm="fft").eval()
    x = rng.standard_normal((1, 2, 30, 30)).astype(np.float32)
    first = layer(x)
    layer.weight *= 2
    np.testing.assert_allclose(
        layer(x), 2 * (first - layer.bias.reshape(-1, 1, 1)) + layer.bias.reshape(-1, 1, 1), atol=1e-5
    )
