"""A writer of ONNX files for the tests: the inverse of fastconv.onnx.proto, driven by the same table of fields."""

import struct

import numpy as np

from fastconv.onnx.proto import MESSAGES

DATA_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}
ATTRIBUTES = {float: ("f", 1), int: ("i", 2), str: ("s", 3), bytes: ("s", 3)}


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, payload) -> bytes:
    """One field: an int as a varint, a float in 4 bytes, anything else as a run of bytes."""
    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    if isinstance(payload, float):
        return varint(number << 3 | 5) + struct.pack("<f", payload)
    payload = payload.encode() if isinstance(payload, str) else bytes(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def message(kind: str, **values) -> bytes:
    """The bytes of a message; lists are repeated fields."""
    numbers = {name: number for number, (name, _) in MESSAGES[kind].items()}
    return b"".join(
        field(numbers[name], element)
        for name, value in values.items()
        for element in (value if isinstance(value, list) else [value])
    )


def tensor(array, name: str = "", **values) -> bytes:
    array = np.asarray(array)
    return message(
        "TensorProto",
        dims=list(array.shape),
        data_type=DATA_TYPES[array.dtype.name],
        name=name,
        raw_data=array.tobytes(),
        **values,
    )


def attribute(name: str, value) -> bytes:
    """`value` is a number, text, array, list of numbers, or ("g", bytes of a graph) and the like."""
    if isinstance(value, np.ndarray):
        return message("AttributeProto", name=name, t=tensor(value), type=4)
    if isinstance(value, tuple):
        source, payload = value
        types = {"g": 5, "ref_attr_name": 2, "t": 4, "sparse_tensor": 11}
        return message("AttributeProto", name=name, **{source: payload}, type=types[source])
    if isinstance(value, list):
        floats = isinstance(value[0], float)
        return message("AttributeProto", name=name, **{"floats" if floats else "ints": value}, type=6 if floats else 7)
    source, kind = ATTRIBUTES[type(value)]
    return message("AttributeProto", name=name, **{source: value}, type=kind)


def node(op_type: str, inputs: str, outputs: str, *, domain: str = "", name: str = "", **attributes) -> bytes:
    """`inputs` and `outputs` are names with blanks between them, "-" for one that is omitted."""
    return message(
        "NodeProto",
        input=["" if n == "-" else n for n in inputs.split()],
        output=["" if n == "-" else n for n in outputs.split()],
        name=name,
        op_type=op_type,
        domain=domain,
        attribute=[attribute(key, value) for key, value in attributes.items()],
    )


def value(name: str, shape=None, elem_type: int = 1) -> bytes:
    """An input or output; a shape holds ints, names and None."""
    if shape is None:
        return message("ValueInfoProto", name=name)
    dims = [
        message("TensorShapeProto.Dimension", **({"dim_param": d} if isinstance(d, str) else {"dim_value": d}))
        if d is not None
        else b""
        for d in shape
    ]
    kind = message("TypeProto.Tensor", elem_type=elem_type, shape=message("TensorShapeProto", dim=dims))
    return message("ValueInfoProto", name=name, type=message("TypeProto", tensor_type=kind))


def graph(nodes, inputs, outputs, initializers=(), **values) -> bytes:
    """`inputs` and `outputs` hold names or the bytes of `value`, `initializers` the bytes of `tensor`."""
    as_value = lambda v: value(v) if isinstance(v, str) else v  # noqa: E731
    return message(
        "GraphProto",
        node=list(nodes),
        name="test",
        initializer=list(initializers),
        input=[as_value(v) for v in inputs],
        output=[as_value(v) for v in outputs],
        **values,
    )


def model(graph_bytes: bytes, opset: int = 21, domains=(), **values) -> bytes:
    """`domains` are the other operator domains that the model uses, in version 1."""
    imports = [message("OperatorSetIdProto", domain="", version=opset)]
    imports += [message("OperatorSetIdProto", domain=domain, version=1) for domain in domains]
    return message("ModelProto", ir_version=8, graph=graph_bytes, opset_import=imports, **values)
