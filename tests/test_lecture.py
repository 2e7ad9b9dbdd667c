"""The arithmetic of the CS231n lecture on convolutional networks (2016, lecture 7), stated as tests."""

import numpy as np
import pytest

from fastconv import nn, reference
from fastconv.errors import ArgumentError
from fastconv.geometry import exact_output_size, fitting_paddings


def filtered_shape(shape, features, size, **geometry):
    """(depth, height, width) after `features` filters of `size` × `size` over an input of `shape`."""
    x = np.ones((1, *shape), np.float32)
    w = np.ones((features, shape[0], size, size), np.float32)
    return reference.conv(x, w, **geometry).shape[1:]


@pytest.mark.parametrize(("stride", "output"), [(1, 5), (2, 3)])
def test_seven_by_seven_with_three_by_three(stride, output):
    assert filtered_shape((1, 7, 7), 1, 3, stride=stride) == (1, output, output)
    assert exact_output_size(7, 3, stride) == output


def test_stride_three_does_not_fit():
    with pytest.raises(ArgumentError, match=r"\(7 - 3\) / 3 \+ 1 = 2\.33"):
        exact_output_size(7, 3, 3)
    assert filtered_shape((1, 7, 7), 1, 3, stride=3) == (1, 2, 2)


def test_zero_padding_of_one_keeps_seven_by_seven():
    assert filtered_shape((1, 7, 7), 1, 3, padding=1) == (1, 7, 7)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_padding_of_half_the_filter_keeps_the_size(size):
    assert filtered_shape((3, 32, 32), 4, size, padding=(size - 1) // 2) == (4, 32, 32)
    assert exact_output_size(32, size, padding=(size - 1) // 2) == 32


def test_ten_five_by_five_filters_with_stride_one_and_padding_two():
    assert filtered_shape((3, 32, 32), 10, 5, stride=1, padding=2) == (10, 32, 32)
    w, b = np.empty((10, 3, 5, 5)), np.empty(10)
    assert w.size + b.size == 760
    assert w[0].size + b[0].size == 76


def test_five_by_five_filters_without_padding_shrink_the_input():
    shape = (3, 32, 32)
    heights = [shape[1]]
    for features in (6, 10):
        shape = filtered_shape(shape, features, 5)
        heights.append(shape[1])
    assert heights == [32, 28, 24]
    assert shape == (10, 24, 24)


def test_one_by_one_convolution_reduces_the_depth():
    rng = np.random.default_rng(7)
    x, w = rng.standard_normal((1, 64, 56, 56)), rng.standard_normal((32, 64, 1, 1))
    y = reference.conv(x, w)
    assert y.shape == (1, 32, 56, 56)
    np.testing.assert_allclose(y[0, :, 10, 20], w[:, :, 0, 0] @ x[0, :, 10, 20], rtol=1e-12)


@pytest.mark.parametrize(("size", "stride", "output"), [(2, 2, 112), (3, 2, 111)])
def test_pooling_shrinks_the_plane_and_keeps_the_depth(size, stride, output):
    x = np.random.default_rng(7).standard_normal((1, 4, 224, 224)).astype(np.float32)
    assert (224 - size) // stride + 1 == output
    assert reference.max_pool(x, size, stride)[0].shape == (1, 4, output, output)
    assert reference.avg_pool(x, size, stride).shape == (1, 4, output, output)


def test_max_pooling_of_the_slide():
    x = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
    values, indices = reference.max_pool(x[None, None], 2, 2)
    assert values[0, 0].tolist() == [[6, 8], [3, 4]]
    assert indices[0, 0].tolist() == [[5, 7], [8, 15]]


@pytest.mark.parametrize(("size", "paddings"), [(32, []), (31, [0, 1, 2, 3, 4]), (5, [0, 1, 2, 3, 4]), (4, [])])
def test_paddings_that_fit_five_by_five_filters_with_stride_two(size, paddings):
    assert fitting_paddings(size, 5, 2) == paddings
    for padding in paddings:
        assert 2 * (exact_output_size(size, 5, 2, padding) - 1) + 5 == size + 2 * padding


# The same on layers


def test_the_layer_floors_where_the_formula_does_not_fit_and_the_summary_says_so():
    summary = nn.summary(nn.Conv2d(1, 1, 3, stride=3), (1, 1, 7, 7))
    (row,) = summary.rows
    assert row.output_shape == (1, 1, 2, 2)
    assert row.dropped == (1, 1)
    assert "1 × 1" in str(summary)


def test_ten_filters_have_760_parameters():
    (row,) = nn.summary(nn.Conv2d(3, 10, 5, padding=2), (1, 3, 32, 32)).rows
    assert (row.output_shape, row.parameters) == ((1, 10, 32, 32), 760)


def test_pooling_layers_have_no_parameters():
    for kernel, stride, output in ((2, 2, 16), (3, 2, 15)):
        (row,) = nn.summary(nn.MaxPool2d(kernel, stride), (1, 64, 32, 32)).rows
        assert (row.output_shape, row.parameters) == ((1, 64, output, output), 0)


def test_a_stack_of_three_by_three_layers_sees_three_five_seven():
    stack = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(3)))
    assert [row.receptive_field for row in nn.summary(stack, (1, 1, 16, 16)).rows] == [(3, 3), (5, 5), (7, 7)]


def test_filters_start_out_different_from_each_other():
    filters = nn.Conv2d(3, 16, 3).weight.reshape(16, -1)
    assert len(np.unique(filters, axis=0)) == 16
    assert np.abs(np.corrcoef(filters) - np.eye(16)).max() < 0.9
