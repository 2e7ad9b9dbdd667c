"""Packed weights of a layer, never stale.

A layer's arrays are plain NumPy arrays that their owner may change in place at any time, without telling.  While
nobody outside holds them (``Module._handed_out`` is False) they cannot have changed; once they were handed out, every
call compares a fingerprint of their bytes, until the last reference outside is gone.
"""

from __future__ import annotations

import sys

import numpy as np

from fastconv._kernels.array_memory import fingerprint

__all__ = ["Packing"]


def _references(arrays: dict[str, np.ndarray], name: str) -> int:
    return sys.getrefcount(arrays[name])


_REFERENCES_ALONE = _references({"array": np.empty(1)}, "array")
_COUNTS_ARE_EXACT = getattr(sys, "_is_gil_enabled", lambda: True)()


class Packing:
    """The packed forms of one module's ``weight`` and ``bias``, one for each layout its plans have asked for."""

    def __init__(self) -> None:
        self._packed = {}
        self._fingerprints = None

    def __reduce__(self):
        return Packing, ()

    def get(self, module, plan):
        """The module's weights as `plan` packs them; a plan without a layout reads them where they lie."""
        parameters = module._parameters
        if plan.layout is None:
            return plan.pack(parameters["weight"], parameters["bias"])
        if module._handed_out:
            self._check(module)
        packed = self._packed.get(plan.layout)
        if packed is None:
            packed = self._packed[plan.layout] = plan.pack(parameters["weight"], parameters["bias"])
        return packed

    def _check(self, module) -> None:
        parameters = module._parameters
        found = [
            None if array is None else (array.dtype, array.shape, fingerprint(np.ascontiguousarray(array)))
            for array in (parameters["weight"], parameters["bias"])
        ]
        if found != self._fingerprints:
            self._packed.clear()
            self._fingerprints = found
        if _COUNTS_ARE_EXACT and all(_is_private(parameters, name) for name in ("weight", "bias")):
            module.__dict__["_handed_out"] = False


def _is_private(arrays: dict[str, np.ndarray], name: str) -> bool:
    """Whether nobody else holds the array, a view of it, or the memory that it is a view of."""
    return arrays[name] is None or (arrays[name].flags.owndata and _references(arrays, name) == _REFERENCES_ALONE)
