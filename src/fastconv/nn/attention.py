"""Attention by several heads, and the encoder of a transformer that is built on it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

from fastconv.errors import ArgumentError
from fastconv.geometry import integer
from fastconv.nn import functional as F
from fastconv.nn import init
from fastconv.nn.annotations import ArrayLike, DTypeLike
from fastconv.nn.container import ModuleList
from fastconv.nn.dropout import Dropout
from fastconv.nn.factory import empty
from fastconv.nn.linear import Linear
from fastconv.nn.module import Module
from fastconv.nn.normalization import LayerNorm

__all__ = ["MultiheadAttention", "TransformerEncoder", "TransformerEncoderLayer"]

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu}


class NonDynamicallyQuantizableLinear(Linear):
    """:class:`Linear` by the name that torch prints for it here."""


class MultiheadAttention(Module):
    """`num_heads` attentions at once, each over its part of the projected features.  Source: Vaswani et al. 2017.

    Called with query (L, N, E), key (S, N, kdim) and value (S, N, vdim), or batch first, or without N; returns the
    output, (L, N, E) likewise, and the weights of the keys, (N, L, S), or None.  Masks are True where a key does *not*
    count, or numbers to add; see :func:`fastconv.nn.functional.multi_head_attention_forward`.

    ``in_proj_weight`` is (3 E, E), or with another `kdim` or `vdim` there are three, ``q_proj_weight`` and so on;
    ``in_proj_bias`` is (3 E,).  Raises :class:`ArgumentError` for heads that do not divide `embed_dim`.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: object | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        size = self.embed_dim = integer(embed_dim, "embed_dim", 1)
        self.num_heads = integer(num_heads, "num_heads", 1)
        if size % self.num_heads:
            raise ArgumentError(f"num_heads: {self.num_heads} heads do not divide embed_dim {size}")
        self.kdim = size if kdim is None else integer(kdim, "kdim", 1)
        self.vdim = size if vdim is None else integer(vdim, "vdim", 1)
        self.head_dim = size // self.num_heads
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self._qkv_same_embed_dim = self.kdim == self.vdim == size
        apart = not self._qkv_same_embed_dim
        shapes = {
            "q_proj_weight": (size, size) if apart else None,
            "k_proj_weight": (size, self.kdim) if apart else None,
            "v_proj_weight": (size, self.vdim) if apart else None,
            "in_proj_weight": None if apart else (3 * size, size),
            "in_proj_bias": (3 * size,) if bias else None,
        }
        for name, shape in shapes.items():
            self._parameters[name] = None if shape is None else empty(shape, device, dtype)
        self.out_proj = NonDynamicallyQuantizableLinear(size, size, bias, device, dtype)
        for name in ("bias_k", "bias_v"):
            self._parameters[name] = empty((1, 1, size), device, dtype) if add_bias_kv else None
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        self.__dict__["_handed_out"] = True
        for name, array in self._parameters.items():
            if array is None or name == "in_proj_bias":
                continue
            (init.xavier_normal_ if name.startswith("bias") else init.xavier_uniform_)(array)
        if self._parameters["in_proj_bias"] is not None:
            init.zeros_(self._parameters["in_proj_bias"])
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        key_padding_mask: ArrayLike | None = None,
        need_weights: bool = True,
        attn_mask: ArrayLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        turned = self.batch_first and np.ndim(query) == 3
        if turned:
            query, key, value = (np.transpose(x, (1, 0, 2)) if np.ndim(x) == 3 else x for x in (query, key, value))
        p = self._parameters
        projected = self.out_proj._parameters
        y, weights = F.multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, p["in_proj_weight"], p["in_proj_bias"], p["bias_k"],
            p["bias_v"], self.add_zero_attn, self.dropout, projected["weight"], projected["bias"], self.training,
            key_padding_mask, need_weights, attn_mask, not self._qkv_same_embed_dim, p["q_proj_weight"],
            p["k_proj_weight"], p["v_proj_weight"], None, None, average_attn_weights, is_causal,
        )  # fmt: skip
        return (np.transpose(y, (1, 0, 2)) if turned else y), weights


class TransformerEncoderLayer(Module):
    """Self-attention and two linear layers, each with dropout, a sum with its input, and layer norm.

    (L, N, d_model), or batch first, or without N; the norms come after the sums, or with `norm_first` before attention
    and linear layers.  `activation` is ``"relu"``, ``"gelu"`` or a function.  Source: Vaswani et al. 2017, section 3.1.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: object | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **place)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **place)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, **place)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        if isinstance(activation, str):
            if activation not in ACTIVATIONS:
                raise ArgumentError(f"activation: expected 'relu', 'gelu' or a function, got {activation!r}")
            activation = ACTIVATIONS[activation]
        self.activation = activation

    def forward(
        self,
        src: ArrayLike,
        src_mask: ArrayLike | None = None,
        src_key_padding_mask: ArrayLike | None = None,
        is_causal: bool = False,
    ) -> np.ndarray:
        x = src
        if self.norm_first:
            x = x + self._sa_block(self.norm1(x), src_mask, src_key_padding_mask, is_causal)
            return x + self._ff_block(self.norm2(x))
        x = self.norm1(x + self._sa_block(x, src_mask, src_key_padding_mask, is_causal))
        return self.norm2(x + self._ff_block(x))

    def _sa_block(self, x, attn_mask, key_padding_mask, is_causal):
        y, _ = self.self_attn(x, x, x, key_padding_mask, False, attn_mask, is_causal=is_causal)
        return self.dropout1(y)

    def _ff_block(self, x):
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """`num_layers` copies of an encoder layer one after another, then `norm` where it is given.

    `enable_nested_tensor` and `mask_check` are torch's, and change nothing here.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.num_layers = integer(num_layers, "num_layers", 1)
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(self.num_layers)])
        self.norm = norm

    def forward(
        self,
        src: ArrayLike,
        mask: ArrayLike | None = None,
        src_key_padding_mask: ArrayLike | None = None,
        is_causal: bool | None = None,
    ) -> np.ndarray:
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal) and mask is not None)
        return src if self.norm is None else self.norm(src)
