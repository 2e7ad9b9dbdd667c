"""Initial values: bounds, moments, and that a seed repeats them."""

import math

import numpy as np
import pytest

import fastconv as fc
from fastconv import nn
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import init
from fastconv.nn.random import manual_seed


@pytest.fixture(autouse=True)
def _seed():
    manual_seed(2016)


def weight(*shape, dtype=np.float32):
    return np.full(shape, np.nan, dtype)


def test_the_filters_of_a_layer_differ_from_each_other():
    filters = nn.Conv2d(3, 64, 3).weight.reshape(64, -1)
    assert len(np.unique(filters, axis=0)) == 64
    assert len(np.unique(filters)) > 0.99 * filters.size


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda: nn.Conv2d(8, 64, 3, groups=2), 4 * 9),
        (lambda: nn.ConvTranspose2d(8, 64, 3, groups=2), 32 * 9),
        (lambda: nn.Conv1d(8, 640, 5), 40),
        (lambda: nn.Linear(100, 300), 100),
        (lambda: nn.Bilinear(100, 20, 30), 100),
    ],
)
def test_default_values_are_uniform_within_one_over_root_fan_in(layer, fan_in):
    layer = layer()
    bound = 1 / math.sqrt(fan_in)
    assert 0.95 * bound < np.abs(layer.weight).max() <= bound * (1 + 1e-6)
    assert 0.7 * bound < np.abs(layer.bias).max() <= bound * (1 + 1e-6)
    assert abs(layer.weight.mean()) < 0.05 * bound
    assert layer.weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_a_seed_repeats_the_values():
    first = nn.Conv2d(3, 4, 3).weight
    assert not np.array_equal(first, nn.Conv2d(3, 4, 3).weight)
    assert manual_seed(2016) is init.default_generator
    np.testing.assert_array_equal(first, nn.Conv2d(3, 4, 3).weight)
    for seed in (-1, "x", 1.5):
        with pytest.raises(ArgumentError, match="seed: expected a non-negative integer"):
            manual_seed(seed)


def test_a_generator_can_be_given():
    values = [init.normal_(weight(5), generator=np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_are_filled_in_place_in_their_dtype(dtype):
    array = weight(40, 50, dtype=dtype)
    for fill in (init.uniform_, init.normal_, init.trunc_normal_, init.xavier_uniform_, init.kaiming_normal_):
        array[...] = np.nan
        assert fill(array) is array
        assert array.dtype == dtype
        assert np.isfinite(array).all()
    view = weight(6, 6)[::2, ::-1]
    assert init.ones_(view) is view
    assert view.sum() == 18


def test_moments():
    array = weight(400, 300)
    assert init.uniform_(array, 2, 4).mean() == pytest.approx(3, abs=0.01)
    assert 2 <= array.min() < array.max() <= 4
    init.normal_(array, 5, 0.5)
    assert (array.mean(), array.std()) == pytest.approx((5, 0.5), rel=0.01)
    init.trunc_normal_(array, 0, 1, -0.5, 1)
    assert -0.5 <= array.min() < array.max() <= 1
    assert init.xavier_uniform_(array, 2).max() == pytest.approx(2 * math.sqrt(6 / 700), rel=0.01)
    assert init.xavier_normal_(array).std() == pytest.approx(math.sqrt(2 / 700), rel=0.01)
    assert init.kaiming_uniform_(array, nonlinearity="relu").max() == pytest.approx(math.sqrt(6 / 300), rel=0.01)
    assert init.kaiming_normal_(array, mode="fan_out").std() == pytest.approx(math.sqrt(2 / 400), rel=0.01)


def test_fans():
    assert init.fans((6, 4, 3, 5)) == (60, 90)
    assert init.fans((6, 4)) == (4, 6)
    with pytest.raises(ArgumentError, match=r"need at least 2 axes, got \(6,\)"):
        init.fans((6,))


@pytest.mark.parametrize(
    ("nonlinearity", "param", "gain"),
    [
        ("linear", None, 1),
        ("conv_transpose2d", None, 1),
        ("sigmoid", None, 1),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", None, math.sqrt(2 / 1.0001)),
        ("leaky_relu", 0.2, math.sqrt(2 / 1.04)),
        ("selu", None, 0.75),
    ],
)
def test_gains(nonlinearity, param, gain):
    assert init.calculate_gain(nonlinearity, param) == pytest.approx(gain)


def test_patterns():
    np.testing.assert_array_equal(init.eye_(weight(2, 3)), np.eye(2, 3))
    assert init.constant_(weight(2), 0.3).tolist() == pytest.approx([0.3, 0.3])
    assert not init.zeros_(weight(2)).any()
    dirac = init.dirac_(weight(6, 2, 3, 3), groups=2)
    assert np.argwhere(dirac).tolist() == [[0, 0, 1, 1], [1, 1, 1, 1], [3, 0, 1, 1], [4, 1, 1, 1]]
    q = init.orthogonal_(weight(6, 2, 2), gain=2).reshape(6, 4)
    np.testing.assert_allclose(q.T @ q, 4 * np.eye(4), atol=1e-5)
    sparse = init.sparse_(weight(10, 7), 0.25)
    assert (sparse == 0).sum(axis=0).tolist() == [3] * 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.calculate_gain("swish"), "nonlinearity: expected leaky_relu or one of linear"),
        (lambda: init.calculate_gain("leaky_relu", True), "param: expected the negative slope as a number, got True"),
        (lambda: init.kaiming_normal_(weight(2, 2), mode="fan"), "mode: expected fan_in or fan_out, got 'fan'"),
        (lambda: init.trunc_normal_(weight(2), 0, 1, 9, 10), "holds next to nothing of a normal distribution"),
        (lambda: init.eye_(weight(2)), "tensor: expected 2 axes, got shape (2,)"),
        (lambda: init.dirac_(weight(3, 2, 3), groups=2), "the first divisible by 2, got shape (3, 2, 3)"),
        (lambda: init.orthogonal_(weight(2)), "tensor: expected at least 2 axes"),
        (lambda: init.sparse_(weight(2), 0.1), "tensor: expected 2 axes"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ArgumentError) as raised:
        call()
    assert message in str(raised.value)


def test_only_arrays_can_be_filled():
    with pytest.raises(ArgumentTypeError, match="expected a NumPy array to fill in place, got list"):
        init.uniform_([1.0])


def test_the_public_seed():
    assert fc.manual_seed(1) is init.default_generator
