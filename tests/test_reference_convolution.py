import itertools
from math import prod

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, conv_tolerance, sum_tolerance

from fastconv.reference import conv, conv_transpose, fold, linear, pad, unfold

RANKS = (1, 2, 3)
SIZES = {1: (9,), 2: (7, 8), 3: (5, 6, 7)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}


def normal(rng, shape, dtype=np.float64):
    return rng.standard_normal(shape).astype(dtype)


def operands(rng, rank, *, batch=2, channels=4, features=6, groups=1, kernel=None, dtype=np.float64):
    kernel = kernel or KERNELS[rank]
    x = normal(rng, (batch, channels, *SIZES[rank]), dtype)
    w = normal(rng, (features, channels // groups, *kernel), dtype)
    return x, w, normal(rng, features, dtype)


def line(values, dtype=np.float64):
    return np.array(values, dtype)[None, None]


class TestConvByHand:
    def test_one_dimension(self):
        assert conv(line([1, 2, 3, 4]), line([1, 10])).tolist() == [[[21, 32, 43]]]

    def test_it_is_correlation_the_kernel_is_not_flipped(self):
        x = line([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
        w = line([[1, 10], [100, 1000]])
        assert conv(x, w).tolist() == [[[[5421, 6532], [8754, 9865]]]]

    def test_channels_are_summed_and_the_bias_added(self):
        x = np.array([[[1.0, 2.0], [10.0, 20.0]]])
        w = np.array([[[1.0], [1.0]], [[2.0], [-1.0]]])
        assert conv(x, w, np.array([0.5, 100.0])).tolist() == [[[11.5, 22.5], [92.0, 84.0]]]

    def test_stride_dilation_and_padding(self):
        x = line([1, 2, 3, 4, 5])
        assert conv(x, line([1, 10]), stride=2).tolist() == [[[21, 43]]]
        assert conv(x, line([1, 10]), dilation=3).tolist() == [[[41, 52]]]
        assert conv(x, line([1, 10]), padding=1).tolist() == [[[10, 21, 32, 43, 54, 5]]]
        assert conv(x, line([1, 10]), padding=((0, 1),)).tolist() == [[[21, 32, 43, 54, 5]]]
        assert conv(x, line([1, 10]), padding=2, stride=3).tolist() == [[[0, 32, 5]]]

    def test_groups(self):
        x = np.array([[[1.0, 2.0], [3.0, 4.0]]])
        w = np.array([[[10.0]], [[100.0]]])
        assert conv(x, w, groups=2).tolist() == [[[10, 20], [300, 400]]]


class TestConvSemantics:
    """TORCH_SEMANTICS.md, section 1.3, convolution: the literal values."""

    def test_same_padding_of_an_even_kernel_keeps_tap_zero_one_left(self):
        x, w = line([1, 2, 3, 4, 5]), line([1, 0, 0, 0])
        assert conv(x, w, padding="same").tolist() == [[[0, 1, 2, 3, 4]]]
        assert conv(x, w, padding="SAME_UPPER").tolist() == [[[0, 1, 2, 3, 4]]]
        assert conv(x, w, padding="SAME_LOWER").tolist() == [[[0, 0, 1, 2, 3]]]

    def test_same_padding_with_a_stride_follows_tensorflow(self):
        x, w = line([1, 2, 3, 4, 5]), line([1, 10, 100])
        assert conv(x, w, padding="same", stride=2).tolist() == [[[210, 432, 54]]]
        assert conv(x[..., :4], w, padding="same", stride=2).tolist() == [[[321, 43]]]
        assert conv(x[..., :4], w, padding="SAME_LOWER", stride=2).tolist() == [[[210, 432]]]

    def test_valid_is_no_padding(self, rng):
        x, w, b = operands(rng, 2)
        assert_same_values(conv(x, w, b, padding="valid"), conv(x, w, b))

    def test_any_other_word_raises(self, rng):
        with pytest.raises(ValueError, match="unknown padding 'SAME'"):
            conv(*operands(rng, 2), padding="SAME")

    def test_a_kernel_that_does_not_fit_raises(self):
        with pytest.raises(ValueError, match=r"over 5 positions does not fit an axis of 0 \+ 4 \+ 0"):
            conv(np.ones((1, 1, 4)), np.ones((1, 1, 3)), dilation=2)

    def test_without_input_channels_the_result_is_the_bias(self):
        """torch 2.13 returns (1, 0, 3, 3)."""
        b = np.arange(4, dtype=np.float32)
        y = conv(np.zeros((1, 0, 5, 5), np.float32), np.zeros((4, 0, 3, 3), np.float32), b)
        assert y.shape == (1, 4, 3, 3)
        assert_same_values(y, np.broadcast_to(b[None, :, None, None], y.shape))

    def test_padded_zeros_really_multiply(self):
        x = np.ones((1, 1, 3), np.float32)
        assert_same_values(conv(x, line([np.nan, 1, 1], np.float32), padding=1), line([np.nan] * 3))
        assert_same_values(conv(x, line([np.inf, 1, 1], np.float32), padding=1), line([np.nan, np.inf, np.inf]))
        assert_same_values(conv(line([np.nan, 1.0]), line([0.0])), line([np.nan, 0]))

    @pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8])
    def test_integers_are_computed_in_their_own_type_and_wrap(self, dtype):
        x, w = np.full((1, 8, 5, 5), 100, dtype), np.full((1, 8, 3, 3), 100, dtype)
        y = conv(x, w)
        assert y.dtype == dtype
        assert (y == np.array(8 * 9 * 100 * 100).astype(dtype)).all()

    def test_int8_wraps_to_minus_128(self):
        y = conv(np.full((1, 8, 3, 3), 100, np.int8), np.full((1, 8, 3, 3), 100, np.int8))
        assert y.tolist() == [[[[-128]]]]

    def test_float16_is_summed_in_float32(self):
        y = conv(np.ones((1, 4096, 1), np.float16), np.ones((1, 4096, 1), np.float16))
        assert y.dtype == np.float16
        assert y.tolist() == [[[4096]]]

    def test_accumulate_chooses_the_type_of_the_sum(self):
        x = np.array([[[1.0], [1e8], [-1e8]]], np.float32)
        w = np.ones((1, 3, 1), np.float32)
        taps = np.concatenate([x, x], axis=2), np.concatenate([w, w * 0], axis=2)
        y = conv(*taps, accumulate=np.float64)
        assert y.dtype == np.float32
        assert y.item() == 1

    def test_complex_numbers(self):
        x, w = np.array([[[1 + 2j, 3]]], np.complex64), np.array([[[1j]]], np.complex64)
        assert conv(x, w).tolist() == [[[-2 + 1j, 3j]]]

    @pytest.mark.parametrize("rank", RANKS)
    def test_an_empty_batch(self, rng, rank):
        x, w, b = operands(rng, rank, batch=0)
        assert conv(x, w, b).shape == (0, *conv(np.ones((1, *x.shape[1:])), w, b).shape[1:])


@pytest.mark.parametrize("rank", RANKS)
class TestConvAlgebra:
    def test_a_delta_kernel_shifts(self, rng, rank):
        x = normal(rng, (2, 1, *SIZES[rank]))
        for position in itertools.product(range(3), repeat=rank):
            delta = np.zeros((1, 1, *[3] * rank))
            delta[(0, 0, *position)] = 1
            pads = [(1 - p, p - 1) for p in position]
            shifted = pad(x, [n for pair in pads[::-1] for n in pair])
            assert_within(conv(x, delta, padding=1), shifted, 0.0, position)

    def test_it_is_linear_in_both_operands(self, rng, rank):
        x, w, _ = operands(rng, rank)
        x2, w2, _ = operands(rng, rank)
        both_x = conv(x, w) + 3 * conv(x2, w)
        tolerance = 4 * (conv_tolerance(np.abs(x) + 3 * np.abs(x2), np.abs(w) + 3 * np.abs(w2)))
        assert_within(conv(x + 3 * x2, w), both_x, tolerance)
        assert_within(conv(x, w + 3 * w2), conv(x, w) + 3 * conv(x, w2), tolerance)

    def test_a_pointwise_kernel_is_a_matrix_product(self, rng, rank):
        x, w, b = operands(rng, rank, kernel=(1,) * rank)
        product = np.einsum("oc,nc...->no...", w.reshape(w.shape[:2]), x) + b.reshape(-1, *[1] * rank)
        assert_within(conv(x, w, b), product, conv_tolerance(x, w, b))

    def test_groups_are_separate_convolutions(self, rng, rank):
        x, w, b = operands(rng, rank, groups=2)
        halves = [conv(x[:, 2 * g : 2 * g + 2], w[3 * g : 3 * g + 3], b[3 * g : 3 * g + 3], padding=1) for g in (0, 1)]
        whole = conv(x, w, b, groups=2, padding=1)
        assert_within(whole, np.concatenate(halves, axis=1), conv_tolerance(x, w, b, groups=2, padding=1))

    def test_depthwise_filters_see_one_channel(self, rng, rank):
        x, w, b = operands(rng, rank, groups=4, features=8)
        for feature in range(8):
            alone = conv(x[:, [feature // 2]], w[[feature]], b[[feature]])
            tolerance = conv_tolerance(x[:, [feature // 2]], w[[feature]], b[[feature]])
            assert_within(conv(x, w, b, groups=4)[:, [feature]], alone, tolerance)

    def test_dilation_is_a_kernel_with_zeros_between(self, rng, rank):
        x, w, b = operands(rng, rank)
        dilation = (2, 1, 3)[:rank]
        spread = np.zeros((*w.shape[:2], *(d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True))))
        spread[(..., *(slice(None, None, d) for d in dilation))] = w
        assert_within(conv(x, w, b, dilation=dilation), conv(x, spread, b), conv_tolerance(x, spread, b))

    def test_stride_takes_every_nth_result(self, rng, rank):
        x, w, b = operands(rng, rank)
        stride = (2, 3, 2)[:rank]
        every = conv(x, w, b, padding=1)[(..., *(slice(None, None, s) for s in stride))]
        assert_within(conv(x, w, b, stride=stride, padding=1), every, conv_tolerance(x, w, b, stride=stride, padding=1))

    def test_padding_is_a_larger_input(self, rng, rank):
        x, w, b = operands(rng, rank)
        pairs = ((1, 2), (0, 3), (2, 0))[:rank]
        larger = pad(x, [n for pair in pairs[::-1] for n in pair])
        assert_within(conv(x, w, b, padding=pairs), conv(larger, w, b), 0.0)

    def test_conv_transpose_is_the_adjoint(self, rng, rank):
        for groups, stride, dilation, padding in itertools.product((1, 2), (1, 2, 3), (1, 2), (0, 1, ((0, 1),) * rank)):
            x, w, _ = operands(rng, rank, groups=groups)
            geometry = {"groups": groups, "stride": stride, "dilation": dilation, "padding": padding}
            y = conv(x, w, **geometry)
            other = normal(rng, y.shape)
            smallest = conv_transpose(other, w, **geometry).shape[2:]
            extra = tuple(n - m for n, m in zip(x.shape[2:], smallest, strict=True))
            back = conv_transpose(other, w, **geometry, output_padding=extra)
            assert back.shape == x.shape
            magnitude = (conv(np.abs(x), np.abs(w), **geometry) * np.abs(other)).sum()
            tolerance = 2 * sum_tolerance(x.size + w.size + y.size, magnitude, np.float64)
            assert abs((y * other).sum() - (x * back).sum()) <= tolerance, geometry
            assert abs((y * other).sum()) > 1000 * tolerance

    def test_fold_is_the_adjoint_of_unfold(self, rng, rank):
        x = normal(rng, (2, 3, *SIZES[rank]))
        for stride, dilation, padding in itertools.product((1, 2), (1, 2), (0, 1)):
            arguments = (KERNELS[rank], dilation, padding, stride)
            columns = unfold(x, *arguments)
            other = normal(rng, columns.shape)
            back = fold(other, x.shape[2:], *arguments)
            assert back.shape == x.shape
            np.testing.assert_allclose((columns * other).sum(), (x * back).sum(), rtol=1e-10)

    def test_convolution_is_a_product_with_the_unfolded_input(self, rng, rank):
        x, w, b = operands(rng, rank)
        y = conv(x, w, b, stride=2, padding=1, dilation=2)
        columns = unfold(x, w.shape[2:], 2, 1, 2)
        product = w.reshape(w.shape[0], -1) @ columns + b[:, None]
        tolerance = conv_tolerance(x, w, b, stride=2, padding=1, dilation=2)
        assert_within(y, product.reshape(y.shape), tolerance)

    def test_arguments_are_left_alone_and_need_not_be_contiguous(self, rng, rank):
        x, w, b = operands(rng, rank)
        expected = conv(x, w, b)
        strided = [np.asfortranarray(a) for a in (x, w, b)]
        before = [a.copy() for a in strided]
        for a in strided:
            a.flags.writeable = False
        assert_within(conv(*strided), expected, conv_tolerance(x, w, b))
        for a, b_ in zip(strided, before, strict=True):
            assert_same_values(a, b_)


class TestTransposeByHand:
    def test_every_input_adds_its_multiple_of_the_kernel(self):
        x, w = line([1, 2, 3]), line([1, 10, 100])
        assert conv_transpose(x, w).tolist() == [[[1, 12, 123, 230, 300]]]
        assert conv_transpose(x, w, stride=2).tolist() == [[[1, 10, 102, 20, 203, 30, 300]]]
        assert conv_transpose(x, w, stride=2, padding=1).tolist() == [[[10, 102, 20, 203, 30]]]
        assert conv_transpose(x, w, stride=2, padding=1, output_padding=1).tolist() == [[[10, 102, 20, 203, 30, 300]]]
        assert conv_transpose(x, w, padding=((0, 2),)).tolist() == [[[1, 12, 123]]]
        assert conv_transpose(x[..., :2], w, dilation=2).tolist() == [[[1, 2, 10, 20, 100, 200]]]

    def test_output_padding_beyond_the_last_tap_is_bias(self):
        y = conv_transpose(line([1, 2]), line([5]), np.array([7.0]), stride=3, output_padding=2)
        assert y.tolist() == [[[12, 7, 7, 17, 7, 7]]]

    def test_the_weight_is_laid_out_input_channels_first(self):
        x, w = np.array([[[1.0], [10.0]]]), np.arange(6.0).reshape(2, 3, 1)
        assert conv_transpose(x, w).tolist() == [[[30], [41], [52]]]

    def test_groups(self):
        x, w = np.array([[[1.0], [10.0]]]), np.array([[[2.0], [3.0]], [[4.0], [5.0]]])
        assert conv_transpose(x, w, groups=2).tolist() == [[[2], [3], [40], [50]]]

    def test_integers_wrap(self):
        y = conv_transpose(np.full((1, 2, 1), 100, np.int8), np.full((2, 1, 1), 100, np.int8))
        assert y.dtype == np.int8
        assert y.item() == np.array(20000).astype(np.int8)

    def test_an_empty_batch_and_no_channels(self):
        assert conv_transpose(np.ones((0, 2, 3)), np.ones((2, 4, 3))).shape == (0, 4, 5)
        assert conv_transpose(np.ones((1, 0, 3)), np.ones((0, 4, 3)), np.arange(4.0))[0, :, 2].tolist() == [0, 1, 2, 3]


class TestColumnsByHand:
    def test_unfold(self):
        x = np.arange(9.0).reshape(1, 1, 3, 3)
        assert unfold(x, 2).tolist() == [[[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]]
        assert unfold(line([1, 2, 3]), 2, padding=1).tolist() == [[[0, 1, 2, 3], [1, 2, 3, 0]]]

    def test_fold_counts_overlaps(self):
        assert fold(np.ones((1, 4, 4)), (3, 3), 2).tolist() == [[[[1, 2, 1], [2, 4, 2], [1, 2, 1]]]]


class TestLinear:
    def test_by_hand(self):
        y = linear(np.array([[1.0, 2.0]]), np.array([[1.0, 10.0], [3.0, 0.0], [0.0, 1.0]]), np.array([0.0, 1.0, 2.0]))
        assert y.tolist() == [[21, 4, 4]]

    def test_leading_axes_and_types(self, rng):
        for shape, dtype in itertools.product([(5,), (2, 5), (2, 3, 5), (0, 5)], [np.float16, np.float32, np.float64]):
            x, w = normal(rng, shape, dtype), normal(rng, (4, 5), dtype)
            y = linear(x, w)
            assert (y.shape, y.dtype) == ((*shape[:-1], 4), dtype)
        assert linear(np.ones((1, 4096), np.float16), np.ones((1, 4096), np.float16)).item() == 4096

    def test_integers_wrap(self):
        assert linear(np.array([[100, 100]], np.int8), np.array([[100, 100]], np.int8)).tolist() == [[32]]


def torch_pads(x, padding):
    return pad(x, [n for pair in padding[::-1] for n in pair])


def dilations_in_torch(dtype):
    """torch dilates floats and int64 only."""
    return (1, 2) if np.dtype(dtype).kind == "f" or dtype == np.int64 else (1,)


def any_arrays(rng, shapes, dtype):
    if np.dtype(dtype).kind == "f":
        return [normal(rng, shape, dtype) for shape in shapes]
    return [rng.integers(0 if dtype == np.uint8 else -100, 100, shape).astype(dtype) for shape in shapes]


FLOATS = [np.float16, np.float32, np.float64]
INTEGERS = [np.int8, np.uint8, np.int32, np.int64]  # torch's conv_transpose takes floats only


@pytest.mark.parametrize("rank", RANKS)
class TestAgainstTorch:
    @pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
    def test_conv(self, torch, rng, rank, dtype):
        function = getattr(torch.nn.functional, f"conv{rank}d")
        paddings = (0, 1, "pairs", (0, 2, 1)[:rank])
        cases = itertools.product((1, 2, 4), (1, 2, 3), dilations_in_torch(dtype), paddings, (True, False))
        for groups, stride, dilation, padding, biased in cases:
            problem = f"conv{rank}d g{groups} s{stride} d{dilation} p{padding} b{biased} {np.dtype(dtype)}"
            padding = ((0, 2), (1, 0), (2, 1))[:rank] if padding == "pairs" else padding
            shapes = [(2, 4, *SIZES[rank]), (8, 4 // groups, *KERNELS[rank]), (8,)]
            x, w, b = any_arrays(rng, shapes, dtype)
            b = b if biased else None
            y = conv(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
            pairs = isinstance(padding, tuple) and isinstance(padding[0], tuple)
            expected = function(
                torch.from_numpy(torch_pads(x, padding) if pairs else x),
                torch.from_numpy(w),
                None if b is None else torch.from_numpy(b),
                stride,
                0 if pairs else padding,
                dilation,
                groups,
            )
            tolerance = conv_tolerance(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
            assert_within(y, expected.numpy(), tolerance, problem)

    @pytest.mark.filterwarnings("ignore:Using padding='same'")
    @pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
    def test_same_padding(self, torch, rng, rank, dtype):
        function = getattr(torch.nn.functional, f"conv{rank}d")
        for kernel, dilation in itertools.product((1, 2, 3, 4), dilations_in_torch(dtype)):
            x, w = any_arrays(rng, [(1, 2, *SIZES[rank]), (4, 2, *[kernel] * rank)], dtype)
            expected = function(torch.from_numpy(x), torch.from_numpy(w), None, 1, "same", dilation)
            tolerance = conv_tolerance(x, w, padding="same", dilation=dilation)
            assert_within(
                conv(x, w, padding="same", dilation=dilation), expected.numpy(), tolerance, (kernel, dilation)
            )

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_conv_transpose(self, torch, rng, rank, dtype):
        function = getattr(torch.nn.functional, f"conv_transpose{rank}d")
        for groups, stride, dilation, padding, extra in itertools.product((1, 2, 4), (1, 2, 3), (1, 2), (0, 1), (0, 1)):
            if extra >= max(stride, dilation):
                continue
            x, w, b = any_arrays(rng, [(2, 4, *SIZES[rank]), (4, 8 // groups, *KERNELS[rank]), (8,)], dtype)
            geometry = {
                "stride": stride,
                "padding": padding,
                "output_padding": extra,
                "groups": groups,
                "dilation": dilation,
            }
            expected = function(*map(torch.from_numpy, (x, w, b)), stride, padding, extra, groups, dilation).numpy()
            y = conv_transpose(x, w, b, **geometry)
            tolerance = conv_tolerance(x, w, b, transpose=True, **geometry)
            exact = conv_transpose(*(a.astype(np.float64) for a in (x, w, b)), **geometry).astype(dtype)
            assert_within(y, exact, tolerance, geometry)
            if dtype == np.float16:
                absolute = conv_transpose(*(np.abs(a).astype(np.float64) for a in (x, w, b)), **geometry)
                tolerance = tolerance + prod(w.shape[2:]) * np.finfo(np.float16).eps * absolute  # torch adds taps in it
            assert_within(y, expected, tolerance, geometry)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_columns_against_torch(torch, rng, dtype):
    for kernel, dilation, padding, stride in itertools.product((3, (3, 2)), (1, (2, 1)), (0, (1, 2)), (1, (1, 3))):
        x = normal(rng, (2, 3, 8, 9), dtype)
        columns = torch.nn.functional.unfold(torch.from_numpy(x), kernel, dilation, padding, stride)
        assert_within(unfold(x, kernel, dilation, padding, stride), columns.numpy(), 0.0)
        back = torch.nn.functional.fold(columns, (8, 9), kernel, dilation, padding, stride).numpy()
        tolerance = sum_tolerance(9, 9 * np.abs(x), dtype)
        if dtype == np.float16:
            tolerance = tolerance + 9 * np.finfo(np.float16).eps * 9 * np.abs(x)  # torch adds taps in float16
        assert_within(fold(columns.numpy(), (8, 9), kernel, dilation, padding, stride), back, tolerance)


def test_linear_against_torch(torch, rng):
    for shape, dtype in itertools.product([(3, 50), (2, 3, 50)], [np.float32, np.float64, np.float16, np.int32]):
        x, w, b = (10 * rng.standard_normal(s) for s in (shape, (7, 50), (7,)))
        x, w, b = x.astype(dtype), w.astype(dtype), b.astype(dtype)
        expected = torch.nn.functional.linear(*map(torch.from_numpy, (x, w, b))).numpy()
        magnitude = linear(*(np.abs(a.astype(np.float64)) for a in (x, w, b)))
        assert_within(linear(x, w, b), expected, sum_tolerance(51, magnitude, dtype))
