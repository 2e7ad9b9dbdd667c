"""Sequences, which are Python lists, and optional values, of which None is the empty one."""

import numpy as np

from fastconv.onnx.operators.registry import operator


@operator
def SequenceConstruct(*inputs):
    return list(inputs)


@operator(ignored=("dtype",))
def SequenceEmpty():
    return []


@operator
def SequenceAt(sequence, position):
    return sequence[position.item()]


@operator
def SequenceInsert(sequence, value, position=None):
    position = len(sequence) if position is None else position.item()
    if not -len(sequence) <= position <= len(sequence):
        raise ValueError(f"position {position} is outside of a sequence of {len(sequence)}")
    return [*sequence[:position], value, *sequence[position:]]


@operator
def SequenceErase(sequence, position=None):
    remaining = list(sequence)
    del remaining[-1 if position is None else position.item()]
    return remaining


@operator
def SequenceLength(sequence):
    return np.array(len(sequence), np.int64)


@operator
def ConcatFromSequence(sequence, *, axis, new_axis=0):
    return np.stack(sequence, axis) if new_axis else np.concatenate(sequence, axis)


@operator
def SplitToSequence(x, split=None, *, axis=0, keepdims=1):
    size = x.shape[axis]
    if split is None:
        parts = np.split(x, size, axis)
        return parts if keepdims else [part.squeeze(axis) for part in parts]
    ends = np.cumsum(split)[:-1] if split.ndim else range(split.item(), size, split.item())
    return np.split(x, list(ends), axis)


@operator
def SequenceMap(sequence, *others, body, outputs):
    results = [
        body(value, *(other[i] if isinstance(other, list) else other for other in others))
        for i, value in enumerate(sequence)
    ]
    return tuple([result[k] for result in results] for k in range(outputs))


@operator(ignored=("type",))
def Optional(value=None):
    return value


@operator
def OptionalHasElement(value=None):
    return np.array(value is not None)


@operator
def OptionalGetElement(value):
    if value is None:
        raise ValueError("the optional value is empty")
    return value
