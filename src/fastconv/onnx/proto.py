"""Protocol-buffer wire format, as much of it as an ONNX file needs: one table of fields for one decoder (`_kernels/wire.pyx`).

A message becomes a :class:`Message` whose attributes are the fields that the file sets and, where it sets none, the
protocol's defaults: 0, "", an empty tuple for a repeated field, None for a message.  Tensor contents are not read:
``raw_data`` is a memoryview into the file, and the typed fields (``float_data`` …) are lists of memoryviews of packed
numbers.  Everything else is copied, and small.

The input may be hostile.  Every length is checked against the bytes that remain, nesting is limited, and what is kept
is proportional to the file; every failure is a :class:`~fastconv.errors.ModelError` with the path of the field.

Source: https://protobuf.dev/programming-guides/encoding and onnx.proto of onnx 1.23.
"""

from __future__ import annotations

import struct

from fastconv._kernels.wire import Decoder, varints
from fastconv.errors import ModelError
from fastconv.onnx.file_bytes import FileBytes

__all__ = ["MESSAGES", "Message", "decode"]

# Message → field number → (name, kind).  A kind ends in "*" where the field is repeated, in "[]" where the numbers are
# the contents of a tensor and stay packed.  "view" is a bytes field that is not copied.
MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    "ModelProto": {
        1: ("ir_version", "int64"),
        2: ("producer_name", "string"),
        3: ("producer_version", "string"),
        4: ("domain", "string"),
        5: ("model_version", "int64"),
        6: ("doc_string", "string"),
        7: ("graph", "GraphProto"),
        8: ("opset_import", "OperatorSetIdProto*"),
        14: ("metadata_props", "StringStringEntryProto*"),
        25: ("functions", "FunctionProto*"),
    },
    "OperatorSetIdProto": {1: ("domain", "string"), 2: ("version", "int64")},
    "StringStringEntryProto": {1: ("key", "string"), 2: ("value", "string")},
    "FunctionProto": {
        1: ("name", "string"),
        4: ("input", "string*"),
        5: ("output", "string*"),
        6: ("attribute", "string*"),
        7: ("node", "NodeProto*"),
        8: ("doc_string", "string"),
        9: ("opset_import", "OperatorSetIdProto*"),
        10: ("domain", "string"),
        11: ("attribute_proto", "AttributeProto*"),
        12: ("value_info", "ValueInfoProto*"),
        13: ("overload", "string"),
        14: ("metadata_props", "StringStringEntryProto*"),
    },
    "GraphProto": {
        1: ("node", "NodeProto*"),
        2: ("name", "string"),
        5: ("initializer", "TensorProto*"),
        10: ("doc_string", "string"),
        11: ("input", "ValueInfoProto*"),
        12: ("output", "ValueInfoProto*"),
        13: ("value_info", "ValueInfoProto*"),
        15: ("sparse_initializer", "SparseTensorProto*"),
        16: ("metadata_props", "StringStringEntryProto*"),
    },
    "NodeProto": {
        1: ("input", "string*"),
        2: ("output", "string*"),
        3: ("name", "string"),
        4: ("op_type", "string"),
        5: ("attribute", "AttributeProto*"),
        6: ("doc_string", "string"),
        7: ("domain", "string"),
        8: ("overload", "string"),
        9: ("metadata_props", "StringStringEntryProto*"),
    },
    "AttributeProto": {
        1: ("name", "string"),
        2: ("f", "float"),
        3: ("i", "int64"),
        4: ("s", "bytes"),
        5: ("t", "TensorProto"),
        6: ("g", "GraphProto"),
        7: ("floats", "float*"),
        8: ("ints", "int64*"),
        9: ("strings", "bytes*"),
        10: ("tensors", "TensorProto*"),
        11: ("graphs", "GraphProto*"),
        13: ("doc_string", "string"),
        14: ("tp", "TypeProto"),
        15: ("type_protos", "TypeProto*"),
        20: ("type", "int32"),
        21: ("ref_attr_name", "string"),
        22: ("sparse_tensor", "SparseTensorProto"),
        23: ("sparse_tensors", "SparseTensorProto*"),
    },
    "TensorProto": {
        1: ("dims", "int64*"),
        2: ("data_type", "int32"),
        3: ("segment", "TensorProto.Segment"),
        4: ("float_data", "float[]"),
        5: ("int32_data", "int32[]"),
        6: ("string_data", "bytes*"),
        7: ("int64_data", "int64[]"),
        8: ("name", "string"),
        9: ("raw_data", "view"),
        10: ("double_data", "double[]"),
        11: ("uint64_data", "uint64[]"),
        12: ("doc_string", "string"),
        13: ("external_data", "StringStringEntryProto*"),
        14: ("data_location", "int32"),
        16: ("metadata_props", "StringStringEntryProto*"),
    },
    "TensorProto.Segment": {1: ("begin", "int64"), 2: ("end", "int64")},
    "SparseTensorProto": {1: ("values", "TensorProto"), 2: ("indices", "TensorProto"), 3: ("dims", "int64*")},
    "ValueInfoProto": {
        1: ("name", "string"),
        2: ("type", "TypeProto"),
        3: ("doc_string", "string"),
        4: ("metadata_props", "StringStringEntryProto*"),
    },
    "TypeProto": {
        1: ("tensor_type", "TypeProto.Tensor"),
        4: ("sequence_type", "TypeProto.Sequence"),
        5: ("map_type", "TypeProto.Map"),
        6: ("denotation", "string"),
        7: ("opaque_type", "TypeProto.Opaque"),
        8: ("sparse_tensor_type", "TypeProto.SparseTensor"),
        9: ("optional_type", "TypeProto.Optional"),
    },
    "TypeProto.Tensor": {1: ("elem_type", "int32"), 2: ("shape", "TensorShapeProto")},
    "TypeProto.SparseTensor": {1: ("elem_type", "int32"), 2: ("shape", "TensorShapeProto")},
    "TypeProto.Sequence": {1: ("elem_type", "TypeProto")},
    "TypeProto.Optional": {1: ("elem_type", "TypeProto")},
    "TypeProto.Map": {1: ("key_type", "int32"), 2: ("value_type", "TypeProto")},
    "TypeProto.Opaque": {1: ("domain", "string"), 2: ("name", "string")},
    "TensorShapeProto": {1: ("dim", "TensorShapeProto.Dimension*")},
    "TensorShapeProto.Dimension": {
        1: ("dim_value", "int64"),
        2: ("dim_param", "string"),
        3: ("denotation", "string"),
    },
}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Message:
    """One message of the file; its fields are attributes.  ``"name" in message`` tells whether the file sets one."""

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__dict__)})"


def decode(kind: str, data) -> Message:
    """The message of type `kind` that the bytes of `data` (FileBytes, or anything with the buffer protocol) hold.

    The contents of large tensors in a file are not read, but are FileBytes.
    """
    data = data if isinstance(data, FileBytes) else memoryview(data).cast("B")
    return _decoder.decode(CLASSES[kind](), data)


def _int64(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _int32(number: int) -> int:
    number &= 0xFFFF_FFFF
    return number - (1 << 32) if number >> 31 else number


def _float(data: memoryview) -> float:
    return struct.unpack("<f", data)[0]


def _floats(data: memoryview) -> list[float]:
    if len(data) % 4:
        raise ModelError(f"{len(data)} bytes are no whole number of 4-byte floats")
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def _int64s(data: memoryview) -> list[int]:
    return [_int64(number) for number in varints(data)]


def _string(data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"a name or text is not UTF-8 ({error.reason} at byte {error.start})") from None


def _packed(data: memoryview | FileBytes) -> memoryview | FileBytes:
    return data


# kind → default, then wire type → reader.  A number has the same bytes inside and outside a packed run, so the contents
# of tensors are kept as they come.
_KINDS = {
    "int64": (0, {VARINT: _int64}),
    "int32": (0, {VARINT: _int32}),
    "float": (0.0, {FIXED32: _float}),
    "string": ("", {BYTES: _string}),
    "bytes": (b"", {BYTES: bytes}),
    "view": (b"", {BYTES: _packed}),
    "int64*": ((), {VARINT: _int64, BYTES: _int64s}),
    "float*": ((), {FIXED32: _float, BYTES: _floats}),
    "string*": ((), {BYTES: _string}),
    "bytes*": ((), {BYTES: bytes}),
    "float[]": ((), {FIXED32: _packed, BYTES: _packed}),
    "double[]": ((), {FIXED64: _packed, BYTES: _packed}),
    "int32[]": ((), {VARINT: _packed, BYTES: _packed}),
    "int64[]": ((), {VARINT: _packed, BYTES: _packed}),
    "uint64[]": ((), {VARINT: _packed, BYTES: _packed}),
}


def _message_class(name: str, fields: dict[int, tuple[str, str]]) -> type[Message]:
    defaults, tags = {}, {}
    for number, (field, kind) in fields.items():
        repeated = kind[-1] in "*]"
        default, readers = _KINDS.get(kind, (() if repeated else None, {BYTES: kind.rstrip("*")}))
        defaults[field] = default
        tags.update({number << 3 | wire: (field, reader, repeated) for wire, reader in readers.items()})
    return type(name, (Message,), {**defaults, "tags": tags, "numbers": frozenset(fields)})


CLASSES = {name: _message_class(name, fields) for name, fields in MESSAGES.items()}
_decoder = Decoder(CLASSES, _packed, _string, FileBytes)
