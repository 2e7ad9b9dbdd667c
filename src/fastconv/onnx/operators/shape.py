"""Reshaping, selecting and rearranging; none of these computes a new value, but for Pad's constant and reductions."""

import numpy as np

from fastconv import reference
from fastconv.onnx.operators.registry import operator


def _ints(values):
    return [int(v) for v in values]


@operator
def Reshape(x, shape, *, allowzero=0):
    """0 keeps the axis in its place, unless `allowzero` takes it by its word; -1 follows from the rest."""
    return x.reshape([x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(_ints(shape))])


@operator
def Flatten(x, *, axis=1):
    rows = int(np.prod(x.shape[:axis], dtype=np.int64))
    return x.reshape(rows, x.size // rows if rows else int(np.prod(x.shape[axis:], dtype=np.int64)))


@operator
def Transpose(x, *, perm=None):
    return x.transpose(perm)


@operator
def Squeeze(x, axes=None):
    return x.squeeze(None if axes is None else tuple(_ints(axes)))


@operator
def Unsqueeze(x, axes):
    return np.expand_dims(x, tuple(_ints(np.atleast_1d(axes))))


@operator
def Concat(*inputs, axis=1):
    return np.concatenate(inputs, axis)


@operator
def Split(x, split=None, *, axis=0, num_outputs=None, outputs):
    """Into sizes `split`, or into equal parts of which the last may be smaller."""
    if num_outputs not in (None, outputs):
        raise ValueError(f"num_outputs is {num_outputs}, and the node has {outputs} outputs")
    if split is None:
        part = -(-x.shape[axis] // outputs)
        ends = [part * i for i in range(1, outputs)]
    else:
        if sum(_ints(split)) != x.shape[axis]:
            raise ValueError(f"split {_ints(split)} does not add up to the {x.shape[axis]} of axis {axis}")
        ends = np.cumsum(split)[:-1]
    return tuple(np.split(x, ends, axis))


def _slice(size, start, end, step):
    """ONNX's bounds as Python's; unlike there, a start before the first value is the first, even in reverse."""
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    if step > 0:
        return slice(max(start, 0), max(end, 0), step)
    return slice(max(start, 0), None if end < 0 else end, step)


@operator
def Slice(x, starts, ends, axes=None, steps=None):
    starts, ends = _ints(starts), _ints(ends)
    axes = range(len(starts)) if axes is None else _ints(axes)
    steps = [1] * len(starts) if steps is None else _ints(steps)
    index = [slice(None)] * x.ndim
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        index[axis] = _slice(x.shape[axis], *bounds)
    return x[tuple(index)]


@operator
def Gather(x, indices, *, axis=0):
    return x.take(indices, axis)


def _along(indices, axis):
    """An index that picks, at every position of `indices`, that position with its `axis` replaced by the value."""
    index = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    index[axis] = indices
    return tuple(index)


_REDUCTIONS = {"add": np.add, "max": np.maximum, "min": np.minimum, "mul": np.multiply}


def _scattered(x, index, updates, reduction):
    y = x.copy()
    if reduction == "none":
        y[index] = updates
    else:
        _REDUCTIONS[reduction].at(y, index, updates)
    return y


@operator
def GatherElements(x, indices, *, axis=0):
    return x[_along(indices, axis)]


@operator
def ScatterElements(x, indices, updates, *, axis=0, reduction="none"):
    return _scattered(x, _along(indices, axis), updates, reduction)


operator(ScatterElements, name="Scatter")


@operator
def GatherND(x, indices, *, batch_dims=0):
    """Every row of `indices` is an index into the axes of `x` after the first `batch_dims`, which both share."""
    batch = np.ogrid[tuple(slice(n) for n in indices.shape[:batch_dims])]
    batch = [b.reshape(b.shape + (1,) * (indices.ndim - 1 - batch_dims)) for b in batch]
    return x[(*batch, *np.moveaxis(indices, -1, 0))]


@operator
def ScatterND(x, indices, updates, *, reduction="none"):
    return _scattered(x, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)


@operator
def Compress(x, condition, *, axis=None):
    return np.compress(condition, x, axis)


_PAD_MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}


@operator
def Pad(x, pads=None, constant_value=None, axes=None, *, mode="constant", paddings=None, value=0.0):
    """`pads` holds what goes before each of `axes`, then what goes after; `paddings` and `value` are older names."""
    pads = _ints(paddings if pads is None else pads)
    axes = range(x.ndim) if axes is None else [axis % x.ndim for axis in _ints(axes)]
    pairs = [(0, 0)] * x.ndim
    for axis, *pair in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        pairs[axis] = pair
    fill = value if constant_value is None else constant_value.reshape(())
    return reference.pad(x, [side for pair in reversed(pairs) for side in pair], _PAD_MODES[mode], fill)


@operator
def CenterCropPad(x, shape, *, axes=None):
    index, pairs = [slice(None)] * x.ndim, [(0, 0)] * x.ndim
    for axis, wanted in zip(range(x.ndim) if axes is None else axes, _ints(shape), strict=True):
        missing = wanted - x.shape[axis]
        if missing > 0:
            pairs[axis] = (missing // 2, missing - missing // 2)
        else:
            index[axis] = slice(-missing // 2, -missing // 2 + wanted)
    return np.pad(x[tuple(index)], pairs)


@operator
def DepthToSpace(x, *, blocksize, mode="DCR"):
    """(N, C * b * b, H, W) to (N, C, H * b, W * b); DCR splits the channels into (b, b, C), CRD into (C, b, b)."""
    n, channels, h, w = x.shape
    b, c = blocksize, channels // blocksize**2
    if mode == "CRD":
        return reference.pixel_shuffle(x, b)
    return x.reshape(n, b, b, c, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, c, h * b, w * b)


@operator
def SpaceToDepth(x, *, blocksize, mode="DCR"):
    n, c, h, w = x.shape
    b = blocksize
    if mode == "CRD":
        return reference.pixel_unshuffle(x, b)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


@operator
def Expand(x, shape):
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(_ints(shape))))


@operator
def Tile(x, repeats, axis=None):
    """With `axis`, as opset 1 has it, `repeats` is one number for that axis."""
    if axis is None:
        return np.tile(x, repeats)
    return np.concatenate([x] * repeats.item(), axis.item())


@operator
def OneHot(indices, depth, values, *, axis=-1):
    """`values` is (off, on); an index outside of [-depth, depth) lights nothing."""
    depth = int(np.asarray(depth).item())
    positions = np.where(indices < 0, indices + depth, indices).astype(np.int64)
    lit = np.moveaxis(np.expand_dims(positions, -1) == np.arange(depth), -1, axis)
    return np.where(lit, values[1], values[0])


@operator
def Trilu(x, k=None, *, upper=1):
    return (np.triu if upper else np.tril)(x, 0 if k is None else k.item())


@operator
def ReverseSequence(x, sequence_lens, *, batch_axis=1, time_axis=0):
    steps = np.arange(x.shape[time_axis])[:, None]
    positions = np.where(steps < sequence_lens, sequence_lens - 1 - steps, steps)
    moved = np.moveaxis(x, (time_axis, batch_axis), (0, 1))
    y = moved[positions, np.arange(moved.shape[1])]
    return np.moveaxis(y, (0, 1), (time_axis, batch_axis))
