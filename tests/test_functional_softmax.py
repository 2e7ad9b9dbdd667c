"""Softmax, log-softmax and softmin: the kernel against the reference and torch, and the edges."""

import itertools
import math

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, sum_tolerance

from fastconv import config, reference
from fastconv.errors import ArgumentIndexError, ArgumentTypeError
from fastconv.nn import functional as F
from fastconv.ops.softmax import SOFTMAX, SoftmaxSpec

NAN, INF = np.nan, np.inf
FUNCTIONS = {False: (F.softmax, reference.softmax), True: (F.log_softmax, reference.log_softmax)}

# outer, length, inner: rows around every vector width, strips around their own, and both at once
SHAPES = [
    *((3, length, 1) for length in (*range(1, 35), 63, 64, 65, 1000)),
    *((2, 5, inner) for inner in (*range(2, 35), 255, 256, 257, 600)),
    (1, 21, 300),
    (7, 33, 17),
]


def softmax_tolerance(x, expected, axis, logarithm):
    """Rounding x - max, and log of the sum, passes on to the result; the sum has one term per element of the row."""
    spread = np.abs(x.astype(np.float64)).max(axis=axis, keepdims=True) * 2 + 8
    magnitude = spread if logarithm else np.abs(expected.astype(np.float64)) * spread
    return sum_tolerance(x.shape[axis] + 8, np.broadcast_to(magnitude, x.shape), x.dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("logarithm", [False, True])
def test_kernel_against_reference(isa, team, logarithm, dtype, rng):
    for shape in SHAPES:
        x = (3 * rng.standard_normal(shape)).astype(dtype)
        plan = SOFTMAX.rows[0].plan(SoftmaxSpec(*shape, np.dtype(dtype).name, logarithm))
        memory = np.full(x.size + 32, NAN, dtype)
        memory[:16] = memory[-16:] = 12345
        y = memory[16:-16].reshape(shape)
        plan(y, x)
        assert (memory[:16] == 12345).all()
        assert (memory[-16:] == 12345).all()
        expected = FUNCTIONS[logarithm][1](x, 1)
        assert_same_values(y, expected, softmax_tolerance(x, expected, 1, logarithm), (shape, dtype))


@pytest.mark.parametrize("logarithm", [False, True])
def test_every_axis_of_every_rank(logarithm, rng):
    function, specification = FUNCTIONS[logarithm]
    for shape in ((7,), (4, 10), (2, 5, 6), (2, 3, 4, 5), (2, 3, 2, 3, 4)):
        x = rng.standard_normal(shape).astype(np.float32)
        for axis in range(-len(shape), len(shape)):
            for view in (x, np.asfortranarray(x), x[::-1]):
                expected = specification(view, axis)
                assert_within(function(view, axis), expected, softmax_tolerance(view, expected, axis, logarithm))


@pytest.mark.parametrize("shape", [(3000, 10), (40, 5, 900), (1, 300_000)])
def test_same_bits_for_any_number_of_threads(isa, shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    for function in (F.softmax, F.log_softmax):
        results = []
        for threads in (1, 2, 3, 7):
            with config.threads(threads):
                results += [function(x, 1).tobytes() for _ in range(2)]
        assert len(set(results)) == 1


class TestEdges:
    """TORCH_SEMANTICS.md, section 1.3: the literal values."""

    @pytest.mark.parametrize("function", [F.softmax, F.log_softmax])
    @pytest.mark.parametrize("length", [1, 3, 16, 21])
    def test_a_row_of_minus_infinity_or_with_infinity_is_nan(self, isa, function, length):
        for dtype, value in itertools.product((np.float16, np.float32, np.float64), (-INF, INF, NAN)):
            x = np.zeros((3, length), dtype)
            x[0] = -INF
            x[1, -1] = value
            for y in (function(x, 1), function(x.T, 0).T):
                assert np.isnan(y[0]).all()
                assert np.isnan(y[1]).any() or (value == -INF and length > 1)
                assert np.isfinite(y[2]).all()
                if np.isnan(value) or value == INF:
                    assert np.isnan(y[1]).all()

    def test_minus_infinity_has_no_weight(self, isa):
        x = np.array([[1000.0, 1000.0, -INF]], np.float32)
        assert F.softmax(x, 1).tolist() == [[0.5, 0.5, 0]]
        assert F.log_softmax(x, 1)[0].tolist() == [-np.float32(math.log(2))] * 2 + [-INF]

    def test_large_and_small_values(self, isa):
        x = np.array([[1e30, 0.0, -1e30], [-1e30, -1e30, -1e30]], np.float32)
        assert_same_values(F.softmax(x, 1), [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]], 1e-7)

    def test_float16_is_summed_in_float32(self):
        assert F.softmax(np.zeros((1, 4096), np.float16), 1)[0, 0] == np.float16(1 / 4096)

    def test_without_dim(self):
        for shape, axis in (((), 0), ((4,), 0), ((3, 4), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 1)):
            x = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
            for function in (F.softmax, F.log_softmax, F.softmin):
                with pytest.warns(UserWarning, match=f"dim=None is deprecated, and means dim={axis} here"):
                    y = function(x)
                assert_same_values(y, function(x, axis))

    def test_softmin_is_softmax_of_the_negative(self, rng):
        x = rng.standard_normal((3, 7))
        assert_same_values(F.softmin(x, 1), reference.softmax(-x, 1), 1e-15)

    def test_dtype_converts_first(self):
        y = F.softmax(np.array([0, 0, 0, 0]), 0, dtype=np.float64)
        assert (y.dtype, y.tolist()) == (np.float64, [0.25] * 4)
        assert F.softmin(np.array([1, 1]), 0, dtype="float32").tolist() == [0.5, 0.5]

    def test_a_single_number(self):
        assert F.softmax(np.float32(3), 0) == 1
        assert F.softmax(np.array(3.0), -1) == 1

    def test_nothing(self):
        for shape in ((0, 3), (3, 0), (2, 0, 3)):
            for axis in range(len(shape)):
                assert F.softmax(np.ones(shape, np.float32), axis).shape == shape


def test_refusals():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ArgumentIndexError, match="dim: expected -2 to 1 for an input of 2 axes, got 2"):
        F.softmax(x, 2)
    with pytest.raises(IndexError):
        F.log_softmax(x, -3)
    with pytest.raises(ArgumentTypeError, match=r"dim: expected an integer, got 1\.0"):
        F.softmax(x, 1.0)
    with pytest.raises(ArgumentTypeError, match=r"input: softmax of int64 is not defined; pass dtype= or convert"):
        F.softmax(np.ones(3, np.int64), 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("logarithm", [False, True])
def test_against_torch(torch, logarithm, dtype, rng):
    function = torch.log_softmax if logarithm else torch.softmax
    for shape in ((10,), (1, 10), (64, 100), (2, 5, 6), (2, 21, 13, 17)):
        x = (5 * rng.standard_normal(shape)).astype(dtype)
        for axis in range(len(shape)):
            expected = function(torch.from_numpy(x), axis).numpy()
            tolerance = 4 * softmax_tolerance(x, expected, axis, logarithm)
            assert_same_values(FUNCTIONS[logarithm][0](x, axis), expected, tolerance, (shape, axis))
