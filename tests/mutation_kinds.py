"""Ways to damage an ONNX file: of its bytes, which mostly break it, and of its fields, which mostly leave it readable."""

from __future__ import annotations

import mutation_seeds
import numpy as np
import onnx_bytes as write

from fastconv.onnx.operators import OPERATORS
from fastconv.onnx.proto import MESSAGES, Message, decode

EDGES = [
    0, 1, -1, 2, 3, 7, 255, 65536, 2**20, 2**28, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63),
]  # fmt: skip
TEXTS = [
    "", "x", "\0", "../weights.bin", "/etc/passwd", "weights.bin/", "a" * 10_000, "SAME_UPPER", "linear", "10", "-1", "ij->",
]  # fmt: skip
REALS = [0.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"), 0.5, 1e9]


def mutated(seed: int, number: int) -> tuple[str, bytes, dict[str, bytes]]:
    """What was done to which model, the file, and the files beside it."""
    rng = np.random.default_rng([seed, number])
    names = sorted(mutation_seeds.MODELS)
    name = names[int(rng.integers(len(names)))]
    data, files = mutation_seeds.MODELS[name]()
    kinds = BYTES if rng.random() < 0.4 else FIELDS
    done = []
    for _ in range(int(rng.geometric(0.6))):
        if not data:
            break
        kind = kinds[int(rng.integers(len(kinds)))]
        done.append(kind.__name__)
        if kinds is BYTES:
            data = kind(rng, data)
        else:
            root = decode("ModelProto", data)
            kind(rng, root)
            data = encoded(root)
    if files and rng.random() < 0.5:
        done.append("data file cut")
        files = {path: content[: int(rng.integers(len(content)))] for path, content in files.items()}
    return f"{name}: {', '.join(done)}", data, files


# Damage to bytes.


def truncated(rng, data):
    return data[: int(rng.integers(len(data)))]


def flipped(rng, data):
    return _with(data, int(rng.integers(len(data))), lambda byte: byte ^ 1 << int(rng.integers(8)))


def replaced(rng, data):
    return _with(data, int(rng.integers(len(data))), lambda byte: int(rng.integers(256)))


def inserted(rng, data):
    place = int(rng.integers(len(data)))
    return data[:place] + rng.bytes(int(rng.integers(1, 12))) + data[place:]


def removed(rng, data):
    place = int(rng.integers(len(data)))
    return data[:place] + data[place + int(rng.integers(1, 12)) :]


def moved(rng, data):
    a, b, c = sorted(int(i) for i in rng.integers(len(data), size=3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def _with(data, place, change):
    return data[:place] + bytes([change(data[place])]) + data[place + 1 :] if data else data


def nested(rng, data):
    """Graphs in graphs, up to a thousand deep."""
    inner = write.graph([write.node("Identity", "x", "z")], [], ["z"])
    for _ in range(int(rng.integers(1, 1000))):
        inner = write.graph([write.node("If", "x", "z", then_branch=("g", inner))], [], ["z"])
    return write.model(inner)


BYTES = [truncated, flipped, replaced, inserted, removed, moved, nested]

# Damage to fields: `root` is a decoded ModelProto.


def any_number(rng, root):
    message, name = _pick(rng, root, lambda value: isinstance(value, (int, float)))
    _change(rng, message, name)


def any_shape(rng, root):
    message, name = _pick(rng, root, lambda value: True, ("dims", "dim_value", "ints", "i"))
    _change(rng, message, name)


def tensor_numbers(rng, root):
    """Another value in the contents of a tensor: shapes, pads, trip counts, scales."""
    tensors = [m for m, _ in _fields(root) if type(m).__name__ == "TensorProto" and len(m.raw_data) >= 4]
    if not tensors:
        return
    tensor = tensors[int(rng.integers(len(tensors)))]
    dtype = {7: np.int64, 6: np.int32, 11: np.float64}.get(tensor.data_type, np.float32)
    array = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 8 * 8], dtype).copy()
    if array.size:
        values = [
            v for v in (EDGES if array.dtype.kind == "i" else REALS) if array.dtype.kind == "f" or _holds(dtype, v)
        ]
        array[int(rng.integers(array.size))] = values[int(rng.integers(len(values)))]
        tensor.raw_data = array.tobytes() + bytes(tensor.raw_data[array.nbytes :])


def dropped(rng, root):
    message, name = _pick(rng, root, lambda value: True)
    value = getattr(message, name)
    if isinstance(value, list) and len(value) > 1:
        del value[int(rng.integers(len(value)))]
    else:
        del message.__dict__[name]


def doubled(rng, root):
    message, name = _pick(rng, root, lambda value: isinstance(value, list))
    value = getattr(message, name)
    value.append(value[int(rng.integers(len(value)))])


def swapped(rng, root):
    """Two values of the same field, anywhere, change places."""
    message, name = _pick(rng, root, lambda value: True)
    others = [(m, n) for m, n in _fields(root) if n == name and type(m) is type(message)]
    other, _ = others[int(rng.integers(len(others)))]
    message.__dict__[name], other.__dict__[name] = getattr(other, name), getattr(message, name)


def any_text(rng, root):
    """Another name, place of a data file, or word of an attribute."""
    message, name = _pick(rng, root, lambda value: isinstance(value, (str, bytes)))
    value = getattr(message, name)
    old = value[0] if isinstance(value, list) and value else value
    if isinstance(old, (str, bytes)):
        new = TEXTS[int(rng.integers(len(TEXTS)))]
        new = new.encode() if isinstance(old, bytes) else new
        message.__dict__[name] = [new, *value[1:]] if isinstance(value, list) else new


def renamed(rng, root):
    """A value of another name: circles, missing sources, and two sources of one value."""
    nodes = [m for m, n in _fields(root) if n == "op_type"]
    if not nodes:
        return
    node, other = (nodes[int(rng.integers(len(nodes)))] for _ in range(2))
    names = [*other.input, *other.output, "", "nowhere"]
    side = "input" if rng.random() < 0.7 else "output"
    values = getattr(node, side)
    if values:
        values[int(rng.integers(len(values)))] = names[int(rng.integers(len(names)))]


def retyped(rng, root):
    """Another operator, on the same inputs and attributes."""
    nodes = [m for m, n in _fields(root) if n == "op_type"]
    if nodes:
        names = sorted(name for domain, name in OPERATORS if not domain)
        nodes[int(rng.integers(len(nodes)))].op_type = names[int(rng.integers(len(names)))]


def other_attributes(rng, root):
    """Attributes of another node."""
    nodes = [m for m, n in _fields(root) if n == "op_type" and m.attribute]
    if nodes:
        giver, taker = (nodes[int(rng.integers(len(nodes)))] for _ in range(2))
        taker.attribute = list(giver.attribute)


FIELDS = [
    any_number, any_shape, any_shape, tensor_numbers, tensor_numbers, dropped, doubled, swapped, renamed, renamed, retyped,
    other_attributes, any_text,
]  # fmt: skip


def _fields(message: Message):
    """Every (message, name of a field that it sets), depth first."""
    for name, value in message.__dict__.items():
        yield message, name
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Message):
                yield from _fields(inner)


def _pick(rng, root, wanted, names=None):
    found = [
        (m, n)
        for m, n in _fields(root)
        if (names is None or n in names) and wanted(_first(getattr(m, n)) if names is None else None)
    ] or list(_fields(root))
    return found[int(rng.integers(len(found)))]


def _first(value):
    return value[0] if isinstance(value, list) and value and not isinstance(value[0], Message) else value


def _change(rng, message, name):
    value = getattr(message, name)
    place = int(rng.integers(len(value))) if isinstance(value, list) and value else None
    old = value if place is None else value[place]
    if isinstance(old, float):
        new = REALS[int(rng.integers(len(REALS)))]
    elif isinstance(old, int):
        new = EDGES[int(rng.integers(len(EDGES)))] if rng.random() < 0.7 else old + int(rng.integers(-3, 4))
        new = max(-(2**63), min(new, 2**63 - 1))
    else:
        return
    if place is None:
        message.__dict__[name] = new
    else:
        value[place] = new


def _holds(dtype, value):
    return np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def encoded(message: Message) -> bytes:
    """The bytes of a decoded message."""
    numbers = {name: (number, kind) for number, (name, kind) in MESSAGES[type(message).__name__].items()}
    parts = []
    for name, value in message.__dict__.items():
        number, kind = numbers[name]
        for element in value if isinstance(value, list) else [value]:
            if isinstance(element, Message):
                element = encoded(element)
            if kind.startswith("int") and isinstance(element, int):
                parts.append(write.varint(number << 3) + write.varint(element))
            elif kind == "float" or kind == "float*":
                parts.append(write.field(number, float(element)))
            else:
                parts.append(write.field(number, element))
    return b"".join(parts)
