"""The same as :mod:`fastconv.onnxruntime.capi.onnxruntime_pybind11_state`, under onnxruntime's other name."""

from fastconv.onnxruntime.capi.onnxruntime_pybind11_state import *  # noqa: F403
