"""onnxruntime's exceptions and classes under the name of its extension module."""

from fastconv.onnxruntime import (  # noqa: F401
    ExecutionMode,
    ExecutionOrder,
    GraphOptimizationLevel,
    ModelMetadata,
    NodeArg,
    OrtDevice,
    RunOptions,
    SessionIOBinding,
    SessionOptions,
    get_available_providers,
    get_device,
    set_seed,
)
from fastconv.onnxruntime.errors import (  # noqa: F401
    EngineError,
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelLoaded,
    NoModel,
    NoSuchFile,
    NotImplemented,
    RuntimeException,
)
