"""ONNX models: reader, operators in NumPy, evaluator, and the backend interface of the onnx package."""
