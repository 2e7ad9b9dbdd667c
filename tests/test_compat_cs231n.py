"""The course CS231n's names: its column layouts, caches and parameter dictionaries, and a network written with them."""

import pickle
from itertools import product

import numpy as np
import pytest
from tolerance import assert_within, conv_tolerance, sum_tolerance

import fastconv as fc
from fastconv import reference
from fastconv.compat import cs231n
from fastconv.compat.cs231n import fast_layers, layer_utils, layers
from fastconv.compat.cs231n.fast_layers import *  # noqa: F403
from fastconv.compat.cs231n.layer_utils import *  # noqa: F403
from fastconv.compat.cs231n.layers import *  # noqa: F403

EPS = np.finfo(np.float64).eps


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


class TestNormalisation:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_batchnorm_moves_the_dictionary(self, rng, dtype):
        x, gamma, beta = (rng.standard_normal(shape).astype(dtype) for shape in ((5, 3), 3, 3))
        bn_param = {"mode": "train", "momentum": 0.75, "eps": 1e-3}
        out, cache = cs231n.batchnorm_forward(x, gamma, beta, bn_param)
        wide = x.astype(np.float64)
        mean, var = wide.mean(axis=0), wide.var(axis=0)
        expected = (wide - mean) / np.sqrt(var + 1e-3) * gamma + beta
        bound = 100 * float(np.finfo(dtype).eps)
        assert_within(out, expected.astype(dtype), bound)
        assert isinstance(cache, tuple)
        assert bn_param["running_mean"] == pytest.approx(0.25 * mean, rel=bound)
        assert bn_param["running_var"] == pytest.approx(0.25 * var, rel=bound)  # biased, unlike torch's
        assert bn_param["running_mean"].dtype == dtype
        first = bn_param["running_mean"]
        cs231n.batchnorm_forward(x, gamma, beta, bn_param)
        assert bn_param["running_mean"] == pytest.approx((0.1875 + 0.25) * mean, rel=bound)
        assert first == pytest.approx(0.25 * mean, rel=bound)  # a new array, as in the course
        bn_param["mode"] = "test"
        running = bn_param["running_mean"], bn_param["running_var"]
        out, _ = cs231n.batchnorm_forward(x, gamma, beta, bn_param)
        expected = (wide - running[0]) / np.sqrt(running[1] + 1e-3) * gamma + beta
        assert_within(out, expected.astype(dtype), 10 * bound)
        assert bn_param["running_mean"] is not None

    def test_one_example_and_an_untrained_test(self):
        ones = np.ones(2)
        out, _ = cs231n.batchnorm_forward(np.array([[3.0, 4.0]]), ones, 2 * ones, {"mode": "train"})
        assert out.tolist() == [[2, 2]]
        bn_param = {"mode": "test"}
        out, _ = cs231n.batchnorm_forward(np.array([[3.0, 4.0]]), ones, ones, bn_param)
        assert out == pytest.approx(np.array([[3, 4]]) / np.sqrt(1e-5) + 1)
        assert bn_param["running_var"].tolist() == [0, 0]

    def test_spatial_batchnorm_is_batchnorm_of_pixels(self, rng):
        x, gamma, beta = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal(3), rng.standard_normal(3)
        spatial, flat = {"mode": "train"}, {"mode": "train"}
        out, _ = cs231n.spatial_batchnorm_forward(x, gamma, beta, spatial)
        rows, _ = cs231n.batchnorm_forward(x.transpose(0, 2, 3, 1).reshape(-1, 3), gamma, beta, flat)
        assert_within(out, rows.reshape(2, 4, 5, 3).transpose(0, 3, 1, 2), 100 * EPS)
        assert spatial["running_var"] == pytest.approx(flat["running_var"], rel=100 * EPS)

    def test_layernorm(self, rng):
        x, gamma, beta = rng.standard_normal((4, 6)), rng.standard_normal(6), rng.standard_normal(6)
        out, _ = cs231n.layernorm_forward(x, gamma, beta, {"eps": 1e-2})
        centred = x - x.mean(axis=1, keepdims=True)
        assert_within(out, centred / np.sqrt(x.var(axis=1, keepdims=True) + 1e-2) * gamma + beta, 100 * EPS)

    @pytest.mark.parametrize("shape", [(6,), (1, 6, 1, 1)], ids=["older years", "newer years"])
    def test_groupnorm(self, rng, shape):
        x, gamma, beta = rng.standard_normal((2, 6, 4, 5)), rng.standard_normal(shape), rng.standard_normal(shape)
        out, _ = cs231n.spatial_groupnorm_forward(x, gamma, beta, 2, {})
        groups = x.reshape(2, 2, -1)
        normed = (groups - groups.mean(axis=2, keepdims=True)) / np.sqrt(groups.var(axis=2, keepdims=True) + 1e-5)
        expected = normed.reshape(x.shape) * gamma.reshape(1, 6, 1, 1) + beta.reshape(1, 6, 1, 1)
        assert_within(out, expected, 100 * EPS)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda x, g: cs231n.batchnorm_forward(x, g, g, {"mode": "eval"}), "bn_param: .*'train' or 'test'.*'eval'"),
            (lambda x, g: cs231n.batchnorm_forward(x, g, g, None), "bn_param"),
            (lambda x, g: cs231n.batchnorm_forward(x, g[:2], g, {"mode": "test"}), r"gamma: expected 3 values .*\(2,\)"),
            (lambda x, g: cs231n.batchnorm_forward(x[None], g, g, {"mode": "test"}), r"x: expected \(N, D\)"),
            (lambda x, g: cs231n.batchnorm_forward(x[:0], g, g, {"mode": "train"}), "at least one value per feature"),
            (lambda x, g: cs231n.spatial_batchnorm_forward(x, g, g, {"mode": "train"}), "x: expected images"),
            (lambda x, g: cs231n.layernorm_forward(x, g, g[:1], {}), "beta: expected 3 values"),
            (lambda x, g: cs231n.layernorm_forward(x, g, g, 1e-5), "ln_param: expected a dictionary"),
            (lambda x, g: cs231n.spatial_groupnorm_forward(x[..., None, None], g, g, 2, {}), "num_groups"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_told(self, call, message):
        with pytest.raises(fc.ArgumentError, match=message):
            call(np.ones((4, 3)), np.ones(3))


class TestOthers:
    def test_affine_by_hand(self):
        x, w, b = np.arange(4.0).reshape(1, 2, 2), np.array([[1.0, 2], [3, 4], [5, 6], [7, 8]]), np.array([10.0, 20])
        out, cache = cs231n.affine_forward(x, w, b)
        assert out.tolist() == [[44, 60]]
        assert all(a is b for a, b in zip(cache, (x, w, b), strict=True))
        with pytest.raises(
            fc.ArgumentError, match=r"w: expected \(4, M\) for examples of shape \(2, 2\), got shape \(2, 2\)"
        ):
            cs231n.affine_forward(x, w[:2], b)
        with pytest.raises(fc.ArgumentError, match=r"b: expected \(2,\), got shape \(1,\)"):
            cs231n.affine_forward(x, w, b[:1])

    def test_relu(self):
        x = np.array([-1.0, 0, 2])
        out, cache = cs231n.relu_forward(x)
        assert out.tolist() == [0, 0, 2]
        assert cache is x

    def test_dropout_draws_as_the_course_does(self):
        x = np.ones((50, 40), np.float32)
        out, (_, mask) = cs231n.dropout_forward(x, {"p": 0.25, "mode": "train", "seed": 7})
        expected = (np.random.RandomState(7).rand(50, 40) < 0.25) / 0.25
        assert np.array_equal(mask, expected)
        assert np.array_equal(out, expected.astype(np.float32))
        assert out.dtype == np.float32
        again, _ = cs231n.dropout_forward(x, {"p": 0.25, "mode": "train"})  # goes on in the same stream
        assert not np.array_equal(again, out)
        same, (_, mask) = cs231n.dropout_forward(x, {"p": 0.25, "mode": "test"})
        assert same is x
        assert mask is None
        for p in (0, 1.5, None, "half"):
            with pytest.raises(fc.ArgumentError, match=r"dropout_param\['p'\]: expected the probability of keeping"):
                cs231n.dropout_forward(x, {"p": p, "mode": "train"})

    def test_losses_and_their_gradients(self, rng):
        x, y = np.array([[1.0, 2, 4], [0, 3, 1]]), np.array([1, 1])
        loss, dx = cs231n.svm_loss(x, y)
        assert loss == pytest.approx((0 + 3 + 0 + 0) / 2)
        assert dx.tolist() == [[0, -0.5, 0.5], [0, 0, 0]]
        loss, dx = cs231n.softmax_loss(np.log([[1.0, 2, 5]]), np.array([2]))
        assert loss == pytest.approx(np.log(8 / 5))
        assert dx[0] == pytest.approx([1 / 8, 2 / 8, 5 / 8 - 1])
        x, y = rng.standard_normal((3, 4)), np.array([0, 3, 1])
        for function in (cs231n.svm_loss, cs231n.softmax_loss):
            step = np.zeros_like(x)
            step[1, 2] = 1e-6
            slope = (function(x + step, y)[0] - function(x - step, y)[0]) / 2e-6
            assert function(x, y)[1][1, 2] == pytest.approx(slope, abs=1e-8)
        assert np.isfinite(cs231n.softmax_loss(1e4 * x, y)[0])
        with pytest.raises(IndexError, match="y: expected classes from 0 to 3, got 0 to 4"):
            cs231n.softmax_loss(x, np.array([0, 4, 1]))
        with pytest.raises(TypeError, match="y: expected integer classes"):
            cs231n.svm_loss(x, np.ones(3))

    def test_backward_functions_say_that_they_are_not_there(self):
        names = [name for name in cs231n.__all__ if "backward" in name]
        assert len(names) == 20
        assert {name.replace("_alt", "").replace("backward", "forward") for name in names} <= set(cs231n.__all__)
        for name in names:
            function = getattr(cs231n, name)
            assert function.__name__ == name
            with pytest.raises(NotImplementedError, match=f"^{name}: fastconv computes forward passes only"):
                function(None, None)

    def test_every_name_is_in_the_course_module(self):
        assert set(cs231n.__all__) >= {*fast_layers.__all__, *layers.__all__, *layer_utils.__all__}
        assert len(set(cs231n.__all__)) == len(cs231n.__all__)


class ThreeLayerConvNet:
    """conv - relu - 2x2 max pool - affine - relu - affine - softmax, as the course's cnn.py writes it."""

    def __init__(
        self, input_dim=(3, 32, 32), num_filters=32, filter_size=7, hidden_dim=100, num_classes=10, dtype=np.float32
    ):
        rng, scale = np.random.default_rng(231), 1e-1
        channels, height, width = input_dim
        self.params = {
            "W1": scale * rng.standard_normal((num_filters, channels, filter_size, filter_size)),
            "b1": scale * rng.standard_normal(num_filters),
            "W2": scale * rng.standard_normal((num_filters * height * width // 4, hidden_dim)),
            "b2": scale * rng.standard_normal(hidden_dim),
            "W3": scale * rng.standard_normal((hidden_dim, num_classes)),
            "b3": scale * rng.standard_normal(num_classes),
        }  # fmt: skip
        for k, v in self.params.items():
            self.params[k] = v.astype(dtype)

    def loss(self, X, y=None):
        W1, b1 = self.params["W1"], self.params["b1"]
        W2, b2 = self.params["W2"], self.params["b2"]
        W3, b3 = self.params["W3"], self.params["b3"]
        filter_size = W1.shape[2]
        conv_param = {"stride": 1, "pad": (filter_size - 1) // 2}
        pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}
        scores, _ = conv_relu_pool_forward(X, W1, b1, conv_param, pool_param)  # noqa: F405
        scores, _ = affine_relu_forward(scores, W2, b2)  # noqa: F405
        scores, _ = affine_forward(scores, W3, b3)  # noqa: F405
        if y is None:
            return scores
        return softmax_loss(scores, y)[0]  # noqa: F405


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_convnet_of_the_course(rng, dtype):
    model = ThreeLayerConvNet(input_dim=(3, 16, 16), num_filters=8, filter_size=3, hidden_dim=20, dtype=dtype)
    x, y = rng.standard_normal((5, 3, 16, 16)).astype(dtype), rng.integers(0, 10, 5)
    p = {name: value.astype(np.float64) for name, value in model.params.items()}
    maps = np.maximum(0, reference.conv(x.astype(np.float64), p["W1"], p["b1"], padding=1))
    pooled = maps.reshape(5, 8, 8, 2, 8, 2).max(axis=(3, 5))
    hidden = np.maximum(0, pooled.reshape(5, -1) @ p["W2"] + p["b2"])
    expected = hidden @ p["W3"] + p["b3"]
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert_within(model.loss(x), expected.astype(dtype), tolerance * abs(expected).max())
    shifted = expected - expected.max(axis=1, keepdims=True)
    loss = (np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(5), y]).mean()
    assert model.loss(x, y) == pytest.approx(loss, rel=tolerance)


def test_conv_bn_relu(rng):
    x, w, b = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
    gamma, beta = rng.standard_normal(4), rng.standard_normal(4)
    bn_param = {"mode": "train"}
    out, cache = cs231n.conv_bn_relu_forward(x, w, b, gamma, beta, {"stride": 1, "pad": 1}, bn_param)
    maps = reference.conv(x, w, b, padding=1)
    centred = maps - maps.mean(axis=(0, 2, 3), keepdims=True)
    normed = centred / np.sqrt(maps.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
    expected = np.maximum(0, normed * gamma.reshape(1, 4, 1, 1) + beta.reshape(1, 4, 1, 1))
    assert_within(out, expected, 1e-12)
    assert len(cache) == 3
    assert bn_param["running_mean"].shape == (4,)
    out, _ = cs231n.conv_relu_forward(x, w, b, {"stride": 1, "pad": 1})
    assert_within(out, np.maximum(0, maps), 1e-12)
