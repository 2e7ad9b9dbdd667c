"""The base of every layer: torch's Module protocol over plain NumPy arrays.

A module owns parameters, buffers and child modules in three dictionaries.  ``_handed_out`` becomes True whenever an
array of the module is given to, or taken from, the outside, which may then change it at any time: a layer that keeps
a packed copy of its weights (see :mod:`fastconv.nn.packing`) trusts it unchecked only while ``_handed_out`` is False.
For that reason the built-in layers read ``self._parameters[name]`` and never ``self.name``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import failure, state
from fastconv.nn.factory import state_array
from fastconv.nn.hooks import Hook, RemovableHandle, call_with_hooks, register_hook
from fastconv.nn.parameter import Buffer, Parameter
from fastconv.nn.placement import Placement

__all__ = ["Module"]


class Module(Placement):
    """Base class of all layers and models, after ``torch.nn.Module``.

    A subclass calls ``super().__init__()``, assigns its child modules and parameters, and defines :meth:`forward`.
    Methods have torch's names and meaning.  Gradients are not computed: :meth:`requires_grad_` and :meth:`zero_grad`
    exist for torch code and do nothing.
    """

    _version = 1

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _non_persistent_buffers_set=set(),
            _modules={},
            _hooks={},
            _state_hooks={},
            _handed_out=False,
        )

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        parent = cls.__mro__[1]
        if cls.__doc__ is None and parent is not Module:  # `help` shows a class no docstring but its own
            cls.__doc__ = parent.__doc__

    def forward(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *args, **kwargs):
        try:
            if self._hooks:
                return call_with_hooks(self, self._hooks, args, kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            failure.locate(error, self, args, kwargs, Module.__call__.__code__)
            raise

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args)`` before every forward; unless None, its result replaces the arguments."""
        return register_hook(self._hooks, hook, Hook(hook, with_kwargs, before=True), prepend)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after every forward; unless None, its result replaces the output.

        With `always_call` also when a forward or another hook raises, the output None if there is none yet.
        """
        return register_hook(self._hooks, hook, Hook(hook, with_kwargs, False, always_call), prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False):
        """Raises :class:`ArgumentError`: fastconv computes no gradients."""
        raise ArgumentError("hook: fastconv computes no gradients, so a backward hook would never be called")

    register_full_backward_pre_hook = register_backward_hook = register_full_backward_hook

    # Attributes

    def __getattr__(self, name: str):
        fields = self.__dict__
        if name in fields.get("_modules", ()):
            return fields["_modules"][name]
        for table in ("_parameters", "_buffers"):
            if name in fields.get(table, ()):
                fields["_handed_out"] = True
                return fields[table][name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value) -> None:
        fields = self.__dict__
        if isinstance(value, (Module, Parameter, Buffer)):
            if "_modules" not in fields:
                raise AttributeError(f"cannot assign {name!r} before super().__init__() of {type(self).__name__}")
            if isinstance(value, Module):
                self._forget(name, "_modules")
                self._modules[name] = value
            elif isinstance(value, Parameter):
                self._forget(name, "_parameters")
                self.register_parameter(name, value)
            else:
                self._forget(name, "_buffers")
                self.register_buffer(name, value.data, value.persistent)
        elif name in fields.get("_parameters", ()):
            self.register_parameter(name, value)
        elif name in fields.get("_buffers", ()):
            self.register_buffer(name, value, persistent=name not in self._non_persistent_buffers_set)
        elif name in fields.get("_modules", ()):
            if value is not None:
                raise ArgumentTypeError(f"{name}: expected a Module or None, got {type(value).__name__}")
            self._modules[name] = None
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*object.__dir__(self), *self._parameters, *self._buffers, *self._modules]
        return sorted(name for name in set(names) if not name[0].isdigit())

    def _forget(self, name: str, kept: str) -> None:
        for table in ("_parameters", "_buffers", "_modules"):
            if table != kept:
                self.__dict__[table].pop(name, None)
        self.__dict__.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def _check_name(self, name: str, table: dict) -> None:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"name: expected a string, got {name!r}")
        if not name or "." in name:
            raise KeyError(f"name: expected a name without '.', got {name!r}")
        if hasattr(self, name) and name not in table:
            raise KeyError(f"name: {type(self).__name__} already has an attribute {name!r}")

    def register_parameter(self, name: str, param) -> None:
        """Add or replace a parameter: an array, anything with ``__array__``, or None."""
        self._check_name(name, self._parameters)
        self._parameters[name] = None if param is None else state_array(param, name)
        self.__dict__["_handed_out"] = True

    def register_buffer(self, name: str, tensor, persistent: bool = True) -> None:
        """Add or replace an array that is state but no parameter, kept in the state dict if `persistent`."""
        self._check_name(name, self._buffers)
        self._buffers[name] = None if tensor is None else state_array(tensor, name)
        self.__dict__["_handed_out"] = True
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add or replace a child module, reachable as the attribute `name`."""
        if module is not None and not isinstance(module, Module):
            raise ArgumentTypeError(f"{name}: expected a Module, got {type(module).__name__}")
        self._check_name(name, self._modules)
        self._modules[name] = module

    register_module = add_module

    # Iteration

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Names and modules of the direct children, each module once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children, each once."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all below it, depth first, with their paths such as ``features.0``."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """The module itself and all modules below it."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

    def _named_arrays(self, table: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator:
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, array in module.__dict__[table].items():
                if array is None:
                    continue
                module.__dict__["_handed_out"] = True
                if id(array) not in seen:
                    if remove_duplicate:
                        seen.add(id(array))
                    yield _join(path, name), array

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Paths and parameters of the module and, with `recurse`, of all below it, each array once."""
        return self._named_arrays("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[np.ndarray]:
        """The parameters of the module and, with `recurse`, of all below it, each array once."""
        return (array for _, array in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Paths and buffers of the module and, with `recurse`, of all below it, each array once."""
        return self._named_arrays("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[np.ndarray]:
        """The buffers of the module and, with `recurse`, of all below it, each array once."""
        return (array for _, array in self.named_buffers(recurse=recurse))

    # Access by path

    def get_submodule(self, target: str) -> Module:
        """The module at the path `target`, such as ``features.0``; AttributeError if there is none."""
        module = self
        for depth, name in enumerate(target.split(".") if target else ()):
            child = module._modules.get(name)
            if child is None:
                reached = ".".join(target.split(".")[:depth])
                raise AttributeError(f"{target!r}: {reached or type(self).__name__} has no module {name!r}")
            module = child
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Replace the module at the path `target`; with `strict` there must be one already."""
        parent_path, _, name = target.rpartition(".")
        parent = self.get_submodule(parent_path)
        if strict and name not in parent._modules:
            raise AttributeError(f"{target!r}: {parent_path or type(self).__name__} has no module {name!r}")
        parent.add_module(name, module)

    def get_parameter(self, target: str) -> np.ndarray:
        """The parameter at a path such as ``"features.0.weight"``; AttributeError where there is none."""
        return self._array_at(target, "_parameters")

    def get_buffer(self, target: str) -> np.ndarray:
        """The buffer at a path such as ``"bn1.running_mean"``; AttributeError where there is none."""
        return self._array_at(target, "_buffers")

    def _array_at(self, target: str, table: str) -> np.ndarray:
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if name not in owner.__dict__[table]:
            raise AttributeError(f"{target!r}: {path or type(self).__name__} has no {table[1:-1]} {name!r}")
        return getattr(owner, name)

    # State

    def state_dict(self, *, destination: dict | None = None, prefix: str = "", keep_vars: bool = False) -> dict:
        """Every parameter and persistent buffer by its path; the arrays are the module's own, not copies."""
        return state.collect(self, destination, prefix, keep_vars)

    def get_extra_state(self):
        """What a subclass keeps in the state dict beside its arrays, under ``_extra_state``."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_extra_state()")

    def set_extra_state(self, state) -> None:
        """Take back what :meth:`get_extra_state` gave."""
        raise NotImplementedError(f"{type(self).__name__} does not define set_extra_state()")

    def register_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before :meth:`state_dict` collects the module's entries."""
        return register_hook(self._state_hooks, hook, ("before collecting", hook))

    def register_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after; it may change the dictionary in place."""
        return register_hook(self._state_hooks, hook, ("after collecting", hook))

    def register_load_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata, strict, missing, unexpected, errors)`` before loading.

        The dictionary is a copy that the hook may change, and the three lists are added to what is reported.
        """
        return register_hook(self._state_hooks, hook, ("before loading", hook))

    def register_load_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after loading; what it takes off those two lists is not reported."""
        return register_hook(self._state_hooks, hook, ("after loading", hook))

    def _defines(self, name: str) -> bool:
        """Whether a subclass defines the method `name` anew."""
        return getattr(type(self), name) is not getattr(Module, name)

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        """Called with the whole state dict before it is checked; a subclass may rename its entries in it."""
        arguments = state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        for hook in state.hooks(self, "before loading"):
            hook(self, *arguments)

    def _persistent_arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, array in (*self._parameters.items(), *self._buffers.items()):
            if array is not None and name not in self._non_persistent_buffers_set:
                yield name, array

    def _optional_entries(self, version: int | None) -> tuple[str, ...]:
        """Names that a state dict written by `version` of this class may lack."""
        return ()

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False) -> state.IncompatibleKeys:
        """Copy the arrays of `state_dict` (path → anything with ``__array__``) into the module, keeping its dtypes.

        With `assign` the arrays themselves become the module's.  Returns the missing and the unexpected keys.  Raises
        :class:`ArgumentError` naming every entry whose shape differs and, if `strict`, every missing and unexpected
        key; nothing is loaded then.
        """
        return state.load(self, state_dict, strict, assign)

    # Modes

    def train(self, mode: bool = True) -> Module:
        """Set training mode, which batch norm and dropout obey, for this module and all below it."""
        for module in self.modules():
            module.__dict__["training"] = bool(mode)
        return self

    def eval(self) -> Module:
        """``train(False)``: dropout passes everything, batch norm uses its running statistics."""
        return self.train(False)

    def apply(self, fn: Callable[[Module], object]) -> Module:
        """Call `fn` with every module, children first."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Does nothing: fastconv keeps no gradients."""
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Does nothing: fastconv keeps no gradients."""

    # Text

    def extra_repr(self) -> str:
        """What stands between the parentheses of the repr."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        children = [f"({name}): {module!r}" for name, module in self._modules.items()]
        if not children:
            if "\n" in extra:
                extra = "\n  " + extra.replace("\n", "\n  ") + "\n"
            return f"{self._get_name()}({extra})"
        lines = [*(extra.split("\n") if extra else ()), *children]
        return f"{self._get_name()}(\n  " + "\n".join(lines).replace("\n", "\n  ") + "\n)"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
