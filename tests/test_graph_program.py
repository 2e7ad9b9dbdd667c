"""Programs: outputs of every kind, shapes in turn, batches, threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from graphs import compiled, evaluate, evaluated, executable, graph, node, poison, whole

from fastconv.errors import ModelError
from fastconv.graph.ir import ValueInfo
from fastconv.graph.lower import Dynamic
from fastconv.graph.passes import PASSES, canonical_convolutions
from fastconv.graph.program import Executable


@pytest.fixture
def x(rng):
    return whole(rng, (2, 3, 6, 5))


@pytest.fixture
def w(rng):
    return whole(rng, (3, 3, 3, 3))


def same(g, feeds) -> list[np.ndarray]:
    """The outputs of a program, equal to NumPy's, in arrays of their own."""
    results = compiled(g, feeds)
    for one, other in zip(results, evaluated(g, feeds), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    arrays = [*results, *feeds.values(), *g.constants.values()]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i] if results[i:])
    return results


class TestOutputs:
    def test_an_input(self, x):
        same(graph({"x": x.shape}, "x y", node("Relu", "x", "y")), {"x": x})

    def test_a_constant(self, x):
        same(graph({"x": x.shape}, "c y", node("Relu", "x", "y"), c=np.arange(3.0)), {"x": x})

    def test_what_follows_from_shapes_alone(self, x):
        nodes = [node("Shape", "x", "s"), node("Gather", "s i", "n"), node("Relu", "x", "y")]
        same(graph({"x": x.shape}, "n s y", *nodes, i=np.array(1)), {"x": x})

    @pytest.mark.parametrize(
        "alias",
        [
            node("Identity", "a", "y"),
            node("Flatten", "a", "y"),
            node("Transpose", "a", "y", perm=[0, 2, 3, 1]),
            node("Slice", "a one three axis", "y"),
            node("Unsqueeze", "a axis", "y"),
            node("Expand", "a large", "y"),
        ],
        ids=str,
    )
    def test_an_alias_of_another(self, alias, x):
        numbers = {"one": [1], "three": [3], "axis": [1], "large": [4, 1, 3, 6, 5]}
        if alias.op_type == "Expand":
            x = x[:1]
        for outputs in ("y", "a y", "y a", "y y"):
            same(graph({"x": x.shape}, outputs, node("Neg", "x", "a"), alias, **numbers), {"x": x})

    def test_one_that_is_turned_is_copied_by_a_kernel_into_the_array_that_is_returned(self, x):
        nodes = [node("Neg", "x", "a"), node("Transpose", "a", "y", perm=[0, 2, 3, 1]), node("Abs", "y", "z")]
        g = graph({"x": x.shape}, "y z", *nodes)
        same(g, {"x": x})
        program = executable(g, {"x": x})
        assert [call.algorithm for call in program.calls].count("copy") == 1
        assert program.direct[0]

    @pytest.mark.parametrize("alias", [node("Identity", "x", "y"), node("Transpose", "x", "y")], ids=str)
    def test_an_alias_of_an_input(self, alias, x):
        same(graph({"x": x.shape}, "y x", alias), {"x": x})

    def test_one_that_is_read_later(self, x, w):
        nodes = [node("Conv", "x w", "a"), node("Relu", "a", "b"), node("Mul", "a b", "c")]
        same(canonical_convolutions(graph({"x": x.shape}, "a b c", *nodes, w=w)), {"x": x})

    def test_a_concat_and_its_parts(self, x):
        nodes = [node("Relu", "x", "a"), node("Neg", "x", "b"), node("Concat", "a b", "c")]
        for given in (x, x[:1]):
            same(graph({"x": given.shape}, "c a b", *nodes), {"x": given})
            same(graph({"x": given.shape}, "c", *nodes), {"x": given})

    def test_the_halves_of_a_split(self, x):
        nodes = [node("Neg", "x", "a"), node("Split", "a sizes", "b c", axis=1)]
        for given in (x, x[:1]):
            same(graph({"x": given.shape}, "b c", *nodes, sizes=[1, 2]), {"x": given})

    def test_an_input_that_is_called_like_an_output(self, x):
        relu = node("Relu", "x", "y")
        relu.inputs = ["output 0"]
        same(graph({"output 0": x.shape}, "y", relu), {"output 0": x})

    def test_runs_return_arrays_of_their_own(self, x):
        program = executable(graph({"x": x.shape}, "y", node("Neg", "x", "y")), {"x": x})
        (first,), (second,) = program.run({"x": x}), program.run({"x": -x})
        np.testing.assert_array_equal(first, -second)


class TestConcat:
    @pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
    @pytest.mark.parametrize("images", [1, 2])
    def test_every_axis(self, axis, images, x):
        x = x[:images]
        nodes = [node("Relu", "x", "a"), node("Neg", "x", "b"), node("Concat", "a x b a k", "y", axis=axis)]
        same(graph({"x": x.shape}, "y", *nodes, k=2 * x), {"x": x})

    def test_parts_of_different_sizes_with_an_empty_one(self, x):
        nodes = [node("Neg", "x", "a"), node("Slice", "a two two axis", "e"), node("Concat", "e a e x", "y")]
        for given in (x, x[:1]):
            same(graph({"x": given.shape}, "y", *nodes, two=[2], axis=[1]), {"x": given})

    def test_integers(self):
        nodes = [node("Concat", "x x", "y", axis=0)]
        same(graph({"x": (3,)}, "y", *nodes), {"x": np.arange(3)})


class TestShapes:
    @pytest.mark.parametrize("images", [1, 2, 5, 33])
    def test_batches(self, images, w, rng):
        x = whole(rng, (images, 3, 8, 8))
        nodes = [
            node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
            node("Add", "a x", "b"),
            node("Relu", "b", "c"),
            node("MaxPool", "c", "d", kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", "d", "e"),
            node("Gemm", "e v", "y"),
        ]
        g = graph({"x": x.shape}, "y", *nodes, w=w, v=whole(rng, (48, 5)))
        for rewrite in PASSES.values():
            g = rewrite(g)
        same(g, {"x": x})

    def test_several_in_turn_share_packed_weights(self, w, rng):
        g = canonical_convolutions(graph({"x": ("N", 3, "H", "W")}, "y", node("Conv", "x w", "y"), w=w))
        packings: dict = {}
        for shape in [(1, 3, 9, 9), (2, 3, 9, 9), (1, 3, 5, 30), (1, 3, 9, 9)]:
            x = whole(rng, shape)
            program = Executable(g, {"x": (x.shape, x.dtype)}, evaluate, packings)
            np.testing.assert_array_equal(program.run({"x": x})[0], evaluated(g, {"x": x})[0])
        assert len(packings) <= 2

    @pytest.mark.parametrize("shape", [(0, 3, 6, 5), (2, 3, 0, 5)], ids=str)
    def test_nothing(self, shape):
        nodes = [
            node("Relu", "x", "a"),
            node("Add", "a x", "b"),
            node("Concat", "b x", "c"),
            node("Transpose", "c", "y"),
        ]
        same(graph({"x": shape}, "y c", *nodes), {"x": np.empty(shape, np.float32)})

    def test_no_images_through_a_network(self, w):
        nodes = [
            node("Conv", "x w", "a"),
            node("MaxPool", "a", "b", kernel_shape=[2, 2]),
            node("GlobalAveragePool", "b", "y"),
        ]
        g = canonical_convolutions(graph({"x": (0, 3, 6, 5)}, "y", *nodes, w=w))
        assert compiled(g, {"x": np.empty((0, 3, 6, 5), np.float32)})[0].shape == (0, 3, 1, 1)

    def test_scalars(self):
        same(
            graph({"x": ()}, "y z", node("Relu", "x", "y"), node("Add", "x x", "z")), {"x": np.array(-2.5, np.float32)}
        )

    def test_a_reshaped_input(self, w, rng):
        x = whole(rng, (2, 90))
        g = graph({"x": x.shape}, "y", node("Reshape", "x s", "a"), node("Conv", "a w", "y"), w=w, s=[0, 3, 6, 5])
        same(canonical_convolutions(g), {"x": x})

    def test_an_input_with_channels_last(self, w, rng):
        x = whole(rng, (2, 6, 5, 3))
        g = graph({"x": x.shape}, "y", node("Transpose", "x", "a", perm=[0, 3, 1, 2]), node("Conv", "a w", "y"), w=w)
        assert len(executable(canonical_convolutions(g), {"x": x}).calls) == 1
        same(canonical_convolutions(g), {"x": x})

    def test_slices_of_an_input(self, w, rng):
        x = whole(rng, (1, 6, 6, 5))
        nodes = [
            node("Split", "x", "a b", axis=1),
            node("Conv", "b w", "c"),
            node("Conv", "a w", "d"),
            node("Sub", "c d", "y"),
        ]
        same(canonical_convolutions(graph({"x": x.shape}, "y", *nodes, w=w)), {"x": x})

    def test_shapes_that_depend_on_values(self, x):
        for nodes in (
            [node("NonZero", "x", "y")],
            [node("Reshape", "x s", "y")],
            [node("If", "c", "y", then_branch=graph({}, "x"), else_branch=graph({}, "x"))],
            [node("SequenceConstruct", "x x", "y")],
        ):
            g = graph({"x": x.shape, "s": (2,), "c": ()}, "y", *nodes)
            feeds = {"x": x, "s": np.array([-1, 2]), "c": np.array(True)}
            with pytest.raises(Dynamic):
                executable(g, feeds)

    def test_a_shape_that_differs_from_that_of_zeros_is_found(self):
        def first_nonzero(node, inputs):
            return (inputs[0][: np.count_nonzero(inputs[0])],)

        g = graph({"x": (3,)}, "y", node("Custom", "x", "y"))
        program = Executable(g, {"x": ((3,), np.dtype(np.float32))}, first_nonzero, {})
        with pytest.raises(ModelError, match="has a result of shape"):
            program.run({"x": np.ones(3, np.float32)})

    def test_random_numbers_are_drawn_by_every_run(self):
        def draw(node, inputs):
            return (np.random.default_rng().standard_normal(4),)

        program = Executable(graph({}, "y", node("RandomNormal", "-", "y")), {}, draw, {})
        assert (program.run({})[0] != program.run({})[0]).any()

    def test_operands_that_do_not_fit(self, x, w):
        g = graph({"x": x.shape}, "y", node("Add", "x w", "y"), w=np.ones(7, np.float32))
        with pytest.raises(ModelError, match=r"Add 'y' fails: .*broadcast"):
            executable(g, {"x": x})
        g = canonical_convolutions(graph({"x": (2, 4, 6, 5)}, "y", node("Conv", "x w", "y"), w=w))
        with pytest.raises(ModelError, match="expected 3 channels"):
            executable(g, {"x": np.ones((2, 4, 6, 5), np.float32)})


class TestThreads:
    def test_runs_at_once_have_a_memory_of_their_own(self, w, rng):
        nodes = [
            node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
            node("Tanh", "a", "b"),
            node("Concat", "b x", "c"),
            node("Abs", "c", "y"),
        ]
        x = whole(rng, (1, 3, 16, 16))
        program = executable(canonical_convolutions(graph({"x": x.shape}, "y", *nodes, w=w)), {"x": x})
        inputs = [whole(rng, x.shape) for _ in range(24)]
        alone = [program.run({"x": array})[0] for array in inputs]
        poison(program)
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda array: program.run({"x": array})[0], inputs * 4))
        for one, other in zip(together, alone * 4, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_the_bits_do_not_depend_on_the_team(self, team, w, rng):
        x = rng.standard_normal((1, 3, 40, 40)).astype(np.float32)
        nodes = [
            node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
            node("Sigmoid", "a", "b"),
            node("Mul", "a b", "c"),
            node("GlobalAveragePool", "c", "d"),
            node("Mul", "c d", "e"),
            node("Transpose", "e", "f", perm=[0, 2, 3, 1]),
            node("Softmax", "f", "y"),
        ]
        results = compiled(canonical_convolutions(graph({"x": x.shape}, "y", *nodes, w=w)), {"x": x})[0].tobytes()
        assert RESULTS.setdefault("team", results) == results


RESULTS: dict[str, bytes] = {}


def test_an_error_in_a_run_leaves_the_program_usable():
    def fails_on_ones(node, inputs):
        if inputs[0].any():
            raise ModelError("no ones")
        return (inputs[0],)

    g = graph({"x": (3,)}, "y", node("Custom", "x", "y"))
    program = Executable(g, {"x": ((3,), np.dtype(np.float32))}, fails_on_ones, {})
    with pytest.raises(ModelError, match="no ones"):
        program.run({"x": np.ones(3, np.float32)})
    assert not program.run({"x": np.zeros(3, np.float32)})[0].any()


def test_strings_are_not_for_programs():
    g = graph({"x": (2,)}, "y", node("Identity", "x", "y"))
    g.inputs[0] = ValueInfo("x", "tensor(string)", [2], None, True)
    with pytest.raises(Dynamic, match="reads strings"):
        executable(g, {"x": np.array(["a", "b"], object)})
