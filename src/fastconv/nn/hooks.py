"""Functions that a module calls around its forward, and around reading and loading its state dict."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from fastconv.errors import ArgumentTypeError

__all__ = ["Hook", "RemovableHandle", "call_with_hooks", "register_hook"]


class Hook(NamedTuple):
    """`before` the forward or after it; a hook after it may also be called `always`, when the forward has failed."""

    function: Callable
    with_kwargs: bool
    before: bool
    always: bool = False


class RemovableHandle:
    """Removes a hook, by :meth:`remove` or at the end of a ``with`` block."""

    _ids = count()

    def __init__(self, hooks: dict):
        self.id = next(self._ids)
        self._hooks = hooks

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception) -> None:
        self.remove()


def register_hook(hooks: dict, function: Callable, entry, prepend: bool = False) -> RemovableHandle:
    """Put `entry`, which calls `function`, last, or with `prepend` first, among `hooks`."""
    if not callable(function):
        raise ArgumentTypeError(f"hook: expected a function, got {type(function).__name__}")
    handle = RemovableHandle(hooks)
    later = dict(hooks) if prepend else {}
    if prepend:
        hooks.clear()
    hooks[handle.id] = entry
    hooks.update(later)
    return handle


def call_with_hooks(module, hooks: dict[int, Hook], args: tuple, kwargs: dict):
    """``module.forward(*args, **kwargs)`` with `hooks` around it, which may replace the arguments and the output."""
    entries = tuple(hooks.values())
    waiting = [hook for hook in entries if hook.always]
    output = None
    try:
        for hook in entries:
            if hook.before:
                changed = hook.function(module, args, kwargs) if hook.with_kwargs else hook.function(module, args)
                if changed is not None and hook.with_kwargs:
                    args, kwargs = changed
                elif changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        output = module.forward(*args, **kwargs)
        for hook in entries:
            if not hook.before:
                if hook.always:
                    waiting.remove(hook)
                output = _after(hook, module, args, kwargs, output)
    except Exception:
        for hook in waiting:
            try:
                output = _after(hook, module, args, kwargs, output)
            except Exception as second:
                warnings.warn(
                    f"a hook with always_call=True failed after its module's forward had failed: {second}", stacklevel=3
                )
        raise
    return output


def _after(hook: Hook, module, args: tuple, kwargs: dict, output):
    changed = hook.function(module, args, kwargs, output) if hook.with_kwargs else hook.function(module, args, output)
    return output if changed is None else changed
