"""Modules that hold other modules or parameters: in a chain, a list or a dictionary."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.module import Module
from fastconv.nn.parameter import Parameter

__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]


def _key_at(keys: Iterable[str], index) -> str:
    keys, index = list(keys), operator.index(index)
    if not -len(keys) <= index < len(keys):
        raise IndexError(f"index: expected {-len(keys)} to {len(keys) - 1}, got {index}")
    return keys[index]


class _ModuleSequence(Module):
    """Child modules in order, named by their position; removing or inserting one renumbers all."""

    def _renumber(self, modules: Iterable[Module]) -> None:
        self.__dict__["_modules"] = {str(i): module for i, module in enumerate(modules)}

    def __setitem__(self, idx: int, module: Module) -> None:
        self.add_module(_key_at(self._modules, idx), module)

    def __delitem__(self, idx: int | slice) -> None:
        keys = list(self._modules)
        for key in keys[idx] if isinstance(idx, slice) else [_key_at(keys, idx)]:
            del self._modules[key]
        self._renumber(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def append(self, module: Module):
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]):
        if not isinstance(modules, Iterable):
            raise ArgumentTypeError(f"modules: expected an iterable of modules, got {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module):
        if not isinstance(module, Module):
            raise ArgumentTypeError(f"module: expected a Module, got {type(module).__name__}")
        if not -len(self) <= index <= len(self):
            raise IndexError(f"index: expected {-len(self)} to {len(self)}, got {index}")
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, key: int | slice) -> Module:
        removed = self[key]
        del self[key]
        return removed


class Sequential(_ModuleSequence):
    """Modules called one after the other.  One OrderedDict in place of the modules gives them names."""

    def __init__(self, *args: Module | OrderedDict[str, Module]) -> None:
        super().__init__()
        named = len(args) == 1 and isinstance(args[0], OrderedDict)
        for name, module in args[0].items() if named else enumerate(args):
            self.add_module(name if named else str(name), module)

    def forward(self, input):
        for module in self._modules.values():
            input = module(input)
        return input

    def __getitem__(self, idx: int | slice) -> Module:
        if isinstance(idx, slice):
            return type(self)(OrderedDict(list(self._modules.items())[idx]))
        return self._modules[_key_at(self._modules, idx)]

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *_sequential(other))

    def __iadd__(self, other: Sequential) -> Sequential:
        return self.extend(_sequential(other))

    def __mul__(self, other: int) -> Sequential:
        return Sequential(*list(self) * _positive(other))

    __rmul__ = __mul__

    def __imul__(self, other: int) -> Sequential:
        return self.extend(list(self) * (_positive(other) - 1))


def _sequential(other) -> Sequential:
    if not isinstance(other, Sequential):
        raise ArgumentError(f"+: expected a Sequential, got {type(other).__name__}")
    return other


def _positive(factor) -> int:
    if not isinstance(factor, int):
        raise ArgumentTypeError(f"*: expected an integer, got {type(factor).__name__}")
    if factor <= 0:
        raise ArgumentError(f"*: expected a positive integer, got {factor}")
    return factor


class ModuleList(_ModuleSequence):
    """A list of modules that belong to the module it is assigned to."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, idx: int | slice):
        if isinstance(idx, slice):
            return type(self)(list(self)[idx])
        return self._modules[_key_at(self._modules, idx)]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def __repr__(self) -> str:
        if not self._modules:
            return f"{self._get_name()}()"
        lines, start = [], 0
        for text, run in groupby(map(repr, self)):
            last = start + len(list(run)) - 1
            lines.append(f"({start}): {text}" if last == start else f"({start}-{last}): {last - start + 1} x {text}")
            start = last + 1
        return f"{self._get_name()}(\n  " + "\n".join(lines).replace("\n", "\n  ") + "\n)"


class ModuleDict(Module):
    """A dictionary of modules that belong to the module it is assigned to."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Remove all modules."""
        self._modules.clear()

    def pop(self, key: str) -> Module:
        """Remove the module of a key and return it."""
        return self._modules.pop(key)

    def keys(self):
        """The keys, in the order in which they were added."""
        return self._modules.keys()

    def items(self):
        """Keys and modules."""
        return self._modules.items()

    def values(self):
        """The modules."""
        return self._modules.values()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules: those of a mapping, or of pairs of key and module."""
        for key, module in _pairs(modules, "modules"):
            self[key] = module


def _pairs(entries, name: str) -> list[tuple]:
    try:
        return [(key, value) for key, value in (entries.items() if hasattr(entries, "items") else entries)]
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"{name}: expected a mapping or an iterable of (name, value) pairs, got {entries!r}"
        ) from None


class _ParameterContainer(Module):
    """Values by name, of which the arrays are parameters."""

    def _put(self, key: str, value) -> None:
        setattr(self, key, Parameter(value) if hasattr(value, "__array__") else value)

    def _describe(self, entries: Iterable[tuple]) -> str:
        return "\n".join(
            f"  ({key}): Parameter containing: [{value.dtype} of size {'x'.join(map(str, value.shape))}]"
            if hasattr(value, "__array__")
            else f"  ({key}): Object of type: {type(value).__name__}"
            for key, value in entries
        )

    def __call__(self, *args, **kwargs):
        raise ArgumentTypeError(f"{type(self).__name__} holds parameters; it cannot be called")


class ParameterList(_ParameterContainer):
    """A list whose arrays are parameters of the module it is assigned to; other values are kept as they are."""

    def __init__(self, values: Iterable | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def _key(self, idx) -> str:
        return _key_at(map(str, range(self._size)), idx)

    def __getitem__(self, idx: int | slice):
        if isinstance(idx, slice):
            return type(self)(list(self)[idx])
        return getattr(self, self._key(idx))

    def __setitem__(self, idx: int, param) -> None:
        self._put(self._key(idx), param)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator:
        return (self[i] for i in range(self._size))

    def append(self, value) -> ParameterList:
        """Add a parameter at the end; returns the list."""
        self._put(str(self._size), value)
        self._size += 1
        return self

    def extend(self, values: Iterable) -> ParameterList:
        """Add parameters at the end; returns the list."""
        if not isinstance(values, Iterable) or hasattr(values, "__array__"):
            raise ArgumentTypeError(f"values: expected an iterable of parameters, got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    __iadd__ = extend

    def extra_repr(self) -> str:
        return self._describe(enumerate(self))


class ParameterDict(_ParameterContainer):
    """A dictionary whose arrays are parameters of the module it is assigned to; other values are kept as they are."""

    def __init__(self, parameters: Mapping | Iterable | None = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str):
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value) -> None:
        if not isinstance(key, str):
            raise ArgumentTypeError(f"key: expected a string, got {key!r}")
        self._put(key, value)
        self._keys[key] = None

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __or__(self, other) -> ParameterDict:
        result = self.copy()
        result.update(other)
        return result

    def copy(self) -> ParameterDict:
        """A dictionary of the same arrays."""
        return ParameterDict(self.items())

    def get(self, key: str, default=None):
        """The parameter of a key, or `default`."""
        return self[key] if key in self._keys else default

    def setdefault(self, key: str, default=None):
        """The parameter of a key, which is added with `default` where there is none."""
        if key not in self._keys:
            self[key] = default
        return self[key]

    def pop(self, key: str):
        """Remove the parameter of a key and return it."""
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple:
        """Remove the parameter that was added last; returns key and parameter."""
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def clear(self) -> None:
        """Remove all parameters."""
        for key in tuple(self._keys):
            del self[key]

    def keys(self):
        """The keys, in the order in which they were added."""
        return self._keys.keys()

    def items(self) -> list[tuple]:
        """Keys and parameters."""
        return [(key, self[key]) for key in self._keys]

    def values(self) -> list:
        """The parameters."""
        return [self[key] for key in self._keys]

    def update(self, parameters) -> None:
        """Add or replace entries.  As in torch, those of a plain dict come in alphabetical order."""
        pairs = _pairs(parameters, "parameters")
        for key, value in sorted(pairs, key=lambda pair: pair[0]) if type(parameters) is dict else pairs:
            self[key] = value

    def extra_repr(self) -> str:
        return self._describe(self.items())
