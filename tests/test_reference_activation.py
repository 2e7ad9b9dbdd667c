import math

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, sum_tolerance

from fastconv import reference
from fastconv.reference import log_softmax, prelu, relu, softmax

NAN, INF = np.nan, np.inf
FLOATS = [np.float16, np.float32, np.float64]


def logistic(v):
    return 1 / (1 + math.exp(-v))


# Each row: the reference, its arguments, the formula for one number, torch's name in torch.nn.functional.
ROWS = [
    ("relu", (), lambda v: max(v, 0), "relu"),
    ("relu6", (), lambda v: min(max(v, 0), 6), "relu6"),
    ("hardtanh", (), lambda v: min(max(v, -1), 1), "hardtanh"),
    ("hardtanh", (-2.5, 0.5), lambda v: min(max(v, -2.5), 0.5), "hardtanh"),
    ("threshold", (0.5, 7.0), lambda v: v if v > 0.5 else 7, "threshold"),
    ("leaky_relu", (), lambda v: v if v > 0 else 0.01 * v, "leaky_relu"),
    ("leaky_relu", (0.2,), lambda v: v if v > 0 else 0.2 * v, "leaky_relu"),
    ("elu", (), lambda v: v if v > 0 else math.expm1(v), "elu"),
    ("elu", (0.3,), lambda v: v if v > 0 else 0.3 * math.expm1(v), "elu"),
    ("selu", (), lambda v: 1.0507009873554805 * (v if v > 0 else 1.6732632423543772 * math.expm1(v)), "selu"),
    ("celu", (), lambda v: v if v > 0 else math.expm1(v), "celu"),
    ("celu", (0.3,), lambda v: v if v > 0 else 0.3 * math.expm1(v / 0.3), "celu"),
    ("gelu", (), lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)), "gelu"),
    (
        "gelu",
        ("tanh",),
        lambda v: v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
        "gelu",
    ),
    ("sigmoid", (), logistic, "sigmoid"),
    ("silu", (), lambda v: v * logistic(v), "silu"),
    ("mish", (), lambda v: v * math.tanh(math.log1p(math.exp(v))), "mish"),
    ("tanh", (), math.tanh, "tanh"),
    ("hardsigmoid", (), lambda v: min(max(v + 3, 0), 6) / 6, "hardsigmoid"),
    ("hardswish", (), lambda v: v * min(max(v + 3, 0), 6) / 6, "hardswish"),
    ("softplus", (), lambda v: math.log1p(math.exp(v)) if v <= 20 else v, "softplus"),
    ("softplus", (2.0, 3.0), lambda v: math.log1p(math.exp(2 * v)) / 2 if 2 * v <= 3 else v, "softplus"),
    ("softsign", (), lambda v: v / (1 + abs(v)), "softsign"),
    ("log_sigmoid", (), lambda v: -math.log1p(math.exp(-v)), "logsigmoid"),
]
NAMES = [f"{name}{arguments or ''}" for name, arguments, _, _ in ROWS]
EDGES = [NAN, INF, -INF, 0.0, -0.0, 1e-30, -1e-30, 3.0, -3.0, 6.0, 20.0, 20.5, 88.0, 89.0, -88.0, -104.0, 1e30, -1e30]


def points(dtype):
    return np.concatenate([np.linspace(-25, 30, 301), [-0.25, 0.25, 1e-4, -1e-4]]).astype(dtype)


def rounding(x, dtype):
    """No formula here takes more than seven roundings that reach the result, of numbers up to 2 * (1 + abs(x))."""
    return sum_tolerance(7, 2 * (1 + np.abs(x.astype(np.float64))), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "arguments", "formula", "_"), ROWS, ids=NAMES)
def test_values_follow_the_formula(name, arguments, formula, _, dtype):
    x = points(dtype)
    expected = np.array([formula(float(v)) for v in x]).astype(dtype)
    assert_within(getattr(reference, name)(x, *arguments), expected, rounding(x, dtype), name)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "arguments", "_", "torchs"), ROWS, ids=NAMES)
def test_values_and_edges_against_torch(torch, name, arguments, _, torchs, dtype):
    with np.errstate(over="ignore"):
        x = np.concatenate([points(dtype), np.array(EDGES).astype(dtype)])
    if name == "gelu" and dtype == np.float32:
        x = x[x != INF]  # torch 2.13 gives NaN where it computes 16 values at once, and infinity elsewhere
    keywords = {"approximate": arguments[0]} if name == "gelu" and arguments else {}
    expected = getattr(torch.nn.functional, torchs)(torch.from_numpy(x), *(() if keywords else arguments), **keywords)
    with np.errstate(invalid="ignore"):
        tolerance = rounding(x, dtype)
    assert_within(getattr(reference, name)(x, *arguments), expected.numpy(), tolerance, name)


class TestEdges:
    """TORCH_SEMANTICS.md, section 1.3: the literal values."""

    def value(self, name, number, *arguments):
        return getattr(reference, name)(np.array([number], np.float32), *arguments).item()

    def test_relu_keeps_nan_and_negative_zero(self):
        y = relu(np.array([NAN, -0.0, 0.0, -1.0, 2.0, -INF, INF], np.float32))
        assert_same_values(y, [NAN, 0, 0, 0, 2, 0, INF])
        assert np.signbit(y).tolist()[1:] == [True, False, False, False, False, False]

    @pytest.mark.parametrize("name", ["relu6", "hardtanh"])
    def test_clipping_keeps_nan(self, name):
        assert math.isnan(self.value(name, NAN))

    def test_threshold_replaces_what_is_not_above_it(self):
        assert [self.value("threshold", v, 0.5, 7.0) for v in (0.25, 0.5, 0.75)] == [7, 7, 0.75]
        assert math.isnan(self.value("threshold", NAN, 0.5, 7.0))

    @pytest.mark.parametrize("name", ["silu", "gelu", "hardswish", "mish"])
    def test_minus_infinity_times_zero_is_nan(self, name):
        assert math.isnan(self.value(name, -INF))
        assert self.value(name, INF) == INF

    def test_softplus_is_linear_above_its_threshold(self):
        assert self.value("softplus", 20.5) == 20.5
        assert self.value("softplus", 500.0) == 500.0
        assert self.value("softplus", 1.0, 1.0, 0.5) == 1.0
        assert self.value("softplus", -200.0) == 0.0

    @pytest.mark.parametrize("name", ["relu", "relu6", "hardtanh"])
    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
    def test_integers(self, name, dtype):
        y = getattr(reference, name)(np.array([-9, 0, 5, 9], dtype))
        assert y.dtype == dtype
        assert y.tolist() == {"relu": [0, 0, 5, 9], "relu6": [0, 0, 5, 6], "hardtanh": [-1, 0, 1, 1]}[name]

    def test_large_arguments_do_not_overflow_on_the_way(self):
        for dtype, largest in ((np.float16, 60000), (np.float32, 1e38), (np.float64, 1e308)):
            x = np.array([largest, -largest], dtype)
            assert reference.sigmoid(x).tolist() == [1, 0]
            assert_same_values(reference.log_sigmoid(x), [0, x[1]])
            assert_same_values(reference.silu(x), [x[0], 0])
            assert_same_values(reference.mish(x), [x[0], 0])

    def test_an_unknown_approximation_raises(self):
        with pytest.raises(ValueError, match="approximate: expected none or tanh, got 'erf'"):
            reference.gelu(np.ones(1), "erf")

    @pytest.mark.parametrize(("name", "arguments"), [row[:2] for row in ROWS], ids=NAMES)
    def test_any_shape_and_no_change_of_the_argument(self, name, arguments):
        for shape in ((), (0, 3), (2, 3, 4)):
            x = np.full(shape, -0.5)
            before = x.copy()
            assert getattr(reference, name)(x, *arguments).shape == shape
            assert_same_values(x, before)


def test_prelu_has_one_slope_or_one_per_channel(rng):
    x = np.array([[-1.0, -1.0, 2.0]])
    assert prelu(x, np.array([0.5])).tolist() == [[-0.5, -0.5, 2]]
    assert prelu(x, np.array([0.5, 0.25, 9.0])).tolist() == [[-0.5, -0.25, 2]]
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    y = prelu(x, np.array([0.0, 1.0, 2.0], np.float32))
    assert_within(y[:, 0], relu(x[:, 0]), 0.0)
    assert_within(y[:, 1], x[:, 1], 0.0)
    assert_same_values(prelu(np.array([NAN, -1.0]), np.array([2.0])), [NAN, -2])


def test_prelu_against_torch(torch, rng):
    for dtype, channels in ((np.float16, 1), (np.float32, 3), (np.float64, 3)):
        x, w = rng.standard_normal((2, 3, 4, 5)).astype(dtype), rng.standard_normal(channels).astype(dtype)
        expected = torch.nn.functional.prelu(torch.from_numpy(x), torch.from_numpy(w)).numpy()
        assert_within(prelu(x, w), expected, sum_tolerance(1, np.abs(x.astype(float)) * np.abs(w).max(), dtype))


class TestSoftmax:
    def test_by_hand(self):
        x = np.log(np.array([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]]))
        np.testing.assert_allclose(softmax(x, 1), [[0.125, 0.25, 0.625], [0.25, 0.25, 0.5]], rtol=1e-15)
        np.testing.assert_allclose(softmax(x, 0), [[1 / 2, 2 / 3, 5 / 7], [1 / 2, 1 / 3, 2 / 7]], rtol=1e-15)
        np.testing.assert_allclose(np.exp(log_softmax(x, -1)), softmax(x, -1), rtol=1e-15)

    @pytest.mark.parametrize("function", [softmax, log_softmax])
    def test_a_row_of_minus_infinity_or_with_infinity_is_nan(self, function):
        x = np.array([[-INF, -INF], [INF, 0], [NAN, 0]], np.float32)
        y = function(x, 1)
        assert np.isnan(y[[0, 2]]).all()
        assert np.isnan(y[1, 0])

    def test_the_largest_value_is_subtracted_first(self):
        x = np.array([[1000.0, 1000.0, -INF]], np.float32)
        assert softmax(x, 1).tolist() == [[0.5, 0.5, 0]]
        assert log_softmax(x, 1)[0, 0] == -np.float32(math.log(2))

    def test_float16_sums_in_float32(self):
        assert softmax(np.zeros((1, 4096), np.float16), 1)[0, 0] == np.float16(1 / 4096)

    def test_nothing(self):
        assert softmax(np.ones((2, 0)), 1).shape == (2, 0)
        assert softmax(np.ones((0, 2)), 1).shape == (0, 2)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_against_torch(self, torch, rng, dtype):
        for shape in ((7,), (3, 10), (2, 5, 6), (2, 3, 4, 5)):
            x = (5 * rng.standard_normal(shape)).astype(dtype)
            for axis in range(-1, len(shape)):
                count = shape[axis]
                # exp and log pass the rounding of their argument, at most 40 here, on to the result.
                magnitude = np.full(shape, 40.0)
                expected = torch.softmax(torch.from_numpy(x), axis).numpy()
                tolerance = sum_tolerance(count + 4, magnitude * expected.astype(float), dtype)
                assert_within(softmax(x, axis), expected, tolerance, (shape, axis))
                expected = torch.log_softmax(torch.from_numpy(x), axis).numpy()
                assert_within(log_softmax(x, axis), expected, sum_tolerance(count + 4, magnitude, dtype), (shape, axis))
