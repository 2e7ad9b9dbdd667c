"""Loading a state dict: everything is checked before the first array is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.factory import state_array

__all__ = ["IncompatibleKeys", "load"]


class IncompatibleKeys(NamedTuple):
    """What a state dict lacked, and what it had too much."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def load(module, state_dict: Mapping, strict: bool, assign: bool) -> IncompatibleKeys:
    """See :meth:`fastconv.nn.Module.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        raise ArgumentTypeError(f"state_dict: expected a mapping of names to arrays, got {type(state_dict).__name__}")
    metadata = getattr(state_dict, "_metadata", None) or {}
    unexpected = dict.fromkeys(state_dict)
    missing, unfit, fitting = [], [], []
    for path, owner in module.named_modules(remove_duplicate=False):
        optional = owner._optional_entries(metadata.get(path, {}).get("version"))
        for name, current in owner._persistent_arrays():
            key = f"{path}.{name}" if path else name
            unexpected.pop(key, None)
            if key in state_dict:
                array, refusal = _fit(state_dict[key], current, key)
                if refusal:
                    unfit.append(refusal)
                else:
                    fitting.append((owner, name, current, array))
            elif name not in optional:
                missing.append(key)
    result = IncompatibleKeys(missing, list(unexpected))
    if unfit or (strict and (missing or unexpected)):
        raise ArgumentError(_describe(type(module).__name__, result if strict else IncompatibleKeys([], []), unfit))
    with np.errstate(over="ignore", invalid="ignore"):
        for owner, name, current, array in fitting:
            table = owner._parameters if name in owner._parameters else owner._buffers
            if assign:
                table[name] = array
            elif current.flags.writeable:
                np.copyto(current, array, casting="unsafe")
            else:
                table[name] = array.astype(current.dtype)
            owner.__dict__["_handed_out"] = True
    return result


def _fit(value, current: np.ndarray, key: str) -> tuple[np.ndarray | None, str | None]:
    """`value` as an array that may replace `current`, or the sentence why not."""
    try:
        array = state_array(value, key)
    except ArgumentTypeError as error:
        return None, str(error)
    if array.dtype.kind == "c" != current.dtype.kind:
        return None, f"{key}: expected real numbers, got {array.dtype}"
    if array.shape != current.shape:
        return None, f"{key}: expected shape {current.shape}, got {array.shape}"
    return array, None


def _describe(name: str, keys: IncompatibleKeys, unfit: list[str]) -> str:
    lines = [f"state_dict: does not fit {name}; nothing was loaded"]
    if keys.missing_keys:
        lines.append(f"missing: {', '.join(keys.missing_keys)}")
    if keys.unexpected_keys:
        lines.append(f"unexpected: {', '.join(keys.unexpected_keys)}")
        if all(str(key).startswith("module.") for key in keys.unexpected_keys):
            lines.append("(every unexpected name starts with 'module.', which torch's DataParallel adds: remove it)")
    return "\n  ".join(lines + unfit)
