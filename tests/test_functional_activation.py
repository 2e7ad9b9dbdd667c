"""Activations: the kernels against the reference, torch's values at the edges, torch itself, and what is refused."""

import math

import numpy as np
import pytest
from tolerance import assert_same_values

from fastconv import config, reference
from fastconv.errors import ArgumentError, ArgumentIndexError, ArgumentTypeError
from fastconv.nn import functional as F
from fastconv.nn.random import manual_seed
from fastconv.ops.elementwise import ACTIVATIONS, ELEMENTWISE, ElementwiseSpec

NAN, INF = np.nan, np.inf
EDGES = [NAN, INF, -INF, 0.0, -0.0, 1e-42, -1e-42, 1e-310, 3.0, -3.0, 6.0, 20.0, 20.5, 88.8, -88.8, -104.0, 1e30, -1e30]
SIZES = [*range(35), 63, 64, 65, 8191, 8192, 8193, 20001]


def relative(x, y):
    return np.abs(y)


def of_argument(x, y):
    """Where a large argument of exp passes its rounding on to the result."""
    return np.abs(y) * (1 + np.abs(x))


def of_difference(x, y):
    return np.abs(x)


# activation: its parameters, the largest error in units of eps of a magnitude, and that magnitude
ROWS = {
    "relu": ((), 0, relative),
    "relu6": ((), 0, relative),
    "hardtanh": ((-2.5, 0.5), 0, relative),
    "threshold": ((0.5, 7.0), 0, relative),
    "leaky_relu": ((0.25,), 0, relative),
    "hardshrink": ((0.5,), 0, relative),
    "softshrink": ((0.5,), 0, relative),
    "elu": ((1.3,), 4, relative),
    "selu": ((), 4, relative),
    "celu": ((0.7,), 8, relative),
    "sigmoid": ((), 4, relative),
    "logsigmoid": ((), 4, of_argument),
    "silu": ((), 5, relative),
    "tanh": ((), 4, relative),
    "mish": ((), 8, relative),
    "gelu": ((), 6, of_difference),
    "gelu_tanh": ((), 6, of_difference),
    "hardsigmoid": ((), 2, relative),
    "hardswish": ((), 3, relative),
    "softplus": ((1.5, 15.0), 4, of_argument),
    "softsign": ((), 3, relative),
    "tanhshrink": ((), 4, of_difference),
}
EXACT = [name for name, (_, units, _) in ROWS.items() if units == 0]
F_NAMES = {"gelu_tanh": ("gelu", {"approximate": "tanh"})}


def call(functions, name, x, parameters):
    torch_name, keywords = F_NAMES.get(name, (name, {}))
    return getattr(functions, torch_name)(x, *parameters, **keywords)


def values(rng, count, dtype):
    """Numbers of every size that matters, edges first."""
    spread = rng.standard_normal(count) * rng.choice([1e-4, 0.3, 3.0, 30.0], count)
    with np.errstate(over="ignore"):
        return np.concatenate([EDGES, spread]).astype(dtype)[:count]


def bound(x, y, units, magnitude):
    kind = np.finfo(x.dtype)
    wide = x.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return units * kind.eps * magnitude(wide, y) + (units > 0) * 2 * float(kind.smallest_subnormal) * (
            1 + np.abs(wide)
        )


def run_guarded(plan, x):
    """The plan's result for `x`, written over NaN, with sentinels on either side that have to stay."""
    memory = np.full(x.size + 32, NAN, x.dtype)
    memory[:16] = memory[-16:] = 12345
    y = memory[16:-16]
    plan(y, x)
    assert (memory[:16] == 12345).all()
    assert (memory[-16:] == 12345).all()
    return y


def test_every_activation_is_a_row():
    assert ROWS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ROWS)
def test_kernel_against_reference(isa, team, name, dtype, rng):
    parameters, units, magnitude = ROWS[name]
    whole = values(rng, max(SIZES), dtype)
    wide = np.float64 if units else dtype  # what is computed exactly has one right answer in its own type
    expected = ACTIVATIONS[name].reference(whole.astype(wide), *parameters)
    for size in SIZES:
        plan = ELEMENTWISE.rows[0].plan(ElementwiseSpec(name, size, np.dtype(dtype).name, parameters))
        y = run_guarded(plan, whole[:size])
        tolerance = bound(whole[:size], expected[:size], units, magnitude)
        assert_same_values(y, expected[:size].astype(dtype), tolerance, f"{name} {size} {dtype}")


@pytest.mark.parametrize("name", EXACT)
def test_exact_activations_keep_the_sign_of_zero(isa, name):
    x = np.array([0.0, -0.0] * 9, np.float32)
    y = call(F, name, x, ROWS[name][0])
    assert np.signbit(y).tolist() == np.signbit(ACTIVATIONS[name].reference(x, *ROWS[name][0])).tolist()


@pytest.mark.parametrize(
    "name", ["elu", "selu", "celu", "silu", "tanh", "mish", "gelu", "gelu_tanh", "hardswish", "softsign"]
)
def test_minus_zero_stays_where_the_function_is_x_near_zero(isa, name):
    y = call(F, name, np.full(17, -0.0, np.float32), ROWS[name][0])
    assert (y == 0).all()
    assert np.signbit(y).all()


@pytest.mark.parametrize("name", ROWS)
def test_same_bits_for_any_number_of_threads(isa, name, rng):
    x = values(rng, 100_003, np.float32)
    results = []
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            results += [call(F, name, x, ROWS[name][0]).tobytes() for _ in range(2)]
    assert len(set(results)) == 1


def test_gelu_keeps_its_relative_accuracy_in_the_tail(isa):
    x = np.linspace(-12, 0, 241)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    for dtype in (np.float32, np.float64):
        y = F.gelu(x.astype(dtype)).astype(np.float64)
        rounded = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in x.astype(dtype).astype(float)])
        assert (np.abs(y - rounded) <= (6 + 2 * x * x) * np.finfo(dtype).eps * np.abs(rounded)).all()
    assert_same_values(exact[-1], 0)


@pytest.mark.parametrize("name", ROWS)
def test_float16_is_computed_in_float32_and_rounded_once(name, rng):
    x = values(rng, 300, np.float16)
    parameters, _, _ = ROWS[name]
    expected = ACTIVATIONS[name].reference(x.astype(np.float32), *parameters)
    with np.errstate(over="ignore", invalid="ignore"):
        tolerance = np.finfo(np.float16).eps * np.abs(expected) + 2e-7
        assert_same_values(call(F, name, x, parameters), expected.astype(np.float16), tolerance)


class TestMemory:
    def test_the_result_keeps_the_memory_order(self, rng):
        x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
        channels_last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        for view in (channels_last, x.transpose(3, 1, 0, 2), np.asfortranarray(x)):
            y = F.relu(view)
            assert y.strides == view.strides
            assert_same_values(y, reference.relu(view))

    def test_any_strides(self, rng):
        x = rng.standard_normal((4, 6, 8)).astype(np.float32)
        for view in (x[::2], x[:, ::-1], x[..., 1:7:3], x.T[1:], np.broadcast_to(x[:1], x.shape), x[:0], x[0, 0, 0]):
            before = view.copy()
            assert_same_values(F.tanh(view), reference.tanh(view), 1e-6)
            assert_same_values(view, before)

    def test_unaligned_and_foreign_byte_order(self, rng):
        x = rng.standard_normal(40).astype(np.float32)
        unaligned = np.frombuffer(b"x" + x.tobytes(), np.float32, offset=1)
        for other in (unaligned, x.astype(">f4")):
            y = F.relu(other)
            assert y.dtype == np.float32
            assert_same_values(y, reference.relu(x))

    def test_inplace_changes_and_returns_the_array(self, rng):
        for name in ("relu", "relu6", "selu", "silu", "mish", "hardswish", "hardsigmoid"):
            x = rng.standard_normal((3, 50)).astype(np.float32)
            expected = getattr(F, name)(x)
            assert getattr(F, name)(x, inplace=True) is x
            assert_same_values(x, expected)

    def test_inplace_on_a_view_changes_what_it_views(self, rng):
        x = rng.standard_normal((6, 8)).astype(np.float32)
        expected = x.copy()
        expected[::2, 1:] = reference.leaky_relu(x[::2, 1:], 0.5)
        view = x[::2, 1:]
        assert F.leaky_relu(view, 0.5, True) is view
        assert_same_values(x, expected)
        turned = x.T
        assert F.relu(turned, inplace=True) is turned
        assert_same_values(x, reference.relu(expected))

    def test_inplace_leaves_a_read_only_array_alone(self):
        x = np.array([-1.0, 2.0], np.float32)
        x.flags.writeable = False
        assert F.relu(x, inplace=True).tolist() == [0, 2]
        assert x.tolist() == [-1, 2]


class TestElementTypes:
    """Integers as torch takes them."""

    def test_clipping_and_threshold_stay_integer(self):
        x = np.array([-9, 0, 5, 9])
        for dtype in (np.int8, np.int64):
            assert F.relu(x.astype(dtype)).tolist() == [0, 0, 5, 9]
            assert F.relu6(x.astype(dtype)).tolist() == [0, 0, 5, 6]
            assert F.hardtanh(x.astype(dtype)).tolist() == [-1, 0, 1, 1]
            assert F.threshold(x.astype(dtype), 1, 7).tolist() == [7, 7, 5, 9]
            assert F.relu(x.astype(dtype)).dtype == dtype

    @pytest.mark.parametrize("name", ["sigmoid", "tanh", "softsign", "tanhshrink"])
    def test_some_make_float32_of_integers(self, name):
        x = np.array([-2, 0, 3])
        y = getattr(F, name)(x)
        assert y.dtype == np.float32
        assert_same_values(y, getattr(reference, name)(x.astype(np.float32)), 1e-6)

    @pytest.mark.parametrize(
        "name",
        [
            "leaky_relu",
            "elu",
            "selu",
            "celu",
            "gelu",
            "silu",
            "mish",
            "hardswish",
            "hardsigmoid",
            "softplus",
            "logsigmoid",
        ],
    )
    def test_others_refuse_integers(self, name):
        with pytest.raises(
            ArgumentTypeError, match=r"input: expected floating point, got elements of type int64; convert"
        ):
            getattr(F, name)(np.array([-2, 0, 3]))

    def test_bool_and_complex_are_refused(self):
        for dtype in (bool, complex):
            with pytest.raises(ArgumentTypeError, match="input: expected real numbers, got elements of type"):
                F.relu(np.ones(2, dtype))

    def test_no_array_is_refused(self):
        with pytest.raises(ArgumentTypeError, match=r"input: expected an array, got list; wrap it in numpy\.asarray"):
            F.relu([1.0])

    def test_torch_tensors_come_as_they_are(self, torch):
        y = F.relu(torch.tensor([-1.0, 2.0]))
        assert isinstance(y, np.ndarray)
        assert y.tolist() == [0, 2]


class TestRefusals:
    @pytest.mark.parametrize(
        ("function", "arguments", "message"),
        [
            (F.hardtanh, (2, 1), r"max_val: expected at least min_val \(2\), got 1"),
            (F.hardtanh, (NAN, 1), r"max_val: expected at least min_val \(nan\), got 1"),
            (F.celu, (0,), "alpha: expected a number other than 0"),
            (F.softplus, (0,), "beta: expected a number other than 0"),
            (F.softshrink, (-1,), "lambd: expected 0 or more, got -1.0"),
            (F.gelu, ("erf",), "approximate: expected 'none' or 'tanh', got 'erf'"),
            (F.rrelu, (0.5, 0.25), r"upper: expected at least lower \(0.5\), got 0.25"),
            (F.glu, (1,), r"dim: expected an axis of even size to halve, got size 3 of shape \(2, 3\)"),
        ],
    )
    def test_values(self, function, arguments, message):
        with pytest.raises(ArgumentError, match=message):
            function(np.ones((2, 3), np.float32), *arguments)

    def test_unsigned_integers_have_no_negative_limit(self):
        with pytest.raises(ArgumentError, match="min_val: expected 0 or more for an input of uint8, got -1"):
            F.hardtanh(np.ones(2, np.uint8))

    def test_numbers(self):
        with pytest.raises(ArgumentTypeError, match="negative_slope: expected a number, got 'steep'"):
            F.leaky_relu(np.ones(2), "steep")

    def test_axes(self):
        x = np.ones((2, 4), np.float32)
        with pytest.raises(ArgumentIndexError, match="dim: expected -2 to 1 for an input of 2 axes, got 2"):
            F.glu(x, 2)
        with pytest.raises(ArgumentTypeError, match=r"dim: expected an integer, got 0\.5"):
            F.glu(x, 0.5)

    def test_prelu(self):
        x = np.ones((2, 3), np.float32)
        with pytest.raises(
            ArgumentError, match=r"weight: expected 1 value or 3, one per channel of input \(2, 3\), got 2"
        ):
            F.prelu(x, np.ones(2, np.float32))
        with pytest.raises(ArgumentError, match=r"weight: expected one axis \(C,\), got shape \(3, 1\)"):
            F.prelu(x, np.ones((3, 1), np.float32))
        with pytest.raises(
            ArgumentTypeError, match="input and weight: expected one element type, got float32 and float64"
        ):
            F.prelu(x, np.ones(3))


class TestEdges:
    """TORCH_SEMANTICS.md, section 1.3: the literal values."""

    def test_relu_keeps_nan_and_minus_zero(self, isa):
        y = F.relu(np.array([NAN, -0.0, -1.0, INF, -INF] * 7, np.float32))
        assert_same_values(y, [NAN, 0, 0, INF, 0] * 7)
        assert np.signbit(y[1::5]).all()

    def test_clipping_keeps_nan(self, isa):
        for function in (F.relu6, F.hardtanh):
            assert np.isnan(function(np.full(20, NAN))).all()

    def test_minus_infinity_times_zero_is_nan(self, isa):
        for function in (F.silu, F.gelu, F.hardswish, F.mish):
            assert_same_values(function(np.array([-INF, INF] * 10, np.float32)), [NAN, INF] * 10)

    def test_softplus_is_linear_above_its_threshold(self, isa):
        x = np.array([20.5, 500.0, 1e30], np.float32)
        assert F.softplus(x).tolist() == x.tolist()
        assert F.softplus(np.ones(1), 1.0, 0.5).tolist() == [1]

    def test_prelu(self, isa, team, rng):
        for shape in ((3, 5), (2, 3, 9000), (2, 3, 4, 5), (300, 40)):
            x = rng.standard_normal(shape).astype(np.float32)
            weight = rng.standard_normal(shape[1]).astype(np.float32)
            assert_same_values(F.prelu(x, weight), reference.prelu(x, weight))
            assert_same_values(F.prelu(x, weight[:1]), reference.prelu(x, weight[:1]))
        channels_last = np.moveaxis(rng.standard_normal((2, 7, 5, 19)).astype(np.float32), -1, 1)
        weight = rng.standard_normal(19).astype(np.float32)
        assert F.prelu(channels_last, weight).strides == channels_last.strides
        assert_same_values(F.prelu(channels_last, weight), reference.prelu(channels_last, weight))

    def test_glu_is_the_first_half_gated_by_the_second(self):
        x = np.array([[1.0, 2.0, 0.0, math.log(3)]])
        assert_same_values(F.glu(x), [[0.5, 1.5]], 1e-15)
        assert_same_values(F.glu(x.T, 0), [[0.5], [1.5]], 1e-15)

    def test_rrelu(self):
        x = np.full(1000, -1.0)
        assert_same_values(F.rrelu(x), np.full(1000, -11 / 48), 1e-16)
        manual_seed(1)
        y = F.rrelu(x, 0.1, 0.3, training=True)
        assert ((y >= -0.3) & (y <= -0.1)).all()
        assert len(set(y.tolist())) > 900
        manual_seed(1)
        assert F.rrelu(x, 0.1, 0.3, True, inplace=True) is x
        assert x.tolist() == y.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ROWS)
def test_against_torch(torch, rng, name, dtype):
    parameters, units, magnitude = ROWS[name]
    for shape in ((), (0, 3), (5,), (2, 3, 4, 5), (3, 333)):
        x = values(rng, max(math.prod(shape), 1), dtype)[: math.prod(shape)].reshape(shape)
        if name.startswith("gelu"):
            x = np.where(x == INF, 1, x).astype(dtype)  # torch 2.13 gives NaN where it computes 16 values at once
        expected = call(torch.nn.functional, name, torch.from_numpy(x), parameters).numpy()
        y = call(F, name, x, parameters)
        assert y.dtype == expected.dtype
        wide = np.abs(expected.astype(np.float64))
        with np.errstate(invalid="ignore", over="ignore"):
            tolerance = (
                bound(x, wide, 6 + 2 * units, magnitude) + 2 * (1 + np.abs(x.astype(float))) * np.finfo(dtype).eps
            )
        assert_same_values(y, expected, tolerance, name)
