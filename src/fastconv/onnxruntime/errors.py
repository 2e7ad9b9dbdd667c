"""onnxruntime's exceptions, by its names and with its way of beginning a message."""

__all__ = [
    "EPFail",
    "EngineError",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelLoaded",
    "NoModel",
    "NoSuchFile",
    "NotImplemented",
    "OnnxRuntimeError",
    "RuntimeException",
]


class OnnxRuntimeError(Exception):
    """Base of the others; `code` is onnxruntime's number and `label` its word for the kind of failure."""

    code, label = 1, "FAIL"

    def __init__(self, message: str = ""):
        super().__init__(f"[ONNXRuntimeError] : {self.code} : {self.label} : {message}")
        self.message = message

    def __reduce__(self):
        return type(self), (self.message,)


class Fail(OnnxRuntimeError):
    pass


class InvalidArgument(OnnxRuntimeError):
    code, label = 2, "INVALID_ARGUMENT"


class NoSuchFile(OnnxRuntimeError):
    code, label = 3, "NO_SUCHFILE"


class NoModel(OnnxRuntimeError):
    code, label = 4, "NO_MODEL"


class EngineError(OnnxRuntimeError):
    code, label = 5, "ENGINE_ERROR"


class RuntimeException(OnnxRuntimeError):
    code, label = 6, "RUNTIME_EXCEPTION"


class InvalidProtobuf(OnnxRuntimeError):
    code, label = 7, "INVALID_PROTOBUF"


class ModelLoaded(OnnxRuntimeError):
    code, label = 8, "MODEL_LOADED"


class NotImplemented(OnnxRuntimeError):
    code, label = 9, "NOT_IMPLEMENTED"


class InvalidGraph(OnnxRuntimeError):
    code, label = 10, "INVALID_GRAPH"


class EPFail(OnnxRuntimeError):
    code, label = 11, "EP_FAIL"
