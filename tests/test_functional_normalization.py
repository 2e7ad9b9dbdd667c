"""Normalisation: the kernels against the reference and torch, torch's semantics, and what is refused."""

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, sum_tolerance

from fastconv import config, reference
from fastconv.errors import ArgumentError, ArgumentIndexError, ArgumentTypeError
from fastconv.nn import functional as F
from fastconv.ops import channelwise
from fastconv.ops.normalization import COLUMN_NORM, LOCAL_RESPONSE, ROW_NORM, ColumnSpec, ResponseSpec, RowSpec

NAN, INF = np.nan, np.inf
FLOATS = [np.float32, np.float64]
SHAPES = [
    (3, 1),
    (5, 17),
    (40, 600),
    (2, 3, 1),
    (2, 5, 31),
    (2, 4, 9, 11),
    (1, 3, 70, 130),
    (2, 3, 4, 5, 6),
    (2, 65, 7, 7),
]


def parameters(rng, channels, dtype):
    mean, weight, bias = (rng.standard_normal(channels).astype(dtype) for _ in range(3))
    return mean, rng.uniform(0.5, 2, channels).astype(dtype), weight, bias


def affine_tolerance(x, mean, var, weight, bias, terms):
    """`terms` roundings of what is added up: a normalised value scaled, and the bias."""
    per_channel = [
        np.abs(np.asarray(v, np.float64)).reshape(-1, *[1] * (x.ndim - 2)) for v in (mean, var, weight, bias)
    ]
    mean, var, weight, bias = per_channel
    magnitude = (np.abs(x.astype(np.float64)) + mean) / np.sqrt(var) * weight + bias
    return sum_tolerance(terms, magnitude, x.dtype)


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
class TestBatchNorm:
    def test_evaluation(self, isa, team, shape, dtype, rng):
        x = rng.standard_normal(shape).astype(dtype)
        mean, var, weight, bias = parameters(rng, shape[1], dtype)
        tolerance = affine_tolerance(x, mean, var, weight, bias, 6)
        for w, b in ((weight, bias), (weight, None), (None, bias), (None, None)):
            expected = reference.batch_norm(x, mean, var, w, b)
            loose = tolerance + affine_tolerance(x, mean, var, np.ones(1), np.zeros(1), 6)
            for view in (x, channels_last(x), x[::-1][::-1], np.asfortranarray(x)):
                assert_same_values(F.batch_norm(view, mean, var, w, b), expected, loose)
            rectified = channelwise.batch_norm(x, mean, var, w, b, 1e-5, relu=True)
            assert_same_values(rectified, reference.relu(expected), loose)

    def test_moments(self, isa, team, shape, dtype, rng):
        count = int(np.prod(shape)) // shape[1]
        x = (rng.standard_normal(shape) + 10).astype(dtype)
        mean, var = channelwise.moments(x)
        wide = x.astype(np.float64)
        axes = (0, *range(2, x.ndim))
        assert_same_values(mean, wide.mean(axis=axes), sum_tolerance(count, np.abs(wide).mean(axis=axes), dtype))
        spread = np.square(wide - wide.mean(axis=axes, keepdims=True)).mean(axis=axes)
        tolerance = sum_tolerance(count + 4, spread, dtype) + (count * np.finfo(dtype).eps * 10) ** 2
        assert_same_values(var, wide.var(axis=axes), tolerance)

    def test_training(self, shape, dtype, rng):
        count = int(np.prod(shape)) // shape[1]
        x = rng.standard_normal(shape).astype(dtype)
        mean, var, weight, bias = parameters(rng, shape[1], dtype)
        before = mean.copy(), var.copy()
        y = F.batch_norm(x, mean, var, weight, bias, training=True, momentum=0.3)
        expected, batch_mean, batch_var = reference.batch_norm_training(x, weight, bias)
        tolerance = affine_tolerance(x, np.abs(x).max(), np.minimum(batch_var, 1), weight, bias, count + 8)
        assert_same_values(y, expected, tolerance)
        unbiased = batch_var * count / (count - 1)
        for running, old, new in ((mean, before[0], batch_mean), (var, before[1], unbiased)):
            assert running.dtype == dtype
            assert_same_values(running, 0.7 * old + 0.3 * new, sum_tolerance(count + 4, 4 + np.abs(old), dtype))


class TestBatchNormSemantics:
    """TORCH_SEMANTICS.md, section 1.3: the literal values."""

    def test_the_biased_variance_normalises_and_the_unbiased_one_is_kept(self):
        x = np.array([[[0.0, 2.0]], [[4.0, 6.0]]])
        mean, var = np.zeros(1), np.ones(1)
        y = F.batch_norm(x, mean, var, training=True, momentum=0.1, eps=0.0)
        assert_same_values(y, (x - 3) / np.sqrt(5), 1e-15)
        assert_same_values(mean, [0.3], 1e-16)
        assert_same_values(var, [0.9 + 0.1 * 20 / 3], 1e-15)

    def test_without_running_arrays(self):
        x = np.array([[1.0], [3.0]])
        assert_same_values(F.batch_norm(x, None, None, training=True, eps=0.0), [[-1], [1]])

    def test_one_value_per_channel_has_no_statistics(self):
        for shape in ((1, 3), (1, 3, 1), (1, 3, 1, 1)):
            with pytest.raises(ArgumentError, match="input: training needs more than one value per channel for its"):
                F.batch_norm(np.ones(shape), None, None, training=True)

    def test_an_empty_batch(self):
        mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
        for training in (False, True):
            assert F.batch_norm(np.ones((0, 3, 2), np.float32), mean, var, training=training).shape == (0, 3, 2)
        assert (mean.tolist(), var.tolist()) == ([0] * 3, [1] * 3)

    def test_float16_goes_with_either_type_of_parameters(self):
        x = np.array([[2.0, 4.0]], np.float16)
        for kind in (np.float16, np.float32):
            mean, var = np.array([0.0, 1.0], kind), np.array([1.0, 4.0], kind)
            y = F.batch_norm(x, mean, var, eps=0.0)
            assert (y.dtype, y.tolist()) == (np.float16, [[2, 1.5]])

    def test_a_large_mean_does_not_cancel(self, isa):
        x = (np.float32(1e4) + np.arange(16, dtype=np.float32)).reshape(1, 1, 16)
        mean, var = np.array([1e4 + 7], np.float32), np.ones(1, np.float32)
        y = F.batch_norm(x, mean, var, eps=0.0)
        assert y.ravel().tolist() == list(range(-7, 9))

    def test_nan_and_infinity_stay_in_their_channel(self, isa):
        x = np.zeros((2, 3, 40), np.float32)
        x[0, 1, 39], x[1, 1, 3] = NAN, INF
        zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
        y = F.batch_norm(x, zero, one)
        assert (np.isnan(y) == np.isnan(x)).all()
        assert y[1, 1, 3] == INF
        trained = F.batch_norm(x, None, None, training=True)
        assert np.isnan(trained[:, 1]).all()
        assert (trained[:, [0, 2]] == 0).all()

    def test_a_channel_of_one_value_becomes_its_bias(self, isa):
        bias = np.array([1, 2, 3], np.float32)
        y = F.batch_norm(np.full((2, 3, 5), 7, np.float32), None, None, None, bias, True)
        assert_same_values(y, np.broadcast_to(bias[:, None], y.shape))

    def test_the_memory_order_stays(self, rng):
        x = channels_last(rng.standard_normal((2, 3, 4, 5)).astype(np.float32))
        zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
        assert F.batch_norm(x, zero, one).strides == x.strides


# rows: outer, groups, channels, inner
ROWS = [(4, 1, n, 1) for n in (1, 2, 15, 16, 17, 33, 768, 5000)] + [
    (2, 3, 4, 50),
    (3, 5, 1, 49),
    (1, 2, 33, 9),
    (2, 1, 3, 3000),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sizes", ROWS)
def test_rows(isa, team, sizes, dtype, rng):
    outer, groups, channels, inner = sizes
    x = (rng.standard_normal((outer, groups * channels, inner)) + 2).astype(dtype)
    weight, bias = (rng.standard_normal(groups * channels).astype(dtype) for _ in range(2))
    wide = x.astype(np.float64).reshape(outer, groups, -1)
    count = channels * inner
    for centred in (True, False):
        if not centred and (groups, inner) != (1, 1):
            continue
        spec = RowSpec(outer, groups, channels, inner, np.dtype(dtype).name, 1e-5, centred)
        rows = [row.plan(spec) for row in ROW_NORM.rows]
        results = [np.full(x.shape, NAN, dtype) for _ in rows]
        for plan, y in zip(rows, results, strict=True):
            plan(y, x, weight, bias if centred else np.zeros_like(bias))
        deviation = np.sqrt(wide.var(axis=2, keepdims=True) + 1e-5)
        scaled = (np.abs(wide) + np.abs(wide.mean(axis=2, keepdims=True))) / deviation
        magnitude = (scaled * (1 + 1 / deviation)).reshape(x.shape) * np.abs(weight)[:, None] + np.abs(bias)[:, None]
        assert_same_values(results[0], results[1], sum_tolerance(2 * count + 12, magnitude, dtype), (sizes, centred))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("inner", [1, 3, 4, 15, 16, 17, 32, 33, 49, 63, 64, 65, 200])
def test_columns(isa, team, inner, dtype, rng):
    outer, channels = 3, 37
    x = (rng.standard_normal((outer, channels, inner)) + 2).astype(dtype)
    weight, bias = (rng.standard_normal(channels).astype(dtype) for _ in range(2))
    spec = ColumnSpec(outer, channels, inner, np.dtype(dtype).name, 1e-5)
    memory = np.full(x.size + 32, 12345, dtype)
    y = memory[16:-16].reshape(x.shape)
    COLUMN_NORM.rows[0].plan(spec)(y, x, weight, bias)
    assert (memory[:16] == 12345).all()
    assert (memory[-16:] == 12345).all()
    wide = x.astype(np.float64)
    mean, deviation = wide.mean(axis=1, keepdims=True), np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5)
    expected = (wide - mean) / deviation * weight[:, None] + bias[:, None]
    scaled = (np.abs(wide) + np.abs(mean)) / deviation * (1 + 1 / deviation)
    tolerance = sum_tolerance(2 * channels + 12, scaled * np.abs(weight)[:, None] + np.abs(bias)[:, None], dtype)
    assert_same_values(y, expected.astype(dtype), tolerance, inner)
    in_place = x.copy()
    COLUMN_NORM.rows[0].plan(spec)(in_place, in_place, weight, bias)
    assert in_place.tobytes() == y.tobytes()
    reference_y = np.full(x.shape, NAN, dtype)
    COLUMN_NORM.rows[1].plan(spec)(reference_y, x, weight, bias)
    assert_same_values(reference_y, expected.astype(dtype), tolerance, inner)


def test_layer_group_instance_and_rms_norm_are_rows(rng):
    x = rng.standard_normal((2, 6, 5, 7)).astype(np.float32)
    weight, bias = (rng.standard_normal(6).astype(np.float32) for _ in range(2))
    assert_within(F.group_norm(x, 3, weight, bias), reference.group_norm(x, 3, weight, bias), 1e-5)
    assert_within(F.instance_norm(x, None, None, weight, bias), reference.instance_norm(x, weight, bias), 1e-5)
    for shape in ((7,), (5, 7), (6, 5, 7)):
        w, b = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        for view in (x, np.asfortranarray(x)):
            assert_within(F.layer_norm(view, shape, w, b), reference.layer_norm(x, shape, w, b), 1e-5)
            assert_within(F.rms_norm(view, shape, w, 1e-6), reference.rms_norm(x, shape, w, 1e-6), 1e-5)
    assert_within(F.layer_norm(x, 7), reference.layer_norm(x, 7), 1e-5)
    zeros = np.zeros((2, 7), np.float32)
    assert_same_values(F.rms_norm(zeros, 7), zeros)


class TestInstanceNormStatistics:
    def test_running_arrays_move_to_the_average_of_the_samples(self):
        x = np.array([[[0.0, 2.0]], [[4.0, 8.0]]])
        mean, var = np.zeros(1), np.ones(1)
        y = F.instance_norm(x, mean, var, momentum=0.5, eps=0.0)
        assert y.tolist() == [[[-1, 1]], [[-1, 1]]]
        assert (mean.tolist(), var.tolist()) == ([1.75], [0.5 + 0.5 * 5])
        y = F.instance_norm(x, np.array([1.0]), np.array([4.0]), use_input_stats=False, eps=0.0)
        assert_same_values(y, (x - 1) / 2)

    def test_one_spatial_element_has_no_statistics(self):
        for shape in ((2, 3), (2, 3, 1), (1, 3, 1, 1)):
            with pytest.raises(ArgumentError, match="input: instance norm needs more than one spatial element"):
                F.instance_norm(np.ones(shape))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.3, 2.0])
def test_local_response(isa, team, beta, dtype, rng):
    for images, channels, inner in (
        (1, 1, 1),
        (2, 7, 1),
        (1, 33, 17),
        (2, 6, 255),
        (1, 5, 256),
        (1, 5, 257),
        (1, 4, 3000),
    ):
        x = (3 * rng.standard_normal((images, channels, inner))).astype(dtype)
        for size in (1, 2, 3, 5, 6, 40):
            spec = ResponseSpec(images, channels, inner, size, 2.0, beta, 1.5, np.dtype(dtype).name)
            y = np.full(x.shape, NAN, dtype)
            LOCAL_RESPONSE.rows[0].plan(spec)(y, x)
            expected = reference.local_response_norm(x, size, 2.0, beta, 1.5)
            # exp(beta log(d)) passes the rounding of beta log(d), at most 2 * log(1000), on to the result.
            tolerance = sum_tolerance(size + 24, np.abs(expected.astype(float)), dtype)
            assert_same_values(y, expected, tolerance, (channels, inner, size))


class TestLocalResponseSemantics:
    """TORCH_SEMANTICS.md, section 1.3: the literal values."""

    def test_alpha_is_divided_by_the_size_and_an_even_window_has_more_before(self, isa):
        x = np.array([1.0, 2.0, 3.0])[None, :, None]
        y = F.local_response_norm(x, 3, alpha=3.0, beta=1.0, k=1.0)
        assert_same_values(y.ravel(), [1 / 6, 2 / 15, 3 / 14], 1e-16)
        y = F.local_response_norm(x, 2, alpha=2.0, beta=1.0, k=0.0)
        assert_same_values(y.ravel(), [1 / 1, 2 / 5, 3 / 13], 1e-16)

    def test_infinity_does_not_reach_beyond_its_window(self, isa):
        x = np.ones((1, 8, 20), np.float32)
        x[0, 2] = INF
        for beta in (0.75, 0.3):
            y = F.local_response_norm(x, 3, beta=beta)
            assert np.isnan(y[0, 2]).all()
            assert (y[0, [1, 3]] == 0).all()
            assert (y[0, [0, 4, 5, 6, 7]] > 0.9).all()

    def test_nothing_to_divide_by(self, isa):
        x = np.zeros((1, 2, 20))
        for beta in (0.75, 0.3):
            assert np.isnan(F.local_response_norm(x, 3, beta=beta, k=0.0)).all()


class TestNormalize:
    def test_by_hand(self):
        x = np.array([[3.0, 4.0], [0.0, 0.0]])
        assert F.normalize(x).tolist() == [[0.6, 0.8], [0, 0]]
        assert F.normalize(x, dim=0).tolist() == [[1, 1], [0, 0]]
        assert F.normalize(x, p=1).tolist() == [[3 / 7, 4 / 7], [0, 0]]
        assert F.normalize(x, p=INF).tolist() == [[0.75, 1], [0, 0]]
        assert F.normalize(x, p=0).tolist() == [[1.5, 2], [0, 0]]
        assert F.normalize(x, dim=(0, 1)).tolist() == [[0.6, 0.8], [0, 0]]

    def test_out(self):
        x, out = np.array([[3.0, 4.0]]), np.zeros((1, 2))
        assert F.normalize(x, out=out) is out
        assert out.tolist() == [[0.6, 0.8]]

    def test_axes(self):
        with pytest.raises(ArgumentIndexError, match="dim: expected -1 to 0 for an input of 1 axes, got 1"):
            F.normalize(np.ones(3))


@pytest.mark.parametrize("shape", [(8, 64, 28, 28), (3, 5, 50_000), (5000, 30)])
def test_same_bits_for_any_number_of_threads(isa, shape, rng):
    x = rng.standard_normal(shape).astype(np.float32)
    mean, var, weight, bias = parameters(rng, shape[1], np.float32)
    calls = [
        lambda: F.batch_norm(x, mean, var, weight, bias),
        lambda: F.batch_norm(x, None, None, weight, bias, training=True),
        lambda: F.group_norm(x, 1, weight, bias),
        lambda: F.layer_norm(x, shape[-1:]),
        lambda: F.local_response_norm(x[..., None], 5),
        lambda: F.prelu(x, weight),
    ]
    for call in calls:
        results = []
        for threads in (1, 2, 3, 7):
            with config.threads(threads):
                results += [call().tobytes() for _ in range(2)]
        assert len(set(results)) == 1


def test_against_torch(torch, rng):
    functions = torch.nn.functional
    for dtype, units in ((np.float16, 4), (np.float32, 40), (np.float64, 40)):
        eps = units * np.finfo(dtype).eps
        for shape in ((4, 6), (2, 6, 9), (3, 6, 5, 7), (2, 6, 3, 4, 5)):
            x = rng.standard_normal(shape).astype(dtype)
            mean, var, weight, bias = parameters(rng, 6, dtype)
            running = [torch.from_numpy(a.copy()) for a in (mean, var)]
            t, *numbers = (torch.from_numpy(a) for a in (x, mean, var, weight, bias))
            pairs = [
                (F.batch_norm(x, mean, var, weight, bias), functions.batch_norm(t, *numbers)),
                (
                    F.batch_norm(x, mean, var, weight, bias, True, 0.2),
                    functions.batch_norm(t, *running, *numbers[2:], True, 0.2),
                ),
                (mean, running[0]),
                (var, running[1]),
                (F.group_norm(x, 2, weight, bias), functions.group_norm(t, 2, *numbers[2:])),
                (F.layer_norm(x, shape[1:]), functions.layer_norm(t, shape[1:])),
                (F.rms_norm(x, shape[-1:]), functions.rms_norm(t, shape[-1:])),
                (F.normalize(x, 3.0), functions.normalize(t, 3.0)),
            ]
            if len(shape) > 2:
                pairs.append((F.instance_norm(x, bias=bias), functions.instance_norm(t, bias=numbers[3])))
                if dtype != np.float16:
                    pairs.append((F.local_response_norm(x, 4, 0.1), functions.local_response_norm(t, 4, 0.1)))
            for i, (actual, expected) in enumerate(pairs):
                assert_within(actual, expected.numpy(), eps * (1 + np.abs(actual.astype(float))) * 4, (i, shape, dtype))


class TestRefusals:
    x = np.ones((2, 3, 4), np.float32)
    three, four = np.ones(3, np.float32), np.ones(4, np.float32)

    def check(self, message, function, *arguments, error=ArgumentError, **keywords):
        with pytest.raises(error, match=message):
            function(*arguments, **keywords)

    def test_batch_norm(self):
        x, three, four = self.x, self.three, self.four
        self.check(r"input: expected \(N, C, ...\), got shape \(3,\)", F.batch_norm, three, three, three)
        self.check(
            r"running_mean: expected shape \(3,\) for an input of shape \(2, 3, 4\), got \(4,\)",
            F.batch_norm,
            x,
            four,
            three,
        )
        self.check(r"weight: expected shape \(3,\)", F.batch_norm, x, three, three, four)
        self.check("running_mean, running_var: expected both or neither", F.batch_norm, x, None, three, training=True)
        self.check("running_mean: expected an array unless training=True", F.batch_norm, x, None, None)
        self.check(
            "input and running_mean: expected one element type, got float64 and float32",
            F.batch_norm, x.astype(float), three, three, error=ArgumentTypeError,
        )  # fmt: skip
        self.check("input: expected floating point", F.batch_norm, x.astype(int), three, three, error=ArgumentTypeError)

    def test_running_arrays_that_cannot_be_updated(self):
        fixed = self.three.copy()
        fixed.flags.writeable = False
        self.check(
            "running_mean: training updates this array in place, and it is read-only",
            F.batch_norm, self.x, fixed, self.three.copy(), training=True,
        )  # fmt: skip

    def test_the_others(self):
        x, four = self.x, self.four
        self.check(r"num_groups: 2 groups do not divide the 3 channels of input \(2, 3, 4\)", F.group_norm, x, 2)
        self.check("num_groups: expected at least 1, got 0", F.group_norm, x, 0)
        self.check(r"input: expected \(N, C, ...\), got shape \(4,\)", F.group_norm, four, 1)
        self.check("input: a group needs more than one value", F.group_norm, np.ones((1, 4, 1)), 4)
        self.check(r"input: expected the last axes \(3,\) of normalized_shape", F.layer_norm, x, 3)
        self.check(r"input: expected the last axes \(1, 2, 3, 4\)", F.layer_norm, x, (1, 2, 3, 4))
        self.check("normalized_shape: expected at least one size", F.layer_norm, x, ())
        self.check(r"weight: expected shape \(4,\)", F.layer_norm, x, 4, self.three)
        self.check(r"input: expected the last axes \(3,\)", F.rms_norm, x, 3)
        self.check(r"input: expected \(N, C, \*spatial\), got shape \(2, 3\)", F.local_response_norm, x[..., 0], 2)
        self.check("size: expected at least 1, got 0", F.local_response_norm, x, 0)
        self.check("beta: expected a number, got None", F.local_response_norm, x, 2, beta=None, error=ArgumentTypeError)

    def test_empty_arrays(self):
        none = np.ones(0, np.float32)
        for shape in ((0, 0), (2, 0), (2, 0, 3), (0, 0, 0)):
            x = np.ones(shape, np.float32)
            assert F.batch_norm(x, none, none, none, none).shape == shape
            assert F.batch_norm(x, None, None, training=True).shape == shape
            assert F.prelu(x, none).shape == shape
        for call in (lambda x: F.layer_norm(x, 4), lambda x: F.group_norm(x, 3), F.instance_norm, F.normalize):
            assert call(self.x[:0]).shape == (0, 3, 4)
        assert F.local_response_norm(self.x[:0], 2).shape == (0, 3, 4)
        assert F.layer_norm(self.x[..., :0], 0).shape == (2, 3, 0)
