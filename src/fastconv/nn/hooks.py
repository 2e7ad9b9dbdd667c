"""Functions that a module calls around its forward."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from fastconv.errors import ArgumentTypeError

__all__ = ["Hook", "RemovableHandle", "call_with_hooks", "register_hook"]


class Hook(NamedTuple):
    function: Callable
    with_kwargs: bool
    before: bool


class RemovableHandle:
    """Removes a hook, by :meth:`remove` or at the end of a ``with`` block."""

    _ids = count()

    def __init__(self, hooks: dict[int, Hook]):
        self.id = next(self._ids)
        self._hooks = hooks

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception) -> None:
        self.remove()


def register_hook(hooks: dict[int, Hook], hook: Hook, prepend: bool) -> RemovableHandle:
    """Put `hook` last, or with `prepend` first, among `hooks`."""
    if not callable(hook.function):
        raise ArgumentTypeError(f"hook: expected a function, got {type(hook.function).__name__}")
    handle = RemovableHandle(hooks)
    later = dict(hooks) if prepend else {}
    if prepend:
        hooks.clear()
    hooks[handle.id] = hook
    hooks.update(later)
    return handle


def call_with_hooks(module, hooks: dict[int, Hook], args: tuple, kwargs: dict):
    """``module.forward(*args, **kwargs)`` with `hooks` around it, which may replace the arguments and the output."""
    for hook, with_kwargs, before in tuple(hooks.values()):
        if before:
            changed = hook(module, args, kwargs) if with_kwargs else hook(module, args)
            if changed is not None and with_kwargs:
                args, kwargs = changed
            elif changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    output = module.forward(*args, **kwargs)
    for hook, with_kwargs, before in tuple(hooks.values()):
        if not before:
            changed = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
            if changed is not None:
                output = changed
    return output
