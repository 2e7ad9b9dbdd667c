"""Initial values of parameters, written into arrays in place; torch's names and distributions.

Random values come from the package's generator, which :func:`fastconv.manual_seed` restarts, unless a NumPy
`generator` is given.  Every function returns the array it filled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.random import default_generator

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "fans",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "skip",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Generator = np.random.Generator
_skipping = ContextVar("fastconv.nn.init.skip", default=False)


@contextmanager
def skip() -> Iterator[None]:
    """``with skip(): model = …`` leaves new parameters zero, for a model that is given its weights afterwards.

    For this thread only; the uniform, normal, xavier and kaiming functions return their array as it is.
    """
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights make up for what `nonlinearity` takes from the variance of its input.

    `param` is the negative slope of ``leaky_relu``.  Source: He et al. 2015, Delving Deep into Rectifiers, section 2.2.
    """
    gains = {
        "linear": 1.0,
        **dict.fromkeys((f"conv{transpose}{n}d" for transpose in ("", "_transpose") for n in (1, 2, 3)), 1.0),
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "selu": 3 / 4,
    }
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ArgumentError(f"param: expected the negative slope as a number, got {param!r}")
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in gains:
        raise ArgumentError(f"nonlinearity: expected leaky_relu or one of {', '.join(gains)}, got {nonlinearity!r}")
    return gains[nonlinearity]


def fans(shape) -> tuple[int, int]:
    """``(fan in, fan out)`` of a weight shape (out, in / groups, *kernel): values read per output, and the reverse."""
    if len(shape) < 2:
        raise ArgumentError(f"shape: fan in and fan out need at least 2 axes, got {tuple(shape)}")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def uniform_(tensor: np.ndarray, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> np.ndarray:
    """Values of U(a, b)."""
    return _fill(tensor, lambda source, dtype: a + (b - a) * source.random(tensor.shape, dtype), generator)


def normal_(tensor: np.ndarray, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> np.ndarray:
    """Values of N(mean, std²)."""
    return _fill(tensor, lambda source, dtype: mean + std * source.standard_normal(tensor.shape, dtype), generator)


def trunc_normal_(
    tensor: np.ndarray,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> np.ndarray:
    """Values of N(mean, std²) that lie within [a, b]; those outside are drawn again."""
    if not a < b or math.erf((b - mean) / std / math.sqrt(2)) - math.erf((a - mean) / std / math.sqrt(2)) < 1e-6:
        raise ArgumentError(f"a, b: [{a}, {b}] holds next to nothing of a normal distribution of {mean} ± {std}")

    def draw(source, dtype):
        values = mean + std * source.standard_normal(tensor.shape, dtype)
        while (outside := (values < a) | (values > b)).any():
            values[outside] = mean + std * source.standard_normal(np.count_nonzero(outside), dtype)
        return values

    return _fill(tensor, draw, generator)


def constant_(tensor: np.ndarray, val: float) -> np.ndarray:
    """Set every element of `tensor` to `val`, in place."""
    _array(tensor)[...] = val
    return tensor


def ones_(tensor: np.ndarray) -> np.ndarray:
    """Set every element of `tensor` to 1, in place."""
    return constant_(tensor, 1)


def zeros_(tensor: np.ndarray) -> np.ndarray:
    """Set every element of `tensor` to 0, in place."""
    return constant_(tensor, 0)


def eye_(tensor: np.ndarray) -> np.ndarray:
    """The identity matrix, for 2 axes."""
    if tensor.ndim != 2:
        raise ArgumentError(f"tensor: expected 2 axes, got shape {tensor.shape}")
    tensor[...] = np.eye(*tensor.shape)
    return tensor


def dirac_(tensor: np.ndarray, groups: int = 1) -> np.ndarray:
    """A convolution weight that passes on as many input channels as it can unchanged, in every group."""
    if tensor.ndim not in (3, 4, 5) or tensor.shape[0] % groups:
        raise ArgumentError(f"tensor: expected 3 to 5 axes, the first divisible by {groups}, got shape {tensor.shape}")
    tensor[...] = 0
    centre = tuple(k // 2 for k in tensor.shape[2:])
    per_group = tensor.shape[0] // groups
    for group in range(groups):
        for channel in range(min(per_group, tensor.shape[1])):
            tensor[(group * per_group + channel, channel, *centre)] = 1
    return tensor


def xavier_uniform_(tensor: np.ndarray, gain: float = 1.0, generator: Generator | None = None) -> np.ndarray:
    """U(±gain √(6 / (fan in + fan out))).  Source: Glorot and Bengio 2010."""
    bound = gain * math.sqrt(6 / sum(fans(tensor.shape)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: np.ndarray, gain: float = 1.0, generator: Generator | None = None) -> np.ndarray:
    """N(0, gain² · 2 / (fan in + fan out)).  Source: Glorot and Bengio 2010."""
    return normal_(tensor, 0, gain * math.sqrt(2 / sum(fans(tensor.shape))), generator)


def kaiming_uniform_(
    tensor: np.ndarray,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> np.ndarray:
    """U(±gain √(3 / fan)), the gain of `nonlinearity` with negative slope `a`.  Source: He et al. 2015."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: np.ndarray,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> np.ndarray:
    """N(0, gain² / fan), the gain of `nonlinearity` with negative slope `a`.  Source: He et al. 2015."""
    return normal_(tensor, 0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: np.ndarray, gain: float = 1, generator: Generator | None = None) -> np.ndarray:
    """`gain` times a random matrix (first axis × all others), its rows or columns orthonormal.  Source: Saxe 2013."""
    if tensor.ndim < 2:
        raise ArgumentError(f"tensor: expected at least 2 axes, got shape {tensor.shape}")
    if tensor.size == 0:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.size // rows
    normal = (generator or default_generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    q *= np.sign(np.diag(r))
    tensor[...] = gain * (q if rows >= columns else q.T).reshape(tensor.shape)
    return tensor


def sparse_(tensor: np.ndarray, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> np.ndarray:
    """A matrix of N(0, std²) with the fraction `sparsity` of every column zero.  Source: Martens 2010."""
    if tensor.ndim != 2:
        raise ArgumentError(f"tensor: expected 2 axes, got shape {tensor.shape}")
    normal_(tensor, 0, std, generator)
    zeros = math.ceil(sparsity * tensor.shape[0])
    for column in tensor.T:
        column[(generator or default_generator).permutation(tensor.shape[0])[:zeros]] = 0
    return tensor


def _kaiming_std(tensor: np.ndarray, slope: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"mode: expected fan_in or fan_out, got {mode!r}")
    fan = fans(tensor.shape)[mode == "fan_out"]
    return calculate_gain(nonlinearity, slope) / math.sqrt(max(fan, 1))


def _array(tensor) -> np.ndarray:
    if not isinstance(tensor, np.ndarray):
        raise ArgumentTypeError(f"tensor: expected a NumPy array to fill in place, got {type(tensor).__name__}")
    return tensor


def _fill(tensor: np.ndarray, draw, generator: Generator | None) -> np.ndarray:
    drawn_in = tensor.dtype if _array(tensor).dtype in (np.float32, np.float64) else np.dtype(np.float64)
    if not _skipping.get():
        tensor[...] = draw(generator or default_generator, drawn_in)
    return tensor
