"""The session and its values under the name of onnxruntime's module for them."""

from fastconv.onnxruntime import InferenceSession, IOBinding, OrtDevice, OrtValue  # noqa: F401
