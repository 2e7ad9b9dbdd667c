"""What a session tells: explain, profile, verify, trace, predict_memory."""

import json
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models

import fastconv as fc
from fastconv import roof
from fastconv._kernels import engine
from fastconv.errors import ArgumentError
from fastconv.onnx import profile as profiling
from fastconv.onnx.evaluate import Evaluator

SIZES = {"h": 24, "w": 20}


@pytest.fixture
def x(rng):
    return rng.standard_normal((1, 3, 24, 20)).astype(np.float32)


@pytest.fixture
def model(rng):
    return models.residual(rng)


@pytest.fixture(autouse=True)
def _known_roof(monkeypatch):
    """Measuring the machine takes seconds, and is tested on its own."""
    levels = dict.fromkeys(("L2", "L3", "memory"), 50.0)
    rates = {f"{fc.roof._kernels.ISA} {element}": 100.0 for element in ("float32", "float64")}
    monkeypatch.setattr(profiling, "machine_roof", lambda threads: roof.Roof(threads, rates, levels, levels))


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_report(report, tmp_path):
    """The forms that every report has."""
    text = str(report)
    for row in report.rows:
        assert row.op[:40] in text
    content = json.loads(report.to_json())
    assert len(content["rows"]) == len(report.rows)
    assert content["summary"]["precision"] == "default"
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parsed = Page(page)
    assert not parsed.open
    assert not parsed.links
    assert "http" not in page
    assert parsed.tags.count("rect") == len(report.rows)


class TestExplain:
    def test_every_step_has_a_reason(self, model, tmp_path):
        explanation = fc.InferenceSession(model, threads=1).explain(SIZES)
        ops = [row.op for row in explanation.rows]
        assert ops[:2] == ["Conv+Relu", "Conv+BatchNormalization+Add+Relu"]
        stem, body = explanation.rows[:2]
        assert (stem.nodes, body.nodes) == (["stem", "stem.relu"], ["body", "body.norm", "sum", "sum.relu"])
        assert stem.inputs[0] == (1, 3, 24, 20)
        assert stem.outputs == [(1, 16, 24, 20)]
        assert stem.flops == 2 * 16 * 24 * 20 * 27
        assert body.bytes > 4 * (2 * 16 * 24 * 20)
        assert body.scratch_bytes > 0
        assert body.seconds > 0
        assert {c.algorithm for c in body.candidates} >= {"direct", "winograd", "im2col", "reference"}
        assert "×" in body.why
        gemm = explanation.rows[-1]
        assert gemm.op == "Gemm"
        check_report(explanation, tmp_path)

    def test_refusals_are_sentences(self, rng):
        w = write.tensor(models._weights(rng, 8, 4, 3, 3), "w")
        node = write.node("Conv", "x w", "y", strides=[3, 3])
        session = fc.InferenceSession(write.model(write.graph([node], [write.value("x", (1, 4, 9, 9))], ["y"], [w])))
        (row,) = session.explain().rows
        assert "needs stride 1" in row.refused["winograd"]
        assert "winograd refused: it needs stride 1" in str(session.explain())

    def test_it_matches_what_runs(self, model, x):
        session = fc.InferenceSession(model)
        planned = [row.algorithm for row in session.explain({"x": x.shape}).rows]
        compiled, _ = session._prepared({"x": x})
        assert planned == [call.algorithm for call in compiled.executable.calls]

    def test_sizes(self, model):
        session = fc.InferenceSession(model)
        with pytest.raises(
            ArgumentError, match=r"input 'x' \(n, 3, h, w\) has the symbolic size 'h' on axis 2: pass shapes"
        ):
            session.explain()
        with pytest.raises(ArgumentError, match=r"input 'x' has shape \(n, 3, h, w\), got \(1, 4, 8, 8\)"):
            session.explain({"x": (1, 4, 8, 8)})
        with pytest.raises(ArgumentError, match=r"expected inputs or symbolic sizes \(x, h, n, w\), got height"):
            session.explain({"height": 8})
        assert session.explain({"x": (5, 3, 8, 8)}).rows[0].inputs[0] == (5, 3, 8, 8)
        assert session.explain({"n": 4, "h": 8, "w": 8}).rows[0].inputs[0] == (4, 3, 8, 8)

    def test_nothing_is_packed(self, model):
        session = fc.InferenceSession(model)
        session.explain(SIZES)
        assert all(not compiler.packings for compiler in session._compilers.values())


class TestProfile:
    def test_every_step_is_timed(self, model, x, tmp_path):
        profile = fc.InferenceSession(model, threads=1).profile({"x": x}, repeats=3)
        assert profile.rows[0].op == "Conv+Relu"
        assert all(row.seconds > 0 for row in profile.rows)
        assert sum(row.share for row in profile.rows) == pytest.approx(1)
        assert profile.rows[0].gflops == pytest.approx(2 * 16 * 480 * 27 / profile.rows[0].seconds / 1e9)
        assert profile.rows[0].roof_share > 0
        assert "median of 3" in profile.summary["a run"]
        check_report(profile, tmp_path)

    def test_steps_outside_of_the_program(self, rng):
        model = models.detector(rng)
        x = rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
        rows = fc.InferenceSession(model).profile({"x": x}, repeats=2).rows
        assert "nms" in {row.nodes[0] for row in rows if row.algorithm == "node by node"}
        assert sum(row.share for row in rows) == pytest.approx(1)

    def test_the_machine_is_measured(self):
        measured = roof.measure(1, [fc.roof._kernels.ISA])
        assert measured.peak("float32") > measured.peak("float64") > 0
        assert set(measured.read_gbps) == {"L2", "L3", "memory"}


class TestVerify:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("precision", ["strict", "default"])
    def test_every_step_keeps_to_its_bound(self, rng, dtype, precision):
        model = models.residual(rng, dtype, channels=32)
        x = rng.standard_normal((2, 3, 33, 31)).astype(dtype)
        verification = fc.InferenceSession(model, precision=precision).verify({"x": x})
        assert verification.ok, str(verification)
        assert verification.first_beyond is None
        convolutions = [row for row in verification.rows if row.op.startswith("Conv")]
        assert len(convolutions) == 2
        assert all(0 < row.error <= row.bound for row in convolutions)
        assert {row.source.split(",")[0] for row in convolutions} == {"convolution"}

    def test_a_step_of_two_kernels(self, rng):
        """A sum that broadcasts follows its convolution in the same step, whose bound counts both."""
        x = (8 * rng.standard_normal((1, 8, 12, 12))).astype(np.float32)
        n = write.node
        nodes = [n("GlobalAveragePool", "x", "p"), n("Conv", "x w", "c", pads=[1] * 4), n("Add", "c p", "y")]
        w = write.tensor(rng.standard_normal((8, 8, 3, 3)).astype(np.float32), "w")
        ends = [write.value("x", x.shape)], [write.value("y", x.shape)]
        verification = fc.InferenceSession(write.model(write.graph(nodes, *ends, [w]))).verify({"x": x})
        assert verification.ok, str(verification)
        assert len(verification.rows) == 2
        assert verification.rows[1].source.count(";") == 1

    def test_reports(self, model, x, tmp_path):
        check_report(fc.InferenceSession(model).verify({"x": x}), tmp_path)

    @pytest.mark.parametrize("factor", [1.5, 1.001])
    def test_the_first_wrong_step_is_named(self, model, x, factor):
        session = fc.InferenceSession(model)
        session.run(None, {"x": x})
        (compiler,) = session._compilers.values()
        packed = [entry for entry, arrays in compiler.packings.values() if arrays[0].shape[:2] == (16, 16)]
        packed[0][0][: packed[0][0].size // 2] *= np.float32(factor)
        verification = session.verify({"x": x})
        assert not verification.ok
        assert verification.first_beyond.nodes == ["body", "body.norm", "sum", "sum.relu"]
        assert "step 1 is the first beyond its bound: body" in str(verification)
        assert "BEYOND ITS BOUND" in str(verification)
        json.loads(verification.to_json())

    def test_nan_and_infinity(self, model, x):
        x[0, 0, 3, 3] = np.nan
        x[0, 1, 9, 9] = np.inf
        assert fc.InferenceSession(model, precision="strict").verify({"x": x}).ok

    def test_nodes_outside_of_the_program(self, rng):
        session = fc.InferenceSession(models.detector(rng))
        verification = session.verify({"x": rng.standard_normal((1, 3, 16, 16)).astype(np.float32)})
        assert verification.ok, str(verification)
        assert "second_stage" in {name for row in verification.rows for name in row.nodes}


class TestTrace:
    def test_every_value_that_the_file_names(self, model, x):
        values = fc.InferenceSession(model).trace({"x": x})
        expected = {}
        Evaluator(model).run({"x": x}, visit=expected.__setitem__)
        assert values.keys() == expected.keys()
        for name, array in expected.items():
            assert values[name].shape == array.shape
            np.testing.assert_allclose(values[name], array, rtol=1e-4, atol=1e-5)

    def test_the_outputs_are_those_of_a_run(self, model, x):
        session = fc.InferenceSession(model)
        assert np.array_equal(session.trace({"x": x})["y"], session.run(None, {"x": x})[0])

    def test_values_outside_of_the_program(self, rng):
        x = rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
        session = fc.InferenceSession(models.detector(rng))
        values = session.trace({"x": x})
        assert np.array_equal(values["boxes"], session.run(["boxes"], {"x": x})[0])
        assert {"h", "features", "kept"} <= values.keys()


class TestPredictMemory:
    @pytest.mark.parametrize("channels", [16, 64, 300])
    @pytest.mark.parametrize("precision", ["strict", "default"])
    def test_it_equals_what_is_allocated(self, channels, precision):
        rng = of_its_own(channels, len(precision))
        session = fc.InferenceSession(models.residual(rng, channels=channels), precision=precision)
        x = rng.standard_normal((2, 3, 64, 64)).astype(np.float32)
        before = session.predict_memory({"x": x.shape})
        results = session.run(None, {"x": x})
        compiled, _ = session._prepared({"x": x})
        (compiler,) = session._compilers.values()
        pieces = {
            id(array.base): array.base.nbytes
            for entry, given in compiler.packings.values()
            for array in entry
            if not any(w is not None and np.shares_memory(array, w) for w in given)
        }
        assert before.packed_weights == sum(pieces.values()) > 0
        assert len(pieces) == 1
        (context,) = compiled.executable._free
        assert before.activations == context.arena.base.nbytes > context.arena.nbytes > 0
        assert before.outputs == sum(array.nbytes for array in results)
        scales = [node.attributes["scale"] for node in compiler.graph.nodes if "scale" in node.attributes]
        kept = {id(array): array.nbytes for array in (*compiler.graph.constants.values(), *scales, *_file(session))}
        assert before.weights + before.folded_weights == sum(kept.values())
        assert session.predict_memory({"x": x.shape}) == before
        assert before.total > before.packed_weights + before.activations

    def test_prepare_takes_it_ahead_of_the_first_run(self, model, x):
        session = fc.InferenceSession(model)
        session.prepare(SIZES)
        (compiled,) = session._programs.values()
        (context,) = compiled.executable._free
        session.prepare({"x": x.shape})
        assert session._recent.run({"x": x}) is not None
        result = session.run(None, {"x": x})
        assert list(session._programs.values()) == [compiled]
        assert compiled.executable._free == [context]
        assert np.array_equal(result[0], fc.InferenceSession(model).run(None, {"x": x})[0])
        with pytest.raises(ArgumentError, match="shapes: input 'x'"):
            session.prepare()

    @pytest.mark.parametrize("precision", ["strict", "default"])
    @pytest.mark.parametrize("image", [(2, 3, 97, 96), (1, 3, 20, 300)])
    @pytest.mark.parametrize("channels", [10, 64, 512])
    def test_what_numpy_allocates_in_a_first_run(self, precision, image, channels):
        rng = of_its_own(*image, channels, len(precision))
        session = fc.InferenceSession(models.residual(rng, channels=channels), precision=precision)
        x = rng.standard_normal(image).astype(np.float32)
        predicted = session.predict_memory({"x": x.shape})
        tracemalloc.start()
        results = session.run(None, {"x": x})
        arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
        tracemalloc.stop()
        compiled, _ = session._prepared({"x": x})
        records = engine.record_bytes() * len(compiled.executable.calls)
        expected = predicted.packed_weights + predicted.tables - records + predicted.activations + predicted.outputs
        assert results
        assert sum(trace.size for trace in arrays.traces) == expected

    @pytest.mark.parametrize("bias", ["", " b"])
    @pytest.mark.parametrize("images", [1, 40])
    @pytest.mark.parametrize("precision", ["strict", "default"])
    def test_weights_that_are_read_where_they_lie(self, precision, images, bias):
        """A classifier on few images packs nothing but a bias, and copies what is stored the other way round."""
        rng = of_its_own(len(bias), images, len(precision))
        arrays = {"w": (90, 7, 5, 3), "b": (90,), "turned": (90, 1001), "w3": (77, 1001)}
        tensors = [write.tensor(models._weights(rng, *shape), name) for name, shape in arrays.items()]
        nodes = [
            write.node("Conv", "x w" + bias, "c"),
            write.node("Flatten", "c", "f"),
            write.node("MatMul", "f turned", "g"),
            write.node("Gemm", "g w3", "y", transB=1, alpha=0.5),
        ]
        x = rng.standard_normal((images, 7, 5, 3)).astype(np.float32)
        graph = write.graph(nodes, [write.value("x", x.shape)], ["y"], tensors)
        session = fc.InferenceSession(write.model(graph), precision=precision)
        predicted = session.predict_memory()
        tracemalloc.start()
        results = session.run(None, {"x": x})
        arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
        tracemalloc.stop()
        compiled, _ = session._prepared({"x": x})
        steps = sum(isinstance(call.work, engine.Step) for call in compiled.executable.calls)
        expected = predicted.packed_weights + predicted.tables + predicted.activations + predicted.outputs
        assert results[0].shape == (images, 77)
        assert sum(trace.size for trace in arrays.traces) == expected - steps * engine.record_bytes()

    @pytest.mark.parametrize("threads", [1, 3])
    def test_scratch_is_what_the_engine_keeps(self, threads):
        """In a process of its own, whose team has had no other job."""
        code = """
import sys
sys.path[:0] = {path!r}
import numpy as np, fastconv as fc, session_models
from fastconv._kernels import team
session = fc.InferenceSession(session_models.residual(np.random.default_rng(0), channels=64), threads={threads})
plan = session.predict_memory({{"x": (2, 3, 64, 64)}})
assert team.scratch_held() == 0
session.run(None, {{"x": np.ones((2, 3, 64, 64), np.float32)}})
assert team.scratch_held() == plan.scratch > 1000, (team.scratch_held(), plan)
"""
        code = code.format(path=sys.path, threads=threads)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    def test_it_is_text_and_allocates_nothing(self, model):
        session = fc.InferenceSession(model)
        plan = session.predict_memory(SIZES)
        assert "packed weights" in str(plan)
        assert all(not compiler.packings for compiler in session._compilers.values())
        bigger = session.predict_memory({"n": 4, **SIZES})
        assert bigger.activations > 3 * plan.activations
        assert bigger.packed_weights == plan.packed_weights


def of_its_own(*numbers):
    """A generator for a model like no other, whose weights no other session has packed."""
    return np.random.default_rng(numbers)


def _file(session):
    return session._model.graph.constants.values()
