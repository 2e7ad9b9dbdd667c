"""The arrays of a problem, its exact result, and the judgement of an engine's output.

An output is compared with the reference computed in float64.  Every error is measured against the largest value of
that result: Winograd and FFT spread their rounding over the whole tile, so small outputs beside large ones carry the
error of the large ones.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import sqrt

import numpy as np

from fastconv import reference
from fastconv.tools.bench.problem import Problem

__all__ = ["Verdict", "error_bound", "exact_output", "in_memory_order", "judge", "make_arrays", "mistrust"]

MOST_INEXACT = 5e-3  # errors between the bound and this are timed, and marked; wrong results are far larger
MOSTLY = 0.8


def make_arrays(problem: Problem, kind: str = "float") -> dict[str, np.ndarray]:
    """``x`` (N×C×spatial in the problem's memory order) and the layer's parameters by torch's names.

    `kind` is ``"float"``: normal inputs and weights that keep the variance (He et al. 2015); or ``"integer"``: small
    whole numbers, for which every sum is exact and so may be compared exactly; or ``"denormal"``: normal ones, inputs
    and bias scaled to denormal numbers.
    """
    rng = np.random.default_rng([problem.seed, zlib.crc32(problem.line.encode())])
    shapes = {"x": problem.input} | problem.parameters
    arrays = {}
    for name, shape in shapes.items():
        if kind == "integer":
            values = rng.integers(-3, 4, shape).astype(problem.dtype)
        else:
            values = rng.standard_normal(shape, problem.dtype)
            values *= np.asarray({"weight": sqrt(2 / problem.terms), "bias": 0.1}.get(name, 1.0), problem.dtype)
        if kind == "denormal" and name in ("x", "bias", "running_mean"):
            values *= np.finfo(problem.dtype).smallest_normal / 4
        arrays[name] = np.abs(values) + 1 if name == "running_var" else values
    arrays["x"] = in_memory_order(problem, arrays["x"])
    return arrays


def in_memory_order(problem: Problem, x: np.ndarray) -> np.ndarray:
    """`x` with its elements in the order that the problem states; the shape stays N×C×spatial."""
    if problem.layout == "nhwc" and problem.rank:
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    return np.ascontiguousarray(x)


def exact_output(problem: Problem, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The reference's result in float64, N×C×spatial."""
    x = arrays["x"].astype(np.float64)
    if problem.family == "batch_norm":
        names = ("running_mean", "running_var", "weight", "bias")
        return reference.batch_norm(x, *(arrays[name].astype(np.float64) for name in names))
    parameters = [arrays[name].astype(np.float64) for name in ("weight", "bias") if name in arrays]
    if problem.family == "linear":
        return reference.linear(x, *parameters)
    if problem.family == "pad":
        return reference.pad(x, [zeros for pair in reversed(problem.pads) for zeros in pair])
    window = {"stride": problem.stride, "padding": problem.pads}
    if problem.family == "max_pool":
        window |= {"dilation": problem.dilation, "ceil_mode": problem.ceil_mode}
        return reference.max_pool(x, problem.kernel, **window)[0]
    if problem.family == "avg_pool":
        window |= {"ceil_mode": problem.ceil_mode, "count_include_pad": problem.count_include_pad}
        return reference.avg_pool(x, problem.kernel, **window)
    window |= {"dilation": problem.dilation, "groups": problem.groups}
    if problem.family == "conv_transpose":
        return reference.conv_transpose(x, *parameters, **window, output_padding=problem.output_padding)
    return reference.conv(x, *parameters, **window)


def error_bound(problem: Problem, growth: float = 1.0) -> float:
    """Largest error allowed, as a share of the largest output; 0 where nothing is computed (max pooling, padding).

    Rounding errors of a sum of `terms` products behave like a random walk: after n additions with unit roundoff u the
    error of a sum of size S is about u·S·sqrt(n/2) in the mean (Higham 2002, section 2.8), and the largest sum and
    the largest error of a layer lie equally far, four to five standard deviations, from their means.  The bound is
    four times that, and never under four roundings; of a normalised value, which takes about as many steps one after
    another, eight.  `growth` is how much an algorithm amplifies rounding over the
    direct sum, 1 for direct methods.
    """
    if problem.family in ("max_pool", "pad"):
        return 0.0
    unit_roundoff = np.finfo(problem.dtype).eps / 2
    steps = 2.0 if problem.family == "batch_norm" else max(sqrt(problem.terms / 2), 1.0)
    return float(4 * unit_roundoff * growth * steps)


@dataclass(frozen=True)
class Verdict:
    """`status` is ok, inexact (beyond the bound, still the same computation) or differs; `error` a share of max|y|."""

    status: str
    error: float
    reason: str = ""


def judge(output: np.ndarray, exact: np.ndarray, bound: float) -> Verdict:
    """Compare an engine's output with the exact one: same size, finite where it is finite, error within `bound`."""
    if output.size != exact.size:
        return Verdict("differs", float("nan"), f"output has shape {output.shape}, expected {exact.shape}")
    output = output.reshape(exact.shape)
    if not np.isfinite(output).all():
        return Verdict("differs", float("inf"), "output has NaN or infinity")
    largest = float(np.abs(exact).max()) or 1.0
    error = float(np.abs(output - exact).max()) / largest
    if error <= bound:
        return Verdict("ok", error)
    reason = f"largest error {error:.1e} of the largest output, bound {bound:.1e}"
    return Verdict("inexact" if bound > 0 and error <= MOST_INEXACT else "differs", error, reason)


def mistrust(exact: np.ndarray) -> str:
    """Why a comparison with `exact` would prove little, or an empty string."""
    if not np.isfinite(exact).all():
        return "the expected output has NaN or infinity"
    if exact.size > 1 and exact.min() == exact.max():
        return "the expected output is constant"
    zeros = 1 - np.count_nonzero(exact) / exact.size
    return f"{zeros:.0%} of the expected output is zero" if zeros > MOSTLY else ""
