"""Dropout: what stays, what goes, and what is refused."""

import math

import numpy as np
import pytest
from tolerance import assert_same_values

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import functional as F
from fastconv.nn.random import manual_seed

NAN, INF = np.nan, np.inf
EVERY_VALUE = [F.dropout, F.alpha_dropout]
CHANNELS = {F.dropout1d: (2, 50, 3), F.dropout2d: (2, 50, 3, 4), F.dropout3d: (2, 50, 3, 4, 2)}
ALL = [*EVERY_VALUE, *CHANNELS, F.feature_alpha_dropout]


def ones_for(function):
    return np.ones(CHANNELS.get(function, (2, 50, 3)), np.float32)


@pytest.mark.parametrize("function", ALL)
def test_outside_training_and_without_probability_the_input_itself(function):
    x = ones_for(function)
    assert function(x, 0.5, False) is x
    assert function(x, 0.0, True) is x
    assert (x == 1).all()


def test_training_is_the_default_of_dropout_and_not_of_alpha_dropout():
    x = np.ones(1000, np.float32)
    assert (F.dropout(x) == 0).any()
    assert F.alpha_dropout(x) is x
    assert F.feature_alpha_dropout(x[None]).base is x


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_are_zero_or_grow(dtype):
    manual_seed(3)
    y = F.dropout(np.full(100_000, 3.0, dtype), 0.25)
    assert y.dtype == dtype
    assert set(y.tolist()) == {0.0, 4.0}
    dropped = (y == 0).mean()
    assert abs(dropped - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 100_000)


def test_the_generator_decides():
    x = np.ones(1000, np.float32)
    results = []
    for seed in (5, 5, 6):
        manual_seed(seed)
        results.append((F.dropout(x).tolist(), F.alpha_dropout(x, training=True).tolist()))
    assert results[0] == results[1] != results[2]
    assert F.dropout(x).tolist() != F.dropout(x).tolist()


@pytest.mark.parametrize("function", CHANNELS)
def test_whole_channels(function):
    manual_seed(4)
    x = ones_for(function)
    y = function(x, 0.5).reshape(2, 50, -1)
    assert (y == y[..., :1]).all()
    assert set(y.ravel().tolist()) == {0.0, 2.0}
    assert (y[0] != y[1]).any()


def test_whole_channels_of_one_sample():
    manual_seed(4)
    for function, shape in ((F.dropout1d, (50, 3)), (F.dropout3d, (50, 2, 3, 4))):
        y = function(np.ones(shape, np.float32)).reshape(50, -1)
        assert (y == y[:, :1]).all()
        assert set(y.ravel().tolist()) == {0.0, 2.0}


def test_dropout2d_takes_three_axes_as_n_c_l():
    manual_seed(4)
    with pytest.warns(
        UserWarning, match=r"dropout2d: an input of 3 axes is taken as \(N, C, L\); use dropout1d for it"
    ):
        y = F.dropout2d(np.ones((2, 50, 3), np.float32))
    assert (y == y[..., :1]).all()
    assert (y[0] != y[1]).any()


def test_all_dropped_keeps_what_zero_times_it_is():
    x = np.array([1.0, INF, -INF, NAN, -2.0], np.float32)
    for function in EVERY_VALUE:
        assert_same_values(function(x, 1.0, True), [0, NAN, NAN, NAN, 0])


def test_alpha_dropout_keeps_mean_and_variance(rng):
    manual_seed(4)
    x = rng.standard_normal(200_000)
    y = F.alpha_dropout(x, 0.2, True)
    assert abs(y.mean()) < 0.02
    assert abs(y.var() - 1) < 0.03
    scale = 1 / math.sqrt((1.7580993408473766**2 * 0.2 + 1) * 0.8)
    shift = scale * 0.2 * 1.7580993408473766
    kept = np.abs(y - (x * scale + shift)) < 1e-12
    assert abs(kept.mean() - 0.8) < 0.01
    np.testing.assert_allclose(y[~kept], -1.7580993408473766 * scale + shift, rtol=1e-12)


def test_feature_alpha_dropout_takes_whole_channels():
    manual_seed(4)
    y = F.feature_alpha_dropout(np.ones((2, 50, 3, 4)), 0.5, True).reshape(2, 50, -1)
    assert (y == y[..., :1]).all()
    assert len(set(y.ravel().tolist())) == 2


def test_inplace():
    x = np.ones(1000, np.float32)
    assert F.dropout(x, 0.5, True, True) is x
    assert set(x.tolist()) == {0.0, 2.0}
    x.flags.writeable = False
    before = x.copy()
    assert F.dropout(x, 0.5, True, True) is not x
    assert_same_values(x, before)


def test_any_strides_and_no_change_of_the_argument(rng):
    x = rng.standard_normal((6, 8)).astype(np.float32)
    before = x.copy()
    y = F.dropout(x[::2, ::-1], 0.5)
    assert_same_values(y[y != 0], 2 * x[::2, ::-1][y != 0])
    assert_same_values(x, before)


@pytest.mark.parametrize("function", ALL)
def test_refusals(function):
    x = ones_for(function)
    for p in (-0.1, 1.5, NAN):
        with pytest.raises(ArgumentError, match=f"p: expected a probability from 0 to 1, got {p}"):
            function(x, p, True)
    with pytest.raises(ArgumentTypeError, match="p: expected a number, got 'half'"):
        function(x, "half", True)
    with pytest.raises(ArgumentTypeError, match="input: expected floating point, got elements of type int64"):
        function(x.astype(np.int64), 0.5, True)


def test_refusals_of_rank():
    for function, shape, expected in (
        (F.dropout1d, (2, 3, 4, 5), r"\(N, C, L\) or \(C, L\)"),
        (F.dropout2d, (2, 3), r"\(N, C, H, W\)"),
        (F.dropout3d, (2, 3, 4), r"\(N, C, D, H, W\) or \(C, D, H, W\)"),
        (F.feature_alpha_dropout, (3,), r"\(N, C, ...\)"),
    ):
        with pytest.raises(ArgumentError, match=f"input: {function.__name__} expected {expected}, got shape"):
            function(np.ones(shape, np.float32))
