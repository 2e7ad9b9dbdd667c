"""Operators that move values or none at all, and resizing, against NumPy."""

import numpy as np
import pytest
from graphs import by_kernels, by_numpy, executable, graph, node, run, whole


@pytest.fixture
def x(rng):
    return rng.standard_normal((2, 6, 7, 5)).astype(np.float32)


class TestShapes:
    @pytest.mark.parametrize(
        "moved",
        [
            node("Flatten", "v", "y", axis=2),
            node("Flatten", "v", "y", axis=-1),
            node("Reshape", "v shape", "y"),
            node("Squeeze", "s", "y"),
            node("Unsqueeze", "v axes", "y"),
            node("Unsqueeze", "v", "y", opset=11, axes=[0, 4]),
            node("Transpose", "v", "y"),
            node("Transpose", "v", "y", perm=[0, 3, 1, 2]),
            node("Slice", "v one five three", "y"),
            node("Slice", "v minus_one zero three minus_two", "y"),
            node("Slice", "v minus_one lowest three minus_two", "y"),
            node("Slice", "v", "y", opset=9, axes=[1, 2], starts=[-3, 1], ends=[1000, -1]),
            node("Slice", "v five five three", "y"),
            node("Split", "v sizes", "y z u", axis=1),
            node("Split", "v", "y z", axis=3, opset=18, num_outputs=2),
            node("Split", "v", "y z", axis=-3, opset=2, split=[2, 4]),
            node("Gather", "v two", "y", axis=1),
            node("Gather", "v last", "y", axis=-1),
            node("Expand", "s large", "y"),
            node("Identity", "v", "y"),
        ],
        ids=str,
    )
    def test_what_moves_nothing(self, moved, x):
        numbers = {
            "shape": [0, 3, -1], "axes": [1, -1], "one": [1], "five": [5], "three": [3], "minus_one": [-1], "zero": [0],
            "minus_two": [-2], "lowest": [-100], "sizes": [1, 3, 2], "two": np.array(2), "last": np.array(-1),
            "large": [2, 6, 7, 5],
        }  # fmt: skip
        nodes = [node("Abs", "x", "v"), node("Slice", "v zero one_image first", "s"), moved]
        nodes = [nodes[0], *(nodes[1:2] if "s" in moved.inputs else []), moved]
        numbers |= {"one_image": [1], "first": [1]}
        first, *others = run(nodes, {"x": x}, outputs=" ".join(moved.outputs), **numbers)
        assert first == "numpy"
        assert others in [
            ["copy"] * count for count in range(len(moved.outputs) + 1)
        ]  # into the arrays that are returned
        read = [node("Exp", name, f"{name}_read") for name in moved.outputs]
        names = " ".join(of.outputs[0] for of in read)
        assert "copy" not in run([*nodes, *read], {"x": x}, outputs=names, **numbers)

    @pytest.mark.parametrize("op_type", ["DepthToSpace", "SpaceToDepth"])
    @pytest.mark.parametrize("mode", ["DCR", "CRD"])
    def test_blocks(self, op_type, mode, rng):
        assert by_kernels([node(op_type, "x", "y", blocksize=2, mode=mode)], {"x": whole(rng, (2, 12, 4, 6))}) == [
            "copy"
        ]

    @pytest.mark.parametrize(
        "at", [{}, {"mode": "reflect"}, {"mode": "edge"}, {"mode": "wrap"}, {"mode": "constant"}], ids=str
    )
    def test_pad(self, at, x):
        pads = {"pads": [0, 0, 2, 1, 0, 0, 1, 3], "fill": 1.5}
        by_kernels([node("Pad", "x pads fill", "y", **at)], {"x": x}, **pads)
        by_kernels([node("Pad", "x pads - axes", "y", **at)], {"x": x}, pads=[1, 0, 2, 1], axes=[3, -2])
        by_kernels([node("Pad", "x", "y", opset=2, pads=pads["pads"], **at)], {"x": x})

    def test_pad_of_a_turned_array_of_one_pixel(self, rng):
        """Contiguous, with the stride of an axis of one position that looks like channels last."""
        turned = node("Transpose", "x", "t", perm=[3, 1, 2, 0])
        by_kernels(
            [turned, node("Pad", "t", "y", opset=2, pads=[0, 0, 1, 0, 0, 0, 0, 1])], {"x": whole(rng, (1, 4, 1, 1))}
        )
        by_kernels(
            [turned, node("MaxPool", "t", "y", kernel_shape=[2, 2], pads=[0, 1, 1, 0])], {"x": whole(rng, (1, 4, 1, 1))}
        )

    @pytest.mark.parametrize("first", ["Abs", "Identity"])
    def test_more_axes_than_the_kernel_has_loops(self, first, rng):
        nodes = [
            node(first, "x", "a"),
            node("Slice", "a last lowest axis back", "r"),
            node("Transpose", "r", "t", perm=[0, 7, 2, 5, 4, 3, 6, 1]),
            node("Relu", "t", "y"),
        ]
        numbers = {"last": [-1], "lowest": [-9], "axis": [3], "back": [-1]}
        assert "copy" in run(nodes, {"x": whole(rng, (1, 2, 3, 2, 3, 2, 3, 2))}, **numbers)

    def test_pad_that_crops(self, x):
        by_kernels([node("Pad", "x", "y", opset=2, pads=[0, 1, -2, 1, 0, 0, 1, -1], value=-1.0)], {"x": x})

    def test_a_cast_to_the_same_type_is_nothing(self):
        x = np.ones((2, 3), np.float32)
        assert not executable(graph({"x": x.shape}, "y", node("Cast", "x", "y", to=1)), {"x": x}).calls


class TestResize:
    @pytest.mark.parametrize(
        "at",
        [
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            {"mode": "nearest"},
            {"mode": "linear"},
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
            {"mode": "linear", "antialias": 1},
            {"mode": "cubic"},
            {"mode": "cubic", "exclude_outside": 1},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("size", [(14, 10), (3, 4), (7, 11)], ids=str)
    def test_modes(self, at, size, x):
        scales = [1, 1, size[0] / 7, size[1] / 5]
        by_kernels(
            [node("Resize", "x - scales", "y", opset=19, **at)], {"x": x}, tolerance=1e-5, scales=np.float32(scales)
        )
        sizes = node("Resize", "x - - sizes", "y", opset=19, axes=[2, 3], **at)
        by_kernels([sizes], {"x": x}, tolerance=1e-5, sizes=size)

    @pytest.mark.parametrize("mode", ["nearest", "linear"])
    def test_older_versions(self, mode, x):
        scales = np.array([1, 1, 2, 1.5], np.float32)
        by_kernels([node("Upsample", "x scales", "y", opset=9, mode=mode)], {"x": x}, scales=scales)
        by_kernels([node("Resize", "x scales", "y", opset=10, mode=mode)], {"x": x}, scales=scales)

    def test_what_is_numpys(self, x):
        by_numpy([node("Resize", "x - scales", "y")], {"x": x}, scales=np.float32([1, 2, 1, 1]))
        crop = node("Resize", "x roi scales", "y", mode="linear", coordinate_transformation_mode="tf_crop_and_resize")
        by_numpy([crop], {"x": x}, scales=np.float32([1, 1, 2, 2]), roi=np.float32([0, 0, 0.2, 0.2, 1, 1, 0.8, 0.8]))
