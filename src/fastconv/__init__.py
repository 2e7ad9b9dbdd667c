"""fastconv: convolutional networks on CPUs, from NumPy arrays.

``fastconv.nn`` and ``fastconv.nn.functional`` follow torch's names and semantics, ``fastconv.reference`` specifies every
operation in plain NumPy, and the kernels behind them are chosen once per shape.  Everything heavy is imported on use.
"""

from importlib import import_module

from fastconv.errors import ArgumentError, ArgumentTypeError, MemoryLimitError, ModelError, WeightsError

__version__ = "0.1.0"

_LAZY_MODULES = {"geometry", "models", "nn", "reference", "weights"}
_LAZY_NAMES = {
    "InferenceSession": "fastconv.onnx.session",
    "algorithms": "fastconv.ops.candidates",
    "compile": "fastconv.tracing",
    "get_num_threads": "fastconv.config",
    "load_state_dict": "fastconv.weights",
    "manual_seed": "fastconv.nn.random",
    "onnx_backend": "fastconv.onnx.backend",
    "save_state_dict": "fastconv.weights",
    "set_num_threads": "fastconv.config",
    "show_config": "fastconv.config",
    "threads": "fastconv.config",
}

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "MemoryLimitError",
    "ModelError",
    "WeightsError",
    "__version__",
    *sorted(_LAZY_MODULES),
    *sorted(_LAZY_NAMES),
]


def __getattr__(name: str):
    if name in _LAZY_MODULES:
        return import_module(f"fastconv.{name}")
    if name in _LAZY_NAMES:
        return getattr(import_module(_LAZY_NAMES[name]), name)
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__():
    return __all__
