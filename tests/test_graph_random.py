"""Random graphs: whatever is computed in place, in parts or in views, a program gives NumPy's bits.

Values are small whole numbers, and every operator here is exact on them: Winograd's transforms are not, hence strict precision.
"""

import numpy as np
import pytest
from graphs import compiled, evaluate, evaluated, graph, node, whole

from fastconv.graph.passes import PASSES
from fastconv.onnx.model import Model
from fastconv.onnx.session import InferenceSession


class Writer:
    """Adds nodes to a graph, and knows every value so far."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        images, channels = int(self.rng.integers(1, 4)), int(self.rng.choice([2, 4, 6]))
        self.inputs = {"x": whole(self.rng, (images, channels, 4, 4)), "z": whole(self.rng, (images, channels, 4, 4))}
        self.values = dict(self.inputs)
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list = []

    def pick(self, accepts=lambda array: True) -> str | None:
        """One of the values, later ones more often."""
        names = [name for name, array in self.values.items() if array.ndim == 4 and accepts(array)]
        return names[-1 - min(int(self.rng.exponential(3)), len(names) - 1)] if names else None

    def constant(self, array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def add(self, op_type: str, *inputs: str, outputs: int = 1, **attributes) -> None:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        made = node(op_type, " ".join(inputs), " ".join(names), **attributes)
        known = {"": None, **self.constants, **self.values}
        results = evaluate(made, [known[name] for name in made.inputs])
        if all(np.abs(result).max(initial=0) <= 2**16 for result in results):  # sums of products stay exact
            self.nodes.append(made)
            self.values.update(zip(names, results, strict=False))

    def unary(self):
        self.add(str(self.rng.choice(["Relu", "Neg", "Identity", "Abs", "Clip"])), self.pick())

    def binary(self):
        a = self.pick()
        shape = self.values[a].shape
        b = self.pick(lambda array: array.shape == shape)
        kind = self.rng.integers(0, 4)
        if kind == 1:
            b = self.constant(whole(self.rng, (shape[1], 1, 1)))
        elif kind == 2:
            b = self.constant(whole(self.rng, ()))
        elif kind == 3:
            self.add("GlobalMaxPool", a)
            b = self.pick(lambda array: array.shape == (*shape[:2], 1, 1)) or b
        self.add(str(self.rng.choice(["Add", "Sub", "Mul", "Max", "Min"])), *self.rng.permutation([a, b]))

    def sum(self):
        a = self.pick()
        shape = self.values[a].shape
        parts = [a, *(self.pick(lambda array: array.shape == shape) for _ in range(self.rng.integers(1, 4)))]
        self.add(str(self.rng.choice(["Sum", "Max", "Min"])), *self.rng.permutation(parts))

    def batch_norm(self):
        x = self.pick(lambda array: array.shape[1] > 0)
        if x is not None:
            channels = self.values[x].shape[1]
            numbers = [whole(self.rng, channels, most=2) for _ in range(3)]
            self.add(
                "BatchNormalization", x, *map(self.constant, (*numbers, np.ones(channels, np.float32))), epsilon=0.0
            )

    def conv_transpose(self):
        x = self.pick(lambda array: array.shape[1] > 0 and min(array.shape[2:]) > 0 and array.size < 500)
        if x is not None:
            channels = self.values[x].shape[1]
            w = whole(self.rng, (channels, int(self.rng.integers(1, 4)), *self.rng.integers(1, 4, 2)), most=1)
            self.add("ConvTranspose", x, self.constant(w), strides=self.rng.integers(1, 3, 2).tolist())

    def product(self):
        """Of matrices, by constants or by one that is computed."""
        x = self.pick()
        n, c, h, w = self.values[x].shape
        kind = self.rng.integers(0, 3)
        if kind == 0:
            self.add("MatMul", x, self.constant(whole(self.rng, (w, 5), most=1)))
        elif kind == 1:
            self.add("Transpose", x, perm=[0, 1, 3, 2])
            self.add("MatMul", x, list(self.values)[-1])
        else:
            self.add("Reshape", x, self.constant([n, c * h * w]))
            flat = list(self.values)[-1]
            matrix, bias = (
                whole(self.rng, (c * h * w, 6), most=1),
                whole(self.rng, [(), (6,), (n, 1)][self.rng.integers(3)]),
            )
            self.add("Gemm", flat, self.constant(matrix), self.constant(bias))
            if self.values[list(self.values)[-1]].shape == (n, 6):
                self.add("Reshape", list(self.values)[-1], self.constant([n, 6, 1, 1]))

    def one_of(self):
        axis = int(self.rng.integers(0, 4))
        x = self.pick(lambda array: array.shape[axis] > 0)
        if x is not None:
            index = int(self.rng.integers(0, self.values[x].shape[axis]))
            self.add("Gather", x, self.constant(np.array(index)), axis=axis)
            self.add("Unsqueeze", list(self.values)[-1], self.constant([int(self.rng.integers(0, 4))]))

    def repeat(self):
        x = self.pick(lambda array: array.size < 1000)
        if x is not None:
            shape = [3 if size == 1 else size for size in self.values[x].shape]
            self.add("Expand", x, self.constant(np.array(shape)))

    def enlarge(self):
        x = self.pick(lambda array: 0 < array.size < 500)
        if x is not None:
            self.add("Resize", x, "-", self.constant(np.float32([1, 1, 2, 2])), mode="nearest")

    def blocks(self):
        x = self.pick(lambda array: array.shape[1] % 4 == 0 and array.size)
        if x is not None:
            self.add("DepthToSpace", x, blocksize=2, mode=str(self.rng.choice(["DCR", "CRD"])))

    def conv(self):
        x = self.pick(lambda array: array.shape[1] > 0 and min(array.shape[2:]) > 0)
        if x is None:
            return
        channels = self.values[x].shape[1]
        group = int(self.rng.choice([1, channels]))
        w = whole(self.rng, (channels, channels // group, *self.rng.choice([(1, 1), (3, 3)])), most=1)
        self.add("Conv", x, self.constant(w), pads=[w.shape[2] // 2] * 4, group=group)

    def concat(self):
        a = self.pick()
        axis = int(self.rng.integers(0, 4))
        shape = self.values[a].shape
        fits = lambda array: all(i == axis or n == m for i, (n, m) in enumerate(zip(array.shape, shape, strict=True)))  # noqa: E731
        parts = [a, *(self.pick(fits) for _ in range(self.rng.integers(0, 3)))]
        if sum(self.values[part].size for part in parts) < 5000:
            self.add("Concat", *self.rng.permutation(parts), axis=axis)

    def split(self):
        axis = int(self.rng.integers(0, 4))
        x = self.pick(lambda array: array.shape[axis] > 1)
        if x is not None:
            size = self.values[x].shape[axis]
            first = int(self.rng.integers(1, size))
            self.add("Split", x, self.constant([first, size - first]), outputs=2, axis=axis)

    def cut(self):
        axis = int(self.rng.integers(0, 4))
        x = self.pick(lambda array: array.shape[axis] > 1)
        if x is not None:
            step = int(self.rng.choice([1, 2, -1]))
            ends = [0, 10**6] if step > 0 else [10**6, -(10**6)]
            self.add("Slice", x, *(self.constant([number]) for number in (*ends, axis, step)))

    def turn(self):
        self.add("Transpose", self.pick(), perm=self.rng.permutation(4).tolist())

    def shuffle(self):
        x = self.pick(lambda array: array.shape[1] % 2 == 0 and array.size)
        if x is not None:
            n, c, h, w = self.values[x].shape
            self.add("Reshape", x, self.constant([n, 2, c // 2, h, w]))
            apart = list(self.values)[-1]
            if self.values[apart].ndim == 5:
                self.add("Transpose", apart, perm=[0, 2, 1, 3, 4])
                self.add("Reshape", list(self.values)[-1], self.constant([n, c, h, w]))

    def pool(self):
        x = self.pick(lambda array: min(array.shape[2:]) > 1)
        if x is not None:
            self.add("MaxPool", x, kernel_shape=[2, 2], strides=[1, 1], pads=[0, 1, 1, 0])

    def pad(self):
        x = self.pick(lambda array: array.size < 2000)
        if x is not None:
            self.add("Pad", x, self.constant([0, 0, 1, 0, 0, 0, 0, 1]))


def write(seed: int):
    writer = Writer(seed)
    moves = [
        writer.unary, writer.unary, writer.binary, writer.binary, writer.conv, writer.conv, writer.concat, writer.concat,
        writer.split, writer.cut, writer.turn, writer.shuffle, writer.pool, writer.pad, writer.sum, writer.batch_norm,
        writer.conv_transpose, writer.product, writer.one_of, writer.repeat, writer.enlarge, writer.blocks,
    ]  # fmt: skip
    for _ in range(writer.rng.integers(4, 30)):
        moves[writer.rng.integers(len(moves))]()
    outputs = writer.rng.permutation(list(writer.values))[: writer.rng.integers(1, 5)]
    last = list(writer.values)[-1]
    names = dict.fromkeys([last, *map(str, outputs)])
    shapes = {name: array.shape for name, array in writer.inputs.items()}
    return graph(shapes, " ".join(names), *writer.nodes, **writer.constants), writer.inputs


@pytest.mark.parametrize("seed", range(250))
def test_a_program_gives_the_bits_of_numpy(seed):
    g, feeds = write(seed)
    after = g
    for rewrite in PASSES.values():
        after = rewrite(after)
    expected = evaluated(g, feeds)
    given = {name: array.copy() for name, array in feeds.items()}
    for program in (g, after):
        for info, one, other in zip(g.outputs, compiled(program, feeds, precision="strict"), expected, strict=True):
            np.testing.assert_array_equal(one, other, f"{info.name} of seed {seed}")
    for name, array in feeds.items():
        np.testing.assert_array_equal(array, given[name])


@pytest.mark.parametrize("seed", range(1000, 1060))
def test_every_step_of_a_session_keeps_to_its_bound(seed):
    """Winograd included; a run, whose values share memory, gives the bits of the steps, whose values do not."""
    g, feeds = write(seed)
    session = InferenceSession(Model(g, {"": 17}, 10, "test", "", "", 0, "", {}))
    verification = session.verify(feeds)
    assert verification.ok, f"seed {seed}\n{verification}"
    expected = evaluated(g, feeds)
    for info, one, other in zip(g.outputs, session.run(None, feeds), expected, strict=True):
        largest = max(1.0, float(np.abs(other).max(initial=0)))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * largest, err_msg=f"{info.name} of seed {seed}")
