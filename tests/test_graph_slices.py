"""The pass that takes a batch a few images at a time: what it writes out, that the bits stay, and what it leaves alone."""

import numpy as np
import pytest
import session_models as models
from graphs import compiled, evaluate, evaluated, executable, graph, node, structure, whole

import fastconv as fc
from fastconv import machine
from fastconv.graph.lower import lower
from fastconv.graph.passes import PASSES, SHAPED, slice_batches, slices

CONV = {"pads": [1, 1, 1, 1]}


@pytest.fixture(autouse=True)
def small_caches(monkeypatch):
    """Two images of (4, 6, 5) in float32, in and out, in the second-level cache."""
    monkeypatch.setattr(machine, "cache_bytes", {1: 512, 2: 4096, 3: 1 << 15}.__getitem__)
    monkeypatch.setattr(slices, "LEAST_GAIN", 0.0)


@pytest.fixture
def w(rng):
    return whole(rng, (4, 4, 3, 3))


def rewritten(g, feeds):
    """After all passes."""
    for rewrite in PASSES.values():
        g = rewrite(g)
    _, values = lower(g, {name: (x.shape, x.dtype) for name, x in feeds.items()}, evaluate, {}, predicting=True)
    return slice_batches(g, values)


def check(g, feeds):
    """The rewritten graph, whose outputs are the same whole numbers, node by node and compiled; Winograd rounds."""
    after = rewritten(g, feeds)
    expected = evaluated(g, feeds)
    for actual in (evaluated(after, feeds), compiled(after, feeds)):
        for y, exact in zip(actual, expected, strict=True):
            np.testing.assert_allclose(y, exact, rtol=0, atol=0.01)
    return after


def untouched(g, feeds):
    assert "Split" not in structure(check(g, feeds))


def test_one_slice_is_through_before_the_next_begins(w, rng):
    x = whole(rng, (7, 4, 6, 5))
    g = graph(
        {"x": x.shape}, "y", node("Conv", "x w", "a", **CONV), node("MaxPool", "a", "y", kernel_shape=[2, 2]), w=w
    )
    after = check(g, {"x": x})
    assert structure(after) == ["Split", *[":Conv", "MaxPool"] * 4, "Concat"]
    assert after.nodes[0].attributes["split"] == [2, 2, 2, 1]
    assert {node.original.op_type for node in after.nodes[1:-1]} == {"Conv", "MaxPool"}
    assert after.nodes[1].original is after.nodes[3].original
    packings: dict = {}
    calls = lower(after, {"x": (x.shape, x.dtype)}, evaluate, packings)[0].calls
    assert len(calls) == 8  # slices are views, and written in their places
    assert len(packings) == 1


def test_branches_sums_and_what_later_nodes_read(w, rng):
    x = whole(rng, (7, 4, 6, 5))
    nodes = [
        node("Conv", "x w", "a", **CONV),
        node("Relu", "a", "b"),
        node("AveragePool", "b", "c", kernel_shape=[3, 3], **CONV),
        node("Concat", "b c", "d", axis=1),
        node("Mul", "d scale", "e"),
        node("Add", "e d", "f"),
        node("Flatten", "f", "g"),
        node("MatMul", "g v", "h"),
        node("Add", "h offset", "y"),
    ]
    constants = {"w": w, "scale": whole(rng, (1, 8, 1, 1)), "v": whole(rng, (240, 3)), "offset": whole(rng, (7, 3))}
    constants["w"] = 9 * w  # so that averages of nine are whole
    g = graph({"x": x.shape}, "y b f", *nodes, **constants)
    assert {"Split", "Flatten"} <= set(structure(check(g, {"x": x})))


def test_two_inputs_and_names_that_are_taken(w, rng):
    feeds = {"x": whole(rng, (4, 4, 6, 5)), "x [0]": whole(rng, (4, 4, 6, 5))}
    g = graph({"x": (4, 4, 6, 5)}, "y", node("Conv", "x w", "a", **CONV), node("Add", "a z", "y"), w=w)
    g.inputs += graph({"x [0]": (4, 4, 6, 5)}, "").inputs
    g.nodes[1].inputs[1] = "x [0]"
    after = check(g, feeds)
    assert structure(after).count("Split") == 2


def test_the_last_nodes_keep_the_batch_where_weights_outweigh_what_is_gained(w, rng):
    x = whole(rng, (8, 4, 6, 5))
    nodes = [
        node("Conv", "x w", "a", **CONV),
        node("MaxPool", "a", "b", kernel_shape=[5, 5]),
        node("Conv", "b v", "y"),
    ]
    after = check(graph({"x": x.shape}, "y", *nodes, w=w, v=whole(rng, (200, 4, 1, 1))), {"x": x})
    assert structure(after) == ["Split", *[":Conv"] * 8, "Concat", "MaxPool", ":Conv"]
    assert after.nodes[-1].original is None


def test_at_most_so_many_slices(w, rng):
    x = whole(rng, (64, 4, 6, 5))
    after = check(graph({"x": x.shape}, "y", node("Conv", "x w", "y", **CONV), w=w), {"x": x})
    assert structure(after) == ["Split", *[":Conv"] * slices.MOST_SLICES, "Concat"]


def test_at_most_so_many_copies(w, rng, monkeypatch):
    monkeypatch.setattr(slices, "MOST_COPIES", 7)
    x = whole(rng, (8, 4, 6, 5))
    g = graph({"x": x.shape}, "y", node("Conv", "x w", "a", **CONV), node("Conv", "a w", "y", **CONV), w=w // 2)
    assert structure(check(g, {"x": x})) == ["Split", *[":Conv"] * 6, "Concat"]


def test_the_arena_holds_a_slice(w, rng):
    x = whole(rng, (16, 4, 6, 5))
    nodes = [
        node("Conv", "x w", "a", **CONV),
        node("Conv", "a w", "b", **CONV),
        node("MaxPool", "b", "y", kernel_shape=[5, 5]),
    ]
    g = graph({"x": x.shape}, "y", *nodes, w=w)
    after = check(g, {"x": x})
    assert executable(after, {"x": x}).arena_bytes <= 2 * 2 * x[0].nbytes + 128


class TestLeftAlone:
    def test_one_image(self, w, rng):
        x = whole(rng, (1, 4, 30, 30))
        untouched(graph({"x": x.shape}, "y", node("Conv", "x w", "y", **CONV), w=w), {"x": x})

    def test_no_images(self, w):
        x = np.empty((0, 4, 6, 5), np.float32)
        untouched(graph({"x": x.shape}, "y", node("Conv", "x w", "y", **CONV), w=w), {"x": x})

    def test_what_the_caches_hold(self, w, rng):
        x = whole(rng, (2, 4, 6, 5))
        untouched(graph({"x": x.shape}, "y", node("Conv", "x w", "y", **CONV), w=w), {"x": x})

    def test_what_gains_little(self, w, rng, monkeypatch):
        monkeypatch.setattr(slices, "LEAST_GAIN", 1.0)
        x = whole(rng, (9, 4, 6, 5))
        untouched(graph({"x": x.shape}, "y", node("Conv", "x w", "y", **CONV), w=w), {"x": x})

    @pytest.mark.parametrize(
        "first",
        [
            node("Transpose", "x", "a", perm=[1, 0, 2, 3]),
            node("Concat", "x x", "a", axis=0),
            node("Concat", "x x", "a", axis=-4),
            node("Add", "x each", "a"),
            node("Add", "x one", "a"),
            node("Softmax", "x", "a", axis=0),
        ],
        ids=lambda first: f"{first.op_type} {first.attributes}",
    )
    def test_what_mixes_images_or_tells_them_apart(self, first, rng):
        feeds = {"x": whole(rng, (9, 4, 6, 5)), "one": whole(rng, (1, 4, 6, 5))}
        constants = {"each": whole(rng, (9, 4, 1, 1))}
        g = graph({name: x.shape for name, x in feeds.items()}, "y", first, node("Relu", "a", "y"), **constants)
        after = rewritten(g, feeds)
        assert "Split" not in structure(after)

    def test_inputs_of_different_batches(self, rng):
        feeds = {"x": whole(rng, (8, 4, 6, 5)), "z": whole(rng, (4, 4, 6, 5))}
        nodes = [node("Relu", "x", "a"), node("Relu", "z", "b")]
        untouched(graph({name: x.shape for name, x in feeds.items()}, "a b", *nodes), feeds)


class TestSessions:
    @pytest.fixture
    def x(self, rng):
        return rng.standard_normal((6, 3, 12, 10)).astype(np.float32)

    def test_reports_name_the_nodes_of_the_file(self, rng, x):
        session = fc.InferenceSession(models.residual(rng))
        rows = session.profile({"x": x}, repeats=1).rows
        assert [row.nodes for row in rows].count(["stem", "stem.relu"]) == 6
        verification = session.verify({"x": x})
        assert verification.ok, str(verification)
        assert len(session.explain({"x": x.shape}).rows) == len(rows)

    def test_the_memory_is_that_which_was_predicted(self, rng, x):
        session = fc.InferenceSession(models.residual(rng))
        plan = session.predict_memory({"x": x.shape})
        session.run(None, {"x": x})
        (compiled,) = session._programs.values()
        assert plan.activations == compiled.executable.context_bytes
        assert plan.packed_weights == compiled.executable.packed_bytes

    def test_it_can_be_left_out(self, rng, x):
        model = models.residual(rng)
        (expected,) = fc.InferenceSession(model, precision="strict").run(None, {"x": x})
        whole_batch = fc.InferenceSession(model, precision="strict", passes=PASSES)
        assert np.array_equal(whole_batch.run(None, {"x": x})[0], expected)
        assert len(whole_batch.explain({"x": x.shape}).rows) < 7
        assert "slice_batches" in SHAPED

    def test_traced_values_are_whole(self, rng, x):
        session = fc.InferenceSession(models.residual(rng))
        values = session.trace({"x": x})
        assert values["r1"].shape == (6, 16, 12, 10)
        np.testing.assert_array_equal(values["y"], session.run(None, {"x": x})[0])
