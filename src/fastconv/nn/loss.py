"""Losses: one number, or with ``reduction="none"`` one per value, that says how far `input` is from `target`.

`size_average` and `reduce` are torch's older spelling of `reduction`, which is none, mean or sum.
"""

from __future__ import annotations

from fastconv.errors import ArgumentError
from fastconv.nn import functional as F
from fastconv.nn.annotations import ArrayLike
from fastconv.nn.factory import state_array
from fastconv.nn.functional.arguments import number
from fastconv.nn.module import Module

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class _Loss(Module):
    """Applies ``F.<function>``."""

    function: str
    reductions = ("none", "mean", "sum")

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        if reduction not in self.reductions:
            raise ArgumentError(f"reduction: expected one of {', '.join(self.reductions)}, got {reduction!r}")
        if reduce is not None and not reduce:
            reduction = "none"
        elif size_average is not None or reduce is not None:
            reduction = "mean" if size_average is None or size_average else "sum"
        self.reduction = reduction

    def _own(self, name: str, weight) -> None:
        self._buffers[name] = None if weight is None else state_array(weight, name)

    def forward(self, input, target):
        return getattr(F, self.function)(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """|input − target|"""

    function = "l1_loss"


class MSELoss(_Loss):
    """(input − target)²"""

    function = "mse_loss"


class SmoothL1Loss(_Loss):
    """(input − target)² / (2 beta) where they are closer than `beta`, else |input − target| − beta / 2."""

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean", beta: float = 1.0
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def forward(self, input, target):
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """(input − target)² / 2 where they are closer than `delta`, else delta (|input − target| − delta / 2)."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    def forward(self, input, target):
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class KLDivLoss(_Loss):
    """target (log target − input) for log-probabilities `input`; the reduction batchmean divides by the batch size."""

    reductions = ("none", "mean", "sum", "batchmean")

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def forward(self, input, target):
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class BCELoss(_Loss):
    """−(t log x + (1 − t) log(1 − x)) for probabilities, times `weight`."""

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._own("weight", weight)

    def forward(self, input, target):
        return F.binary_cross_entropy(input, target, self._buffers["weight"], reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """:class:`BCELoss` of sigmoid(input); the positives count `pos_weight` times."""

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: ArrayLike | None = None,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._own("weight", weight)
        self._own("pos_weight", pos_weight)

    def forward(self, input, target):
        return F.binary_cross_entropy_with_logits(
            input,
            target,
            self._buffers["weight"],
            reduction=self.reduction,
            pos_weight=self._buffers["pos_weight"],
        )


class NLLLoss(_Loss):
    """Minus the log-probability of the class `target`, times the class's `weight`; `ignore_index` does not count."""

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self._own("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input, target):
        return F.nll_loss(
            input, target, self._buffers["weight"], ignore_index=self.ignore_index, reduction=self.reduction
        )


class CrossEntropyLoss(_Loss):
    """:class:`NLLLoss` of log_softmax(input) over axis 1; `target` holds classes, or probabilities of input's shape."""

    def __init__(
        self,
        weight: ArrayLike | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if not 0 <= number(label_smoothing, "label_smoothing") <= 1:
            raise ArgumentError(f"label_smoothing: expected a number from 0 to 1, got {label_smoothing}")
        self._own("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input, target):
        return F.cross_entropy(
            input,
            target,
            self._buffers["weight"],
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
