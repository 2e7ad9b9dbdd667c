"""Reading and loading a state dict: everything is checked before the first array is written."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.factory import state_array
from fastconv.nn.parameter import UninitializedParameter

__all__ = ["IncompatibleKeys", "collect", "hooks", "load"]

EXTRA = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What a state dict lacked, and what it had too much."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def hooks(module, kind: str) -> list:
    """The module's functions registered for one moment of reading or loading a state dict."""
    return [function for moment, function in tuple(module._state_hooks.values()) if moment == kind]


def collect(module, destination, prefix: str, keep_vars: bool) -> Mapping:
    """See :meth:`fastconv.nn.Module.state_dict`."""
    if destination is None:
        destination = OrderedDict()
        destination._metadata = OrderedDict()
    for hook in hooks(module, "before collecting"):
        hook(module, prefix, keep_vars)
    metadata = {"version": module._version}
    if hasattr(destination, "_metadata"):
        destination._metadata[prefix[:-1]] = metadata
    destination.update((prefix + name, array) for name, array in module._persistent_arrays())
    module.__dict__["_handed_out"] = True
    if module._defines("get_extra_state"):
        destination[prefix + EXTRA] = module.get_extra_state()
    for name, child in module._modules.items():
        if child is not None:
            child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    for hook in hooks(module, "after collecting"):
        hook(module, destination, prefix, metadata)
    return destination


def load(module, state_dict: Mapping, strict: bool, assign: bool) -> IncompatibleKeys:
    """See :meth:`fastconv.nn.Module.load_state_dict`."""
    if not isinstance(state_dict, Mapping):
        raise ArgumentTypeError(f"state_dict: expected a mapping of names to arrays, got {type(state_dict).__name__}")
    metadata = getattr(state_dict, "_metadata", None) or {}
    state_dict = OrderedDict(state_dict)
    missing, unexpected, unfit, fitting, extras = [], [], [], [], []
    owners = list(module.named_modules(remove_duplicate=False))
    for path, owner in owners:
        prefix = f"{path}." if path else ""
        owner._load_from_state_dict(state_dict, prefix, metadata.get(path, {}), strict, missing, unexpected, unfit)
    known = set()
    for path, owner in owners:
        prefix = f"{path}." if path else ""
        optional = owner._optional_entries(metadata.get(path, {}).get("version"))
        for name, current in owner._persistent_arrays():
            key = prefix + name
            known.add(key)
            _merge_weight_norm(state_dict, prefix, name)
            if key in state_dict:
                array, refusal = _fit(state_dict[key], current, key)
                if refusal:
                    unfit.append(refusal)
                else:
                    fitting.append((owner, name, current, array))
            elif name not in optional:
                missing.append(key)
        if owner._defines("set_extra_state"):
            known.add(prefix + EXTRA)
            if prefix + EXTRA in state_dict:
                extras.append((owner, state_dict[prefix + EXTRA]))
            else:
                missing.append(prefix + EXTRA)
    unexpected += [key for key in state_dict if key not in known]
    result = IncompatibleKeys(missing, unexpected)
    after = [(owner, hook) for _, owner in reversed(owners) for hook in hooks(owner, "after loading")]
    if unfit or (strict and not after and (missing or unexpected)):
        raise ArgumentError(_describe(type(module).__name__, result if strict else IncompatibleKeys([], []), unfit))
    _write(fitting, assign)
    for owner, extra in extras:
        owner.set_extra_state(extra)
    for owner, hook in after:
        hook(owner, result)
    if strict and (missing or unexpected):
        raise ArgumentError(_describe(type(module).__name__, result, [], "what fits was loaded"))
    return result


def _merge_weight_norm(state_dict: dict, prefix: str, name: str) -> None:
    """Replace the length and the direction that torch's weight_norm, old or new, has put in place of an array by it.

    Source: Salimans and Kingma, arXiv:1602.07868.
    """
    parametrized = f"{prefix}parametrizations.{name}."
    for length, direction in (
        (f"{prefix}{name}_g", f"{prefix}{name}_v"),
        (f"{parametrized}original0", f"{parametrized}original1"),
    ):
        if prefix + name not in state_dict and length in state_dict and direction in state_dict:
            g, v = (state_array(state_dict.pop(key), key) for key in (length, direction))
            axes = tuple(i for i in range(v.ndim) if g.ndim != v.ndim or g.shape[i] == 1)
            state_dict[prefix + name] = v * (g / np.sqrt(np.square(v).sum(axis=axes, keepdims=True)))


def _write(fitting: list[tuple], assign: bool) -> None:
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


def _fit(value, current: np.ndarray, key: str) -> tuple[np.ndarray | None, str | None]:
    """`value` as an array that may replace `current`, or the sentence why not."""
    if isinstance(current, UninitializedParameter):
        return None, f"{key}: a lazy layer cannot take its size from this"
    try:
        array = state_array(value, key)
    except ArgumentTypeError as error:
        return None, str(error)
    if array.dtype.kind == "c" != current.dtype.kind:
        return None, f"{key}: expected real numbers, got {array.dtype}"
    if array.shape != current.shape:
        return None, f"{key}: expected shape {current.shape}, got {array.shape}"
    return array, None


def _describe(name: str, keys: IncompatibleKeys, unfit: list[str], done: str = "nothing was loaded") -> str:
    lines = [f"state_dict: does not fit {name}; {done}"]
    if keys.missing_keys:
        lines.append(f"missing: {', '.join(keys.missing_keys)}")
    if keys.unexpected_keys:
        lines.append(f"unexpected: {', '.join(keys.unexpected_keys)}")
        if all(str(key).startswith("module.") for key in keys.unexpected_keys):
            lines.append("(every unexpected name starts with 'module.', which torch's DataParallel adds: remove it)")
    return "\n  ".join(lines + unfit)
