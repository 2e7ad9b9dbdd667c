"""OpenVINO on the CPU: float32 forced, one stream, telemetry off."""

from __future__ import annotations

import sys

from fastconv.tools.bench.onnx_layer import layer_model


def available() -> str:
    try:
        return _openvino().__version__
    except ImportError:
        return ""


def prepare_layer(problem, arrays, threads, variant):
    return _request(layer_model(problem, arrays).SerializeToString(), {"x": arrays["x"]}, threads)


def prepare_network(path, feeds, threads, variant):
    return _request(str(path), feeds, threads)


def _openvino():
    sys.modules.setdefault("openvino_telemetry", None)  # OpenVINO then uses its own stub
    import openvino

    return openvino


def _request(model, feeds, threads):
    openvino = _openvino()
    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    for name, array in feeds.items():
        request.set_tensor(name, openvino.Tensor(array))
    output = request.get_output_tensor(0)

    def call():
        request.infer(share_outputs=True)  # without it the results are copied once more
        return output.data

    return call
