import itertools

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, sum_tolerance

from fastconv.reference import (
    batch_norm,
    batch_norm_training,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
)

FLOATS = [np.float16, np.float32, np.float64]
SHAPES = [(4, 6), (4, 6, 9), (2, 6, 5, 7), (2, 6, 3, 4, 5)]


def column(values):
    """Channels of one pixel: (1, C, 1)."""
    return np.array(values, np.float64)[None, :, None]


class TestByHand:
    def test_batch_norm(self):
        x = np.array([[[1.0, 3.0], [10.0, 20.0]]])
        y = batch_norm(x, np.array([1.0, 10.0]), np.array([4.0, 25.0]), eps=0.0)
        assert y.tolist() == [[[0, 1], [0, 2]]]
        y = batch_norm(x, np.array([1.0, 10.0]), np.array([4.0, 25.0]), np.array([2.0, 3.0]), np.array([5.0, 7.0]), 0.0)
        assert y.tolist() == [[[5, 7], [7, 13]]]
        assert batch_norm(np.array([[3.0]]), np.array([1.0]), np.array([3.0]), eps=1.0).tolist() == [[1]]

    def test_batch_norm_training_returns_the_biased_variance(self):
        x = np.array([[[0.0, 2.0]], [[4.0, 6.0]]])
        y, mean, var = batch_norm_training(x, eps=0.0)
        assert (mean.tolist(), var.tolist()) == ([3], [5])
        assert_within(y, (x - 3) / np.sqrt(5), 1e-15)
        assert var * 4 / 3 == x.var(ddof=1)

    def test_float16_takes_float32_statistics(self):
        x = np.array([[2.0, 4.0]], np.float16)
        statistics = np.array([0.0, 1.0], np.float32), np.array([1.0, 4.0], np.float32)
        y = batch_norm(x, *statistics, eps=0.0)
        assert y.dtype == np.float16
        assert y.tolist() == [[2, 1.5]]
        assert batch_norm_training(x)[1].dtype == np.float32

    def test_layer_norm(self):
        x = np.array([[1.0, 3.0], [10.0, 30.0]])
        assert layer_norm(x, 2, eps=0.0).tolist() == [[-1, 1], [-1, 1]]
        assert layer_norm(x, (2,), np.array([2.0, 3.0]), np.array([1.0, 0.0]), eps=0.0).tolist() == [[-1, 3], [-1, 3]]
        whole = layer_norm(x, (2, 2), eps=0.0)
        assert_within(whole, (x - 11) / x.std(), 1e-15)

    def test_group_and_instance_norm(self):
        x = column([1, 3, 10, 30])
        assert group_norm(x, 2, eps=0.0)[0, :, 0].tolist() == [-1, 1, -1, 1]
        weight, bias = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0])
        assert group_norm(x, 2, weight, bias, eps=0.0)[0, :, 0].tolist() == [-1, 3, -3, 5]
        x = np.array([[[1.0, 3.0], [10.0, 30.0]]])
        assert instance_norm(x, eps=0.0).tolist() == [[[-1, 1], [-1, 1]]]

    def test_local_response_norm_averages_over_its_window(self):
        """alpha is divided by the size; a missing channel is a zero."""
        y = local_response_norm(column([1, 2, 3, 4]), 3, alpha=3.0, beta=1.0, k=1.0)
        assert_within(y, column([1 / 6, 2 / 15, 3 / 30, 4 / 26]), 1e-16)

    def test_an_even_window_has_its_extra_channel_before(self):
        """size // 2 before and (size - 1) // 2 after; ONNX the other way round."""
        x = column([1, 2, 3])
        y = local_response_norm(x, 2, alpha=2.0, beta=1.0, k=0.0)
        assert_within(y, column([1 / 1, 2 / 5, 3 / 13]), 1e-16)
        y = local_response_norm(x, 2, alpha=2.0, beta=1.0, k=0.0, longer_side="after")
        assert_within(y, column([1 / 5, 2 / 13, 3 / 9]), 1e-16)
        y = local_response_norm(column([1, 1, 1, 1, 1]), 4, alpha=4.0, beta=1.0, k=0.0)
        assert_within(y, column([1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 3]), 1e-16)

    def test_an_odd_window_has_no_longer_side(self, rng):
        x = rng.standard_normal((2, 7, 3))
        assert_within(local_response_norm(x, 5, longer_side="after"), local_response_norm(x, 5), 0.0)

    def test_a_constant_channel_becomes_its_bias(self):
        x = np.full((2, 3, 4), 5.0, np.float32)
        bias = np.array([1, 2, 3], np.float32)
        for y in (batch_norm_training(x, None, bias)[0], instance_norm(x, None, bias), group_norm(x, 1, None, bias)):
            assert_same_values(y, np.broadcast_to(bias[:, None], x.shape))

    def test_an_empty_batch(self):
        x = np.ones((0, 3, 4), np.float32)
        three = np.ones(3, np.float32)
        y, mean, var = batch_norm_training(x)
        assert y.shape == x.shape
        assert np.isnan(mean).all()
        assert np.isnan(var).all()
        for y in (batch_norm(x, three, three), group_norm(x, 1), layer_norm(x, 4), local_response_norm(x, 2)):
            assert y.shape == x.shape


@pytest.mark.parametrize("shape", SHAPES)
def test_normalised_values_have_mean_zero_and_variance_one(rng, shape):
    x = rng.standard_normal(shape) * 3 + 5
    y, mean, var = batch_norm_training(x, eps=0.0)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(mean, x.mean(axis=axes), rtol=1e-13)
    np.testing.assert_allclose(var, x.var(axis=axes), rtol=1e-13)
    for normalised, over in (
        (y, axes),
        (group_norm(x, 1, eps=0.0), tuple(range(1, x.ndim))),
        (layer_norm(x, shape[-1], eps=0.0), -1),
    ):
        np.testing.assert_allclose(normalised.mean(axis=over), 0, atol=1e-13)
        np.testing.assert_allclose(normalised.var(axis=over), 1, rtol=1e-12)


def normal(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def normalised_tolerance(x, mean, var, weight, bias, count, dtype):
    """How far two normalisations by statistics over `count` values may differ.

    The mean errs by gamma(count) of the mean magnitude, which is at most sqrt(mean ** 2 + var).  The variance errs by
    gamma(count + 2) of itself in two passes, and 1 + abs(mean) / sqrt(var) times that in one (Chan, Golub and LeVeque,
    The American Statistician 37, 1983); the root halves it.  Root, quotient, product and sums add six roundings.
    """
    deviation = np.sqrt(var)
    magnitude = (np.abs(x) + np.hypot(mean, deviation)) / deviation * np.abs(weight) + np.abs(bias)
    return sum_tolerance(count + 8, magnitude * (1 + np.abs(mean) / deviation), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
class TestAgainstTorch:
    def affine(self, rng, shape, dtype):
        weight, bias = normal(rng, shape[1], dtype), normal(rng, shape[1], dtype)
        broadcast = (-1, *[1] * (len(shape) - 2))
        return weight, bias, weight.reshape(broadcast).astype(float), bias.reshape(broadcast).astype(float)

    def test_batch_norm(self, torch, rng, shape, dtype):
        x = normal(rng, shape, dtype)
        weight, bias, wide_weight, wide_bias = self.affine(rng, shape, dtype)
        mean, var = normal(rng, shape[1], dtype), rng.uniform(0.5, 2, shape[1]).astype(dtype)
        expected = torch.nn.functional.batch_norm(*map(torch.from_numpy, (x, mean, var, weight, bias))).numpy()
        wide_mean, wide_var = (a.astype(float).reshape(wide_weight.shape) for a in (mean, var))
        tolerance = normalised_tolerance(x.astype(float), wide_mean, wide_var, wide_weight, wide_bias, 0, dtype)
        assert_within(batch_norm(x, mean, var, weight, bias), expected, tolerance)

    def test_batch_norm_training(self, torch, rng, shape, dtype):
        x = normal(rng, shape, dtype)
        weight, bias, wide_weight, wide_bias = self.affine(rng, shape, dtype)
        running = [torch.zeros(shape[1], dtype=torch.from_numpy(x).dtype) for _ in range(2)]
        tensors = [torch.from_numpy(a) for a in (x, weight, bias)]
        expected = torch.nn.functional.batch_norm(tensors[0], *running, *tensors[1:], True, 1.0).numpy()
        y, mean, var = batch_norm_training(x, weight, bias)
        axes = (0, *range(2, x.ndim))
        count = x.size // shape[1]
        wide = x.astype(float)
        wide_mean, wide_var = wide.mean(axis=axes, keepdims=True)[0], wide.var(axis=axes, keepdims=True)[0]
        tolerance = normalised_tolerance(wide, wide_mean, wide_var, wide_weight, wide_bias, count, dtype)
        assert_within(y, expected, tolerance)
        magnitude = np.abs(wide).mean(axis=axes)
        assert_within(mean.astype(dtype), running[0].numpy(), sum_tolerance(count, magnitude, dtype))
        unbiased = (var * count / (count - 1)).astype(dtype)
        assert_within(unbiased, running[1].numpy(), sum_tolerance(count + 6, 4 * (wide**2).mean(axis=axes), dtype))

    def test_group_and_instance_norm(self, torch, rng, shape, dtype):
        x = normal(rng, shape, dtype)
        weight, bias, wide_weight, wide_bias = self.affine(rng, shape, dtype)
        tensors = [torch.from_numpy(a) for a in (x, weight, bias)]
        wide = x.astype(float)
        for groups in (1, 2, 3, 6):
            if groups == 6 and len(shape) == 2:
                continue
            grouped = wide.reshape(shape[0], groups, -1)
            mean, var = (
                np.repeat(a, shape[1] // groups, axis=1).reshape(*shape[:2], *[1] * (len(shape) - 2))
                for a in (grouped.mean(axis=2), grouped.var(axis=2))
            )
            count = grouped.shape[2]
            tolerance = normalised_tolerance(wide, mean, var, wide_weight, wide_bias, count, dtype)
            expected = torch.nn.functional.group_norm(tensors[0], groups, *tensors[1:]).numpy()
            assert_within(group_norm(x, groups, weight, bias), expected, tolerance, groups)
        if len(shape) > 2:
            expected = torch.nn.functional.instance_norm(tensors[0], None, None, *tensors[1:]).numpy()
            assert_within(instance_norm(x, weight, bias), expected, tolerance)

    def test_layer_norm(self, torch, rng, shape, dtype):
        x = normal(rng, shape, dtype)
        wide = x.astype(float)
        for rank in range(1, len(shape)):
            normalized = shape[-rank:]
            weight, bias = normal(rng, normalized, dtype), normal(rng, normalized, dtype)
            expected = torch.nn.functional.layer_norm(
                torch.from_numpy(x), normalized, torch.from_numpy(weight), torch.from_numpy(bias)
            ).numpy()
            axes = tuple(range(-rank, 0))
            mean, var = wide.mean(axis=axes, keepdims=True), wide.var(axis=axes, keepdims=True)
            count = int(np.prod(normalized))
            tolerance = normalised_tolerance(wide, mean, var, weight.astype(float), bias.astype(float), count, dtype)
            assert_within(layer_norm(x, normalized, weight, bias), expected, tolerance, normalized)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])  # torch averages no float16 there
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_local_response_norm_against_torch(torch, rng, shape, dtype):
    x = normal(rng, shape, dtype)
    for size, (alpha, beta, k) in itertools.product((1, 2, 3, 4, 5), ((1e-4, 0.75, 1.0), (2.0, 0.5, 2.0))):
        expected = torch.nn.functional.local_response_norm(torch.from_numpy(x), size, alpha, beta, k).numpy()
        # The sum of positive squares has the relative error of its roundings; power and quotient add a few.
        tolerance = sum_tolerance(size + 8, np.abs(expected.astype(float)), dtype)
        assert_within(local_response_norm(x, size, alpha, beta, k), expected, tolerance, (size, alpha))
