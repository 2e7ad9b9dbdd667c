"""Where a module's arrays are, and of which type: the methods that torch code calls to move and cast modules."""

from __future__ import annotations

import numpy as np

from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn.factory import as_dtype, check_device, float_dtype

__all__ = ["Placement"]


class Placement:
    """The part of :class:`fastconv.nn.Module` about element types and devices."""

    def _cast(self, dtype) -> Placement:
        dtype = float_dtype(dtype)
        casts = {}  # id of the old array -> (old, new): tied arrays stay tied, and no id is reused meanwhile
        for module in self.modules():
            for table in (module._parameters, module._buffers):
                for name, array in table.items():
                    if array is not None and array.dtype.kind == "f":
                        if id(array) not in casts:
                            casts[id(array)] = array, array.astype(dtype, copy=False)
                        table[name] = casts[id(array)][1]
            module.__dict__["_handed_out"] = True
        return self

    def type(self, dst_type) -> Placement:
        """Cast floating-point parameters and buffers to the dtype `dst_type`."""
        return self._cast(dst_type)

    def to_empty(self, *, device=None, recurse: bool = True) -> Placement:
        """Does nothing: every parameter has its memory."""
        check_device(device)
        return self

    def to(self, *args, device=None, dtype=None, non_blocking: bool = False, memory_format=None) -> Placement:
        """Cast floating-point parameters and buffers to a dtype, given itself, by name, or by an array that has it.

        Devices other than the CPU raise :class:`ArgumentError`; `non_blocking` and `memory_format` have no effect.
        """
        for argument in args:
            if _names_dtype(argument):
                dtype = argument
            elif isinstance(argument, np.ndarray):
                dtype = argument.dtype
            elif not isinstance(argument, bool):
                device = argument
        check_device(device)
        return self if dtype is None else self._cast(dtype)

    def float(self) -> Placement:
        return self._cast(np.float32)

    def double(self) -> Placement:
        return self._cast(np.float64)

    def half(self) -> Placement:
        return self._cast(np.float16)

    def bfloat16(self) -> Placement:
        raise ArgumentError("dtype: NumPy has no bfloat16; use float() or half()")

    def cpu(self) -> Placement:
        return self

    def cuda(self, device=None) -> Placement:
        raise ArgumentError("device: fastconv computes on the CPU only; remove the call that moves the module")

    xpu = ipu = mtia = cuda

    def compile(self, *args, **kwargs) -> None:
        """Raises :class:`ArgumentError`: ``fastconv.compile(module, example_input)`` needs an example."""
        raise ArgumentError("compile: use fastconv.compile(module, example_input), which returns the compiled module")


def _names_dtype(value) -> bool:
    try:
        return value is not None and not isinstance(value, int) and as_dtype(value) is not None
    except ArgumentTypeError:
        return False
