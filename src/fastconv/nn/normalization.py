"""Normalisation by the statistics of the batch, of one sample, of groups of channels, or of neighbouring channels."""

from __future__ import annotations

import warnings

import numpy as np

from fastconv.arrays import as_array
from fastconv.errors import ArgumentError
from fastconv.geometry import integer, is_sequence
from fastconv.nn import functional as F
from fastconv.nn.annotations import DTypeLike, Sizes
from fastconv.nn.factory import empty
from fastconv.nn.module import Module

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


class _Affine(Module):
    """Owns ``weight`` (ones) and ``bias`` (zeros), either of which may be absent."""

    def _set_affine(self, shape, weight: bool, bias: bool, device, dtype) -> None:
        self._parameters["weight"] = empty(shape, device, dtype) if weight else None
        self._parameters["bias"] = empty(shape, device, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to ones and bias to zeros."""
        for name, value in (("weight", 1), ("bias", 0)):
            if self._parameters[name] is not None:
                self._parameters[name][...] = value


class _RunningNorm(_Affine):
    """Owns the running mean and variance beside weight and bias, each of shape (num_features,)."""

    _version = 2
    layouts: tuple[str, ...]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: object | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = integer(num_features, "num_features", 1)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        for name in ("running_mean", "running_var"):
            self._buffers[name] = empty(self.num_features, device, dtype) if track_running_stats else None
        self._buffers["num_batches_tracked"] = np.zeros((), np.int64) if track_running_stats else None
        self._set_affine(self.num_features, affine, affine and bias, device, dtype)

    def reset_running_stats(self) -> None:
        """Set the mean to 0, the variance to 1 and the number of batches to 0."""
        if self.track_running_stats:
            for name, value in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
                self._buffers[name][...] = value

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.reset_running_stats()

    def _optional_entries(self, version: int | None) -> tuple[str, ...]:
        return ("num_batches_tracked",) if version is None or version < 2 else ()

    def _check_layout(self, input) -> None:
        if np.ndim(input) not in [layout.count(",") + 1 for layout in self.layouts]:
            raise ArgumentError(f"input: expected {' or '.join(self.layouts)}, got shape {np.shape(input)}")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self._parameters['bias'] is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    """(x − mean) / √(variance + eps) · weight + bias per channel.  Source: Ioffe and Szegedy 2015.

    In training mode mean and variance are the batch's, and the running ones move towards them by `momentum`, or with
    None become the average of all batches; in evaluation mode the running ones are used, if they are tracked.
    """

    def forward(self, input):
        self._check_layout(input)
        parameters, buffers = self._parameters, self._buffers
        tracking = self.training and self.track_running_stats
        used = tracking or not self.training
        mean, variance = (buffers[name] if used else None for name in ("running_mean", "running_var"))
        momentum = 0.0 if self.momentum is None else self.momentum
        batches = buffers["num_batches_tracked"] if tracking else None
        if tracking:
            self._handed_out = True
            if batches is not None and self.momentum is None:
                momentum = 1 / (int(batches) + 1)
        output = F.batch_norm(
            input,
            mean,
            variance,
            parameters["weight"],
            parameters["bias"],
            self.training or mean is None,
            momentum,
            self.eps,
        )
        if batches is not None:
            batches[...] += 1
        return output


class BatchNorm1d(_BatchNorm):
    layouts = ("(N, C)", "(N, C, L)")


class BatchNorm2d(_BatchNorm):
    layouts = ("(N, C, H, W)",)


class BatchNorm3d(_BatchNorm):
    layouts = ("(N, C, D, H, W)",)


class _InstanceNorm(_RunningNorm):
    """(x − mean) / √(variance + eps) · weight + bias per sample and channel.  Source: Ulyanov et al. 2016.

    In evaluation mode the running statistics are used, if they are tracked.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: object | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input):
        self._check_layout(input)
        shape = np.shape(input)
        unbatched = len(shape) == self.layouts[0].count(",") + 1
        channels = shape[0 if unbatched else 1]
        if channels != self.num_features:
            message = f"input: expected {self.num_features} channels, got {channels} in shape {shape}"
            if self.affine:
                raise ArgumentError(message)
            warnings.warn(f"{message}; without affine parameters it makes no difference", stacklevel=2)
        parameters, buffers = self._parameters, self._buffers
        tracking = self.training and buffers["running_mean"] is not None
        if tracking:
            self._handed_out = True
        output = F.instance_norm(
            as_array(input, "input")[None] if unbatched else input,
            buffers["running_mean"],
            buffers["running_var"],
            parameters["weight"],
            parameters["bias"],
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return output[0] if unbatched else output


class InstanceNorm1d(_InstanceNorm):
    layouts = ("(C, L)", "(N, C, L)")


class InstanceNorm2d(_InstanceNorm):
    layouts = ("(C, H, W)", "(N, C, H, W)")


class InstanceNorm3d(_InstanceNorm):
    layouts = ("(C, D, H, W)", "(N, C, D, H, W)")


class GroupNorm(_Affine):
    """(x − mean) / √(variance + eps) · weight + bias, per sample and group of channels.  Source: Wu and He 2018.

    Input (N, num_channels, *); weight and bias are (num_channels,).
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: object | None = None,
        dtype: DTypeLike | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_groups = integer(num_groups, "num_groups", 1)
        self.num_channels = integer(num_channels, "num_channels", 1)
        if self.num_channels % self.num_groups:
            raise ArgumentError(f"num_channels: expected a multiple of num_groups ({num_groups}), got {num_channels}")
        self.eps = eps
        self.affine = affine
        self._set_affine(self.num_channels, affine, affine and bias, device, dtype)

    def forward(self, input):
        parameters = self._parameters
        return F.group_norm(input, self.num_groups, parameters["weight"], parameters["bias"], self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self._parameters['bias'] is not None}"
        )


def _axes_shape(normalized_shape) -> tuple[int, ...]:
    sizes = normalized_shape if is_sequence(normalized_shape) else (normalized_shape,)
    if not len(sizes):
        raise ArgumentError("normalized_shape: expected at least one size")
    return tuple(integer(size, "normalized_shape", 1) for size in sizes)


class LayerNorm(_Affine):
    """(x − mean) / √(variance + eps) · weight + bias over axes of `normalized_shape`, the last.  Source: Ba 2016."""

    def __init__(
        self,
        normalized_shape: Sizes,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: object | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _axes_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._set_affine(self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)

    def forward(self, input):
        parameters = self._parameters
        return F.layer_norm(input, self.normalized_shape, parameters["weight"], parameters["bias"], self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self._parameters['bias'] is not None}"
        )


class RMSNorm(_Affine):
    """x / √(mean of x² + eps) · weight over axes of `normalized_shape`, the last.  Source: Zhang and Sennrich 2019."""

    def __init__(
        self,
        normalized_shape: Sizes,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: object | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _axes_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self._parameters["weight"] = empty(self.normalized_shape, device, dtype) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to ones."""
        if self._parameters["weight"] is not None:
            self._parameters["weight"][...] = 1

    def forward(self, input):
        return F.rms_norm(input, self.normalized_shape, self._parameters["weight"], self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """x / (k + alpha / size · Σ x² over `size` neighbouring channels)^beta.  Source: Krizhevsky et al. 2012."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = integer(size, "size", 1)
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input):
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
