"""fastconv.onnxruntime in onnxruntime's place: its API, its errors, and, where they are installed, the real thing."""

import importlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models

import fastconv.onnxruntime as ort
from fastconv import config
from fastconv.onnxruntime.capi import onnxruntime_pybind11_state as state

X = np.array([[-1, 2], [3, -4]], np.float32)


@pytest.fixture
def data():
    nodes = [write.node("Relu", "x", "y"), write.node("Neg", "y", "z")]
    ends = [write.value("x", ("n", 2))], [write.value("y", ("n", 2)), write.value("z", ("n", 2))]
    entry = write.message("StringStringEntryProto", key="character", value="abc")
    return write.model(write.graph(nodes, *ends), metadata_props=[entry], producer_name="a test")


@pytest.fixture
def session(data):
    return ort.InferenceSession(data, providers=["CPUExecutionProvider"])


class TestSession:
    def test_results_by_name(self, session):
        y, z = session.run(None, {"x": X})
        assert y.tolist() == [[0, 2], [3, 0]]
        assert session.run(["z"], {"x": X})[0].tolist() == z.tolist()
        assert len(session.run([], {"x": X})) == 2
        assert session.run(["z", "y"], {"x": X.tolist()})[1].tolist() == y.tolist()

    def test_what_it_tells(self, session, data):
        (x,) = session.get_inputs()
        assert repr(x) == "NodeArg(name='x', type='tensor(float)', shape=['n', 2])"
        assert [info.name for info in session.get_outputs()] == ["y", "z"]
        meta = session.get_modelmeta()
        assert meta.custom_metadata_map == {"character": "abc"}
        assert (meta.producer_name, meta.graph_name, meta.version) == ("a test", "test", 0)
        assert session.get_providers() == ["CPUExecutionProvider"]
        assert session.get_provider_options() == {"CPUExecutionProvider": {}}
        assert session.get_overridable_initializers() == []

    def test_paths(self, data, tmp_path):
        (tmp_path / "m.onnx").write_bytes(data)
        for path in (tmp_path / "m.onnx", str(tmp_path / "m.onnx")):
            assert ort.InferenceSession(path).run(["y"], {"x": X})[0].sum() == 5

    def test_other_providers_are_warned_about(self, data):
        with pytest.warns(
            UserWarning, match="Specified provider 'CUDAExecutionProvider' is not in available provider names"
        ):
            session = ort.InferenceSession(
                data, providers=["CUDAExecutionProvider", ("CPUExecutionProvider", {"a": 1})]
            )
        assert session.get_providers() == ["CPUExecutionProvider"]
        with pytest.raises(ValueError, match="'providers' should be a sequence"):
            ort.InferenceSession(data, providers="CPUExecutionProvider")
        with pytest.raises(ValueError, match="same length"):
            ort.InferenceSession(data, providers=["CPUExecutionProvider"], provider_options=[{}, {}])

    def test_asynchronous(self, session):
        done, seen = threading.Event(), []
        session.run_async(["y"], {"x": X}, lambda *got: (seen.append(got), done.set()), "mine")
        assert done.wait(30)
        ((results, user_data, error),) = seen
        assert (results[0].sum(), user_data, error) == (5, "mine", "")
        done.clear()
        session.run_async(["q"], {"x": X}, lambda *got: (seen.append(got), done.set()), None)
        assert done.wait(30)
        assert "INVALID_ARGUMENT" in seen[1][2]

    def test_module(self):
        assert ort.get_available_providers() == ["CPUExecutionProvider"]
        assert ort.get_device() == "CPU"
        assert ort.get_version_string() == ort.__version__
        assert ort.__version__.startswith("1.")
        assert "threads" in ort.get_build_info()
        for call in (ort.set_seed, ort.set_default_logger_severity, ort.set_default_logger_verbosity):
            assert call(3) is None
        ort.disable_telemetry_events()
        ort.enable_telemetry_events()


class TestOptions:
    def test_threads_are_obeyed(self, data):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 3
        options.inter_op_num_threads = 7
        session = ort.InferenceSession(data, options)
        seen = []
        compiled, _ = session._engine._prepared({"x": X})
        run = compiled.run
        compiled.run = lambda feeds: (seen.append(config.get_num_threads()), run(feeds))[1]
        session.run(None, {"x": X})
        assert seen == [3]
        assert session.get_session_options() is options

    def test_optimisation_can_be_turned_off(self, rng):
        x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
        data, steps = models.residual(rng), {}
        for level in ort.GraphOptimizationLevel:
            options = ort.SessionOptions()
            options.graph_optimization_level = level
            session = ort.InferenceSession(data, options)
            steps[level] = len(session._engine.explain({"h": 8, "w": 8}).rows), session.run(None, {"x": x})[0]
        off, on = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        assert steps[off][0] > steps[on][0]
        np.testing.assert_allclose(steps[off][1], steps[on][1], rtol=1e-4, atol=1e-5)

    def test_every_attribute_is_accepted(self):
        options = ort.SessionOptions()
        options.graph_optimization_level = 99
        assert options.graph_optimization_level is ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = ort.ExecutionMode.ORT_PARALLEL
        options.enable_cpu_mem_arena = options.enable_mem_pattern = options.enable_mem_reuse = False
        options.log_severity_level, options.logid = 4, "mine"
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        with pytest.raises(RuntimeError, match="does not have configuration with key: nothing"):
            options.get_session_config_entry("nothing")
        with pytest.raises(AttributeError, match="no attribute 'intra_op_threads'"):
            options.intra_op_threads = 2
        with pytest.raises(TypeError, match="intra_op_num_threads: expected int, got str"):
            options.intra_op_num_threads = "2"
        with pytest.raises(state.NotImplemented, match="custom operators"):
            options.register_custom_ops_library("lib.so")

    def test_entries_for_the_engine(self, data):
        options = ort.SessionOptions()
        options.add_session_config_entry("fastconv.memory_limit", "300")
        options.add_session_config_entry("fastconv.precision", "strict")
        session = ort.InferenceSession(data, options)
        assert session.run(None, {"x": X})[0].sum() == 5
        with pytest.raises(state.RuntimeException, match=r"would take \d+ bytes, and the limit is 300"):
            session.run(None, {"x": np.ones((100, 2), np.float32)})
        for key, value, message in [
            ("fastconv.memory_limit", "1 GB", "'fastconv.memory_limit': expected a whole number, got '1 GB'"),
            ("fastconv.max_turns", "0", "max_turns: expected at least 1, got 0"),
            ("fastconv.precision", "exact", "precision: expected one of 'strict', 'default', 'fast', got 'exact'"),
            ("fastconv.memory", "1", "'fastconv.memory': expected one of fastconv.memory_limit, fastconv.max_turns,"),
        ]:
            options = ort.SessionOptions()
            options.add_session_config_entry(key, value)
            with pytest.raises(state.InvalidArgument, match=message):
                ort.InferenceSession(data, options)

    def test_free_dimensions(self, data):
        options = ort.SessionOptions()
        options.add_free_dimension_override_by_name("n", 4)
        assert ort.InferenceSession(data, options).get_inputs()[0].shape == [4, 2]

    def test_a_run_can_be_refused(self, session):
        options = ort.RunOptions()
        options.add_run_config_entry("key", "value")
        assert options.get_run_config_entry("key") == "value"
        session.run(None, {"x": X}, options)
        options.terminate = True
        with pytest.raises(state.Fail, match="terminate flag"):
            session.run(None, {"x": X}, options)

    def test_profiling_writes_a_trace(self, data, tmp_path):
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(tmp_path / "trace")
        session = ort.InferenceSession(data, options)
        for _ in range(3):
            session.run(None, {"x": X})
        events = json.loads(Path(session.end_profiling()).read_text())
        assert [event["name"] for event in events] == ["model_run"] * 3
        assert session.get_profiling_start_time_ns() > 0
        assert ort.InferenceSession(data).end_profiling() == ""


class TestValues:
    def test_made_from_arrays(self):
        value = ort.OrtValue.ortvalue_from_numpy(X)
        assert (value.shape(), value.data_type(), value.element_type()) == ([2, 2], "tensor(float)", 1)
        assert (value.device_name(), value.is_tensor(), value.has_value()) == ("cpu", True, True)
        assert not value.is_sparse_tensor()
        assert not value.is_tensor_sequence()
        assert value.tensor_size_in_bytes() == 16
        assert value.data_ptr() == X.ctypes.data
        assert np.array_equal(value.numpy(), X)
        assert not np.shares_memory(value.numpy(), X)
        assert np.array_equal(np.from_dlpack(value), X)

    def test_made_empty_and_filled(self):
        value = ort.OrtValue.ortvalue_from_shape_and_type([2, 2], np.float32)
        value.update_inplace(X)
        assert np.array_equal(value.numpy(), X)
        assert ort.OrtValue.ortvalue_from_shape_and_type([3], 7).data_type() == "tensor(int64)"
        with pytest.raises(
            state.InvalidArgument, match=r"expected an array \(2, 2\) of float32, got \(2, 1\) of float32"
        ):
            value.update_inplace(X[:, :1])
        with pytest.raises(state.InvalidArgument, match="no device but the CPU, got 'cuda'"):
            ort.OrtValue.ortvalue_from_numpy(X, "cuda", 0)

    def test_runs_with_values(self, session):
        value = ort.OrtValue.ortvalue_from_numpy(X)
        (y,) = session.run_with_ort_values(["y"], {"x": value})
        assert y.numpy().tolist() == [[0, 2], [3, 0]]
        assert session.run(["y"], {"x": value})[0].sum() == 5


class TestBinding:
    def test_outputs_that_are_kept(self, session):
        binding = session.io_binding()
        binding.bind_cpu_input("x", X)
        binding.bind_output("z")
        binding.bind_output("y", "cpu")
        session.run_with_iobinding(binding)
        z, y = binding.copy_outputs_to_cpu()
        assert y.tolist() == [[0, 2], [3, 0]]
        assert (z == -y).all()
        assert [value.shape() for value in binding.get_outputs()] == [[2, 2], [2, 2]]
        binding.synchronize_inputs()
        binding.synchronize_outputs()
        binding.clear_binding_outputs()
        assert binding.get_outputs() == []
        binding.clear_binding_inputs()
        with pytest.raises(ValueError, match="are missing from input feed"):
            session.run_with_iobinding(binding)

    def test_memory_of_the_caller(self, session):
        x, y, z = X.copy(), np.zeros_like(X), np.zeros_like(X)
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
        binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
        binding.bind_ortvalue_output("z", ort.OrtValue.ortvalue_from_numpy(z))
        session.run_with_iobinding(binding)
        assert (y.sum(), z.sum()) == (5, -5)
        x += 1
        session.run_with_iobinding(binding)
        assert y.tolist() == [[0, 3], [4, 0]]
        binding.bind_ortvalue_input("x", ort.OrtValue.ortvalue_from_numpy(X))
        session.run_with_iobinding(binding)
        assert y.sum() == 5

    def test_errors(self, session, data):
        binding = session.io_binding()
        with pytest.raises(ValueError, match="`element_type` and `shape` are to be provided"):
            binding.bind_output("y", buffer_ptr=X.ctypes.data)
        binding.bind_cpu_input("x", X)
        binding.bind_ortvalue_output("y", ort.OrtValue.ortvalue_from_shape_and_type([2, 3], np.float32))
        with pytest.raises(
            state.InvalidArgument, match=r"output 'y' is \(2, 2\) of float32, bound to memory for \(2, 3\)"
        ):
            session.run_with_iobinding(binding)
        with pytest.raises(ValueError, match="with the session that created it"):
            ort.InferenceSession(data).run_with_iobinding(binding)


def wrong_uses(module, data):
    """(what goes wrong, the call) for a module that is onnxruntime or stands in its place."""
    session = module.InferenceSession(data, providers=["CPUExecutionProvider"])
    missing = write.model(
        write.graph([write.node("Nope", "x", "y")], [write.value("x", (2,))], [write.value("y", (2,))]), 17
    )
    return {
        "name": lambda: session.run(None, {"x": X, "extra": X}),
        "missing": lambda: session.run(None, {}),
        "type": lambda: session.run(None, {"x": X.astype(np.float64)}),
        "rank": lambda: session.run(None, {"x": X[0]}),
        "shape": lambda: session.run(None, {"x": X[:, :1]}),
        "output": lambda: session.run(["q"], {"x": X}),
        "file": lambda: module.InferenceSession("/nonexistent/model.onnx"),
        "bytes": lambda: module.InferenceSession(b"garbage"),
        "source": lambda: module.InferenceSession(3),
        "operator": lambda: module.InferenceSession(missing),
    }


EXPECTED = {
    "name": "InvalidArgument",
    "missing": "ValueError",
    "type": "InvalidArgument",
    "rank": "InvalidArgument",
    "shape": "InvalidArgument",
    "output": "InvalidArgument",
    "file": "NoSuchFile",
    "bytes": "InvalidProtobuf",
    "source": "TypeError",
    "operator": "InvalidGraph",
}


class TestErrors:
    @pytest.mark.parametrize("use", EXPECTED)
    def test_they_have_onnxruntimes_names(self, data, use):
        with pytest.raises(Exception, match=r"\[ONNXRuntimeError\] : \d|Required inputs|Unable to load") as caught:
            wrong_uses(ort, data)[use]()
        assert type(caught.value).__name__ == EXPECTED[use]

    @pytest.mark.parametrize("use", EXPECTED)
    def test_as_onnxruntime_raises_them(self, data, use):
        real = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: its errors are not compared")
        with pytest.raises(Exception) as theirs:  # noqa: PT011
            wrong_uses(real, data)[use]()
        assert type(theirs.value).__name__ == EXPECTED[use]

    def test_failing_operators(self):
        node = write.node("Reshape", "x shape", "y")
        graph = write.graph([node], [write.value("x", (4,)), write.value("shape", (None,), 7)], ["y"])
        session = ort.InferenceSession(write.model(graph))
        with pytest.raises(state.RuntimeException, match=r"RUNTIME_EXCEPTION : .*Reshape"):
            session.run(None, {"x": np.zeros(4, np.float32), "shape": np.array([3])})


class TestInItsPlace:
    def test_names(self):
        real = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: its names are not compared")
        for ours, theirs in (
            (ort.SessionOptions(), real.SessionOptions()),
            (ort.RunOptions(), real.RunOptions()),
            (ort.IOBinding, real.IOBinding),
            (ort.OrtValue, real.OrtValue),
        ):
            missing = {name for name in dir(theirs) if not name.startswith("_")} - set(dir(ours))
            assert missing <= NOT_FOR_A_CPU, missing

    def test_modules_are_found_under_the_other_name(self):
        code = """
import sys, fastconv.onnxruntime
sys.modules["onnxruntime"] = fastconv.onnxruntime
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from onnxruntime.capi import _pybind_state as C
from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession, OrtValue
assert onnxruntime.InferenceSession is InferenceSession
assert C.InvalidArgument is InvalidArgument
assert fastconv.onnxruntime.errors.InvalidArgument is InvalidArgument
"""
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_results(self, rng):
        real = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: results are not compared")
        data = models.residual(rng)
        x = rng.standard_normal((3, 3, 17, 19)).astype(np.float32)
        ours = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
        theirs = real.InferenceSession(data, providers=["CPUExecutionProvider"])
        (expected,) = theirs.run(None, {"x": x})
        assert np.abs(ours.run(None, {"x": x})[0] - expected).max() <= 1e-4 * np.abs(expected).max()
        for mine, other in zip(ours.get_inputs(), theirs.get_inputs(), strict=True):
            assert (mine.name, mine.type, mine.shape) == (other.name, other.type, other.shape)


# names that concern other devices, compiled models, adapters, custom allocators and sparse tensors
NOT_FOR_A_CPU = {
    "add_active_adapter",
    "add_external_initializers_from_files_in_memory",
    "add_provider_for_devices",
    "as_sparse_tensor",
    "clear_ep_context_data_read_func",
    "get_outputs_as_ortvaluevector",
    "ort_value_from_sparse_tensor",
    "set_ep_context_data_read_func",
    "set_load_cancellation_flag",
    "set_provider_selection_policy",
    "set_provider_selection_policy_delegate",
}

READ = """
import json, sys
import numpy as np
if sys.argv[1] == "fastconv":
    import fastconv.onnxruntime
    sys.modules["onnxruntime"] = fastconv.onnxruntime
from rapidocr_onnxruntime import RapidOCR
import onnxruntime
assert ("fastconv" in onnxruntime.__name__) == (sys.argv[1] == "fastconv")
result, _ = RapidOCR()(np.load(sys.argv[2]))
print(json.dumps([[np.asarray(box).tolist(), text, float(score)] for box, text, score in result or []]))
"""


@pytest.mark.parametrize("scene", ["rendered", "photographed"])
def test_rapidocr_reads_the_same(scene, tmp_path):
    """The PyPI package rapidocr-onnxruntime 1.4.4, unchanged, on both: the same characters and boxes."""
    for module in ("rapidocr_onnxruntime", "onnxruntime", "PIL"):
        try:
            importlib.import_module(module)
        except ImportError:
            pytest.skip(f"{module} is not installed: pip install rapidocr-onnxruntime==1.4.4")
    image, lines = text_image()
    np.save(tmp_path / "image.npy", image if scene == "rendered" else photographed(image))
    read = {}
    for engine in ("fastconv", "onnxruntime"):
        command = [sys.executable, "-c", READ, engine, str(tmp_path / "image.npy")]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        read[engine] = json.loads(output.splitlines()[-1])
    ours, theirs = read["fastconv"], read["onnxruntime"]
    assert [text for _, text, _ in ours] == [text for _, text, _ in theirs]
    for (box, _, score), (other_box, _, other_score) in zip(ours, theirs, strict=True):
        assert box == other_box
        assert score == pytest.approx(other_score, abs=1e-4)
    if scene == "rendered":
        assert [text for _, text, _ in ours] == lines


def text_image():
    """(RGB image, its lines)."""
    from PIL import Image, ImageDraw, ImageFont

    lines = ["The quick brown fox jumps", "over the lazy dog 0123456789", "fastconv reads this text"]
    image = Image.new("RGB", (900, 340), "white")
    for i, line in enumerate(lines):
        ImageDraw.Draw(image).text((40, 30 + 100 * i), line, fill="black", font=ImageFont.load_default(36 - 2 * i))
    return np.asarray(image), lines


def photographed(image):
    """Seen from the side, unevenly lit, out of focus and noisy."""
    from PIL import Image, ImageFilter

    width, height = image.shape[1], image.shape[0]
    tilted = Image.fromarray(image).transform(
        (width, height), Image.Transform.QUAD, (-20, -30, -5, height + 25, width + 30, height + 5, width + 10, -10),
        Image.Resampling.BICUBIC, fillcolor="gray",
    )  # fmt: skip
    blurred = np.asarray(tilted.filter(ImageFilter.GaussianBlur(1.2)), np.float64)
    light = np.linspace(0.55, 1.0, width)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    return np.clip(blurred * light + noise, 0, 255).astype(np.uint8)
