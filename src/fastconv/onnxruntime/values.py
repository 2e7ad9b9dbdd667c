"""onnxruntime's values and bindings, which are NumPy arrays here."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from math import prod

import numpy as np

from fastconv.onnx.tensors import DTYPES, TYPE_NAMES, dtype_of
from fastconv.onnxruntime.errors import InvalidArgument

__all__ = ["IOBinding", "OrtDevice", "OrtValue", "as_array"]

NUMBERS = {dtype: number for number, dtype in reversed(DTYPES.items()) if TYPE_NAMES[number] not in ("uint4", "int4")}


class OrtDevice:
    """A device: the CPU."""

    def __init__(self, device_type: str = "cpu", device_id: int = 0):
        if device_type.lower() != "cpu":
            raise InvalidArgument(f"there is no device but the CPU, got {device_type!r}")
        self._name, self._id = "cpu", device_id

    @staticmethod
    def make(ort_device_name: str, device_id: int, vendor_id: int = -1) -> OrtDevice:
        """A device by its name; InvalidArgument unless it is the CPU."""
        return OrtDevice(ort_device_name, device_id)

    @staticmethod
    def cpu() -> int:
        """onnxruntime's number of the CPU."""
        return 0

    def device_id(self) -> int:
        """The number among the devices of its kind."""
        return self._id

    def device_type(self) -> str:
        """``"cpu"``."""
        return self._name


class OrtValue:
    """A tensor, or a sequence of tensors as a list."""

    def __init__(self, value: np.ndarray | list):
        self._value = value

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """The array itself where it is C-contiguous, as in onnxruntime: later changes of it are seen."""
        OrtDevice(device_type, device_id)
        return cls(np.asarray(numpy_obj, order="C"))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: np.ndarray, onnx_element_type: int) -> OrtValue:
        """The array's memory as elements of the type with TensorProto's number `onnx_element_type`."""
        return cls(np.ascontiguousarray(data).view(dtype_of(onnx_element_type)))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls, shape: Sequence[int], element_type, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """Memory for a tensor, to be written; `element_type` is a dtype or TensorProto's number."""
        OrtDevice(device_type, device_id)
        return cls(np.empty(tuple(shape), _dtype(element_type)))

    @classmethod
    def from_dlpack(cls, data, is_bool_tensor: bool = False) -> OrtValue:
        """The memory of a tensor of another library; with `is_bool_tensor` bytes are taken as bool."""
        array = np.from_dlpack(data)
        return cls(np.ascontiguousarray(array.view(np.bool_) if is_bool_tensor else array))

    def __dlpack__(self, **arguments):
        return self._value.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self._value.__dlpack_device__()

    def numpy(self) -> np.ndarray:
        """A copy of a tensor as an array."""
        if not self.is_tensor():
            raise InvalidArgument("only a tensor can be turned into an array")
        return self._value.copy()

    def update_inplace(self, np_arr) -> None:
        """Write the values of an array of the same shape and type into the tensor."""
        array = np.asarray(np_arr)
        if array.shape != self._value.shape or array.dtype != self._value.dtype:
            raise InvalidArgument(
                f"expected an array {self._value.shape} of {self._value.dtype}, got {array.shape} of {array.dtype}"
            )
        self._value[...] = array

    def shape(self) -> list[int]:
        """The sizes of a tensor."""
        return list(self._value.shape)

    def data_type(self) -> str:
        """The type in words, as in ``tensor(float)``."""
        kind = "seq" if isinstance(self._value, list) else "tensor"
        inner = (
            OrtValue(self._value[0]).data_type() if kind == "seq" and self._value else TYPE_NAMES[self.element_type()]
        )
        return f"{kind}({inner})"

    def element_type(self) -> int:
        """TensorProto's number of the element type."""
        return NUMBERS[self._value.dtype] if self.is_tensor() else 0

    def tensor_size_in_bytes(self) -> int:
        """Bytes of a tensor's elements."""
        return self._value.nbytes

    def data_ptr(self) -> int:
        """The address of a tensor's first element."""
        return self._value.ctypes.data

    def device_name(self) -> str:
        """``"cpu"``."""
        return "cpu"

    def has_value(self) -> bool:
        """False for an optional value that is not there."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Whether it is a tensor."""
        return isinstance(self._value, np.ndarray)

    def is_sparse_tensor(self) -> bool:
        """False: there are none."""
        return False

    def is_tensor_sequence(self) -> bool:
        """Whether it is a sequence of tensors."""
        return isinstance(self._value, list)


class IOBinding:
    """Inputs and outputs of a session, bound to arrays; made by ``session.io_binding()``."""

    def __init__(self, session):
        self._session = session
        self._inputs: dict[str, object] = {}
        self._targets: dict[str, np.ndarray | None] = {}
        self._results: dict[str, object] = {}

    def bind_cpu_input(self, name: str, arr_on_cpu) -> None:
        """Read the input from an array."""
        self._inputs[name] = arr_on_cpu

    def bind_input(self, name: str, device_type: str, device_id: int, element_type, shape, buffer_ptr: int) -> None:
        """Read the input from `buffer_ptr`, the address of C-contiguous values that has to stay valid."""
        OrtDevice(device_type, device_id)
        self._inputs[name] = _array_at(buffer_ptr, shape, element_type)

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Read the input from an OrtValue."""
        self._inputs[name] = as_array(ortvalue)

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type=None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Keep the output of a run, or with `buffer_ptr` write it there."""
        OrtDevice(device_type, device_id)
        if buffer_ptr is not None and (element_type is None or shape is None):
            raise ValueError("`element_type` and `shape` are to be provided if pre-allocated memory is provided")
        self._targets[name] = None if buffer_ptr is None else _array_at(buffer_ptr, shape, element_type)

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Write the output into the memory of an OrtValue."""
        self._targets[name] = as_array(ortvalue)

    def synchronize_inputs(self) -> None:
        """Without effect: nothing runs beside the caller."""

    def synchronize_outputs(self) -> None:
        """Without effect: nothing runs beside the caller."""

    def get_outputs(self) -> list[OrtValue]:
        """The bound outputs of the last run, in the order in which they were bound."""
        return [OrtValue(self._results[name]) for name in self._targets if name in self._results]

    def copy_outputs_to_cpu(self) -> list[np.ndarray]:
        """Copies of the bound outputs of the last run as arrays."""
        return [value.numpy() for value in self.get_outputs()]

    def clear_binding_inputs(self) -> None:
        """Forget the bound inputs."""
        self._inputs.clear()

    def clear_binding_outputs(self) -> None:
        """Forget the bound outputs and their results."""
        self._targets.clear()
        self._results.clear()

    def _run(self, run_options) -> None:
        results = self._session.run(list(self._targets) or None, self._inputs, run_options)
        names = self._targets or [info.name for info in self._session.get_outputs()]
        for name, result in zip(names, results, strict=True):
            target = self._targets.get(name)
            if target is not None:
                if target.shape != result.shape or target.dtype != result.dtype:
                    raise InvalidArgument(
                        f"output {name!r} is {result.shape} of {result.dtype}, bound to memory for {target.shape} of "
                        f"{target.dtype}"
                    )
                target[...] = result
            self._results[name] = result if target is None else target


def as_array(value):
    """What an OrtValue holds; anything else as it came."""
    return value._value if isinstance(value, OrtValue) else value


def _dtype(element_type) -> np.dtype:
    return dtype_of(element_type) if isinstance(element_type, int) else np.dtype(element_type)


def _array_at(address: int, shape, element_type) -> np.ndarray:
    dtype, shape = _dtype(element_type), tuple(shape)
    memory = (ctypes.c_char * (prod(shape) * dtype.itemsize)).from_address(address)
    return np.frombuffer(memory, dtype).reshape(shape)
