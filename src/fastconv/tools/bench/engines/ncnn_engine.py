"""ncnn on the CPU: float32 storage and arithmetic forced, pooled memory as in its own benchmark.

Packed layouts, Winograd and SGEMM are on, as they are by default.  Networks are translated from ONNX, since its wheel
reads none.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from fastconv.tools.bench.engines import Refusal
from fastconv.tools.bench.ncnn_model import CLIP, RELU, Layer, NcnnModel, convolution, linear, pooling


def available() -> str:
    try:
        import ncnn
    except ImportError:
        return ""
    return ncnn.__version__


def prepare_layer(problem, arrays, threads, variant):
    if problem.dtype != "float32":
        raise Refusal("ncnn computes in float32")
    if problem.layout != "nchw":
        raise Refusal("ncnn takes NCHW memory only")
    model = NcnnModel(["x"])
    model.add(_layer(problem, arrays))
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        return _net(Path(folder), arrays["x"], ("x", "y", problem.output), threads)


def convert_network(path, folder):
    from fastconv.tools.bench.onnx_steps import read_steps

    network = read_steps(path)
    model = NcnnModel(network.inputs)
    readers = [name for step in network.steps for name in step.inputs]
    for step in network.steps:
        value = step.inputs[0]
        fused = readers.count(value) == 1 and (
            (step.op == "Relu" and model.activate(value, step.output, RELU))
            or (step.op == "Clip" and model.activate(value, step.output, CLIP, *step.attributes.values()))
        )
        if not fused:
            model.add(_step(step, network))
    model.save(folder)
    (value,) = network.inputs
    ends = {"input": value, "output": network.output, "shape": network.shapes[network.output]}
    (folder / "ends.json").write_text(json.dumps(ends))
    return folder


def prepare_network(path, feeds, threads, variant):
    ends = json.loads((path / "ends.json").read_text())
    return _net(path, feeds[ends["input"]], tuple(ends.values()), threads)


def _net(folder, x, ends, threads):
    import ncnn

    name, output, shape = ends

    for pool in _pools():
        pool.clear()  # of what the last problem left there
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_packed = net.opt.use_bf16_storage = False
    net.opt.blob_allocator, net.opt.workspace_allocator = _pools()
    if net.load_param(str(folder / "model.param")) or net.load_model(str(folder / "model.bin")):
        raise RuntimeError("ncnn refused the model file")
    inputs = [ncnn.Mat(np.ascontiguousarray(sample)).clone() for sample in x]  # Mat() does not own its memory

    def call():
        outputs = []
        for sample in inputs:
            extractor = net.create_extractor()
            extractor.input(name, sample)
            status, value = extractor.extract(output)
            if status:
                raise RuntimeError(f"ncnn's extract returned {status}")
            outputs.append(value)
        return _Outputs(outputs, shape)

    return call


@cache
def _pools():
    """Allocators that keep what is freed; they have to outlive every net and every matrix."""
    import ncnn

    return ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()


class _Outputs:
    """ncnn has no batch: one matrix per sample."""

    __slots__ = ("matrices", "shape")

    def __init__(self, matrices, shape):
        self.matrices, self.shape = matrices, shape

    def __array__(self, dtype=None, copy=None):
        return np.stack([np.array(matrix).reshape(self.shape[1:]) for matrix in self.matrices])


def _layer(problem, arrays) -> Layer:
    weight, bias = arrays.get("weight"), arrays.get("bias")
    if problem.family == "linear":
        return linear(["x"], "y", weight, bias)
    if problem.family == "batch_norm":
        raise Refusal("batch norm by itself is not translated to ncnn")
    if problem.family == "pad":
        if problem.rank != 2:
            raise Refusal("only padding over two axes is translated to ncnn")
        (top, bottom), (left, right) = problem.pads
        return Layer("Padding", ["x"], "y", {0: top, 1: bottom, 2: left, 3: right, 4: 0, 5: 0.0})
    if problem.family in ("max_pool", "avg_pool"):
        if any(d != 1 for d in problem.dilation):
            raise Refusal("ncnn has no dilated pooling")
        return pooling(
            ["x"], "y", problem.family[:3], problem.kernel, problem.stride, problem.pads,
            ceil_mode=problem.ceil_mode, count_include_pad=problem.count_include_pad,
        )  # fmt: skip
    return convolution(
        ["x"], "y", weight, bias, stride=problem.stride, pads=problem.pads, dilation=problem.dilation,
        groups=problem.groups, transposed=problem.family == "conv_transpose", output_padding=problem.output_padding,
    )  # fmt: skip


def _step(step, network) -> Layer:
    a, inputs, output = step.attributes, step.inputs, step.output
    weight, bias = step.constants.get("weight"), step.constants.get("bias")
    if step.op == "Conv" and network.shapes[inputs[0]][2:] == weight.shape[2:] == (1, 1):
        return linear(inputs, output, weight, bias)  # global pooling has dropped the axes
    if step.op == "Conv":
        return convolution(
            inputs, output, weight, bias, stride=a.get("strides", (1, 1)), pads=_pads(a),
            dilation=a.get("dilations", (1, 1)), groups=a.get("group", 1),
        )  # fmt: skip
    if step.op == "Linear":
        return linear(inputs, output, weight, bias)
    if step.op in ("MaxPool", "AveragePool"):
        kernel, stride = a["kernel_shape"], a.get("strides", (1, 1))
        if all(k >= size for k, size in zip(kernel, network.shapes[inputs[0]][2:], strict=True)):
            return Layer("Pooling", inputs, output, {0: int(step.op == "AveragePool"), 4: 1})
        counted = bool(a.get("count_include_pad", 0))
        kind = "max" if step.op == "MaxPool" else "avg"
        return pooling(inputs, output, kind, kernel, stride, _pads(a), count_include_pad=counted)
    if step.op == "Affine":
        scale, shift = (step.constants[name].astype(np.float32) for name in ("scale", "shift"))
        return Layer("Scale", inputs, output, {0: scale.size, 1: 1}, [scale, shift])
    kinds = {
        "Relu": ("ReLU", {}),
        "Tanh": ("TanH", {}),
        "Add": ("BinaryOp", {0: 0}),
        "Flatten": ("Flatten", {}),
        "Concat": ("Concat", {0: 0}),
        "Clip": ("Clip", dict(enumerate(a.values()))),
        "Shuffle": ("ShuffleChannel", {0: a.get("groups")}),
        "GlobalAveragePool": ("Pooling", {0: 1, 4: 1}),
        "LRN": ("LRN", {0: 0, 1: a.get("size"), 2: a.get("alpha"), 3: a.get("beta"), 4: a.get("bias")}),
    }
    if step.op not in kinds:
        raise Refusal(f"{step.op} is not translated to ncnn")
    kind, parameters = kinds[step.op]
    return Layer(kind, inputs, output, parameters)


def _pads(attributes) -> list[tuple[int, int]]:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return [(top, bottom), (left, right)]
