"""SciPy, where it has the operation: one-channel convolution by its direct or FFT correlation."""

from __future__ import annotations

import numpy as np

from fastconv.tools.bench.engines import Refusal

MOST_PAIRS = 64


def available() -> str:
    try:
        import scipy
    except ImportError:
        return ""
    return scipy.__version__


def prepare_layer(problem, arrays, threads, variant):
    from scipy import signal

    plain = problem.family == "conv" and problem.groups == 1
    if not plain or any(d != 1 for d in problem.dilation) or any(s != 1 for s in problem.stride):
        raise Refusal("scipy.signal.correlate has neither stride, dilation nor groups, and no layer but convolution")
    if problem.pads != tuple((k // 2, k // 2) for k in problem.kernel) or any(k % 2 == 0 for k in problem.kernel):
        raise Refusal("scipy.signal.correlate pads to the same size only")
    if problem.input[0] * problem.input[1] * problem.channels > MOST_PAIRS:
        raise Refusal(f"scipy.signal.correlate takes one channel at a time; over {MOST_PAIRS} pairs are not tried")
    x, weight, bias = arrays["x"], arrays["weight"], arrays.get("bias")

    def summed(image, kernels):
        return sum(map(signal.correlate, image, kernels, ["same"] * len(kernels)))

    def call():
        y = np.array([[summed(image, kernels) for kernels in weight] for image in x])
        return y if bias is None else y + bias.reshape(-1, *[1] * problem.rank)

    return call


def prepare_network(path, feeds, threads, variant):
    raise Refusal("SciPy runs no networks")
