"""Element types of weight files, and their bytes as NumPy arrays."""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

from fastconv.errors import WeightsError
from fastconv.geometry import MAX_ELEMENTS

__all__ = ["ITEM_BYTES", "MAX_RANK", "array_of", "checked_shape", "decoded", "shown"]

MAX_RANK = 32  # NumPy 1's limit

_STORED = {  # name → the dtype whose bits the file holds, little-endian
    "bool": "u1",
    "bfloat16": "u2",
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"), "u1"),
    **{name: np.dtype(name).str[1:] for name in ("uint8", "int8", "uint16", "int16", "float16", "uint32", "int32")},
    **{name: np.dtype(name).str[1:] for name in ("float32", "uint64", "int64", "float64", "complex64", "complex128")},
}
ITEM_BYTES = {name: np.dtype(code).itemsize for name, code in _STORED.items()}


def decoded(name: str, data: np.ndarray, big_endian: bool = False) -> np.ndarray:
    """The elements of type `name` in the bytes `data` (uint8, one axis): a view where NumPy allows it, else a copy."""
    stored = data.view(np.dtype(_STORED[name]).newbyteorder(">" if big_endian else "<"))
    if name == "bool":
        return stored != 0
    if name == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if name.startswith("float8"):
        return _float8_values(name)[stored]
    return stored if stored.dtype.isnative and stored.flags.aligned else stored.astype(stored.dtype.newbyteorder("="))


@cache
def _float8_values(name: str) -> np.ndarray:
    """The value of each of the 256 bit patterns.  Source: Micikevicius et al. 2022, arXiv:2209.05433, and ONNX."""
    exponent_bits, mantissa_bits = int(name[8]), int(name[10])
    unsigned_zero = name.endswith("fnuz")
    bias = 2 ** (exponent_bits - 1) - (not unsigned_zero)
    patterns = np.arange(256)
    exponent, mantissa = patterns >> mantissa_bits & 2**exponent_bits - 1, patterns & 2**mantissa_bits - 1
    significand = mantissa / 2**mantissa_bits + (exponent > 0)
    values = np.where(patterns < 128, 1, -1) * np.ldexp(significand, np.maximum(exponent, 1) - bias)
    if unsigned_zero:
        values[128] = np.nan
    elif name == "float8_e4m3fn":
        values[[127, 255]] = np.nan
    else:
        values[[124, 252]] = np.inf, -np.inf
        values[[125, 126, 127, 253, 254, 255]] = np.nan
    return values.astype(np.float32)


def checked_shape(shape, what: str) -> tuple[int, ...]:
    """`shape`, which a file gives, as sizes that an array may have."""
    if not isinstance(shape, (list, tuple)) or len(shape) > MAX_RANK:
        raise WeightsError(f"{what}: expected a shape of at most {MAX_RANK} axes, got {shown(shape)}")
    if not all(_is_count(size) for size in shape) or prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise WeightsError(f"{what}: expected a shape that memory can hold, got {shown(shape)}")
    return tuple(shape)


def array_of(storage: np.ndarray, offset, shape, strides, what: str) -> np.ndarray:
    """The view of `storage` (one axis) that starts at `offset`; all numbers count elements and come from a file."""
    shape = checked_shape(shape, what)
    if not isinstance(strides, tuple) or len(strides) != len(shape):
        raise WeightsError(f"{what}: expected a stride for each axis of {shape}, got {shown(strides)}")
    if not all(_is_count(number) for number in (offset, *strides)):
        raise WeightsError(f"{what}: expected no negative offset or stride, got {shown(offset)} and {shown(strides)}")
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if last >= storage.size:
        raise WeightsError(
            f"{what}: shape {shape} with strides {strides} from element {offset} reaches element {last} of a storage "
            f"of {storage.size}"
        )
    itemsize = storage.itemsize
    return np.ndarray(shape, storage.dtype, storage, offset * itemsize, tuple(stride * itemsize for stride in strides))


def shown(value) -> str:
    """A value from a file as short text; its repr could be without bound."""
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, int):
        return str(value) if abs(value) < 2**64 else "a huge number"
    if isinstance(value, (list, tuple)):
        items = [shown(item) if isinstance(item, (int, str)) else type(item).__name__ for item in value[:8]]
        return f"({', '.join(items)}{', …' if len(value) > 8 else ''})"
    return type(value).__name__


def _is_count(number) -> bool:
    return type(number) is int and 0 <= number <= MAX_ELEMENTS
