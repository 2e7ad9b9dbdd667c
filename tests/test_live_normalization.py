"""Normalisation, softmax and dropout against torch, over generated arguments."""

from math import prod

import numpy as np
import pytest
from live import FLOATS, agree, amounts, array, chance, generated, pick, shape, size

from fastconv.nn import functional as F


def channels_first(draw, low=2, dtypes=FLOATS[1:]):
    """An array (N, C, ...) and the shape of what it has per channel, wrong one time in thirty."""
    x = array(draw, (size(draw, 0 if chance(draw, 10) else 1, 4), *shape(draw, size(draw, low - 1, 4), 1, 6)),
              pick(draw, *dtypes))  # fmt: skip
    return x, (x.shape[1] + chance(draw, 30),)


def per_channel(draw, channels, dtype, positive=False):
    if chance(draw, 3):
        return None
    a = array(draw, channels, dtype, layout=False)
    return np.abs(a) + dtype.type(0.1) if positive else a


def statistics_tolerance(x, count, *affine):
    """Mean and variance are sums of `count` values; the quotient is at most √count times the weight.

    Their relative errors are a few eps times the number of roundings, times how far the mean is from 0 in units of the
    deviation, which random numbers of mean 0 keep below √count.
    """
    weight = max([1.0, *(float(np.abs(a).max(initial=0)) for a in affine if a is not None)])
    narrow = 300 if count < 4 else 1  # hardly any variance beside an eps whose root divides
    return 4 * (count + 8) * np.finfo(x.dtype).eps * (1 + np.sqrt(count)) * weight * narrow


def test_batch_norm(torch):
    def check(draw):
        x, channels = channels_first(draw)
        dtype = x.dtype
        running = [per_channel(draw, channels, dtype), per_channel(draw, channels, dtype, positive=True)]
        affine = [per_channel(draw, channels, dtype), per_channel(draw, channels, dtype)]
        training, momentum, eps = pick(draw, False, True), pick(draw, 0.1, 0.0, 1.0, 0.3), pick(draw, 1e-5, 1e-2)
        if (running[0] is None) != (running[1] is None):
            return None  # refused here; torch reads the one that it happens to need
        count = x.size // max(x.shape[1], 1)
        statistics = [[None if a is None else a.copy() for a in running] for _ in range(2)]

        def call(function, convert):
            def run(x, *affine):
                arrays = [None if a is None else convert(a) for a in statistics[convert is not np.asarray]]
                return function(x, *arrays, *affine, training, momentum, eps)

            return run

        tolerance = statistics_tolerance(x, count, *affine, None if running[1] is None else running[1] ** -0.5)
        answered = agree(
            torch,
            call(F.batch_norm, np.asarray),
            call(torch.nn.functional.batch_norm, torch.from_numpy),
            x,
            *affine,
            tolerance=tolerance
            + (0 if running[0] is None else 99 * np.finfo(dtype).eps * np.abs(running[0]).max(initial=0)),
        )
        if answered and running[1] is not None:
            for ours, theirs in zip(*statistics, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=8 * count * np.finfo(dtype).eps, atol=tolerance)
        return answered

    generated(check, 400)


def test_instance_norm(torch):
    def check(draw):
        x, channels = channels_first(draw, 3)
        affine = [per_channel(draw, channels, x.dtype), per_channel(draw, channels, x.dtype)]
        tolerance = statistics_tolerance(x, prod(x.shape[2:]), *affine)
        return agree(
            torch,
            lambda x, *affine: F.instance_norm(x, None, None, *affine),
            lambda x, *affine: torch.nn.functional.instance_norm(x, None, None, *affine),
            x,
            *affine,
            tolerance=tolerance,
        )

    generated(check, 200)


def test_group_norm(torch):
    def check(draw):
        x, channels = channels_first(draw)
        divisors = [g for g in range(1, x.shape[1] + 1) if x.shape[1] % g == 0]
        groups = pick(draw, 0, -1, 4, 1.5) if chance(draw, 12) else pick(draw, *divisors)
        affine = [per_channel(draw, channels, x.dtype), per_channel(draw, channels, x.dtype)]
        tolerance = statistics_tolerance(x, prod(x.shape[1:]), *affine)
        return agree(torch, F.group_norm, torch.nn.functional.group_norm, x, groups, *affine, 1e-4, tolerance=tolerance)

    generated(check, 300)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_layer_norm(torch, name):
    def check(draw):
        x = array(draw, shape(draw, size(draw, 1, 4), 0 if chance(draw, 10) else 1, 7), pick(draw, *FLOATS[1:]))
        normalized = x.shape[size(draw, 0, x.ndim - 1) :]
        parameters = [
            None if chance(draw, 3) else array(draw, normalized, x.dtype)
            for _ in range(2 if name == "layer_norm" else 1)
        ]
        fault = size(draw, 0, 20)
        if fault == 0:
            normalized = (*normalized[:-1], normalized[-1] + 1)
        elif fault == 1:
            parameters[0] = array(draw, (*normalized, 2), x.dtype)
        elif fault == 2 and name == "layer_norm":  # rms_norm would widen in torch
            parameters[0] = array(draw, normalized, np.float64 if x.dtype == np.float32 else np.float32)
        elif fault == 3:
            normalized = ()
        elif fault == 4:
            normalized = (2, *x.shape)
        eps = pick(draw, 1e-5, 1e-3)
        ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
        tolerance = statistics_tolerance(x, prod(normalized), *parameters)
        return agree(torch, ours, theirs, x, list(normalized), *parameters, eps, tolerance=tolerance)

    generated(check, 300)


def test_local_response_norm(torch):
    def check(draw):
        x = array(draw, shape(draw, size(draw, 2, 5), 1, 6), pick(draw, *FLOATS[1:]))
        arguments = (
            pick(draw, 1, 2, 3, 4, 5, 0),
            pick(draw, 1e-4, 0.1, 1.0),
            pick(draw, 0.75, 0.5, 1.0),
            pick(draw, 1.0, 2.0),
        )
        return agree(
            torch,
            F.local_response_norm,
            torch.nn.functional.local_response_norm,
            x,
            *arguments,
            tolerance=lambda expected: 40 * np.finfo(x.dtype).eps * np.abs(expected),
        )

    generated(check, 300)


def test_normalize(torch):
    def check(draw):
        x = array(draw, shape(draw, size(draw, 1, 4), 1, 6), pick(draw, *FLOATS[1:]))
        p = pick(draw, 1, 2, 2.0, 3.0, 0.5, np.inf, -np.inf, 0.0)
        dim = size(draw, -x.ndim - 1, x.ndim)
        if chance(draw, 5) and x.ndim > 1:
            dim = (0, 1)
        return agree(
            torch,
            F.normalize,
            torch.nn.functional.normalize,
            x,
            p,
            dim,
            tolerance=lambda expected: 200 * np.finfo(x.dtype).eps * np.abs(expected),
        )

    generated(check, 300)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin"])
def test_softmax(torch, name):
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)

    def check(draw):
        dtype = pick(draw, *FLOATS, np.int64)
        x = array(draw, shape(draw, size(draw, 0, 4), 0 if chance(draw, 10) else 1, 9), dtype, pick(draw, 0.0, 0.1))
        if dtype == np.int64 and not x.size:
            return None
        dim = pick(draw, None, *range(-x.ndim - 1, x.ndim + 1))
        to = pick(draw, None, None, np.float64) if dtype != np.int64 else pick(draw, None, np.float32)
        how = {} if to is None else {"dtype": to}

        def converted(x, dim, dtype=None):
            return theirs(x, dim, dtype=None if dtype is None else getattr(torch, np.dtype(dtype).name))

        def bound(expected):
            largest = np.abs(np.nan_to_num(expected.astype(float), posinf=0, neginf=0))
            return (
                8
                * np.finfo(expected.dtype).eps
                * (np.maximum(largest, 16) if name == "log_softmax" else largest + 1e-3)
            )

        return agree(torch, ours, converted, x, dim, **how, tolerance=bound)

    generated(check, 400)


@pytest.mark.parametrize(
    "name", ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]
)
def test_dropout_without_chance(torch, name):
    """In evaluation, with p = 0, with p = 1, and where p is no probability."""
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)

    def check(draw):
        rank = {"dropout1d": size(draw, 2, 3), "dropout2d": size(draw, 3, 4), "dropout3d": size(draw, 4, 5)}.get(
            name, size(draw, 2, 5)
        )
        x = array(draw, shape(draw, rank, 1, 4), pick(draw, np.float32, np.float64), 0.2)
        return (
            agree(torch, ours, theirs, x, pick(draw, 0.0, 1.0, 0.5, -0.1, 1.1), False)
            if chance(draw, 2)
            else agree(torch, ours, theirs, x, pick(draw, 0.0, 0, 1.0, 1, -0.1, 1.1), True)
        )

    generated(check, 150)


def test_amounts_are_not_all_alike():
    """The generator of sizes gives integers, tuples, and wrong ones."""
    kinds = set()
    generated(lambda draw: kinds.add(type(amounts(draw, 2, 1, 3)).__name__) or True, 100, refused=False)
    assert {"int", "tuple"} <= kinds
