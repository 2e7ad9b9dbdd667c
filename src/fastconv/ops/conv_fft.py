"""Convolution by the fast Fourier transform: for kernels so large that a product of spectra takes less than their taps."""

from __future__ import annotations

from math import log2, prod, sqrt

import numpy as np

from fastconv.geometry import Window
from fastconv.ops.conv_spec import ConvSpec
from fastconv.ops.cost import CALL_SECONDS, sum_error
from fastconv.ops.weighted import WeightedKernel

__all__ = ["FFT"]

ROUNDINGS = 7  # of a value on its way through one level of a transform (Higham, 24.1)
PASSES = 3  # input, weights, and back
TRANSFORM_SECONDS = 0.8e-9  # each element, at each level
PRODUCT_SECONDS = 1.5e-9  # each pair of complex numbers


class FFT(WeightedKernel[ConvSpec]):
    """Spectra of image and filters, by :mod:`numpy.fft`, their products, and the way back: taken by name alone.

    Every output element has roundings of the whole image's magnitude: a NaN or infinity anywhere makes NaN everywhere.
    Source: Mathieu, Henaff and LeCun, Fast Training of Convolutional Networks through FFTs, ICLR 2014.
    """

    name = "fft"
    automatic = False

    def refusal(self, spec):
        if not spec.group_channels:
            return "there are no input channels"
        return super().refusal(spec)

    def plan(self, spec):
        return FFTPlan(spec)

    def seconds(self, spec):
        steps = spec.batch * (spec.channels + spec.filters) * _steps(spec.window)
        return 30 * CALL_SECONDS + steps * TRANSFORM_SECONDS + self._products(spec) * PRODUCT_SECONDS

    def flops(self, spec):
        steps = spec.batch * (spec.channels + spec.filters) * _steps(spec.window)
        return round(2.5 * steps) + 8 * self._products(spec)

    def pack_seconds(self, spec):
        return spec.filters * spec.group_channels * _steps(spec.window) * TRANSFORM_SECONDS

    def scratch_bytes(self, spec):
        spectra = spec.batch * (spec.channels + spec.filters) * 2 * transformed_size(spec.window)
        return (spectra + spec.batch * spec.filters * prod(count_of(spec.window))) * _computed(spec).itemsize

    def error_bound(self, spec):
        return sqrt(prod(spec.window.input)) * _relative_error(spec)

    def errors(self, spec, x, w, b):
        """By channel, the norm of the image times the sum of magnitudes of the kernel, instead of the largest value.

        A value on its way through a transform of n = 2^t elements has at most 7 t roundings, relative to the sum of the
        magnitudes that it is made of.  For spectra that is Σ|w|, and in the mean square √n ‖x‖₂ and Σ|w| √n ‖x‖₂ for
        their product, of which the way back makes ‖x‖₂ Σ|w|.
        """
        spatial = tuple(range(2, x.ndim))
        norms = np.sqrt((x.astype(np.float64) ** 2).sum(axis=spatial)).reshape(len(x), spec.groups, -1)
        sums = np.abs(w).sum(axis=spatial, dtype=np.float64).reshape(spec.groups, -1, w.shape[1])
        magnitudes = np.einsum("ngc,gfc->ngf", norms, sums).reshape(len(x), -1)
        bound = _relative_error(spec) * magnitudes
        if b is not None:
            bound = bound + float(np.finfo(_computed(spec)).eps) * np.abs(b)
        return np.broadcast_to(bound.reshape(*bound.shape, *(1,) * len(spatial)), spec.y_shape)

    @staticmethod
    def _products(spec: ConvSpec) -> int:
        return spec.batch * spec.filters * spec.group_channels * transformed_size(spec.window)


def _computed(spec: ConvSpec) -> np.dtype:
    return np.dtype("float64" if spec.dtype == "float64" else "float32")


def _levels(window: Window) -> float:
    return log2(max(prod(count_of(window)), 2))


def _steps(window: Window) -> float:
    """Elements of a transform times its levels."""
    return prod(count_of(window)) * _levels(window)


def _relative_error(spec: ConvSpec) -> float:
    return sum_error(
        round(PASSES * ROUNDINGS * _levels(spec.window)) + 4 * spec.group_channels + 4, _computed(spec).name
    )


def count_of(window: Window) -> tuple[int, ...]:
    """Elements of the transform along each axis: zeros behind the input serve as padding on both sides."""
    return tuple(
        _fast(max(size + max(pads), (kernel - 1) * dilation + 1))
        for size, pads, kernel, dilation in zip(window.input, window.pads, window.kernel, window.dilation, strict=True)
    )


def transformed_size(window: Window) -> int:
    """Complex numbers of the spectrum of one real image."""
    *others, last = count_of(window)
    return prod(others) * (last // 2 + 1)


def _fast(least: int) -> int:
    """The next number without other prime factors than 2, 3 and 5."""
    count = max(least, 1)
    while True:
        rest = count
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return count
        count += 1


class FFTPlan:
    """NumPy computes float32 in float32 from version 2 on, before in float64."""

    def __init__(self, spec: ConvSpec):
        window = spec.window
        self.spec, self.dtype = spec, _computed(spec)
        self.counts = count_of(window)
        self.layout = ("fft", self.dtype, self.counts, window.dilation)
        self.axes = tuple(range(-len(self.counts), 0))
        # The first output reads from the padding, which lies behind the input.
        self.taken = np.ix_(
            *(
                (np.arange(size) * stride - before) % count
                for size, stride, (before, _), count in zip(
                    window.output, window.stride, window.pads, self.counts, strict=True
                )
            )
        )

    def pack(self, w, b):
        """Conjugate spectra (groups, filters, channels, …) and the bias."""
        spec = self.spec
        window = spec.window
        spread = np.zeros(
            (*w.shape[:2], *((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilation, strict=True)))
        )
        spread = spread.astype(self.dtype)
        spread[(..., *(slice(None, None, d) for d in window.dilation))] = w
        spectra = np.fft.rfftn(spread, self.counts, self.axes).conj()
        return spectra.reshape(spec.groups, spec.group_filters, *spectra.shape[1:]), b

    def __call__(self, x, packed):
        spec, (spectra, bias) = self.spec, packed
        y = spec.empty_output()
        images = np.fft.rfftn(x.astype(self.dtype, copy=False), self.counts, self.axes)
        images = images.reshape(spec.batch, spec.groups, spec.group_channels, *images.shape[2:])
        products = np.einsum("ngc...,gfc...->ngf...", images, spectra)
        sums = np.fft.irfftn(products, self.counts, self.axes)[(..., *self.taken)].reshape(spec.y_shape)
        if bias is not None:
            sums += bias.astype(self.dtype).reshape(-1, *(1,) * len(self.counts))
        with np.errstate(over="ignore"):
            y[...] = sums
        return y
