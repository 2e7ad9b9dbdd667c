"""fastconv itself: its layers with the algorithm that the variant names, its inference session for networks."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

import fastconv
from fastconv import nn
from fastconv.nn import functional

AUTO = "auto"


def available() -> str:
    return fastconv.__version__


def start() -> None:
    """Import what sessions need, as the other libraries have imported everything by now."""
    _ = fastconv.InferenceSession


def candidates(problem) -> list[dict]:
    """Every algorithm's answer, as ``fastconv.algorithms`` gives it."""
    if problem.family in ("pad", "batch_norm"):  # there is one way to do it
        return [{"algorithm": AUTO, "refusal": "", "seconds": 0.0, "scratch_bytes": 0, "automatic": True}]
    shapes = [problem.input, *([problem.weight] if problem.weight else [])]
    arguments = {"dtype": problem.dtype} | _window(problem)
    if problem.family.endswith("_pool"):
        arguments["kernel_size"] = problem.kernel
    return [asdict(candidate) for candidate in fastconv.algorithms(problem.op, *shapes, **arguments)]


def prepare_layer(problem, arrays, threads, variant):
    fastconv.set_num_threads(threads)
    layer = _layer(problem, {"algorithm": variant} if variant != AUTO else {})
    if problem.parameters:
        layer.load_state_dict({name: arrays[name] for name in problem.parameters})
        layer.eval()
    x = arrays["x"]

    def call():
        return layer(x)

    return call


def prepare_network(path, feeds, threads, variant):
    fastconv.set_num_threads(threads)
    session = fastconv.InferenceSession(str(path))

    def call():
        return session.run(None, feeds)[0]

    call.plan = session.prepare
    return call


def _layer(problem, forced):
    rank, window = problem.rank, _window(problem) | forced
    if problem.family == "linear":
        return nn.Linear(problem.input[1], problem.channels, problem.bias, dtype=problem.dtype, **window)
    if problem.family == "batch_norm":
        return getattr(nn, f"BatchNorm{rank}d")(problem.channels, dtype=problem.dtype)
    if problem.family == "pad":
        amounts = [zeros for pair in reversed(problem.pads) for zeros in pair]
        return getattr(nn, f"ZeroPad{rank}d")(amounts)
    if problem.family.endswith("_pool"):
        if forced:
            return partial(getattr(functional, problem.op), kernel_size=problem.kernel, **window)
        kind = {"max_pool": "MaxPool", "avg_pool": "AvgPool"}[problem.family]
        return getattr(nn, f"{kind}{rank}d")(problem.kernel, **window)
    kind = {"conv": "Conv", "conv_transpose": "ConvTranspose"}[problem.family]
    parameters = {"bias": problem.bias, "dtype": problem.dtype}
    return getattr(nn, f"{kind}{rank}d")(problem.input[1], problem.channels, problem.kernel, **parameters, **window)


def _window(problem) -> dict:
    """The arguments of the layer that say how the window moves."""
    if problem.family in ("linear", "pad", "batch_norm"):
        return {}
    window = {"stride": problem.stride, "padding": problem.padding}
    if problem.family != "avg_pool":
        window["dilation"] = problem.dilation
    if problem.family in ("conv", "conv_transpose"):
        window["groups"] = problem.groups
    if problem.family == "conv_transpose":
        window["output_padding"] = problem.output_padding
    if problem.family.endswith("_pool"):
        window["ceil_mode"] = problem.ceil_mode
    if problem.family == "avg_pool":
        window["count_include_pad"] = problem.count_include_pad
    return window
