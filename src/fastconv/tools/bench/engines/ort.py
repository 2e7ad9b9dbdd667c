"""onnxruntime on the CPU: a session per layer or network, input and output bound to NumPy arrays once."""

from __future__ import annotations

import numpy as np

from fastconv.tools.bench.onnx_layer import layer_model

ELEMENT_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}


def available() -> str:
    try:
        import onnxruntime
    except ImportError:
        return ""
    return onnxruntime.__version__


def prepare_layer(problem, arrays, threads, variant):
    return _session(layer_model(problem, arrays).SerializeToString(), {"x": arrays["x"]}, threads)


def prepare_network(path, feeds, threads, variant):
    return _session(str(path), feeds, threads)


def _session(model, feeds, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    result = session.get_outputs()[0]
    output = np.empty(result.shape, ELEMENT_TYPES[result.type])
    binding.bind_output(result.name, "cpu", 0, output.dtype, output.shape, output.ctypes.data)

    def call():
        session.run_with_iobinding(binding)
        return output

    return call
