"""Layers and functions as ONNX operators.

A translation is a function ``(recorder, result, **arguments)``: it emits nodes for a call that has computed `result`, and
returns the traced result, or None where the operator cannot express the arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from fastconv import nn
from fastconv.geometry import Window, per_axis
from fastconv.tracing.array import plain
from fastconv.tracing.recorder import Recorder

__all__ = ["FUNCTIONS", "LAYERS"]

FUNCTIONS: dict[str, Callable] = {}
LAYERS: dict[type, Callable] = {}


def function(*names: str):
    def register(translate):
        FUNCTIONS.update(dict.fromkeys(names, translate))
        return translate

    return register


def layer(*types: type):
    def register(translate):
        LAYERS.update(dict.fromkeys(types, translate))
        return translate

    return register


@layer(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def convolution(recorder: Recorder, result, module, x):
    if module.padding_mode != "zeros":
        return None
    window = (module.stride, module.padding, module.dilation)
    return _convolution(
        recorder, result, x, module._parameters["weight"], module._parameters["bias"], *window, module.groups
    )


@function("conv1d", "conv2d", "conv3d")
def functional_convolution(recorder, result, input, weight, bias, stride, padding, dilation, groups, algorithm):
    return _convolution(recorder, result, input, weight, bias, stride, padding, dilation, groups)


def _convolution(recorder: Recorder, result, x, w, b, stride, padding, dilation, groups):
    if x.ndim != w.ndim:
        return None
    window = Window.of(x.shape[2:], w.shape[2:], stride, padding, dilation)
    inputs = [x, w] if b is None else [x, w, b]
    return recorder.emit("Conv", inputs, result, group=int(groups), **_attributes(window))


def _attributes(window: Window) -> dict:
    return {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "dilations": list(window.dilation),
        "pads": [before for before, _ in window.pads] + [after for _, after in window.pads],
    }


@layer(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def transposed_convolution(recorder: Recorder, result, module, x, output_size=None):
    if x.ndim != module.rank + 2:
        return None
    axes = zip(
        x.shape[2:], module.stride, module.padding, module.dilation, module.kernel_size, result.shape[2:], strict=True
    )
    extra = [out - ((n - 1) * s - 2 * p + d * (k - 1) + 1) for n, s, p, d, k, out in axes]
    w, b = module._parameters["weight"], module._parameters["bias"]
    return recorder.emit(
        "ConvTranspose",
        [x, w] if b is None else [x, w, b],
        result,
        kernel_shape=list(module.kernel_size),
        strides=list(module.stride),
        dilations=list(module.dilation),
        pads=list(module.padding) * 2,
        output_padding=extra,
        group=module.groups,
    )


@layer(nn.Linear)
def linear_layer(recorder: Recorder, result, module, x):
    return linear(recorder, result, x, module._parameters["weight"], module._parameters["bias"])


@function("linear")
def linear(recorder: Recorder, result, input, weight, bias, algorithm="auto"):
    if np.ndim(weight) != 2 or input.ndim < 1:
        return None
    if input.ndim == 2:
        return recorder.emit("Gemm", [input, weight] if bias is None else [input, weight, bias], result, transB=1)
    product = plain(input) @ plain(weight).T if bias is not None else result
    y = recorder.emit("MatMul", [input, np.ascontiguousarray(plain(weight).T)], product)
    return y if bias is None else recorder.emit("Add", [y, bias], result)


@layer(nn.Flatten)
def flatten(recorder: Recorder, result, module, x):
    return recorder.reshape(x, result.shape)


@function("batch_norm")
def batch_norm(recorder: Recorder, result, input, running_mean, running_var, weight, bias, training, momentum, eps):
    if training or running_mean is None or input.ndim < 2:
        return None
    channels = input.shape[1]
    scale = np.ones(channels, input.dtype) if weight is None else weight
    shift = np.zeros(channels, input.dtype) if bias is None else bias
    return recorder.emit(
        "BatchNormalization", [input, scale, shift, running_mean, running_var], result, epsilon=float(eps)
    )


@function("layer_norm")
def layer_norm(recorder: Recorder, result, input, normalized_shape, weight, bias, eps):
    axes = np.size(normalized_shape)
    if weight is None:
        weight = np.ones(input.shape[input.ndim - axes :], input.dtype)
    inputs = [input, weight] if bias is None else [input, weight, bias]
    return recorder.emit("LayerNormalization", inputs, result, axis=-axes, epsilon=float(eps))


@function("local_response_norm")
def local_response_norm(recorder: Recorder, result, input, size, alpha, beta, k):
    if input.ndim < 3 or size % 2 == 0:
        return None
    return recorder.emit("LRN", [input], result, size=size, alpha=float(alpha), beta=float(beta), bias=float(k))


# function: (operator, its attributes from the function's arguments)
ACTIVATIONS = {
    "relu": ("Relu", lambda: {}),
    "sigmoid": ("Sigmoid", lambda: {}),
    "tanh": ("Tanh", lambda: {}),
    "mish": ("Mish", lambda: {}),
    "selu": ("Selu", lambda: {}),
    "softsign": ("Softsign", lambda: {}),
    "hardswish": ("HardSwish", lambda: {}),
    "hardsigmoid": ("HardSigmoid", lambda: {"alpha": 1 / 6, "beta": 0.5}),
    "leaky_relu": ("LeakyRelu", lambda negative_slope: {"alpha": float(negative_slope)}),
    "elu": ("Elu", lambda alpha: {"alpha": float(alpha)}),
    "celu": ("Celu", lambda alpha: {"alpha": float(alpha)}),
    "gelu": ("Gelu", lambda approximate: {"approximate": approximate}),
}


def _activation(op_type: str, attributes: Callable):
    def translate(recorder: Recorder, result, input, inplace=False, **arguments):
        if result.dtype != input.dtype or input.dtype.kind != "f":
            return None
        return recorder.emit(op_type, [input], result, **attributes(**arguments))

    return translate


FUNCTIONS.update({name: _activation(*entry) for name, entry in ACTIVATIONS.items()})


@function("silu")
def silu(recorder: Recorder, result, input, inplace=False):
    gate = recorder.emit("Sigmoid", [input], result)
    return recorder.emit("Mul", [input, gate], result)


@function("relu6")
def relu6(recorder: Recorder, result, input, inplace=False):
    return hardtanh(recorder, result, input, 0.0, 6.0)


@function("hardtanh")
def hardtanh(recorder: Recorder, result, input, min_val, max_val, inplace=False):
    if result.dtype != input.dtype:
        return None
    return recorder.emit("Clip", [input, np.array(min_val, input.dtype), np.array(max_val, input.dtype)], result)


@function("prelu")
def prelu(recorder: Recorder, result, input, weight):
    if input.ndim < 2:
        return None
    slope = plain(weight).reshape(-1, *(1,) * (input.ndim - 2))
    return recorder.emit("PRelu", [input, slope], result)


@function("softmax", "log_softmax")
def softmax(recorder: Recorder, result, input, dim, _stacklevel, dtype, name):
    if dim is None or result.dtype != input.dtype:
        return None
    return recorder.emit("Softmax" if name == "softmax" else "LogSoftmax", [input], result, axis=int(dim) % input.ndim)


@function("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
def dropout(recorder: Recorder, result, input, p, training, inplace):
    return None if training else recorder.emit("Identity", [input], result)


@function("max_pool1d", "max_pool2d", "max_pool3d")
def max_pool(
    recorder: Recorder,
    result,
    input,
    kernel_size,
    stride,
    padding,
    dilation,
    ceil_mode,
    return_indices,
    algorithm,
    rank,
):
    if return_indices or input.ndim != rank + 2 or input.dtype.kind != "f":
        return None
    window = Window.of(input.shape[2:], kernel_size, _stride(stride, kernel_size), padding, dilation, ceil_mode)
    return recorder.emit(
        "MaxPool", [input], result, ceil_mode=int(ceil_mode), **_pool_attributes(window, padding, rank)
    )


@function("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(
    recorder: Recorder,
    result,
    input,
    kernel_size,
    stride,
    padding,
    ceil_mode,
    count_include_pad,
    algorithm,
    rank,
    divisor_override=None,
):
    if divisor_override is not None or input.ndim != rank + 2 or input.dtype.kind != "f":
        return None
    window = Window.of(input.shape[2:], kernel_size, _stride(stride, kernel_size), padding, 1, ceil_mode)
    attributes = _pool_attributes(window, padding, rank) | {"count_include_pad": int(count_include_pad)}
    return recorder.emit("AveragePool", [input], result, ceil_mode=int(ceil_mode), **attributes)


def _stride(stride, kernel_size):
    return kernel_size if stride is None or np.size(stride) == 0 else stride


def _pool_attributes(window: Window, padding, rank: int) -> dict:
    """The padding as it was given: that of the window may reach further, for a last window with `ceil_mode`."""
    return _attributes(window) | {"pads": list(per_axis(padding, rank, "padding", 0)) * 2}


@function("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def adaptive_avg_pool(recorder: Recorder, result, input, output_size, algorithm, rank):
    return _adaptive(recorder, "AveragePool", result, input, rank)


@function("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(recorder: Recorder, result, input, output_size, return_indices, algorithm, rank):
    return None if return_indices else _adaptive(recorder, "MaxPool", result, input, rank)


def _adaptive(recorder: Recorder, op_type: str, result, x, rank: int):
    """Windows that tile the input, for the sizes of the example."""
    if x.ndim != rank + 2 or x.dtype.kind != "f" or 0 in result.shape:
        return None
    if prod(result.shape[2:]) == 1:
        return recorder.emit(f"Global{op_type}", [x], result)
    sizes = list(zip(x.shape[2:], result.shape[2:], strict=True))
    if any(size % output for size, output in sizes):
        return None
    kernel = [size // output for size, output in sizes]
    return recorder.emit(op_type, [x], result, kernel_shape=kernel, strides=kernel)


@function("pad")
def pad(recorder: Recorder, result, input, pad, mode, value, algorithm):
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    if mode not in modes or input.dtype.kind != "f":
        return None
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    sizes = np.array([before for before, _ in pairs] + [after for _, after in pairs], np.int64)
    return recorder.emit("Pad", [input, sizes, np.array(value or 0, input.dtype)], result, mode=modes[mode])


@function("channel_shuffle")
def channel_shuffle(recorder: Recorder, result, input, groups):
    if input.ndim < 3:
        return None
    n, channels, *sizes = input.shape
    y = recorder.reshape(input, (n, groups, channels // groups, *sizes))
    return recorder.reshape(recorder.transpose(y, [0, 2, 1, *range(3, y.ndim)]), input.shape)


@function("pixel_shuffle")
def pixel_shuffle(recorder: Recorder, result, input, upscale_factor):
    if input.ndim != 4:
        return None
    return recorder.emit("DepthToSpace", [input], result, blocksize=int(upscale_factor), mode="CRD")


# mode: (ONNX's mode, attributes beside the coordinates)
RESIZES = {
    "nearest": ("nearest", {"nearest_mode": "floor"}),
    "linear": ("linear", {}),
    "bilinear": ("linear", {}),
    "trilinear": ("linear", {}),
    "bicubic": ("cubic", {"cubic_coeff_a": -0.75}),
}


@function("interpolate")
def interpolate(
    recorder: Recorder, result, input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
):
    """Sizes of the example; with a scale, those that it divides without remainder."""
    if mode not in RESIZES or antialias or input.dtype.kind != "f":
        return None
    sizes = zip(input.shape[2:], result.shape[2:], per_axis_numbers(scale_factor, input.ndim - 2), strict=True)
    if scale_factor is not None and any(n * scale != out for n, out, scale in sizes):
        return None
    coordinates = "asymmetric" if mode == "nearest" else "align_corners" if align_corners else "half_pixel"
    kind, attributes = RESIZES[mode]
    return recorder.emit(
        "Resize",
        [input, None, None, np.array(result.shape[2:], np.int64)],
        result,
        axes=list(range(2, input.ndim)),
        mode=kind,
        coordinate_transformation_mode=coordinates,
        **attributes,
    )


def per_axis_numbers(value, rank: int) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
