"""Sessions that store large weights of fully connected layers as float16."""

import pickle
import tracemalloc

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models
from tolerance import sum_tolerance

import fastconv as fc
import fastconv.onnxruntime as ort
from fastconv import nn, reference
from fastconv._kernels import engine, family
from fastconv.errors import ArgumentError

INPUTS, OUTPUTS = 301, 250  # 301 kB of float32


def reads_half() -> bool:
    return bool(family("linear", "float32", half=True).READS_HALF)


def classifier(rng, images="n", w=None):
    """A convolution over all of an image, a product, one that is turned, and one that is too small."""
    arrays = {
        "wc": (260, 6, 7, 7),
        "w": (260, INPUTS),
        "b": (INPUTS,),
        "turned": (OUTPUTS, INPUTS),
        "small": (OUTPUTS, 20),
    }
    constants = {name: models._weights(rng, *shape) for name, shape in arrays.items()} | ({} if w is None else {"w": w})
    nodes = [
        write.node("Conv", "x wc", "c"),
        write.node("Flatten", "c", "f"),
        write.node("MatMul", "f w", "g"),
        write.node("Add", "g b", "h"),
        write.node("Gemm", "h turned", "t", transB=1),
        write.node("MatMul", "t small", "y"),
    ]
    tensors = [write.tensor(array, name) for name, array in constants.items()]
    return write.model(write.graph(nodes, [write.value("x", (images, 6, 7, 7))], ["y"], tensors))


def chosen_bounds(session):
    """Of the error of each layer, relative to its magnitude, for one image."""
    rows = session.explain({"x": (1, 6, 7, 7)}).rows
    return [c.error_bound for row in rows for c in row.candidates if c.algorithm == row.algorithm]


@pytest.mark.parametrize("images", [1, 2, 5, 40])
def test_results_are_those_of_rounded_weights(isa, team, images, rng):
    """Or, where no instruction widens them, those of the weights as they are."""
    layer = nn.Linear(INPUTS, OUTPUTS)
    x = rng.standard_normal((images, INPUTS), dtype=np.float32)
    compiled = fc.compile(nn.Sequential(layer), x, weights="float16")
    w = layer.weight.astype(np.float16).astype(np.float32) if reads_half() else layer.weight
    y = compiled(x)
    exact = reference.linear(x.astype(np.float64), w.astype(np.float64), layer.bias.astype(np.float64))
    magnitude = np.abs(x) @ np.abs(w).T + np.abs(layer.bias)
    assert (np.abs(y - exact) <= sum_tolerance(INPUTS + 1, magnitude, np.float32)).all()
    verified = compiled.session.verify({compiled.session.get_inputs()[0].name: x})
    assert verified.ok
    off = np.abs(y - reference.linear(x.astype(np.float64), layer.weight.astype(np.float64), layer.bias)).max()
    assert verified.rows[-1].error == pytest.approx(off, rel=1e-6)


@pytest.mark.parametrize("precision", ["strict", "default", "fast"])
def test_every_large_layer_keeps_to_a_bound_that_has_the_rounding(precision, rng):
    if not reads_half():
        pytest.skip("no instruction of this machine widens float16")
    data = classifier(rng)
    session = fc.InferenceSession(data, precision=precision, weights="float16")
    x = rng.standard_normal((1, 6, 7, 7), dtype=np.float32)
    bounds = chosen_bounds(session)
    rounded = [bound > 2**-11 for bound in bounds]
    assert rounded == [precision != "strict", True, True, False]  # a strict convolution sums as on any other map
    assert max(bounds) < 2**-11 + 1e-4
    assert session.verify({"x": x}).ok
    wide = fc.InferenceSession(data, precision=precision)
    (y,), (z,) = session.run(None, {"x": x}), wide.run(None, {"x": x})
    assert 0 < np.abs(y - z).max() < 2**-8 * np.abs(z).max()


def test_strict_bits_do_not_depend_on_the_batch(rng):
    session = fc.InferenceSession(classifier(rng), precision="strict", weights="float16")
    x = rng.standard_normal((40, 6, 7, 7), dtype=np.float32)
    (y,) = session.run(None, {"x": x})
    for images in (1, 2, 3, 7):
        assert session.run(None, {"x": x[:images]})[0].tobytes() == y[:images].tobytes()


@pytest.mark.parametrize("value", [65520.0, 1e30, np.inf, np.nan, -7e4])
def test_weights_beyond_the_range_stay_as_they_are(value, rng):
    w = models._weights(rng, 260, INPUTS)
    w[17, 3] = value
    check_the_middle_layer_stays(w, rng)


def test_weights_that_would_lose_too_much_stay_as_they_are(rng):
    """All of one output lie below float16's normal numbers."""
    w = models._weights(rng, 260, INPUTS)
    w[:, 9] *= 1e-6
    check_the_middle_layer_stays(w, rng)


def check_the_middle_layer_stays(w, rng):
    session = fc.InferenceSession(classifier(rng, w=w), weights="float16")
    assert [bound > 2**-11 for bound in chosen_bounds(session)] == [reads_half(), False, reads_half(), False]


def test_the_memory_is_that_which_was_predicted(rng):
    session = fc.InferenceSession(classifier(np.random.default_rng(9)), weights="float16")
    x = rng.standard_normal((1, 6, 7, 7), dtype=np.float32)
    predicted = session.predict_memory({"x": x.shape})
    tracemalloc.start()
    results = session.run(None, {"x": x})
    arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    tracemalloc.stop()
    compiled, _ = session._prepared({"x": x})
    steps = sum(isinstance(call.work, engine.Step) for call in compiled.executable.calls)
    expected = predicted.packed_weights + predicted.tables + predicted.activations + predicted.outputs
    assert results
    assert sum(trace.size for trace in arrays.traces) == expected - steps * engine.record_bytes()
    if reads_half():
        halves = 2 * (260 * 6 * 49 + 260 * INPUTS + INPUTS * OUTPUTS)
        assert halves <= predicted.packed_weights < 1.4 * halves


def test_sessions_of_one_file_may_store_differently(rng):
    data = classifier(rng)
    x = rng.standard_normal((1, 6, 7, 7), dtype=np.float32)
    wide, half = (fc.InferenceSession(data, weights=weights) for weights in ("float32", "float16"))
    (y,), (z,) = wide.run(None, {"x": x}), half.run(None, {"x": x})
    assert reads_half() == (y.tobytes() != z.tobytes())
    assert pickle.loads(pickle.dumps(half)).run(None, {"x": x})[0].tobytes() == z.tobytes()
    options = ort.SessionOptions()
    options.add_session_config_entry("fastconv.weights", "float16")
    assert ort.InferenceSession(data, options).run(None, {"x": x})[0].tobytes() == z.tobytes()
    assert "float16" in str(half.explain({"x": x.shape}))


def test_small_layers_and_other_types_stay_as_they_are(rng):
    for features, dtype in ((100, np.float32), (INPUTS, np.float64)):
        layer = nn.Linear(features, OUTPUTS, dtype=dtype)
        x = rng.standard_normal((1, features)).astype(dtype)
        bits = {fc.compile(layer, x, weights=weights)(x).tobytes() for weights in ("float16", "float32")}
        assert len(bits) == 1


def test_other_types_of_weights_are_refused(rng):
    with pytest.raises(ArgumentError, match="weights: expected one of 'float32', 'float16', got 'int8'"):
        fc.InferenceSession(classifier(rng), weights="int8")
    with pytest.raises(ArgumentError, match="weights: expected one of 'float32', 'float16', got None"):
        fc.compile(nn.Linear(2, 3), np.ones((1, 2), np.float32), weights=None)
