"""Activations against torch, over generated arguments."""

import numpy as np
import pytest
from live import FLOATS, agree, array, chance, generated, pick, shape, size

from fastconv.nn import functional as F

# name: the numbers it takes, from which each is drawn; units of eps that two good results may lie apart
NUMBERS = (0.0, 0.01, 0.5, 1.0, 2.5, -0.3)
FUNCTIONS = {
    "relu": ((), 0),
    "relu6": ((), 0),
    "selu": ((), 16),
    "silu": ((), 16),
    "mish": ((), 24),
    "hardswish": ((), 8),
    "hardsigmoid": ((), 8),
    "sigmoid": ((), 16),
    "tanh": ((), 16),
    "softsign": ((), 8),
    "tanhshrink": ((), 16),
    "logsigmoid": ((), 16),
    "gelu": ((("none", "tanh", "erf"),), 24),
    "leaky_relu": ((NUMBERS,), 2),
    "elu": ((NUMBERS,), 16),
    "celu": ((NUMBERS,), 24),
    "hardshrink": ((NUMBERS,), 0),
    "softshrink": ((NUMBERS,), 2),
    "softplus": (((0.5, 1.0, 2.0, 0.1), (20.0, 5.0, 0.0)), 24),
    "threshold": ((NUMBERS, NUMBERS), 0),
    "hardtanh": ((NUMBERS, NUMBERS), 0),
    "rrelu": (((0.1, 0.2, 0.5), (0.2, 0.3)), 4),
    "glu": (((0, 1, -1, -2, 3),), 24),
}
REFUSES = {"gelu", "celu", "softshrink", "hardtanh", "rrelu", "glu"}
ANY_REAL = {"relu", "relu6", "hardtanh", "threshold"}
PROMOTE = {"sigmoid", "tanh", "softsign", "tanhshrink"}


def tolerance(x, units):
    """Both compute through exp, whose argument's rounding an |x| of its value passes on."""
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.nan_to_num(np.abs(x.astype(np.float64)), nan=0, posinf=0).max(initial=0)

    def bound(expected):
        eps = np.finfo(expected.dtype).eps if units else 0
        return (
            units
            * eps
            * (1 + np.abs(np.nan_to_num(expected.astype(float), posinf=0, neginf=0)) + min(largest, 40) * 0.5)
        )

    return bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation(torch, name):
    numbers, units = FUNCTIONS[name]
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
    dtypes = [*FLOATS, np.bool_, np.complex64]
    if name in ANY_REAL | PROMOTE:
        dtypes += [np.int8, np.int32, np.int64, np.uint8]

    def check(draw):
        dtype = np.dtype(pick(draw, *dtypes[: 3 if chance(draw, 2) else None]))
        if dtype.kind == "b" and name in PROMOTE | ANY_REAL:
            return None  # torch does some of these for bool, as it happens
        x = array(draw, shape(draw, size(draw, 0, 4), 0 if chance(draw, 10) else 1, 7), dtype, pick(draw, 0.0, 0.2))
        drawn = [pick(draw, *choices) for choices in numbers]
        if dtype.kind == "c" or (name == "gelu" and np.isinf(x).any()):
            return None  # complex results are not offered; torch's gelu of infinity is NaN in its vectors
        if name in ("threshold", "hardtanh") and dtype.kind in "iu":
            drawn = [float(int(number)) for number in drawn]
        if name == "softshrink" and dtype == np.float16:
            dtype = np.dtype(np.float32)
            x = x.astype(dtype)
        how = {"approximate": drawn.pop()} if name == "gelu" else {}
        return agree(torch, ours, theirs, x, *drawn, **how, tolerance=tolerance(x, units))

    generated(check, 150, refused=name in REFUSES, answered=0.1 if name == "glu" else 0.25)


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "selu", "silu", "hardswish", "leaky_relu", "elu", "celu", "hardtanh"]
)
def test_in_place(torch, name):
    def check(draw):
        x = array(draw, shape(draw, size(draw, 1, 4), 1, 7), pick(draw, *FLOATS), layout=False)

        def changed(function):
            def run(x):
                x = x.copy() if isinstance(x, np.ndarray) else x.clone()
                y = function(x, inplace=True)
                assert y is x
                return x

            return run

        return agree(
            torch, changed(getattr(F, name)), changed(getattr(torch.nn.functional, name)), x, tolerance=tolerance(x, 16)
        )

    generated(check, 40, refused=False)


@pytest.mark.parametrize(
    "name", ["relu_", "selu_", "leaky_relu_", "elu_", "celu_", "hardtanh_", "threshold_", "rrelu_"]
)
def test_in_place_by_name(torch, name):
    numbers = FUNCTIONS[name[:-1]][0]

    def check(draw):
        x = array(draw, shape(draw, size(draw, 1, 4), 1, 7), pick(draw, *FLOATS), layout=False)
        drawn = [pick(draw, *choices) for choices in numbers]
        if name == "hardtanh_":
            drawn.sort()  # torch's own hardtanh_ takes limits that its hardtanh refuses

        def changed(function):
            def run(x, *numbers):
                x = x.copy() if isinstance(x, np.ndarray) else x.clone()
                assert function(x, *numbers) is x
                return x

            return run

        ours, theirs = changed(getattr(F, name)), changed(getattr(torch.nn.functional, name))
        return agree(torch, ours, theirs, x, *drawn, tolerance=tolerance(x, 24))

    generated(check, 40, refused=False)


def test_prelu(torch):
    def check(draw):
        x = array(draw, shape(draw, size(draw, 0, 5), 1, 5), pick(draw, *FLOATS), pick(draw, 0.0, 0.1))
        channels = x.shape[1] if x.ndim > 1 else 1
        count = pick(draw, channels, channels, 1, channels + 1)
        weight = array(draw, (count,), x.dtype if chance(draw, 20) is False else np.float64)
        if chance(draw, 20):
            weight = weight[None]
        return agree(torch, F.prelu, torch.nn.functional.prelu, x, weight)

    generated(check, 200)
