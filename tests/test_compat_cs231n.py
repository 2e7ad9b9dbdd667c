"""The course CS231n's convolutions and pooling: its column layouts, caches and parameter dictionaries."""

import pickle
from itertools import product

import numpy as np
import pytest
from tolerance import assert_within, conv_tolerance, sum_tolerance

import fastconv as fc
from fastconv import reference
from fastconv.compat import cs231n


def by_hand(x, height, width, padding, stride, images_last=True):
    """The columns one value at a time: rows (channel, row, column of the window), columns (row, column, image)."""
    n, c, h, w = x.shape
    rows, columns = (h + 2 * padding - height) // stride + 1, (w + 2 * padding - width) // stride + 1
    cols = np.zeros((c * height * width, n * rows * columns), x.dtype)
    for image, channel, i, j, y, z in product(*map(range, (n, c, height, width, rows, columns))):
        row, column = y * stride + i - padding, z * stride + j - padding
        if 0 <= row < h and 0 <= column < w:
            place = (y * columns + z) * n + image if images_last else (image * rows + y) * columns + z
            cols[(channel * height + i) * width + j, place] = x[image, channel, row, column]
    return cols


class TestColumns:
    def test_two_images_by_hand(self):
        x = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]], [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]], np.float64)
        expected = [
            [1, 10, 2, 20, 4, 40, 5, 50],
            [2, 20, 3, 30, 5, 50, 6, 60],
            [4, 40, 5, 50, 7, 70, 8, 80],
            [5, 50, 6, 60, 8, 80, 9, 90],
        ]
        assert cs231n.im2col_cython(x, 2, 2, 0, 1).tolist() == expected
        assert cs231n.im2col_indices(x, 2, 2, padding=0, stride=1).tolist() == expected
        _, (*_, x_cols) = cs231n.conv_forward_strides(x, np.ones((1, 1, 2, 2)), np.zeros(1), {"stride": 1, "pad": 0})
        assert x_cols[:2].tolist() == [[1, 2, 4, 5, 10, 20, 40, 50], [2, 3, 5, 6, 20, 30, 50, 60]]

    def test_padding_by_hand(self):
        x = np.array([[[[1.0, 2], [3, 4]]]])
        assert cs231n.im2col_cython(x, 2, 2, 1, 2).tolist() == [[0, 0, 0, 4], [0, 0, 3, 0], [0, 2, 0, 0], [1, 0, 0, 0]]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize(
        ("shape", "field", "padding", "stride"),
        [
            ((2, 3, 5, 5), (3, 3), 1, 2),
            ((3, 2, 6, 4), (2, 2), 0, 2),
            ((1, 4, 7, 5), (3, 1), 0, 2),
            ((4, 1, 4, 6), (2, 3), 1, 1),
        ],
    )  # fmt: skip
    def test_any_window_and_back(self, rng, dtype, shape, field, padding, stride):
        x = rng.standard_normal(shape).astype(dtype)
        arguments = (*field, padding, stride)
        expected = by_hand(x, *arguments)
        cols = cs231n.im2col_cython(x, *arguments)
        assert_within(cols, expected, 0)
        images_first = by_hand(x, *arguments, images_last=False)
        back = np.zeros(shape)
        for place in product(*map(range, shape)):  # the adjoint: each pixel takes the sum of its copies
            unit = np.zeros(shape)
            unit[place] = 1
            back[place] = (by_hand(unit, *arguments) * expected).sum()
        tolerance = sum_tolerance(field[0] * field[1], abs(back), dtype)
        assert_within(cs231n.col2im_cython(cols, *shape, *arguments), back.astype(dtype), tolerance)
        six = images_first.reshape(shape[1], *field, shape[0], *_output(shape, *arguments))
        assert_within(cs231n.col2im_6d_cython(six, *shape, *field, padding, stride), back.astype(dtype), tolerance)

    def test_indices_as_the_course_uses_them(self, rng):
        x = rng.standard_normal((2, 3, 6, 5))
        k, i, j = cs231n.get_im2col_indices(x.shape, 3, 2, padding=1, stride=1)
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        expected = padded[:, k, i, j].transpose(1, 2, 0).reshape(18, -1)
        assert_within(cs231n.im2col_indices(x, 3, 2), expected, 0)
        assert_within(expected, by_hand(x, 3, 2, 1, 1), 0)
        added = np.zeros(padded.shape)
        np.add.at(added, (slice(None), k, i, j), expected.reshape(18, -1, 2).transpose(2, 0, 1))
        back = cs231n.col2im_indices(expected, x.shape, 3, 2)
        assert_within(back, added[:, :, 1:-1, 1:-1].copy(), sum_tolerance(6, abs(back), np.float64))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: cs231n.im2col_indices(np.ones((1, 1, 4, 4)), 3, 3, 0, 2), r"height 3 with stride 2 .*\(4 - 3\) / 2"),
            (lambda: cs231n.im2col_cython(np.ones((4, 4)), 2, 2, 0, 1), r"x: expected images .*, got shape \(4, 4\)"),
            (lambda: cs231n.im2col_cython(np.ones((1, 1, 2, 2)), 3, 3, 0, 1), "kernel"),
            (lambda: cs231n.im2col_cython(np.ones((1, 1, 2, 2)), 2, 2, 0, 0), "stride"),
            (lambda: cs231n.col2im_cython(np.ones((4, 3)), 1, 1, 3, 3, 2, 2, 0, 1), r"cols: expected shape \(4, 4\).*\(4, 3\)"),
            (lambda: cs231n.col2im_6d_cython(np.ones((4, 4)), 1, 1, 3, 3, 2, 2, 0, 1), r"\(1, 2, 2, 1, 2, 2\)"),
            (lambda: cs231n.col2im_indices(np.ones((9, 4)), (1, 1, 3)), "x_shape"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_told(self, call, message):
        with pytest.raises(fc.ArgumentError, match=message):
            call()


def _output(shape, height, width, padding, stride):
    return (shape[2] + 2 * padding - height) // stride + 1, (shape[3] + 2 * padding - width) // stride + 1


class TestConvolution:
    # conv_forward_naive's check in the course's notebook: x and w from linspace, correct_out printed there.
    COURSE = np.array(
        [[[[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]],
          [[0.21027089, 0.21661097], [0.22847626, 0.23004637]],
          [[0.50813986, 0.54309974], [0.64082444, 0.67101435]]],
         [[[-0.98053589, -1.03143541], [-1.19128892, -1.24695841]],
          [[0.69108355, 0.66880383], [0.59480972, 0.56776003]],
          [[2.36270298, 2.36904306], [2.38090835, 2.38247847]]]]
    )  # fmt: skip

    @pytest.mark.parametrize(
        "forward",
        [cs231n.conv_forward_naive, cs231n.conv_forward_fast, cs231n.conv_forward_strides, cs231n.conv_forward_im2col],
    )
    def test_the_notebooks_numbers(self, forward):
        x = np.linspace(-0.1, 0.5, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
        w = np.linspace(-0.2, 0.3, num=3 * 3 * 4 * 4).reshape(3, 3, 4, 4)
        b = np.linspace(-0.1, 0.2, num=3)
        out, cache = forward(x, w, b, {"stride": 2, "pad": 1})
        assert out.dtype == np.float64
        assert abs(out - self.COURSE).max() < 5e-9  # they are printed with eight decimals
        assert all(a is b for a, b in zip(cache, (x, w, b), strict=False))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_caches_hold_the_columns(self, rng, dtype):
        x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((3, 2, 7, 5), (4, 2, 3, 3)))
        b, conv_param = rng.standard_normal(4).astype(dtype), {"stride": 2, "pad": 1}
        expected = reference.conv(x, w, b, stride=2, padding=1)
        for forward, images_last in ((cs231n.conv_forward_strides, False), (cs231n.conv_forward_im2col, True)):
            out, cache = forward(x, w, b, conv_param)
            assert_within(out, expected, conv_tolerance(x, w, b, stride=2, padding=1))
            assert len(cache) == 5
            assert cache[3] is conv_param
            x_cols = cache[4]
            assert_within(x_cols, by_hand(x, 3, 3, 1, 2, images_last), 0)
            assert (x_cols.shape, x_cols.dtype, len(x_cols)) == ((18, 36), dtype, 18)
            assert np.array_equal(x_cols, pickle.loads(pickle.dumps(x_cols)))
        # the weights' gradient, as the course's conv_backward_strides computes it from the cache
        x, w, b, _, x_cols = cs231n.conv_forward_fast(x, w, b, conv_param)[1]
        dout = rng.standard_normal(expected.shape).astype(dtype)
        dw = dout.transpose(1, 0, 2, 3).reshape(4, -1).dot(x_cols.T).reshape(w.shape)
        step = np.zeros_like(w, np.float64)
        step[1, 1, 2, 0] = 1
        slope = (reference.conv(x.astype(np.float64), step, stride=2, padding=1) * dout).sum()
        assert dw[1, 1, 2, 0] == pytest.approx(slope, rel=1e-3 if dtype == np.float32 else 1e-10)

    def test_types_meet_as_in_numpy(self, rng):
        x, w = rng.standard_normal((1, 2, 4, 4)).astype(np.float32), rng.standard_normal((3, 2, 3, 3))
        out, cache = cs231n.conv_forward_fast(x, w, np.zeros((3, 1)), {"stride": 1, "pad": 1})
        assert out.dtype == np.float64
        assert cache[0] is x
        assert cs231n.affine_forward(x, rng.standard_normal((32, 2)), np.zeros(2))[0].dtype == np.float64

    def test_a_stride_that_leaves_a_rest(self, rng):
        x, w, b = rng.standard_normal((1, 1, 6, 6)), rng.standard_normal((2, 1, 3, 3)), np.zeros(2)
        out, _ = cs231n.conv_forward_fast(x, w, b, {"stride": 2, "pad": 0})
        assert out.shape == (1, 2, 2, 2)
        with pytest.raises(fc.ArgumentError, match=r"stride: windows of height 3 with stride 2 .* \+ 1 = 2\.50"):
            cs231n.conv_forward_im2col(x, w, b, {"stride": 2, "pad": 0})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"conv_param": {"stride": 1}}, "conv_param: expected a dictionary with 'stride', 'pad', got {'stride': 1}"),
            ({"conv_param": None}, "conv_param: expected a dictionary"),
            ({"conv_param": {"stride": 0, "pad": 1}}, r"conv_param\['stride'\]"),
            ({"conv_param": {"stride": 1, "pad": -1}}, r"conv_param\['pad'\]"),
            ({"x": np.ones((3, 4, 4))}, "x: expected images"),
            ({"w": np.ones((2, 4, 3, 3))}, r"w: expected \(F, 3, HH, WW\) .* got shape \(2, 4, 3, 3\)"),
            ({"w": np.ones((2, 27))}, "w: expected"),
            ({"w": np.ones((2, 3, 9, 9))}, "kernel"),
            ({"b": np.ones(3)}, r"b: expected \(2,\)"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize(
        "forward", [cs231n.conv_forward_fast, cs231n.conv_forward_im2col, cs231n.conv_forward_naive]
    )
    def test_what_is_wrong_is_told(self, forward, change, message):
        arguments = {"x": np.ones((1, 3, 4, 4)), "w": np.ones((2, 3, 3, 3)), "b": np.ones(2)}
        with pytest.raises(fc.ArgumentError, match=message):
            forward(**{**arguments, "conv_param": {"stride": 1, "pad": 1}, **change})


class TestPooling:
    POOL = {"pool_height": 2, "pool_width": 2, "stride": 2}  # noqa: RUF012

    def test_the_notebooks_numbers(self):
        x = np.linspace(-0.3, 0.4, num=2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
        expected = np.array(
            [[[[-0.26315789, -0.24842105], [-0.20421053, -0.18947368]],
              [[-0.14526316, -0.13052632], [-0.08631579, -0.07157895]],
              [[-0.02736842, -0.01263158], [0.03157895, 0.04631579]]],
             [[[0.09052632, 0.10526316], [0.14947368, 0.16421053]],
              [[0.20842105, 0.22315789], [0.26736842, 0.28210526]],
              [[0.32631579, 0.34105263], [0.38526316, 0.4]]]]
        )  # fmt: skip
        for forward in (cs231n.max_pool_forward_naive, cs231n.max_pool_forward_fast, cs231n.max_pool_forward_im2col):
            assert abs(forward(x, self.POOL)[0] - expected).max() < 5e-9

    def test_caches(self, rng):
        x = rng.standard_normal((2, 3, 4, 6))
        out, (method, cache) = cs231n.max_pool_forward_fast(x, self.POOL)
        assert method == "reshape"
        assert cache[0] is x
        assert cache[2] is out
        assert cache[1].shape == (2, 3, 2, 2, 3, 2)
        assert np.shares_memory(cache[1], x)
        overlapping = {"pool_height": 2, "pool_width": 3, "stride": 1}
        out, (method, cache) = cs231n.max_pool_forward_fast(x, overlapping)
        assert method == "im2col"
        kept, x_cols, argmax, pool_param = cache
        assert kept is x
        assert pool_param is overlapping
        assert np.array_equal(x_cols, by_hand(x.reshape(6, 1, 4, 6), 2, 3, 0, 1))
        largest = np.asarray(x_cols)[argmax, np.arange(x_cols.shape[1])]
        assert_within(largest.reshape(3, 4, 2, 3).transpose(2, 3, 0, 1), out, 0)
        assert cs231n.max_pool_forward_naive(x, overlapping)[1] == (x, overlapping)

    @pytest.mark.parametrize(
        ("forward", "param", "message"),
        [
            ("max_pool_forward_reshape", {"pool_height": 3, "pool_width": 3, "stride": 2}, "windows of 3 × 3 with stride 2"),
            ("max_pool_forward_reshape", {"pool_height": 3, "pool_width": 3, "stride": 3}, "images of 4 × 6"),
            ("max_pool_forward_im2col", {"pool_height": 3, "pool_width": 2, "stride": 2}, "height 3 with stride 2"),
            ("max_pool_forward_fast", {"pool_height": 2, "pool_width": 5, "stride": 2}, "width 5 with stride 2"),
            ("max_pool_forward_fast", {"pool_height": 2, "pool_width": 2}, "'stride'"),
            ("max_pool_forward_naive", {"pool_height": 9, "pool_width": 9, "stride": 1}, "kernel"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_told(self, forward, param, message):
        with pytest.raises(fc.ArgumentError, match=message):
            getattr(cs231n, forward)(np.ones((1, 2, 4, 6)), param)
