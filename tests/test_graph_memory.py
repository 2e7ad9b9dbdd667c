"""Buffers, tensors in them, and the plan of the arena."""

from itertools import combinations

import numpy as np
import pytest
from graphs import compiled, evaluated, executable, graph, node, whole

from fastconv.graph.memory import ALIGNMENT, Buffer, Tensor, plan_arena, reshaped_strides
from fastconv.graph.passes import canonical_convolutions, fuse_residual
from fastconv.graph.slab import Slab, slab_bytes


def lived(size: int, first: int, last: int) -> Buffer:
    buffer = Buffer(size)
    buffer.use(first)
    buffer.use(last)
    return buffer


def overlap(a: Buffer, b: Buffer) -> bool:
    at_once = a.first <= b.last and b.first <= a.last
    return at_once and a.offset < b.offset + b.size and b.offset < a.offset + a.size


class TestPlan:
    @pytest.mark.parametrize("seed", range(20))
    def test_no_two_live_buffers_overlap(self, seed):
        rng = np.random.default_rng(seed)
        buffers = []
        for _ in range(60):
            first = int(rng.integers(0, 40))
            size = int(rng.integers(0, 5000)) if rng.random() < 0.9 else 0
            buffers.append(lived(size, first, first + int(rng.integers(0, 8))))
        size = plan_arena(buffers)
        assert not [pair for pair in combinations(buffers, 2) if overlap(*pair)]
        assert all(b.offset % ALIGNMENT == 0 and b.offset + b.size <= size for b in buffers)
        live = max(sum(b.size for b in buffers if b.first <= call <= b.last) for call in range(50))
        assert live <= size

    @pytest.mark.parametrize("sizes", [[640] * 5, [64, 6400, 128, 640, 3200], [128]], ids=str)
    def test_a_chain_takes_its_peak(self, sizes):
        buffers = [lived(size, call, call + 1) for call, size in enumerate(sizes)]
        pairs = [sum(sizes[i : i + 2]) for i in range(len(sizes))]
        assert plan_arena(buffers) == max(pairs)

    def test_what_is_never_written_named_or_part_of_another_takes_nothing(self):
        whole = lived(100, 0, 1)
        part = lived(50, 0, 1)
        part.place_in(whole, 25)
        given = Buffer(1000, name="x")
        given.use(0)
        assert plan_arena([whole, part, given, Buffer(5000)]) == 128

    def test_nothing(self):
        assert plan_arena([]) == 0


class TestBuffers:
    def test_a_part_lives_and_is_needed_as_long_as_the_whole(self):
        whole, part, inner = Buffer(100), lived(40, 2, 3), Buffer(10)
        part.need(7)
        inner.place_in(part, 8)
        part.place_in(whole, 16)
        assert inner.root() == (whole, 24)
        assert (whole.first, whole.last, whole.needed) == (2, 3, 7)
        inner.use(9)
        inner.need(11)
        assert (whole.first, whole.last, whole.needed) == (2, 9, 11)

    def test_views(self):
        arena = np.arange(256, dtype=np.uint8)
        tensor = Tensor.new((3, 4), np.int16)
        tensor.buffer.offset = 64
        whole = tensor.view(arena, {})
        assert whole[0, 0] == 64 + 256 * 65
        turned = Tensor((4, 3), tensor.dtype, tensor.buffer, (2, 8))
        np.testing.assert_array_equal(turned.view(arena, {}), whole.T)
        np.testing.assert_array_equal(tensor.strided((2, 2), (16, 4), 2).view(arena, {}), whole[::2, 1::2])
        given = Tensor.new((2, 3), np.float32, "x")
        array = np.ones((2, 3), np.float32)
        assert np.shares_memory(given.view(arena, {"x": array}), array)

    def test_contiguous(self):
        tensor = Tensor.new((2, 1, 3), np.float32)
        assert tensor.is_contiguous
        assert tensor.fills_buffer
        assert Tensor((2, 1, 3), tensor.dtype, tensor.buffer, (12, 999, 4)).strides == (12, 12, 4)
        assert not Tensor((3, 1, 2), tensor.dtype, tensor.buffer, (4, 4, 12)).is_contiguous
        assert Tensor((0, 3), tensor.dtype, tensor.buffer, (5, 5)).is_contiguous
        part = tensor.strided((1, 1, 3), tensor.strides)
        assert part.is_contiguous
        assert not part.fills_buffer


@pytest.mark.parametrize("seed", range(200))
def test_strides_of_another_shape_are_numpys(seed):
    rng = np.random.default_rng(seed)
    array = np.zeros(2 * rng.integers(1, 4, rng.integers(1, 6)))[:: rng.choice([1, 2])]
    array = array.transpose(rng.permutation(array.ndim) if rng.random() < 0.5 else range(array.ndim))
    sizes = [
        int(p) for size in array.shape for p in ([size // 2, 2] if size % 2 == 0 and rng.random() < 0.5 else [size])
    ]
    while len(sizes) > 1 and rng.random() < 0.6:
        at = int(rng.integers(0, len(sizes) - 1))
        sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
    sizes.insert(int(rng.integers(0, len(sizes) + 1)), 1)
    expected = array.reshape(sizes)
    strides = reshaped_strides(array.shape, array.strides, sizes)
    assert (strides is not None) == np.shares_memory(expected, array)
    if strides is not None:
        assert [s for s, n in zip(strides, sizes, strict=True) if n > 1] == [
            s for s, n in zip(expected.strides, sizes, strict=True) if n > 1
        ]


X = np.random.default_rng(3).standard_normal((1, 4, 6, 6)).astype(np.float32)
CONV = np.random.default_rng(4).standard_normal((4, 4, 3, 3)).astype(np.float32)


def same_as_numpy(g, feeds) -> list:
    """The calls of a program that gives NumPy's results."""
    for actual, expected in zip(compiled(g, feeds), evaluated(g, feeds), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    return executable(g, feeds).calls


def copies(calls) -> int:
    return sum(call.algorithm == "copy" for call in calls)


class TestInPlace:
    """What needs no memory of its own."""

    def test_activations_and_arithmetic_take_the_place_of_what_nobody_reads(self):
        nodes = [
            node("MaxPool", "x", "a", kernel_shape=[3, 3]),
            node("Sigmoid", "a", "b"),
            node("Mul", "gate b", "c"),
            node("Relu", "c", "d"),
            node("Neg", "d", "y"),
        ]
        g = graph({"x": X.shape}, "y", *nodes, gate=np.ones((4, 1, 1), np.float32))
        calls = same_as_numpy(g, {"x": X})
        assert len({call.outputs[0].buffer for call in calls}) == 1
        assert executable(g, {"x": X}).arena_bytes == 0

    @pytest.mark.parametrize(
        ("nodes", "outputs"),
        [
            ([node("Relu", "x", "y")], "y"),
            ([node("Tanh", "x", "a"), node("Relu", "a", "y"), node("Add", "a y", "z")], "z"),
            ([node("Tanh", "x", "a"), node("Relu", "a", "y")], "y a"),
            ([node("Tanh", "x", "a"), node("Flatten", "a", "f"), node("Relu", "a", "y"), node("Neg", "f", "z")], "y z"),
            ([node("Tanh", "x", "a"), node("Concat", "a a", "c"), node("Relu", "a", "y"), node("Neg", "c", "z")], "y z"),
            ([node("Tanh", "x", "a"), node("Split", "a", "s t", axis=1), node("Relu", "s", "y"), node("Neg", "t", "z")], "y z"),
            ([node("Tanh", "x", "a"), node("Split", "a", "s t", axis=1), node("Relu", "a", "y"), node("Neg", "t", "z")], "y z"),
            ([node("Tanh", "x", "a"), node("Slice", "a zero one axis", "s"), node("Mul", "a s", "y")], "y"),
            ([node("Tanh", "x", "a"), node("Transpose", "a", "t", perm=[0, 1, 3, 2]), node("Mul", "a t", "y")], "y"),
            ([node("Tanh", "x", "a"), node("Transpose", "a", "t"), node("Relu", "t", "y"), node("Abs", "t", "z")], "y z"),
            ([node("Tanh", "x", "a"), node("Mul", "a a", "y")], "y"),
        ],
        ids=[
            "an input", "read later", "an output", "another shape", "in a concat", "a part", "parts", "gate within", "turned",
            "a copy", "itself",
        ],
    )  # fmt: skip
    def test_what_is_read_later_is_not_overwritten(self, nodes, outputs):
        numbers = {"zero": [0], "one": [1], "axis": [1]}
        given = X.copy()
        same_as_numpy(graph({"x": X.shape}, outputs, *nodes, **numbers), {"x": X})
        np.testing.assert_array_equal(X, given)

    def test_concatenated_parts_are_computed_in_their_places(self):
        nodes = [node("Conv", "x w", "a"), node("Relu", "x", "b"), node("MaxPool", "x", "c", kernel_shape=[1, 1])]
        g = graph({"x": X.shape}, "z", *nodes[1:], node("Concat", "b c", "y"), node("Neg", "y", "z"), w=CONV)
        calls = same_as_numpy(g, {"x": X})
        assert copies(calls) == 0
        assert calls[0].outputs[0].buffer.root()[0] is calls[1].outputs[0].buffer.root()[0]

    def test_convolutions_of_several_images_write_into_a_concat(self, rng):
        x, v = whole(rng, (3, 4, 6, 6)), whole(rng, (5, 4, 1, 1))
        w, d = whole(rng, (4, 4, 3, 3)), whole(rng, (4, 1, 3, 3))
        nodes = [
            node("Conv", "x w", "a", pads=[1] * 4),
            node("Conv", "x v", "b"),
            node("Conv", "x d", "e", pads=[1] * 4, group=4),
            node("Conv", "x w", "f", pads=[1] * 4),
            node("Add", "f x", "g"),
            node("Concat", "x a b e g", "c"),
        ]
        for more, count in (
            ([node("Neg", "c", "y")], 2),
            ([node("Neg", "c", "n"), node("MaxPool", "a", "y", kernel_shape=[1, 1])], 3),
        ):
            outputs = "y n" if len(more) > 1 else "y"
            g = graph({"x": x.shape}, outputs, *nodes, *more, w=w, v=v, d=d)
            calls = same_as_numpy(fuse_residual(canonical_convolutions(g)), {"x": x})
            assert copies(calls) == count

    @pytest.mark.parametrize(
        "last",
        [
            [node("MaxPool", "x", "b", kernel_shape=[1, 1]), node("Concat", "r b", "y")],
            [node("ConvTranspose", "x w", "y", strides=[2, 2])],
            [node("Concat", "x k", "y", axis=2)],
        ],
        ids=["a concat", "a transposed convolution", "copies"],
    )
    def test_parts_of_an_output_are_written_to_the_array_that_is_returned(self, last):
        nodes = [node("Relu", "x", "r"), *last] if last[0].op_type == "MaxPool" else last
        g = canonical_convolutions(graph({"x": X.shape}, "y", *nodes, w=CONV, k=X))
        same_as_numpy(g, {"x": X})
        program = executable(g, {"x": X})
        assert program.direct == ["output 0"]
        assert program.arena_bytes == 0

    def test_a_concat_grows_with_every_layer(self):
        """As in DenseNet: each concat begins with the whole of the one before."""
        nodes, parts = [node("Tanh", "x", "p0")], ["p0"]
        for i in range(1, 4):
            nodes.append(node("MaxPool", parts[-1], f"p{i}", kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
            parts.append(f"p{i}")
            nodes.append(node("Concat", " ".join(parts), f"c{i}"))
            nodes.append(node("Exp", f"c{i}", f"e{i}"))
        g = graph({"x": X.shape}, "e1 e2 e3", *nodes)
        assert copies(same_as_numpy(g, {"x": X})) == 0

    @pytest.mark.parametrize(
        ("nodes", "count"),
        [
            ([node("Concat", "x x", "y")], 2),
            ([node("Relu", "x", "a"), node("Concat", "a a", "y")], 1),
            ([node("Relu", "x", "a"), node("Concat", "a x", "y")], 1),
            ([node("Relu", "x", "a"), node("Concat", "a k", "y")], 2),
            ([node("Relu", "x", "a"), node("Tanh", "x", "b"), node("Concat", "a b", "y", axis=2)], 2),
            ([node("Relu", "x", "a"), node("Tanh", "x", "b"), node("Concat", "a b", "y", axis=-1)], 2),
            ([node("Relu", "x", "a"), node("Split", "a", "s t", axis=1), node("Concat", "t s", "y")], 2),
            ([node("Relu", "x", "a"), node("Split", "a", "s t", axis=1), node("Concat", "s t", "y")], 0),
            ([node("Relu", "x", "a"), node("Transpose", "a", "t", perm=[0, 1, 3, 2]), node("Concat", "a t", "y")], 1),
        ],
        ids=[
            "inputs",
            "twice",
            "an input",
            "a constant",
            "rows",
            "columns",
            "parts turned round",
            "parts",
            "transposed",
        ],
    )
    def test_other_parts_are_copied(self, nodes, count):
        g = graph({"x": X.shape}, "z", *nodes, node("Neg", "y", "z"), k=X)
        assert copies(same_as_numpy(g, {"x": X})) == count

    def test_two_concats_of_one_value(self):
        nodes = [
            node("Relu", "x", "a"),
            node("Tanh", "x", "b"),
            node("Concat", "a b", "c"),
            node("Concat", "b a", "d"),
            node("Sub", "c d", "y"),
        ]
        assert copies(same_as_numpy(graph({"x": X.shape}, "y", *nodes), {"x": X})) == 2

    def test_views_move_nothing(self):
        nodes = [
            node("Relu", "x", "r"),
            node("Slice", "r zero two axis", "a"),
            node("Slice", "r two four axis", "b"),
            node("Conv", "a v", "c"),
            node("Transpose", "b", "t", perm=[0, 1, 3, 2]),
            node("Add", "c t", "y"),
        ]
        numbers = {"zero": [0], "two": [2], "four": [4], "axis": [1]}
        g = graph({"x": X.shape}, "y", *nodes, v=CONV[:2, :2, :1, :1].copy(), **numbers)
        assert copies(same_as_numpy(g, {"x": X})) == 1  # the transposed operand of the sum

    def test_a_channel_shuffle_is_one_copy(self):
        nodes = [
            node("Relu", "x", "r"),
            node("Reshape", "r apart", "a"),
            node("Transpose", "a", "t", perm=[0, 2, 1, 3, 4]),
            node("Reshape", "t together", "y"),
        ]
        g = graph({"x": X.shape}, "y", *nodes, apart=[1, 2, 2, 6, 6], together=[1, 4, 6, 6])
        calls = same_as_numpy(g, {"x": X})
        assert [call.algorithm for call in calls] == ["direct", "copy"]

    def test_several_readers_of_a_turned_array_share_its_copy(self):
        nodes = [node("Transpose", "x", "t"), node("Relu", "t", "a"), node("Tanh", "t", "b"), node("Add", "a b", "y")]
        assert copies(same_as_numpy(graph({"x": X.shape}, "y", *nodes), {"x": X})) == 1

    def test_the_copy_stays_while_another_name_of_the_array_is_read(self):
        nodes = [
            node("Transpose", "x", "t"),
            node("Tanh", "t", "a"),
            node("Clip", "t", "same"),
            node("Neg", "same", "b"),
            node("Add", "same b", "c"),
            node("Add", "a c", "y"),
        ]
        assert copies(same_as_numpy(graph({"x": X.shape}, "y", *nodes), {"x": X})) == 1


class TestSlab:
    def test_arrays_are_aligned_and_apart(self, rng):
        counts = [3, 0, 100, 17, 1]
        slab = Slab(sum(slab_bytes(8 * count) for count in counts))
        arrays = [slab.empty(count, np.float64) for count in counts]
        for i, array in enumerate(arrays):
            assert (array.size, array.dtype) == (counts[i], np.float64)
            assert array.ctypes.data % ALIGNMENT == 0 or not array.size
            array.fill(i)
        for i, array in enumerate(arrays):
            assert (array == i).all()
        base = arrays[0].base
        assert all(array.base is base for array in arrays)

    def test_what_does_not_fit_has_memory_of_its_own(self):
        slab = Slab(slab_bytes(40))
        first, second = slab.empty(10, np.float32), slab.empty(10, np.float32)
        assert not np.shares_memory(first, second)
        assert second.base is None

    def test_temporary_arrays_take_each_others_place(self):
        slab = Slab(0)
        first = slab.temporary((4, 5), np.float32)
        assert np.shares_memory(first, slab.temporary((3, 2), np.float64))
        assert slab.temporary((40, 5), np.float32).shape == (40, 5)
