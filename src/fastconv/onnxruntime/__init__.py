"""onnxruntime's Python API on fastconv's engine, as far as a CPU goes: ``import fastconv.onnxruntime as onnxruntime``.

For a package that imports onnxruntime itself::

    import sys, fastconv.onnxruntime
    sys.modules["onnxruntime"] = fastconv.onnxruntime

Results are fastconv's, and so are the texts of errors behind onnxruntime's beginnings; what onnxruntime has for other
devices, for custom operators and for writing models is not here.
"""

from __future__ import annotations

from fastconv.onnx.session import ModelMeta as ModelMetadata
from fastconv.onnx.session import NodeArg
from fastconv.onnxruntime.options import (
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    RunOptions,
    SessionOptions,
)
from fastconv.onnxruntime.session import CPU, InferenceSession
from fastconv.onnxruntime.values import IOBinding, OrtDevice, OrtValue

__all__ = [
    "ExecutionMode",
    "ExecutionOrder",
    "GraphOptimizationLevel",
    "IOBinding",
    "InferenceSession",
    "ModelMetadata",
    "NodeArg",
    "OrtDevice",
    "OrtValue",
    "RunOptions",
    "SessionIOBinding",
    "SessionOptions",
    "disable_telemetry_events",
    "enable_telemetry_events",
    "get_all_providers",
    "get_available_providers",
    "get_build_info",
    "get_device",
    "get_version_string",
    "set_default_logger_severity",
    "set_default_logger_verbosity",
    "set_seed",
]

# The version of onnxruntime's API that is followed, for clients that compare it.
__version__ = "1.22.0"

SessionIOBinding = IOBinding


def get_available_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return [CPU]


def get_all_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return [CPU]


def get_device() -> str:
    """``"CPU"``."""
    return "CPU"


def get_version_string() -> str:
    """``__version__``."""
    return __version__


def get_build_info() -> str:
    """fastconv's version, compiler and instruction set."""
    from fastconv.config import show_config

    return show_config()


def set_seed(seed: int) -> None:
    """Without effect: the one operator that draws random numbers, Dropout in training, has a seed in the model."""


def set_default_logger_severity(severity: int) -> None:
    """Without effect: nothing is logged."""


def set_default_logger_verbosity(verbosity: int) -> None:
    """Without effect: nothing is logged."""


def enable_telemetry_events() -> None:
    """Without effect: there is no telemetry."""


def disable_telemetry_events() -> None:
    """Without effect: there is no telemetry."""
