"""The networks that are timed whole, as ONNX files with seeded random weights and without their last Softmax.

Nine are the ``light`` models of the onnx package, whose weights are all 0.02 and come from ConstantOfShape nodes; these
are replaced by initialisers.  The others are written node by node in :mod:`exported`.  Convolutions and linear layers
draw from N(0, 2 / fan_in) (He et al. 2015), or half of that variance where no ReLU lies before them; batch norms are
near the identity, and the last one before a residual sum is small, so that activations neither vanish nor explode.
Needs the onnx package.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from math import prod, sqrt
from pathlib import Path

import numpy as np

from fastconv.errors import ArgumentError

__all__ = ["batched_file", "network_feeds", "network_file", "network_names"]

LIGHT = {
    "alexnet-caffe": "bvlc_alexnet",
    "densenet121": "densenet121",
    "googlenet": "inception_v1",
    "inception_v2": "inception_v2",
    "resnet50": "resnet50",
    "shufflenet": "shufflenet",
    "squeezenet": "squeezenet",
    "vgg19": "vgg19",
    "zfnet512": "zfnet512",
}
EXPORTED = ("lenet5", "mobilenet_v2", "resnet18", "vgg16")
REVISION = 1  # part of the cached file's name; raised when the weights are drawn differently
RESIDUAL_SCALE = 0.3


def network_names() -> list[str]:
    return [*LIGHT, *EXPORTED]


def network_file(name: str, folder: Path | None = None) -> Path:
    """Path of the network's ONNX file in `folder` (default: fastconv's cache folder), written if it is not there.

    Raises :class:`ArgumentError` that lists the networks for an unknown name, ImportError without the onnx package.
    """
    if name not in network_names():
        raise ArgumentError(f"network: {name!r} is none of {', '.join(network_names())}")
    folder = folder or _cache_folder()
    path = folder / f"{name}-{REVISION}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        model = _with_random_weights(LIGHT[name]) if name in LIGHT else _exported(name)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
            part.write(model.SerializeToString())
        os.replace(part.name, path)
    return path


def batched_file(path: Path, batch: int, folder: Path) -> Path:
    """The network of a file for `batch` images, written into `folder`; the file itself for one image."""
    if batch == 1:
        return path
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for value in (*graph.input, *graph.output):
        if value.name not in tensors:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    del graph.value_info[:]
    for name in {node.input[1] for node in graph.node if node.op_type == "Reshape" and node.input[1] in tensors}:
        shape = numpy_helper.to_array(tensors[name]).copy()
        if shape[0] == 1:
            shape[0] = batch
            tensors[name].CopyFrom(numpy_helper.from_array(shape, name))
    batched = folder / f"{path.stem}-{batch}.onnx"
    onnx.save(model, batched)
    return batched


def network_feeds(path: Path) -> dict[str, np.ndarray]:
    """A normally distributed float32 input for every input of the file that is no initialiser."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    rng = np.random.default_rng(0)
    return {
        value.name: rng.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim], np.float32)
        for value in graph.input
        if value.name not in constants
    }


def random_weight(name: str, shape: tuple[int, ...], role: str, scale: float = 1.0) -> np.ndarray:
    """A float32 array for a parameter, the same for the same name and shape.  `role` is a key of the draws below."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), *shape])
    if role == "weight":
        return rng.standard_normal(shape, np.float32) * np.float32(scale * sqrt(2 / prod(shape[1:])))
    if role in ("scale", "variance"):
        return rng.uniform(0.8 * scale, 1.2 * scale, shape).astype(np.float32)
    assert role in ("bias", "mean"), role
    return rng.standard_normal(shape, np.float32) * np.float32(0.1 * scale)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastconv" / "networks"


def _exported(name: str):
    from fastconv.tools.bench.exported import exported_model

    return exported_model(name)


def _with_random_weights(light: str):
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{light}.onnx")
    graph = model.graph
    if graph.node[-1].op_type == "Softmax":
        softmax = graph.node[-1]
        graph.node[-2].output[0] = softmax.output[0]
        graph.node.remove(softmax)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    consumers = _consumers(graph)
    linear = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.output}
    generated = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    for node in generated:
        name = node.output[0]
        role, scale = _role(name, consumers, linear)
        shape = tuple(int(size) for size in shapes[node.input[0]])
        graph.initializer.append(numpy_helper.from_array(random_weight(name, shape, role, scale), name))
        graph.node.remove(node)
    for node in graph.node:
        if node.op_type == "BatchNormalization" and all(a.name != "epsilon" for a in node.attribute):
            node.attribute.append(helper.make_attribute("epsilon", 1e-5))  # MNN's converter misreads the default
    _drop_unused(graph)
    model.ir_version = 4  # the first that does not list initialisers as inputs
    return model


def _consumers(graph) -> dict[str, list[tuple]]:
    """Per value: the nodes that read it, and as which input."""
    found: dict[str, list[tuple]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            found.setdefault(name, []).append((node, index))
    return found


def _role(name: str, consumers, linear) -> tuple[str, float]:
    """What a generated constant is for, and its scale; `linear` are the values that come straight from a batch norm."""
    (node, index), *_ = consumers[name]
    if node.op_type in ("Unsqueeze", "Reshape"):
        return _role(node.output[0], consumers, linear)
    if node.op_type in ("Conv", "Gemm"):
        return ("", "weight", "bias")[index], sqrt(0.5) if node.input[0] in linear else 1.0
    if node.op_type == "BatchNormalization":
        role = ("", "scale", "bias", "mean", "variance")[index]
        before_sum = any(reader.op_type == "Sum" for reader, _ in consumers[node.output[0]])
        return role, RESIDUAL_SCALE if before_sum and role in ("scale", "bias") else 1.0
    return {"Mul": "scale", "Add": "bias"}[node.op_type], 1.0


def _drop_unused(graph) -> None:
    """Remove the initialisers that nothing reads any more, and list no initialiser as an input."""
    read = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
    kept = {tensor.name for tensor in graph.initializer}
    for value in [v for v in graph.input if v.name in kept or v.name not in read]:
        graph.input.remove(value)
