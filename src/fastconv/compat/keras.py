"""Convolution and pooling of keras 3's NumPy backend by fastconv's kernels, and that backend without jax.

    import fastconv.compat.keras
    fastconv.compat.keras.install()      # before or after the first `import keras`
    import keras

The NumPy backend hands its convolutions and poolings to jax, and so cannot even be imported where jax is not installed.
keras has no place to plug others in, so :func:`install` replaces five functions of the module
``keras.src.backend.numpy.nn``, which keras looks up at every call.  Where jax is missing, it also lets the two modules
that import jax be loaded with an empty stand-in for it, which is gone afterwards.  Tried with keras 3.15.
"""

from __future__ import annotations

import os
import sys
from collections import OrderedDict
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from importlib.util import find_spec
from types import ModuleType

import numpy as np

from fastconv._kernels.array_memory import fingerprint
from fastconv.errors import ArgumentError
from fastconv.geometry import per_axis
from fastconv.nn import functional as F
from fastconv.ops.conv import conv_plan

__all__ = ["install", "uninstall"]

MODULE = "keras.src.backend.numpy.nn"
IMPORT_JAX = (MODULE, "keras.src.backend.numpy.math")
KEPT_WEIGHTS = 512

_replaced: dict[str, object] = {}


def install() -> None:
    """Give keras fastconv's convolutions and poolings; a second call changes nothing.

    Imports keras, on its NumPy backend where the environment variable KERAS_BACKEND is not set.  Raises ArgumentError
    where keras runs on another backend, ModuleNotFoundError where keras, or scipy, which this backend needs, is missing.
    """
    if _replaced:
        return
    chosen = os.environ.setdefault("KERAS_BACKEND", "numpy")
    if "keras" not in sys.modules and chosen == "numpy":
        _import_keras()
    keras = import_module("keras")
    if keras.backend.backend() != "numpy":
        raise ArgumentError(
            f"keras: expected its NumPy backend, got {keras.backend.backend()!r}; set the environment variable "
            f"KERAS_BACKEND=numpy before keras is imported"
        )
    module = import_module(MODULE)
    for function in (conv, depthwise_conv, conv_transpose, max_pool, average_pool):
        _replaced[function.__name__] = getattr(module, function.__name__)
        setattr(module, function.__name__, function)


def uninstall() -> None:
    """Give keras its own functions back."""
    module = import_module(MODULE) if _replaced else None
    while _replaced:
        setattr(module, *_replaced.popitem())
    _packed.clear()


def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """keras's ``ops.conv``: `kernel` (*size, channels / groups, filters), groups as the channels say."""
    x, last = _channels_first(inputs, data_format)
    kernel = _tensor(kernel)
    if kernel.ndim != x.ndim or x.shape[1] % kernel.shape[-2]:
        raise ArgumentError(
            f"kernel: expected {x.ndim} axes (*size, channels / groups, filters) for {x.shape[1]} channels, got shape "
            f"{kernel.shape}"
        )
    groups = x.shape[1] // kernel.shape[-2]
    return _convolved(x, last, kernel, strides, padding, dilation_rate, groups)


def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """keras's ``ops.depthwise_conv``: `kernel` (*size, channels, multiplier); a channel's results are neighbours."""
    x, last = _channels_first(inputs, data_format)
    kernel = _tensor(kernel)
    if kernel.ndim != x.ndim or x.shape[1] != kernel.shape[-2]:
        raise ArgumentError(
            f"kernel: expected {x.ndim} axes (*size, {x.shape[1]} channels, multiplier), got shape {kernel.shape}"
        )
    groups = x.shape[1]
    flat = kernel.reshape(*kernel.shape[:-2], 1, groups * kernel.shape[-1])
    return _convolved(x, last, flat, strides, padding, dilation_rate, groups)


def conv_transpose(
    inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1
):  # fmt: skip
    """keras's ``ops.conv_transpose``: `kernel` (*size, filters, channels)."""
    x, last = _channels_first(inputs, data_format)
    kernel = _tensor(kernel)
    rank = x.ndim - 2
    strides, dilation = per_axis(strides, rank, "strides"), per_axis(dilation_rate, rank, "dilation_rate")
    extra = (None,) * rank if output_padding is None else per_axis(output_padding, rank, "output_padding", 0)
    pads, surplus = [], []
    for size, stride, step, more in zip(kernel.shape, strides, dilation, extra, strict=False):
        before, after = _transposed_pads((size - 1) * step + 1, stride, padding, more)
        pads.append((before, max(after, 0)))
        surplus.append(max(-after, 0))
    w = kernel.transpose(rank + 1, rank, *range(rank))
    functions = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
    y = functions[rank - 1](x, w.astype(x.dtype, copy=False), None, strides, pads, surplus, 1, dilation)
    return _as_given(y, last, inputs)


def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """keras's ``ops.max_pool``."""
    x, last = _channels_first(inputs, data_format)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.ndim - 3]
    return _as_given(function(x, pool_size, strides, padding.lower()), last, inputs)


def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """keras's ``ops.average_pool``: padding does not count."""
    x, last = _channels_first(inputs, data_format)
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3]
    return _as_given(function(x, pool_size, strides, padding.lower(), count_include_pad=False), last, inputs)


def _tensor(value) -> np.ndarray:
    """An array, or a variable's, in an element type that the kernels take."""
    array = value if isinstance(value, np.ndarray) else import_module(MODULE).convert_to_tensor(value)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _channels_first(inputs, data_format) -> tuple[np.ndarray, bool]:
    """The input as (N, C, *size), a view, and whether keras has its channels last."""
    last = import_module("keras.src.backend").standardize_data_format(data_format) == "channels_last"
    x = _tensor(inputs)
    if not 3 <= x.ndim <= 5:
        raise ArgumentError(f"inputs: expected a batch with one to three spatial axes, got shape {x.shape}")
    return (np.moveaxis(x, -1, 1) if last else x), last


def _as_given(y: np.ndarray, last: bool, inputs) -> np.ndarray:
    y = np.ascontiguousarray(np.moveaxis(y, 1, -1) if last else y)
    return y.astype(inputs.dtype, copy=False)


def _convolved(x, last, kernel, strides, padding, dilation, groups) -> np.ndarray:
    """The convolution, with weights that stay packed for the calls to come with the same bytes."""
    w = kernel.transpose(-1, -2, *range(kernel.ndim - 2)).astype(x.dtype, copy=False)
    plan = conv_plan(x, w, None, strides, padding.lower(), dilation, groups, "auto", packed=True)
    if plan.layout is None:
        return _as_given(plan(x, plan.pack(w, None)), last, x)
    key = (plan.layout, kernel.shape, x.dtype, groups, fingerprint(np.ascontiguousarray(kernel)))
    packed = _packed.get(key)
    if packed is None:
        packed = _packed[key] = plan.pack(w, None)
        while len(_packed) > KEPT_WEIGHTS:
            _packed.popitem(last=False)
    return _as_given(plan(x, packed), last, x)


_packed: OrderedDict[tuple, object] = OrderedDict()


def _transposed_pads(extent: int, stride: int, padding: str, extra: int | None) -> tuple[int, int]:
    """What a transposed convolution takes away at either end; where keras adds something, less than nothing.

    An input of n becomes n * stride for "same", and (n - 1) * stride + max(extent, stride) for "valid", unless `extra`
    says by how much it exceeds (n - 1) * stride + extent % 2 or + extent.
    """
    if padding.lower() == "valid":
        return 0, -(max(stride - extent, 0) if extra is None else extra)
    if padding.lower() != "same":
        raise ArgumentError(f"padding: expected 'valid' or 'same', got {padding!r}")
    kept = stride if extra is None else extent % 2 + extra  # of the positions behind the last step
    total = kept + extent - 2
    before = min(total // 2 + total % 2, extent - 1)
    return extent - 1 - before, extent - 1 - (total - before)


def _import_keras() -> None:
    if find_spec("jax") is not None:
        return
    finder = _WithoutJax()
    sys.meta_path.insert(0, finder)
    try:
        import_module("keras")
    finally:
        sys.meta_path.remove(finder)


class _WithoutJax(MetaPathFinder):
    """Finds the modules that import jax, to be loaded while a stand-in has its name."""

    def find_spec(self, fullname, path, target=None):
        spec = PathFinder.find_spec(fullname, path, target) if fullname in IMPORT_JAX else None
        if spec is not None:
            spec.loader = _StandIns(spec.loader)
        return spec


class _StandIns(Loader):
    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        names = ("jax", "jax.lax", "keras.src.backend.jax", "keras.src.backend.jax.math")
        jax, lax, backend, math = stand_ins = [ModuleType(name) for name in names]
        jax.lax, backend.math = lax, math
        math.fft, math.fft2 = (_of_pairs(transform) for transform in (np.fft.fft, np.fft.fft2))
        sys.modules.update(zip(names, stand_ins, strict=True))
        try:
            self._loader.exec_module(module)
        finally:
            for name in names:
                del sys.modules[name]


def _of_pairs(transform):
    """A Fourier transform of (real, imaginary), as keras's backend for jax has it."""

    def transformed(x):
        real, imaginary = x
        y = transform(real + 1j * imaginary)
        return y.real.astype(real.dtype), y.imag.astype(real.dtype)

    return transformed
