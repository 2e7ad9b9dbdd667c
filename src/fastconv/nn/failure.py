"""Where in a nested model a call failed, and through which shapes its input came.  Costs nothing until a call fails.

Every :class:`~fastconv.nn.Module` that an exception leaves adds itself to the exception's trail; the outermost one
writes the path into the message.
"""

from __future__ import annotations

import sys
from threading import get_ident
from types import CodeType

import numpy as np

from fastconv.errors import ArgumentError, ArgumentIndexError, ArgumentTypeError
from fastconv.from_torch import hint
from fastconv.nn.random import default_generator

__all__ = ["locate"]

SHOWN_SHAPES = 6


def locate(error: Exception, module, args: tuple, kwargs: dict, call: CodeType) -> None:
    """Name the layer in the message of `error`, which is leaving `module` called with `args` and `kwargs`.

    `call` is the code of ``Module.__call__``, by which a surrounding call is recognised.  Exceptions of fastconv get
    the path before their message and the shapes behind it; all others get the path as a note (Python 3.11), and
    where an array seems to have been taken for a tensor another one that says what NumPy calls it.
    """
    if getattr(error, "located", False):
        return
    trail = error.__dict__.setdefault("trail", [])
    trail.append(module)
    if _called_from(call):
        return
    del error.trail
    error.located = True
    layer = _describe(trail)
    if type(error) not in (ArgumentError, ArgumentIndexError, ArgumentTypeError):
        if hasattr(error, "add_note"):
            error.add_note(f"raised in {layer}")
            if instead := hint(error):
                error.add_note(instead)
        return
    message = f"{layer}: {error}"
    if len(trail) > 1 and (shapes := _shapes_on_the_way(module, args, kwargs)):
        message += f"; the input came as {' → '.join(shapes)}"
    error.args = (message,)


def _called_from(call: CodeType) -> bool:
    """Whether a call of another module surrounds the one that calls :func:`locate`."""
    frame = sys._getframe(3)
    while frame is not None:
        if frame.f_code is call:
            return True
        frame = frame.f_back
    return False


def _describe(trail: list) -> str:
    """The path of the innermost module of `trail`, and what it is."""
    path, below = [], trail[0]
    for module in trail[1:]:
        found = next((name for name, candidate in module.named_modules() if candidate is below), None)
        if found is not None:
            path.insert(0, found)
            below = module
    kind = type(trail[0]).__name__ if trail[0]._modules else repr(trail[0])
    return f"{'.'.join(path)} ({kind})" if path else kind


def _shapes_on_the_way(root, args: tuple, kwargs: dict) -> list[str]:
    """The shapes of the input and of the output of every layer up to the failing one, by repeating the call."""
    inputs = [str(tuple(value.shape)) for value in (*args, *kwargs.values()) if hasattr(value, "shape")]
    shapes = [", ".join(inputs)] if inputs else []
    thread = get_ident()

    def recorder(path, name):
        def record(module, args, output):
            if get_ident() == thread and hasattr(output, "shape"):
                shapes.append(f"{path} {name} {output.shape}")

        return record

    layers = [(path, layer) for path, layer in root.named_modules() if not layer._modules]
    handles = [layer.register_forward_hook(recorder(path, type(layer).__name__)) for path, layer in layers]
    buffers = [array for layer in root.modules() for array in layer._buffers.values() if array is not None]
    saved = [(array, array.copy()) for array in buffers if array.flags.writeable]
    random_state = default_generator.bit_generator.state
    try:
        root.forward(*args, **kwargs)
    except Exception:
        pass  # the failure that is being described
    finally:
        for handle in handles:
            handle.remove()
        for array, before in saved:
            np.copyto(array, before)
        default_generator.bit_generator.state = random_state
    if len(shapes) > SHOWN_SHAPES:
        shapes[1 : 1 - SHOWN_SHAPES] = ["…"]
    return shapes
