"""Where onnxruntime keeps its classes; the names in here are those that clients import from it."""
