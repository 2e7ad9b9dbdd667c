"""Vectors by number."""

from __future__ import annotations

from fastconv.errors import ArgumentError
from fastconv.geometry import integer
from fastconv.nn import functional as F
from fastconv.nn import init
from fastconv.nn.annotations import ArrayLike, DTypeLike
from fastconv.nn.factory import empty, state_array
from fastconv.nn.module import Module

__all__ = ["Embedding"]


class Embedding(Module):
    """Integers (...) to rows of ``weight``, (..., embedding_dim).

    ``weight`` is (num_embeddings, embedding_dim), of N(0, 1) with the row `padding_idx` zero, or `_weight`.  With
    `max_norm` longer rows are scaled down to it when they are read.  `scale_grad_by_freq` and `sparse` are kept only.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: ArrayLike | None = None,
        _freeze: bool = False,
        device: object | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = integer(num_embeddings, "num_embeddings", 0)
        self.embedding_dim = integer(embedding_dim, "embedding_dim", 0)
        if padding_idx is not None:
            padding_idx = integer(padding_idx, "padding_idx", -self.num_embeddings)
            if padding_idx >= self.num_embeddings:
                raise ArgumentError(
                    f"padding_idx: expected less than num_embeddings ({num_embeddings}), got {padding_idx}"
                )
            padding_idx %= self.num_embeddings
        self.padding_idx = padding_idx
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        shape = (self.num_embeddings, self.embedding_dim)
        if _weight is None:
            self._parameters["weight"] = empty(shape, device, dtype)
            self.reset_parameters()
        else:
            weight = state_array(_weight, "_weight")
            if weight.shape != shape:
                raise ArgumentError(f"_weight: expected shape {shape}, got {weight.shape}")
            self.register_parameter("weight", weight)

    @classmethod
    def from_pretrained(
        cls,
        embeddings,
        freeze=True,
        padding_idx=None,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        sparse=False,
    ):
        """A layer around the array `embeddings` (num_embeddings, embedding_dim), which it shares."""
        weight = state_array(embeddings, "embeddings")
        if weight.ndim != 2:
            raise ArgumentError(f"embeddings: expected (num_embeddings, embedding_dim), got shape {weight.shape}")
        return cls(*weight.shape, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, weight)

    def reset_parameters(self) -> None:
        """Draw the weight again."""
        weight = self._parameters["weight"]
        init.normal_(weight)
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0

    def forward(self, input):
        return F.embedding(input, self._parameters["weight"], self.padding_idx, self.max_norm, self.norm_type)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        for name, silent in (
            ("padding_idx", None),
            ("max_norm", None),
            ("norm_type", 2),
            ("scale_grad_by_freq", False),
            ("sparse", False),
        ):
            value = getattr(self, name)
            text += "" if value == silent else f", {name}={value}"
        return text
