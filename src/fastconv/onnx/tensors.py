"""NumPy arrays of the tensors in an ONNX file: element types, the ways data is stored, data in files of its own.

Arrays are read-only views into the model's bytes wherever NumPy's alignment allows, copies elsewhere; of a model in a
file, large arrays are read from it one by one.  Data in files of its own is mapped.  Of the element types that NumPy
lacks, 4- and 2-bit integers are unpacked to int8 or uint8, the others (bfloat16, float8, float6, float4) refused.
"""

from __future__ import annotations

import mmap
import os
from math import prod

import numpy as np

from fastconv.errors import ModelError
from fastconv.geometry import MAX_ELEMENTS
from fastconv.onnx.file_bytes import FileBytes
from fastconv.onnx.proto import Message

__all__ = ["DTYPES", "TYPE_NAMES", "DataFiles", "array", "dtype_of", "file_state"]

# TensorProto.DataType → its name in types such as tensor(float).
TYPE_NAMES = {
    1: "float",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "double",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4e2m1",
    24: "float8e8m0",
    25: "uint2",
    26: "int2",
    27: "float6e2m3",
    28: "float6e3m2",
}
_LACKING = {16, 17, 18, 19, 20, 23, 24, 27, 28}
_SUB_BYTE = {21: (4, np.uint8), 22: (4, np.int8), 25: (2, np.uint8), 26: (2, np.int8)}  # bits, what it unpacks to
_NAMED_OTHERWISE = {"float": "float32", "double": "float64", "string": "object"}

# TensorProto.DataType → the dtype of its arrays, for the types that NumPy has.
DTYPES = {
    number: np.dtype(_SUB_BYTE[number][1] if number in _SUB_BYTE else _NAMED_OTHERWISE.get(name, name))
    for number, name in TYPE_NAMES.items()
    if number not in _LACKING
}

# The typed field that holds a type's numbers, where it is not int32_data, and the numbers' dtype in it.
_FIELDS = {1: "float_data", 14: "float_data", 11: "double_data", 15: "double_data", 7: "int64_data"}
_FIELDS |= {12: "uint64_data", 13: "uint64_data"}
_FIELD_DTYPES = {"float_data": np.float32, "double_data": np.float64}
_BITS = {np.dtype(np.float16): np.uint16}  # stored in int32_data as bit patterns
_DATA_FIELDS = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
_EXTERNAL = 1
MAX_RANK = 32  # NumPy 1's limit


def file_state(path: str) -> tuple:
    """What differs after a file has been written anew; empty where there is none."""
    try:
        return _state(os.stat(path))
    except OSError:
        return ()


def _state(status: os.stat_result) -> tuple:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def dtype_of(data_type: int) -> np.dtype:
    """The dtype of arrays with TensorProto's `data_type`; ModelError where NumPy has none."""
    if data_type in DTYPES:
        return DTYPES[data_type]
    if data_type in TYPE_NAMES:
        raise ModelError(f"element type {TYPE_NAMES[data_type]} is not supported, because NumPy has none like it")
    raise ModelError(f"element type {data_type} is unknown; expected one of {min(TYPE_NAMES)} to {max(TYPE_NAMES)}")


class DataFiles:
    """Files beside the model that hold data of its tensors, mapped; they must not shrink while in use.

    Nothing outside of the model's folder is ever opened.
    """

    def __init__(self, model_path: str | None):
        self._mapped: dict[str, memoryview] = {}
        self.states: dict[str, tuple] = {}  # of the files that have been mapped, by path
        self.folder = None if model_path is None else os.path.dirname(os.path.abspath(model_path))
        # A model that is a link to a file in a store has its data beside the link or beside the file.
        self._allowed = set()
        if model_path is not None:
            self._allowed = {os.path.realpath(self.folder), os.path.dirname(os.path.realpath(model_path))}

    def read(self, entries: dict[str, str], size: int) -> memoryview:
        """The `size` bytes that a tensor's ``external_data`` entries (location, offset, length) describe."""
        data = self._map(entries.get("location", ""))
        offset = _decimal(entries, "offset", 0)
        length = _decimal(entries, "length", max(len(data) - offset, 0))
        if offset + length > len(data):
            raise ModelError(
                f"external data: bytes {offset} to {offset + length} asked of {entries['location']!r}, "
                f"which has {len(data)}; is the file cut off?"
            )
        if length < size or ("length" in entries and length != size):
            raise ModelError(f"external data: {length} bytes given, and the tensor's type and dims need {size}")
        return data[offset : offset + size]

    def _map(self, location: str) -> memoryview:
        if location not in self._mapped:
            path = self._resolve(location)
            try:
                with open(path, "rb") as file:
                    status = os.fstat(file.fileno())
                    size = status.st_size
                    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            except OSError as error:
                raise ModelError(f"external data: {location!r} cannot be read: {error.strerror}") from error
            self._mapped[location] = memoryview(mapped)
            self.states[path] = _state(status)
        return self._mapped[location]

    def _resolve(self, location: str) -> str:
        if self.folder is None:
            raise ModelError(
                f"external data: {location!r} cannot be found, because the model came as bytes; pass the model's path"
            )
        parts = location.replace("\\", "/").split("/")
        if not parts[0] or "\0" in location or ":" in parts[0] or ".." in parts:
            raise ModelError(f"external data: location {location!r} is not a plain path inside the model's folder")
        path = os.path.realpath(os.path.join(self.folder, location))
        if not any(path.startswith(os.path.join(folder, "")) for folder in self._allowed):
            raise ModelError(f"external data: location {location!r} leads out of the model's folder, by a link")
        if not os.path.isfile(path):
            raise ModelError(f"external data: there is no file {location!r} in the model's folder {self.folder}")
        return path


def _decimal(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"external data: {key} is {text!r}; expected a number of bytes")
    return int(text)


def array(tensor: Message, files: DataFiles) -> np.ndarray:
    """The contents of a TensorProto; all sizes are checked before anything is allocated."""
    try:
        shape = _shape(tensor)
        return _flat(tensor, dtype_of(tensor.data_type), prod(shape), files).reshape(shape)
    except ModelError as error:
        raise ModelError(f"tensor {tensor.name!r}: {error.what}") from None


def _shape(tensor: Message) -> tuple[int, ...]:
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0 or len(shape) > MAX_RANK or prod(filter(None, shape)) > MAX_ELEMENTS:
        raise ModelError(f"dims {shape} are not the shape of an array that a memory could hold")
    if "segment" in tensor:
        raise ModelError("data in segments, which ONNX never defined")
    given = vars(tensor)
    places = [field for field in _DATA_FIELDS if field in given]
    places += ["external_data"] * (tensor.data_location == _EXTERNAL)
    if len(places) > 1:
        raise ModelError(f"data is stored more than once: {', '.join(places)}")
    return shape


def _flat(tensor: Message, dtype: np.dtype, count: int, files: DataFiles) -> np.ndarray:
    data_type = tensor.data_type
    if dtype.kind == "O":
        _check_count(len(tensor.string_data), count)
        return np.array([_text(text) for text in tensor.string_data], dtype=object)
    bits, unpacked = _SUB_BYTE.get(data_type, (8 * dtype.itemsize, None))
    size = -(-count * bits // 8)
    if tensor.data_location == _EXTERNAL:
        data = files.read({entry.key: entry.value for entry in tensor.external_data}, size)
    elif "raw_data" in tensor:
        data = tensor.raw_data
        if len(data) != size:
            raise ModelError(f"raw_data has {len(data)} bytes, and the type and dims need {size}")
    else:
        return _typed(tensor, dtype, count)
    if unpacked:
        return _unpack(_numbers(data, np.dtype(np.uint8)), bits, count, dtype)
    if dtype.kind == "b":
        return _numbers(data, np.dtype(np.uint8)) != 0
    return _numbers(data, dtype)


def _typed(tensor: Message, dtype: np.dtype, count: int) -> np.ndarray:
    field = _FIELDS.get(tensor.data_type, "int32_data")
    chunks = getattr(tensor, field)
    data = chunks[0] if len(chunks) == 1 else memoryview(b"".join(map(_in_memory, chunks)))
    if field in _FIELD_DTYPES:
        stored = np.dtype(_FIELD_DTYPES[field]).newbyteorder("<")
        per_element = dtype.itemsize // stored.itemsize
        if len(data) != count * dtype.itemsize:
            raise ModelError(f"{field} has {len(data) / stored.itemsize:g} numbers; dims need {count * per_element}")
        return _numbers(data, dtype)
    data = _in_memory(data)
    bits = _SUB_BYTE[tensor.data_type][0] if tensor.data_type in _SUB_BYTE else 8
    expected = -(-count * bits // 8)
    ends = np.frombuffer(data, np.uint8) < 128
    _check_count(int(np.count_nonzero(ends)), expected, field)
    numbers = _varints(data, ends)
    if tensor.data_type in _SUB_BYTE:
        return _unpack(numbers.astype(np.uint8), bits, count, dtype)
    if dtype.kind == "b":
        return numbers != 0
    return numbers.astype(_BITS.get(dtype, dtype)).view(dtype)


def _numbers(data: memoryview | FileBytes, dtype: np.dtype) -> np.ndarray:
    numbers = np.frombuffer(_in_memory(data), dtype.newbyteorder("<"))
    return numbers.astype(dtype, copy=not numbers.flags.aligned)


def _in_memory(data: memoryview | FileBytes):
    return data.read() if isinstance(data, FileBytes) else data


def _varints(data: memoryview, ends: np.ndarray) -> np.ndarray:
    """The variable-length numbers of `data` as uint64, each modulo 2^64; `ends` marks the last byte of each."""
    octets = np.frombuffer(data, np.uint8)
    if octets.size and not ends[-1]:
        raise ModelError("the last number is cut off")
    last = np.flatnonzero(ends)
    first = np.concatenate((last[:0], [0], last[:-1] + 1))[: last.size]
    longest = int((last - first).max(initial=0)) + 1
    if longest > 10:
        raise ModelError("a number takes more than 10 bytes")
    numbers = np.zeros(last.size, np.uint64)
    for k in range(longest):
        has = first + k <= last
        numbers[has] |= (octets[first[has] + k] & 127).astype(np.uint64) << np.uint64(7 * k)
    return numbers


def _unpack(octets: np.ndarray, bits: int, count: int, dtype: np.dtype) -> np.ndarray:
    """`count` integers of `bits` bits each, the first in the lowest bits of its byte."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    high = (octets[:, None] >> shifts << (8 - bits)).astype(np.uint8)  # each number in the top bits of a byte
    return (high.reshape(-1)[:count].view(dtype) >> (8 - bits)).astype(dtype)


def _check_count(found: int, expected: int, field: str = "string_data") -> None:
    if found != expected:
        raise ModelError(f"{field} has {found} values, and the type and dims need {expected}")


def _text(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise ModelError("a string is not UTF-8") from None
