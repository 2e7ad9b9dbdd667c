"""MNN on the CPU: models converted from ONNX, high precision asked for.

Its converter is called through its extension module: importing ``MNN.tools`` installs a telemetry package.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import numpy as np

from fastconv.tools.bench.engines import Refusal


def available() -> str:
    try:
        import MNN
    except ImportError:
        return ""
    return MNN.version()


def prepare_layer(problem, arrays, threads, variant):
    import onnx

    from fastconv.tools.bench.onnx_layer import layer_model

    if problem.dtype != "float32":
        raise Refusal("MNN computes in float32")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "layer.onnx"
        onnx.save(layer_model(problem, arrays), source)
        return _module(convert_network(source, Path(folder)), {"x": arrays["x"]}, "y", threads)


def convert_network(path, folder):
    converter = importlib.import_module("_tools")
    converted = folder / "model.mnn"
    arguments = ["-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(converted), "--bizCode", "fastconv"]
    converter.mnnconvert(["mnnconvert", *arguments])
    if not converted.exists():
        raise Refusal("MNN's converter refused the model")
    return converted


def prepare_network(path, feeds, threads, variant):
    return _module(path, feeds, "", threads)


def _module(path, feeds, output, threads):
    import MNN
    from MNN import expr

    settings = {"precision": "high", "backend": "CPU", "numThread": threads}
    runtime = MNN.nn.create_runtime_manager((settings,))
    outputs = [output] if output else []
    net = MNN.nn.load_module_from_file(str(path), list(feeds), outputs, runtime_manager=runtime)
    ((_, x),) = feeds.items()
    value = expr.const(np.ascontiguousarray(x), list(x.shape), expr.NCHW)

    kept = [runtime]  # the module does not keep its runtime alive, nor an array the result that it looks into

    def call():
        result = expr.convert(net.forward([value])[0], expr.NCHW)
        kept[1:] = [result]
        return result.read()

    return call
