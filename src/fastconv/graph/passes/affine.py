"""Multiplications and additions per channel: batch norm and its relatives, folded into what stands before them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fastconv.graph.ir import Graph, Node
from fastconv.graph.passes.rewriting import Rewriting, finite, is_unclamped

__all__ = ["fold_affine", "scaled"]


class Affine(NamedTuple):
    """``source * scale + shift``, both float64 (C,) or scalar."""

    source: str
    scale: np.ndarray
    shift: np.ndarray


def fold_affine(graph: Graph) -> Graph:
    """Into the convolution before; a batch norm without one becomes ``fastconv::Affine(x, scale, shift)``, which takes more."""
    work = Rewriting(graph)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            affine = _batch_norm(node, work) or _arithmetic(node, work)
            if affine is None or not _fold(affine, node, work):
                work.add(node)
    return work.finish()


def _fold(affine: Affine, node: Node, work: Rewriting) -> bool:
    """False where it stays: what overflows when it is folded would turn a finite result into NaN."""
    output = node.outputs[0]
    conv = work.producer(affine.source, "Conv", "ConvTranspose")
    if conv is not None and not any(conv.inputs[3:]) and is_unclamped(conv):
        into = _into_convolution if conv.op_type == "Conv" else _into_transposed
        return into(affine, conv, output, work)
    before = work.producer(affine.source, "Affine")
    if before is not None:
        scale, shift = (work.constant(name) for name in before.inputs[1:])
        folded = finite(scale.dtype, scale * affine.scale, shift * affine.scale + affine.shift)
        if folded is None or folded[0].size != scale.size or folded[1].size != scale.size:
            return False
        names = [work.new_constant(name, array) for name, array in zip(before.inputs[1:], folded, strict=True)]
        work.absorb(before, output, inputs=[before.inputs[0], *names])
        return True
    if node.op_type != "BatchNormalization":
        return False
    folded = finite(work.constant(node.inputs[1]).dtype, affine.scale, affine.shift)
    if folded is None:
        return False
    names = [work.new_constant(name, array) for name, array in zip(node.inputs[1:3], folded, strict=True)]
    attributes = {"low": -np.inf, "high": np.inf}
    own = {"domain": "fastconv", "op_type": "Affine", "attributes": attributes}
    work.add(replace(node, inputs=[affine.source, *names], outputs=[output], **own))
    return True


def _into_convolution(affine: Affine, conv: Node, output: str, work: Rewriting) -> bool:
    """The weights stay as they are: their scales go with the node, and are applied when they are packed."""
    w = work.constant(conv.inputs[1])
    folded = _scale_and_bias(affine, conv, w.shape[0], work)
    if folded is None or not w.size:
        return False
    scale, bias = folded
    if "scale" in conv.attributes:
        scale = scale * conv.attributes["scale"]
    checked = [bias]
    if w.dtype.kind != "f" or not work.norm(conv.inputs[1]) * np.abs(scale).max() < np.finfo(w.dtype).max / 2:
        by_filter = w.reshape(w.shape[0], -1)
        checked += [by_filter.max(1) * scale, by_filter.min(1) * scale]
    rounded = finite(w.dtype, *checked)
    if rounded is None:
        return False
    names = [conv.inputs[1], work.new_constant(conv.inputs[1] + ".bias", rounded[0])]
    changed = {"inputs": [conv.inputs[0], *names, *conv.inputs[3:]], "attributes": conv.attributes | {"scale": scale}}
    work.absorb(conv, output, **changed)
    return True


def _into_transposed(affine: Affine, conv: Node, output: str, work: Rewriting) -> bool:
    w = work.constant(conv.inputs[1])  # (channels, filters / group, *kernel)
    groups = conv.attributes["group"]
    folded = _scale_and_bias(affine, conv, w.shape[1] * groups, work)
    if folded is None:
        return False
    by_group = w.reshape(groups, -1, *w.shape[1:]) * folded[0].reshape(groups, 1, -1, *(1,) * (w.ndim - 2))
    rounded = finite(w.dtype, by_group.reshape(w.shape), folded[1])
    if rounded is None:
        return False
    names = [work.new_constant(conv.inputs[1] + suffix, a) for suffix, a in zip(("", ".bias"), rounded, strict=True)]
    work.absorb(conv, output, inputs=[conv.inputs[0], *names])
    return True


def _scale_and_bias(affine: Affine, conv: Node, filters: int, work: Rewriting) -> tuple[np.ndarray, np.ndarray] | None:
    """Of each of the filters, in float64."""
    if affine.scale.size not in (1, filters) or affine.shift.size not in (1, filters):
        return None
    b = work.constant(conv.inputs[2]).astype(np.float64) if conv.inputs[2] else 0.0
    scale = affine.scale if affine.scale.shape == (filters,) else np.broadcast_to(affine.scale, (filters,))
    return scale, b * scale + affine.shift


def scaled(w: np.ndarray, scale: np.ndarray | None, empty=np.empty) -> np.ndarray:
    """Filters (filters, …), contiguous, each times its own `scale`; ``empty(shape, dtype)`` gives the memory."""
    if scale is None:
        return np.ascontiguousarray(w)
    factors = scale.reshape(-1, *(1,) * (w.ndim - 1))
    return np.multiply(w, factors, out=empty(w.shape, w.dtype), casting="same_kind")


def _batch_norm(node: Node, work: Rewriting) -> Affine | None:
    if (node.domain, node.op_type) != ("", "BatchNormalization") or len([name for name in node.outputs if name]) != 1:
        return None
    if node.attributes.get("training_mode", 0) or not node.attributes.get("spatial", 1):
        return None
    parameters = [work.constant(name) for name in node.inputs[1:5]]
    if any(array is None or array.ndim != 1 or array.dtype.kind != "f" or array.itemsize < 4 for array in parameters):
        return None
    weight, bias, mean, var = (array.astype(np.float64) for array in parameters)
    scale = weight / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
    return Affine(node.inputs[0], scale, bias - mean * scale)


def _arithmetic(node: Node, work: Rewriting) -> Affine | None:
    if node.domain or node.op_type not in ("Add", "Mul", "Sub", "Div") or "broadcast" in node.attributes:
        return None
    left, right = node.inputs
    source, other = (left, right) if work.constant(right) is not None else (right, left)
    number = _per_channel(work.constant(other), work.ranks.get(source))
    if number is None or (source == right and node.op_type == "Div"):
        return None
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type == "Add":
        return Affine(source, one, number)
    if node.op_type == "Mul":
        return Affine(source, number, zero)
    if node.op_type == "Div":
        return Affine(source, 1 / number, zero)
    return Affine(source, one, -number) if source == left else Affine(source, -one, number)


def _per_channel(array: np.ndarray | None, rank: int | None) -> np.ndarray | None:
    """The numbers of a constant that differs along axis 1 of an operand of `rank` axes at most."""
    if array is None or rank is None or rank < 2 or array.dtype not in (np.float32, np.float64) or array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != 1):
        return None
    return array.reshape(-1).astype(np.float64)
