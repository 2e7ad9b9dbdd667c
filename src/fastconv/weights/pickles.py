"""A reader of pickles that can build data and nothing else.

``pickle`` itself is a machine that imports modules and calls what it finds in them.  This one has the operations and
the few names that ``torch.save`` writes; any other is an error.  It imports nothing, sets no attribute, and calls only
what ``_CALLS`` lists.  Python's unpickler with a restricted ``find_class`` was the alternative: it is faster, but a
file can make it allocate memory or recurse without bound (memo indices, tuples as keys), which ends the process.

Time and memory stay in proportion to the size of the file: what is taken from a list or dictionary is moved out of it.
"""

from __future__ import annotations

import pickletools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastconv.errors import WeightsError
from fastconv.weights.elements import ITEM_BYTES, MAX_RANK, array_of, shown

__all__ = ["STORAGES", "Storage", "read_pickle"]

# torch's storage classes → the names of their element types.
STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
    "UntypedStorage": "uint8",
}
_NUMPY_CODES = {"b1", "f2", "f4", "f8", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))}
_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_MARK = object()


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of elements of type `dtype` elsewhere in the file; ``read(dtype)`` gives them as an array of one axis."""

    dtype: str
    read: Callable[[str], np.ndarray]


@dataclass(frozen=True, slots=True)
class _StorageType:
    dtype: str


class _DType(str):
    """The name of an element type of torch, which is data like any other text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable


@dataclass(slots=True)
class _NumpyDType:
    code: str
    order: str = "<"


def read_pickle(file, storage: Callable[[str, str, int], Storage]):
    """The data of the pickle at the position of `file`, which is left behind its end.

    ``storage(dtype, key, elements)`` is called for every reference to a storage.
    """
    machine = _Machine(storage)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.run(opcode.name, argument)
        return machine.pop()
    except WeightsError:
        raise
    except (IndexError, KeyError) as error:
        raise WeightsError("a pickle in it uses a value that is not there") from error
    except (ValueError, OverflowError, DeprecationWarning) as error:  # the last for wrong escapes in text
        raise WeightsError(f"a pickle in it is broken: {str(error)[:200]}") from error


class _Machine:
    def __init__(self, storage):
        self.stack = []
        self.memo = {}
        self.storage = storage

    def pop(self, kind: type = object):
        value = self.stack.pop()
        if value is _MARK:
            raise WeightsError("a pickle in it takes a mark for a value")
        if not isinstance(value, kind):
            raise WeightsError(f"a pickle in it has {shown(value)}, expected a {kind.__name__.strip('_').lower()}")
        return value

    def top(self, kind: type):
        if not isinstance(self.stack[-1], kind):
            raise WeightsError(f"a pickle in it changes {shown(self.stack[-1])}, no {kind.__name__}")
        return self.stack[-1]

    def pop_to_mark(self) -> list:
        position = len(self.stack) - 1
        while self.stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise WeightsError("a pickle in it has no mark")
        values = self.stack[position + 1 :]
        del self.stack[position:]
        return values

    def run(self, name: str, argument) -> None:
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME", "STOP"):
            operation = getattr(self, f"_{name.lower()}", None)
            if operation is None:
                raise WeightsError(f"a pickle in it uses the operation {name}, which data does not need")
            operation(argument)

    def _memoize(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def _mark(self, _):
        self.stack.append(_MARK)

    def _pop(self, _):
        self.stack.pop()

    def _pop_mark(self, _):
        self.pop_to_mark()

    def _empty_list(self, _):
        self.stack.append([])

    def _empty_dict(self, _):
        self.stack.append({})

    def _list(self, _):
        self.stack.append(self.pop_to_mark())

    def _tuple(self, _):
        self.stack.append(tuple(self.pop_to_mark()))

    def _tuple1(self, _):
        self.stack.append((self.pop(),))

    def _tuple2(self, _):
        second, first = self.pop(), self.pop()
        self.stack.append((first, second))

    def _tuple3(self, _):
        third, second, first = self.pop(), self.pop(), self.pop()
        self.stack.append((first, second, third))

    def _append(self, _):
        value = self.pop()
        self.top(list).append(value)

    def _appends(self, _):
        values = self.pop_to_mark()
        self.top(list).extend(values)

    def _dict(self, _):
        self.stack.append(_with_items({}, self.pop_to_mark()))

    def _setitem(self, _):
        value, key = self.pop(), self.pop()
        _with_items(self.top(dict), [key, value])

    def _setitems(self, _):
        values = self.pop_to_mark()
        _with_items(self.top(dict), values)

    def _global(self, argument):
        self.stack.append(_named(*argument.split(" ", 1)))

    def _stack_global(self, _):
        name, module = self.pop(str), self.pop(str)
        self.stack.append(_named(module, name))

    def _reduce(self, _):
        arguments, call = self.pop(tuple), self.pop(_Call)
        try:
            value = call.function(*arguments)
        except TypeError as error:
            raise WeightsError(f"a pickle in it makes something of wrong parts: {str(error)[:200]}") from error
        self.stack.append(value)

    _newobj = _reduce

    def _build(self, _):
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, _NumpyDType) and isinstance(state, tuple) and state[1] in ("<", ">", "|"):
            target.order = state[1]
        elif isinstance(target, OrderedDict) and isinstance(state, dict):
            target._metadata = _versions(state)
        elif isinstance(target, dict) and isinstance(state, dict):
            target.update(state)
            state.clear()
        else:
            raise WeightsError(f"a pickle in it gives attributes to {shown(target)}")

    def _binpersid(self, _):
        match self.pop(tuple):
            case ("storage", _StorageType(dtype), str(key), str(), int(elements), *views) if views in ([], [None]):
                self.stack.append(self.storage(dtype, key, elements))
            case other:
                raise WeightsError(f"a pickle in it refers to {shown(other)}, no storage as torch.save writes them")


def _with_items(target: dict, values: list) -> dict:
    if len(values) % 2:
        raise WeightsError("a pickle in it has a key without a value")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**64)):
            raise WeightsError(f"a pickle in it has {shown(key)} as a key; only text and numbers can be")
        target[key] = value
    return target


def _versions(state: dict) -> OrderedDict:
    """The versions of modules, as torch keeps them beside a state dict."""
    metadata = state.get("_metadata", {})
    if not isinstance(metadata, dict) or not all(isinstance(entry, dict) for entry in metadata.values()):
        raise WeightsError("the versions of its modules are no dictionaries")
    versions = ((path, entry.get("version")) for path, entry in metadata.items())
    return OrderedDict((path, {"version": version}) for path, version in versions if isinstance(version, int))


def _named(module: str, name: str):
    """What a pickle means by a global name."""
    if f"{module}.{name}" in _CALLS:
        return _Call(_CALLS[f"{module}.{name}"])
    if module in ("torch", "torch.cuda", "torch.storage") and name in STORAGES:
        return _StorageType(STORAGES[name])
    if module == "torch" and name in ITEM_BYTES:
        return _DType(name)
    if module == "torch":
        raise WeightsError(f"torch.{name[:80]} has no equal in NumPy")
    raise WeightsError(
        f"it names {module[:80]}.{name[:80]}, and reading weights runs no code; "
        "torch.save(model.state_dict(), …) writes a file without such names"
    )


def _namespace():
    return {}


def _ordered_dict(*lists):
    """Python 2 passes a list of the items, Python 3 adds them afterwards."""
    result = OrderedDict()
    for items in lists:
        if not isinstance(items, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in items):
            raise WeightsError(f"a pickle in it makes a dictionary from {shown(items)}")
        for pair in items:
            _with_items(result, list(pair))
        items.clear()
    return result


def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, dtype=None, metadata=None):
    if not isinstance(storage, Storage):
        raise WeightsError(f"a tensor in it is made from {shown(storage)}, no storage")
    name = dtype if isinstance(dtype, _DType) else storage.dtype
    return array_of(storage.read(name), offset, size, stride, "a tensor")


def _tensor_of_storage_type(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    return _tensor(storage, offset, size, stride)


def _parameter(data, *_):
    if not isinstance(data, np.ndarray):
        raise WeightsError(f"a parameter in it is made from {shown(data)}, no tensor")
    return data


def _with_attributes(call, kind, arguments, state):
    if not isinstance(call, _Call) or call.function not in (_tensor, _tensor_of_storage_type):
        raise WeightsError(f"a tensor in it is made by {shown(call)}")
    return call.function(*arguments)


def _size(sizes=()):
    if not isinstance(sizes, (list, tuple)) or len(sizes) > MAX_RANK:
        raise WeightsError(f"a size in it is {shown(sizes)}")
    return tuple(sizes)


def _device(kind, index=0):
    return f"{kind}:{index}" if isinstance(kind, str) and isinstance(index, int) and 0 <= index < 2**31 else "unknown"


def _latin1(text, encoding):
    """The bytes of a number, as protocol 2 writes them."""
    if not isinstance(text, str) or len(text) > 8 or encoding != "latin1":
        raise WeightsError(f"a number in it is written as {shown(text)}")
    return text.encode("latin1")


def _numpy_dtype(code, *_):
    if not isinstance(code, str) or code not in _NUMPY_CODES:
        raise WeightsError(f"NumPy's element type {shown(code)} in it is no type of numbers")
    return _NumpyDType(code)


def _numpy_scalar(dtype, data):
    if not isinstance(dtype, _NumpyDType) or not isinstance(data, bytes):
        raise WeightsError(f"a number in it is made from {shown(dtype)} and {shown(data)}")
    kind = np.dtype(dtype.code).newbyteorder(dtype.order)
    if len(data) != kind.itemsize:
        raise WeightsError(f"a number of type {kind} in it has {len(data)} bytes")
    return np.frombuffer(data, kind)[0].item()


_CALLS = {
    "_codecs.encode": _latin1,
    "argparse.Namespace": _namespace,
    "collections.OrderedDict": _ordered_dict,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy.dtype": _numpy_dtype,
    "torch.Size": _size,
    "torch.Tensor": _parameter,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_tensor": _tensor_of_storage_type,
    "torch._utils._rebuild_tensor_v2": _tensor_of_storage_type,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch.device": _device,
    "torch.nn.parameter.Parameter": _parameter,
}
