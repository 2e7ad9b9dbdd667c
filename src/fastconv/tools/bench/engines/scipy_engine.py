"""SciPy, where it has the operation: one-channel convolution by its direct or FFT correlation."""

from __future__ import annotations

from fastconv.tools.bench.engines import Refusal


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
    if any(2 * before != k - 1 or before != after for (before, after), k in zip(problem.pads, problem.kernel)):
        raise Refusal("scipy.signal.correlate pads to the same size only")
    x, weight, bias = arrays["x"], arrays["weight"], arrays.get("bias")
    if problem.input[0] * problem.input[1] * problem.channels > 64:
        raise Refusal("scipy.signal.correlate takes one channel at a time; over 64 pairs of channels are not tried")

    def call():
        y = sum_of_channels(signal, x, weight)
        return y if bias is None else y + bias.reshape(-1, *[1] * problem.rank)

    return call


def sum_of_channels(signal, x, weight):
    import numpy as np

    return np.array(
        [
            [
                sum(signal.correlate(x[n, c], kernel[c], "same", "auto") for c in range(len(kernel)))
                for kernel in weight
            ]
            for n in range(len(x))
        ]
    )


def prepare_network(path, feeds, threads, variant):
    raise Refusal("SciPy runs no networks")
