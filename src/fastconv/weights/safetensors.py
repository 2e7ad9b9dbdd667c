"""Safetensors: the size of a JSON header (8 bytes), the header, and the bytes of the tensors.

Source: https://github.com/huggingface/safetensors, README, format.
"""

from __future__ import annotations

import json
from math import prod

import numpy as np

from fastconv.errors import WeightsError
from fastconv.weights.archive import mapped
from fastconv.weights.elements import ITEM_BYTES, checked_shape, decoded, shown

__all__ = ["load", "save"]

MAX_HEADER_BYTES = 100_000_000  # the limit of the format's own library
_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_CODES = {name: code for code, name in _NAMES.items()}


def load(file) -> dict[str, np.ndarray]:
    """The arrays of an open file by name."""
    data = mapped(file)
    if data.size < 8:
        raise WeightsError(f"a file of {data.size} bytes is too short")
    size = int.from_bytes(data[:8].tobytes(), "little")
    if size > min(MAX_HEADER_BYTES, data.size - 8):
        raise WeightsError(f"a header of {size} bytes, in a file of {data.size}, is too long")
    header = _parsed(data[8 : 8 + size].tobytes())
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError("its __metadata__ is not text by name")
    spans = {name: _span(name, entry) for name, entry in header.items()}
    end = 0
    for name, (begin, stop) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != end:
            raise WeightsError(f"{shown(name)} begins at byte {begin}, and the one before ends at {end}")
        end = stop
    content = data[8 + size :]
    if end != content.size:
        raise WeightsError(f"its tensors have {end} bytes, and the file {content.size}")
    return {
        name: decoded(_NAMES[header[name]["dtype"]], content[begin:stop]).reshape(header[name]["shape"])
        for name, (begin, stop) in spans.items()
    }


def _parsed(text: bytes) -> dict:
    def unique(pairs):
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise WeightsError("its header names something twice")
        return entries

    def refuse(constant):
        raise WeightsError(f"its header has the number {constant}")

    if not text.startswith(b"{"):
        raise WeightsError("its header does not start with {")
    try:
        return json.loads(text.decode(), object_pairs_hook=unique, parse_constant=refuse)
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"its header is no JSON: {str(error)[:200]}") from error


def _span(name: str, entry) -> tuple[int, int]:
    """First byte, and the one after the last, of a tensor's data."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"{shown(name)} is not described by dtype, shape and data_offsets alone")
    code, shape = entry["dtype"], checked_shape(entry["shape"], shown(name))
    if not isinstance(code, str) or code not in _NAMES:
        raise WeightsError(f"{shown(name)}: expected elements of type {', '.join(_NAMES)}, got {shown(code)}")
    match entry["data_offsets"]:
        case [int(begin), int(end)] if 0 <= begin <= end < 2**62:
            size = prod(shape) * ITEM_BYTES[_NAMES[code]]
            if end - begin != size:
                raise WeightsError(f"{shown(name)}: {end - begin} bytes, and {code} of shape {shape} needs {size}")
            return begin, end
        case offsets:
            raise WeightsError(f"{shown(name)}: expected two ascending data_offsets, got {shown(offsets)}")


def save(arrays: dict[str, np.ndarray], metadata, file) -> None:
    """Write `arrays`, those with the largest elements first, so that all are aligned; `metadata` has no place here."""
    header, parts, end = {"__metadata__": {"format": "pt"}}, [], 0
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        if array.dtype.name not in _CODES or name == "__metadata__":
            raise WeightsError(f"state: safetensors has no place for {name!r} of type {array.dtype}")
        span = [end, end + array.nbytes]
        header[name] = {"dtype": _CODES[array.dtype.name], "shape": array.shape, "data_offsets": span}
        parts.append(array)
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for array in parts:
        file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8))
