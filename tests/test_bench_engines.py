"""The engines against the reference, where their libraries are installed."""

import importlib

import numpy as np
import pytest

from fastconv.tools.bench.data import error_bound, exact_output, judge, make_arrays
from fastconv.tools.bench.engines import ENGINES, Refusal, is_installed
from fastconv.tools.bench.problem import parse_problem

LINES = [
    "conv2d 1x6x9x8 -> 4 k3 p1",
    "conv2d 2x6x9x8 -> 4 k3x2 s2x1 p0:1x2:0 d1x2 g2 nobias",
    "conv2d 1x3x10x10 -> 2 k3 p1",
    "conv1d 1x3x20 -> 4 k5 s2 p2",
    "conv3d 1x3x5x6x7 -> 4 k3 p1",
    "conv_transpose2d 1x4x5x6 -> 6 k4 s2 p1 g2",
    "conv_transpose2d 1x4x5x6 -> 3 k3 s2 p1 o1",
    "max_pool2d 1x4x9x9 k3 s2 p1 ceil",
    "avg_pool2d 1x4x8x8 k2 s2",
    "avg_pool2d 1x4x8x8 k3 s1 p1 exclude",
    "pad 1x3x5x6 p1:2x0:1",
    "linear 3x20 -> 7",
    "batch_norm2d 2x5x6x7",
    "batch_norm3d 1x5x3x4x2",
]
NETWORKS = ("densenet121", "googlenet", "shufflenet", "squeezenet", "lenet5", "mobilenet_v2")


def module(name):
    engine = ENGINES[name]
    if not is_installed(engine):
        pytest.skip(f"{name} as a peer: {engine.library} is not installed")
    if name in ("onnxruntime", "openvino", "mnn"):
        pytest.importorskip("onnx", reason=f"{name} gets its layers as ONNX models: onnx is not installed")
    return engine, importlib.import_module(engine.module)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("name", [name for name in ENGINES if name not in ("fastconv", "torch-compiled")])
def test_layers_agree_with_the_reference(name, line):
    engine, library = module(name)
    assert library.available()
    problem = parse_problem(line)
    arrays = make_arrays(problem)
    try:
        output = np.asarray(library.prepare_layer(problem, arrays, 1, engine.variant)())
    except Refusal as refusal:
        pytest.skip(f"{name} refuses: {refusal}")
    verdict = judge(output, exact_output(problem, arrays), error_bound(problem, engine.growth))
    assert verdict.status in ("ok", "inexact") if name == "mnn" else verdict.status == "ok", verdict


@pytest.mark.parametrize("network", NETWORKS)
def test_the_translations_of_a_network_agree(network, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="networks are ONNX files: onnx is not installed")
    from fastconv.tools.bench.networks import network_feeds, network_file

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = network_file(network)
    assert network_file(network) == path
    feeds = network_feeds(path)
    outputs = {}
    for name in ("onnxruntime", "torch", "ncnn"):
        if is_installed(ENGINES[name]):
            library = importlib.import_module(ENGINES[name].module)
            folder = tmp_path / name
            folder.mkdir()
            convert = getattr(library, "convert_network", lambda path, folder: path)
            call = library.prepare_network(convert(path, folder), feeds, 1, ENGINES[name].variant)
            outputs[name] = np.array(np.asarray(call())).ravel()
    if len(outputs) < 2:
        pytest.skip("translations of networks: fewer than two of onnxruntime, torch and ncnn are installed")
    first = next(iter(outputs.values()))
    assert np.abs(first).max() > 1e-2
    assert np.std(first) > 1e-3
    for name, output in outputs.items():
        assert np.abs(output - first).max() <= 1e-5 * np.abs(first).max(), name


@pytest.mark.parametrize("network", ["shufflenet", "mobilenet_v2"])
def test_a_network_for_several_images(network, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason="networks are ONNX files: onnx is not installed")
    import fastconv as fc
    from fastconv.tools.bench.networks import batched_file, network_feeds, network_file

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = network_file(network)
    assert batched_file(path, 1, tmp_path) == path
    batched = batched_file(path, 3, tmp_path)
    ((name, x),) = network_feeds(batched).items()
    assert len(x) == 3
    (y,) = fc.InferenceSession(str(batched), precision="strict").run(None, {name: x})
    alone = fc.InferenceSession(str(path), precision="strict")
    for image in range(3):
        np.testing.assert_array_equal(y[image], alone.run(None, {name: x[image : image + 1]})[0][0])


def test_an_unknown_network_lists_what_exists():
    from fastconv.errors import ArgumentError
    from fastconv.tools.bench.networks import network_file

    with pytest.raises(ArgumentError, match=r"network: 'lenet6' is none of alexnet-caffe, densenet121, .*vgg16"):
        network_file("lenet6")
