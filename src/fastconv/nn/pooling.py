"""Pooling in one, two and three dimensions.

Inputs are (N, C, *size) or (C, *size); channels are kept.  `kernel_size`, `stride`, `padding` and `dilation` are one
integer or one per axis, and `stride` is `kernel_size` where it is not given.
"""

from __future__ import annotations

from fastconv._kernels.recent import Recent
from fastconv.arrays import as_array
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import is_sequence, per_axis
from fastconv.nn import functional as F
from fastconv.nn.annotations import ArrayLike, Factors, OutputSizes, Sizes
from fastconv.nn.factory import state_array
from fastconv.nn.functional.arguments import number
from fastconv.nn.module import Module
from fastconv.ops.pool import average_pool_plan, max_pool_plan

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _PoolNd(Module):
    rank: int
    function: str

    def _set_window(self, kernel_size, stride, padding=0, dilation=1) -> None:
        """Check the window and keep it as it was given, which the repr shows."""
        stride = kernel_size if stride is None or (is_sequence(stride) and not len(stride)) else stride
        kernels = per_axis(kernel_size, self.rank, "kernel_size")
        per_axis(stride, self.rank, "stride")
        pads = per_axis(padding, self.rank, "padding", 0)
        dilations = per_axis(dilation, self.rank, "dilation")
        for kernel, pad, step in zip(kernels, pads, dilations, strict=True):
            if 2 * pad > step * (kernel - 1) + 1:
                raise ArgumentError(
                    f"padding: expected at most half the window of {step * (kernel - 1) + 1}, got {pad}: a window "
                    "could lie in the padding alone"
                )
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self._recent = Recent()

    def _planned(self, make_plan, input, facts):
        """The plan for a batched `input` that the kernels take as it is; None for any other."""
        plan = self._recent.find(input, None, None, facts)
        if plan is None and as_array(input, "input") is input and input.ndim == self.rank + 2:
            plan = make_plan(input, self.rank, *facts, "auto")
            self.__dict__["_recent"] = Recent(plan, (input,), facts)
        return plan


class _MaxPoolNd(_PoolNd):
    """The largest value of every window; the padding never wins.

    With `return_indices` also its int64 position in the flattened input plane.  With `ceil_mode` a last window that
    starts inside the input counts although it does not fit.  Raises :class:`ArgumentError` for padding beyond half of
    the window.
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self._set_window(kernel_size, stride, padding, dilation)
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input):
        facts = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)
        plan = self._planned(max_pool_plan, input, facts)
        return getattr(F, self.function)(input, *facts) if plan is None else plan(input)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPoolNd):
    rank, function = 1, "max_pool1d"


class MaxPool2d(_MaxPoolNd):
    rank, function = 2, "max_pool2d"


class MaxPool3d(_MaxPoolNd):
    rank, function = 3, "max_pool3d"


class _AvgPoolNd(_PoolNd):
    """The mean of every window.

    The divisor counts the zeros of the padding, unless `count_include_pad` is False; `divisor_override` replaces it.
    With `ceil_mode` a last window that starts inside the input counts although it does not fit.
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self._set_window(kernel_size, stride, padding)
        if divisor_override == 0:
            raise ArgumentError("divisor_override: expected a number other than 0")
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input):
        window = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        facts = (*window, self.divisor_override)
        plan = self._planned(average_pool_plan, input, facts)
        if plan is not None:
            return plan(input)
        return getattr(F, self.function)(input, *(window if self.rank == 1 else facts))

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPoolNd):
    rank, function = 1, "avg_pool1d"

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        for name in ("kernel_size", "stride", "padding"):
            setattr(self, name, per_axis(getattr(self, name), 1, name, 0))


class AvgPool2d(_AvgPoolNd):
    rank, function = 2, "avg_pool2d"


class AvgPool3d(_AvgPoolNd):
    rank, function = 3, "avg_pool3d"


class _LPPoolNd(_PoolNd):
    """The p-norm of every window, (Σ |x|^p)^(1/p) with p = `norm_type`."""

    def __init__(
        self, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self._set_window(kernel_size, stride)
        number(norm_type, "norm_type")
        self.norm_type = norm_type
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input):
        return getattr(F, self.function)(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPoolNd):
    rank, function = 1, "lp_pool1d"


class LPPool2d(_LPPoolNd):
    rank, function = 2, "lp_pool2d"


class LPPool3d(_LPPoolNd):
    rank, function = 3, "lp_pool3d"


class _MaxUnpoolNd(_PoolNd):
    """Puts every value back to the position that a max pool with `return_indices` found it at; the rest is zero."""

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        super().__init__()
        self._set_window(kernel_size, stride, padding)
        self.kernel_size = per_axis(self.kernel_size, self.rank, "kernel_size")
        self.stride = per_axis(self.stride, self.rank, "stride")
        self.padding = per_axis(self.padding, self.rank, "padding", 0)

    def forward(self, input, indices, output_size=None):
        return getattr(F, self.function)(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpoolNd):
    rank, function = 1, "max_unpool1d"


class MaxUnpool2d(_MaxUnpoolNd):
    rank, function = 2, "max_unpool2d"


class MaxUnpool3d(_MaxUnpoolNd):
    rank, function = 3, "max_unpool3d"


class _FractionalMaxPoolNd(Module):
    """Maxima of `output_size` windows, or of that share `output_ratio` of the input, placed at random.

    The buffer ``_random_samples`` (N, C, rank), numbers from 0 to 1, fixes where; without it every call draws anew.
    """

    rank: int
    function: str

    def __init__(
        self,
        kernel_size: Sizes,
        output_size: Sizes | None = None,
        output_ratio: Factors | None = None,
        return_indices: bool = False,
        _random_samples: ArrayLike | None = None,
    ) -> None:
        super().__init__()
        if (output_size is None) == (output_ratio is None):
            raise ArgumentError("output_size: expected either an output_size or an output_ratio")
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size")
        self.return_indices = return_indices
        self._buffers["_random_samples"] = (
            None if _random_samples is None else state_array(_random_samples, "_random_samples")
        )
        self.output_size = None if output_size is None else per_axis(output_size, self.rank, "output_size")
        if output_ratio is not None:
            output_ratio = tuple(output_ratio) if is_sequence(output_ratio) else (output_ratio,) * self.rank
            if len(output_ratio) != self.rank or not all(0 < ratio < 1 for ratio in output_ratio):
                raise ArgumentError(
                    f"output_ratio: expected 1 or {self.rank} numbers between 0 and 1, got {output_ratio!r}"
                )
        self.output_ratio = output_ratio

    def forward(self, input):
        return getattr(F, self.function)(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            self._buffers["_random_samples"],
        )


class FractionalMaxPool2d(_FractionalMaxPoolNd):
    rank, function = 2, "fractional_max_pool2d"


class FractionalMaxPool3d(_FractionalMaxPoolNd):
    rank, function = 3, "fractional_max_pool3d"


class _AdaptivePoolNd(Module):
    rank: int
    function: str

    def __init__(self, output_size: OutputSizes) -> None:
        super().__init__()
        sizes = list(output_size) if is_sequence(output_size) else [output_size]
        if len(sizes) not in (1, self.rank):
            raise ArgumentError(f"output_size: expected 1 or {self.rank} values, got {output_size!r}")
        if self.rank == 1 and sizes[0] is None:
            raise ArgumentTypeError("output_size: expected an integer, got None")
        per_axis([0 if size is None else size for size in sizes], self.rank, "output_size", 0)
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveAvgPoolNd(_AdaptivePoolNd):
    """Means of `output_size` windows per axis, from floor(i L / size) to ceil((i + 1) L / size); None keeps an axis."""

    def forward(self, input):
        return getattr(F, self.function)(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    rank, function = 1, "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    rank, function = 2, "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    rank, function = 3, "adaptive_avg_pool3d"


class _AdaptiveMaxPoolNd(_AdaptivePoolNd):
    """The largest value, and with `return_indices` its position in the flattened input plane, of the same windows."""

    def __init__(self, output_size: OutputSizes, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input):
        return getattr(F, self.function)(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    rank, function = 1, "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    rank, function = 2, "adaptive_max_pool2d"


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    rank, function = 3, "adaptive_max_pool3d"
