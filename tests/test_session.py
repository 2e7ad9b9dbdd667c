"""InferenceSession: feeds, shapes, precision, threads, and what it says of the model."""

import threading

import numpy as np
import onnx_bytes as write
import pytest
import session_models as models

import fastconv as fc
from fastconv import config
from fastconv.errors import ArgumentError, ArgumentTypeError, ModelError
from fastconv.onnx.evaluate import Evaluator


@pytest.fixture
def model(rng):
    return models.residual(rng)


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 3, 12, 10)).astype(np.float32)


def evaluated(model, **feeds):
    return Evaluator(model).run(feeds)


def relative_error(actual, expected):
    return np.abs(actual.astype(np.float64) - expected).max() / np.abs(expected).max()


def test_runs_a_model_and_tells_of_it(model, x):
    session = fc.InferenceSession(model)
    (y,) = session.run(None, {"x": x})
    assert y.shape == (2, 10)
    assert relative_error(y, evaluated(model, x=x)[0]) < 1e-5
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("x", "tensor(float)", ["n", 3, "h", "w"])
    assert (result.name, result.shape) == ("y", ["n", 10])
    assert session.get_modelmeta().custom_metadata_map == {"author": "a test"}
    assert session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("passes", [[], ["canonical_convolutions"], None], ids=["none", "some", "all"])
def test_every_choice_of_passes_gives_the_same(model, x, passes):
    (y,) = fc.InferenceSession(model, passes=passes).run(None, {"x": x})
    assert relative_error(y, evaluated(model, x=x)[0]) < 1e-5


def test_double_precision(rng, x):
    model = models.residual(rng, np.float64)
    (y,) = fc.InferenceSession(model).run(None, {"x": x.astype(np.float64)})
    assert y.dtype == np.float64
    assert relative_error(y, evaluated(model, x=x.astype(np.float64))[0]) < 1e-13


class TestFeeds:
    def test_any_memory_is_read_and_none_is_changed(self, model, x):
        session = fc.InferenceSession(model)
        (expected,) = session.run(None, {"x": x})
        scattered = np.asfortranarray(x)
        read_only = x.copy()
        read_only.flags.writeable = False
        unaligned = np.frombuffer(b"-" + x.tobytes(), np.float32, offset=1).reshape(x.shape)
        swapped = x.astype(x.dtype.newbyteorder())
        for feed in (scattered, read_only, unaligned, swapped, x.tolist.__self__[:, :, ::1]):
            before = feed.copy()
            (y,) = session.run(None, {"x": feed})
            assert np.array_equal(y, expected)
            assert np.array_equal(feed, before)

    def test_results_belong_to_the_caller(self, model, x):
        session = fc.InferenceSession(model)
        (first,) = session.run(None, {"x": x})
        kept = first.copy()
        (second,) = session.run(None, {"x": -x})
        assert np.array_equal(first, kept)
        assert first.flags.writeable
        assert not np.array_equal(first, second)

    def test_an_input_that_is_an_output_is_copied(self):
        graph = write.graph([write.node("Relu", "x", "y")], [write.value("x", (2,))], ["y", "x"])
        x = np.array([-1, 2], np.float32)
        y, same = fc.InferenceSession(write.model(graph)).run(None, {"x": x})
        assert y.tolist() == [0, 2]
        assert same.tolist() == [-1, 2]
        assert not np.may_share_memory(same, x)

    def test_numpy_scalars(self):
        session = fc.InferenceSession(models.one_node("Add", "a b", "y", shape=()))
        (y,) = session.run(None, {"a": np.float32(1), "b": np.float32(2)})
        assert y.shape == ()
        assert y == 3

    def test_an_input_may_be_called_as_an_output_is_inside(self):
        node = write.node("Add", "1 2", "3")
        names = {"1": "output 0", "2": "output 0'", "3": "y"}
        node = write.node("Add", "a b", "y")
        for short, name in (("a", names["1"]), ("b", names["2"])):
            node = node.replace(write.field(1, short), write.field(1, name))
        values = [write.value(name, (2,)) for name in (names["1"], names["2"])]
        session = fc.InferenceSession(write.model(write.graph([node], values, ["y"])))
        (y,) = session.run(None, {names["1"]: np.float32([1, 2]), names["2"]: np.float32([3, 4])})
        assert y.tolist() == [4, 6]

    def test_wrong_feeds_name_what_was_expected(self, model, x):
        session = fc.InferenceSession(model)
        expected = r"expected 'x' tensor\(float\)\(n, 3, h, w\)"
        with pytest.raises(ArgumentError, match=f"inputs: the model has no input 'image'; {expected}"):
            session.run(None, {"image": x})
        with pytest.raises(ArgumentError, match=f"inputs: 'x' missing; {expected}"):
            session.run(None, {})
        with pytest.raises(
            ArgumentTypeError, match=r"input 'x': expected tensor\(float\).* float32, got one of float64"
        ):
            session.run(None, {"x": x.astype(np.float64)})
        with pytest.raises(ArgumentError, match=r"input 'x': expected shape \(n, 3, h, w\), got \(2, 4, 12, 10\)"):
            session.run(None, {"x": np.zeros((2, 4, 12, 10), np.float32)})
        with pytest.raises(ArgumentError, match=r"input 'x': expected shape \(n, 3, h, w\), got \(3, 12, 10\)"):
            session.run(None, {"x": x[0]})
        with pytest.raises(ArgumentError, match="output_names: the model has y; got z"):
            session.run(["y", "z"], {"x": x})

    def test_a_default_may_be_replaced(self):
        nodes = [write.node("Mul", "x factor", "y")]
        values = [write.value("x", (2,)), write.value("factor", ())]
        data = write.model(write.graph(nodes, values, ["y"], [write.tensor(np.float32(3), "factor")]))
        session = fc.InferenceSession(data)
        x = np.array([1, 2], np.float32)
        assert [info.name for info in session.get_inputs()] == ["x"]
        assert [info.name for info in session.get_overridable_initializers()] == ["factor"]
        assert session.run(None, {"x": x})[0].tolist() == [3, 6]
        assert session.run(None, {"x": x, "factor": np.float32(5)})[0].tolist() == [5, 10]
        assert session.run(None, {"x": x})[0].tolist() == [3, 6]


class TestConstruction:
    def test_sources(self, model, x, tmp_path):
        (tmp_path / "model.onnx").write_bytes(model)
        message = type("Proto", (), {"SerializeToString": lambda self: model})()
        expected = fc.InferenceSession(model).run(None, {"x": x})[0]
        for source in (
            tmp_path / "model.onnx",
            str(tmp_path / "model.onnx"),
            bytearray(model),
            memoryview(model),
            message,
        ):
            assert np.array_equal(fc.InferenceSession(source).run(None, {"x": x})[0], expected)

    def test_wrong_arguments(self, model, tmp_path):
        with pytest.raises(ArgumentError, match="precision: expected one of 'strict', 'default', 'fast', got 'half'"):
            fc.InferenceSession(model, precision="half")
        with pytest.raises(ArgumentError, match="threads"):
            fc.InferenceSession(model, threads=0)
        with pytest.raises(ArgumentError, match=r"passes: expected some of .*drop_dead.*, got fuse_all"):
            fc.InferenceSession(model, passes=["fuse_all"])
        with pytest.raises(ArgumentTypeError, match="model: expected a path, bytes"):
            fc.InferenceSession(3)
        with pytest.raises(FileNotFoundError):
            fc.InferenceSession(tmp_path / "absent.onnx")
        with pytest.raises(ModelError):
            fc.InferenceSession(model[: len(model) // 2])

    def test_every_missing_operator_is_listed_at_once(self):
        nodes = [write.node("Nonesuch", "x", "a", name="first"), write.node("Neither", "a", "y", name="second")]
        with pytest.raises(ModelError, match=r"no operator Nonesuch 'first' .*no operator Neither 'second'"):
            fc.InferenceSession(write.model(write.graph(nodes, ["x"], ["y"])))


class TestPrecision:
    def test_strict_is_the_same_for_any_batch_size(self, model, rng):
        x = rng.standard_normal((11, 3, 12, 10)).astype(np.float32)
        session = fc.InferenceSession(model, precision="strict")
        (whole,) = session.run(None, {"x": x})
        for part in (slice(0, 1), slice(3, 5), slice(2, 11)):
            assert np.array_equal(session.run(None, {"x": x[part]})[0], whole[part])

    def test_strict_sums_directly(self, rng):
        model = models.residual(rng, channels=64)
        rows = {
            p: fc.InferenceSession(model, precision=p).explain({"h": 64, "w": 64}).rows for p in ("strict", "default")
        }
        assert "winograd" in {row.algorithm for row in rows["default"]}
        assert "winograd" not in {row.algorithm for row in rows["strict"]}

    def test_infinity_stays_where_it_is_in_strict(self, rng):
        model = models.residual(rng, channels=64)
        x = np.zeros((1, 3, 64, 64), np.float32)
        x[0, 0, 5, 5] = np.inf
        strict = fc.InferenceSession(model, precision="strict").trace({"x": x})["c2"]
        assert np.isfinite(strict[0, :, 12:]).all()


class TestThreads:
    @pytest.mark.parametrize("precision", ["strict", "default"])
    def test_the_same_bits_for_any_number(self, model, x, precision):
        results = [fc.InferenceSession(model, n, precision).run(None, {"x": x})[0] for n in (1, 2, 3, 7)]
        assert all(np.array_equal(results[0], result) for result in results[1:])

    def test_a_session_has_a_number_of_its_own(self, model, x):
        class Watching(np.ndarray):
            pass

        seen = []
        session = fc.InferenceSession(model, threads=3)
        (compiled, _) = session._prepared({"x": x})
        run = compiled.run
        compiled.run = lambda feeds: (seen.append(config.get_num_threads()), run(feeds))[1]
        with config.threads(2):
            session.run(None, {"x": x})
            assert config.get_num_threads() == 2
        assert seen == [3]

    def test_sessions_with_different_numbers_run_at_the_same_time(self, model, x):
        both_run = threading.Barrier(3, timeout=60)
        seen = {}
        before = config.get_num_threads()

        def watch(number):
            session = fc.InferenceSession(model, threads=number)
            compiled, _ = session._prepared({"x": x})
            run = compiled.run

            def watched(feeds):
                both_run.wait()
                seen[number] = config.get_num_threads()
                result = run(feeds)
                both_run.wait()
                return result

            compiled.run = watched
            session.run(None, {"x": x})
            assert config.get_num_threads() == before

        workers = [threading.Thread(target=watch, args=(number,)) for number in (1, 5)]
        for worker in workers:
            worker.start()
        both_run.wait()
        here = config.get_num_threads()
        both_run.wait()
        for worker in workers:
            worker.join()
        assert seen == {1: 1, 5: 5}
        assert here == config.get_num_threads() == before

    def test_plans_are_made_for_it(self, rng):
        w = write.tensor(models._weights(rng, 64, 32, 3, 3), "w")
        node = write.node("Conv", "x w", "y", pads=[1, 1, 1, 1])
        model = write.model(write.graph([node], [write.value("x", (1, 32, 14, 14))], ["y"], [w]))
        x = rng.standard_normal((1, 32, 14, 14)).astype(np.float32)
        tasks = []
        for number in (1, 8):
            compiled, _ = fc.InferenceSession(model, number, "strict")._prepared({"x": x})
            tasks.append(compiled.executable.calls[0].work.tasks)
        assert tasks[0] < tasks[1]

    def test_it_is_restored_after_an_error(self, model, x):
        session = fc.InferenceSession(model, threads=3)
        (compiled, _) = session._prepared({"x": x})
        compiled.run = lambda feeds: 1 / 0
        with config.threads(2):
            with pytest.raises(ModelError, match="cannot be run on these inputs: division by zero"):
                session.run(None, {"x": x})
            assert config.get_num_threads() == 2


class TestShapesThatDependOnValues:
    def test_the_program_ends_where_values_decide(self, rng):
        model = models.detector(rng)
        x = rng.standard_normal((1, 3, 16, 16)).astype(np.float32)
        session = fc.InferenceSession(model)
        boxes, head, count = session.run(None, {"x": x})
        expected = evaluated(model, x=x)
        assert count.tolist() == expected[2].tolist()
        assert 0 < boxes.shape[1] < 64
        assert boxes.shape == expected[0].shape
        assert relative_error(boxes, expected[0]) < 1e-5
        assert relative_error(head, expected[1]) < 1e-5
        rows = session.explain().rows
        outside = [row.nodes[0] for row in rows if row.algorithm == "node by node"]
        assert outside[0] == "nms"
        assert "second_stage" in outside
        assert not {"backbone", "box_head", "score_head"} & set(outside)

    def test_heavy_nodes_behind_it_are_computed_by_kernels(self, rng, monkeypatch):
        constants = [write.tensor(models._weights(rng, 8, 4, 3, 3), "w")]
        nodes = [
            write.node("NonZero", "flags", "where"),
            write.node("Gather", "x where", "some"),
            write.node("Squeeze", "some", "images"),
            write.node("Conv", "images w", "c", pads=[1, 1, 1, 1]),
            write.node("Relu", "c", "y"),
        ]
        ends = [write.value("x", ("n", 4, 16, 16)), write.value("flags", ("n",))], ["y"]
        data = write.model(write.graph(nodes, *ends, constants))
        x = rng.standard_normal((5, 4, 16, 16)).astype(np.float32)
        feeds = {"x": x, "flags": np.float32([0, 1, 1, 0, 1])}
        expected = evaluated(data, **feeds)[0]
        session = fc.InferenceSession(data)
        monkeypatch.setattr("fastconv.reference.conv", lambda *args, **kwargs: pytest.fail("computed by NumPy"))
        for flags in ([0, 1, 1, 0, 1], [1, 1, 0, 0, 0]):
            (y,) = session.run(None, feeds | {"flags": np.float32(flags)})
            assert y.shape[0] == sum(flags)
        assert relative_error(session.run(None, feeds)[0], expected) < 1e-5

    @pytest.mark.parametrize("shape", [[6, 4], [2, 2, 6], [-1], [0, 8]])
    def test_a_shape_that_is_an_input(self, shape):
        nodes = [write.node("Reshape", "x shape", "y")]
        graph = write.graph(nodes, [write.value("x", (3, 8)), write.value("shape", (None,), 7)], ["y"])
        x = np.arange(24, dtype=np.float32).reshape(3, 8)
        (y,) = fc.InferenceSession(write.model(graph)).run(None, {"x": x, "shape": np.array(shape)})
        assert y.shape == x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)]).shape

    def test_weights_that_are_computed(self, rng):
        nodes = [write.node("Mul", "w scale", "scaled"), write.node("Conv", "x scaled", "y", pads=[1, 1, 1, 1])]
        values = [write.value("x", (1, 4, 9, 9)), write.value("w", (5, 4, 3, 3)), write.value("scale", ())]
        data = write.model(write.graph(nodes, values, ["y"]))
        x, w = rng.standard_normal((1, 4, 9, 9)).astype(np.float32), models._weights(rng, 5, 4, 3, 3)
        session = fc.InferenceSession(data)
        for scale in (1, 2):
            feeds = {"x": x, "w": w, "scale": np.float32(scale)}
            assert relative_error(session.run(None, feeds)[0], evaluated(data, **feeds)[0]) < 1e-5

    def test_subgraphs_and_sequences(self):
        branches = {
            "then_branch": ("g", write.graph([write.node("Neg", "x", "t")], [], ["t"])),
            "else_branch": ("g", write.graph([write.node("Abs", "x", "e")], [], ["e"])),
        }
        nodes = [
            write.node("If", "flag", "chosen", **branches),
            write.node("SequenceConstruct", "chosen x", "both"),
            write.node("ConcatFromSequence", "both", "y", axis=0),
        ]
        graph = write.graph(nodes, [write.value("flag", (), 9), write.value("x", (2,))], ["y", "both"])
        session = fc.InferenceSession(write.model(graph))
        x = np.array([-1, 2], np.float32)
        for flag, expected in ((True, [1, -2, -1, 2]), (False, [1, 2, -1, 2])):
            y, both = session.run(None, {"flag": np.array(flag), "x": x})
            assert y.tolist() == expected
            assert [part.tolist() for part in both] == [expected[:2], expected[2:]]


def test_a_run_like_the_last_heeds_what_is_different(model, rng, x):
    session = fc.InferenceSession(model)
    other = rng.standard_normal(x.shape).astype(np.float32)
    expected = [session.run(None, {"x": feed})[0] for feed in (x, other, x[:1])]
    transposed = np.asfortranarray(other)
    for _ in range(2):  # each form after each
        for feed, y in ((x, expected[0]), (transposed, expected[1]), (other, expected[1]), (x[:1], expected[2])):
            for _ in range(2):
                (result,) = session.run(None, {"x": feed})
                assert np.array_equal(result, y)
    session.run(None, {"x": x})
    for wrong in ({}, {"y": x}, {"x": x, "y": x}, {"x": x[0]}):
        with pytest.raises(ArgumentError):
            session.run(None, wrong)
    for wrong in ({"x": x.astype(np.float64)}, [x], None):
        with pytest.raises(ArgumentTypeError):
            session.run(None, wrong)


def test_a_run_like_the_last_heeds_the_number_of_threads(model, x):
    session = fc.InferenceSession(model)
    (expected,) = session.run(None, {"x": x})
    assert len(session._programs) == 1
    with fc.threads(config.get_num_threads() + 1):
        assert np.array_equal(session.run(None, {"x": x})[0], expected)
    assert len(session._programs) == 2  # the plans for different numbers differ
    before = config.get_num_threads()
    own = fc.InferenceSession(model, threads=before + 1)
    for _ in range(3):
        assert np.array_equal(own.run(None, {"x": x})[0], expected)
        assert config.get_num_threads() == before


def test_many_shapes_keep_few_programs(model, rng):
    session = fc.InferenceSession(model)
    for size in range(4, 20):
        x = rng.standard_normal((1, 3, size, size)).astype(np.float32)
        assert relative_error(session.run(None, {"x": x})[0], evaluated(model, x=x)[0]) < 1e-5
    assert len(session._programs) == 8
