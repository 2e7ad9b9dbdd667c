import itertools

import numpy as np
import pytest

from fastconv import reference
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.geometry import (
    MAX_ELEMENTS,
    Window,
    element_count,
    exact_output_size,
    fitting_paddings,
    per_axis,
    window_axis,
)

SIZES, KERNELS, STRIDES, DILATIONS, PADS = range(1, 8), range(1, 5), range(1, 5), range(1, 4), range(4)


def small_axes():
    return itertools.product(SIZES, KERNELS, STRIDES, DILATIONS, itertools.product(PADS, PADS))


def windows_by_hand(size, kernel, stride, dilation, pads, ceil_mode):
    """The starts of all windows, counted one by one from the definition."""
    before, after = pads
    extent = dilation * (kernel - 1) + 1
    starts, start = [], -before
    while start + extent <= size + after:
        starts.append(start)
        start += stride
    if ceil_mode:
        covered = starts[-1] + extent if starts else start + extent - stride
        if covered < size + after:
            starts.append(start)
        if starts and starts[-1] >= size:
            starts.pop()
    return starts


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_output_size_counts_the_windows_that_fit(ceil_mode):
    fitting = empty = 0
    for size, kernel, stride, dilation, pads in small_axes():
        count = len(windows_by_hand(size, kernel, stride, dilation, pads, ceil_mode))
        if count:
            window = Window.of((size,), kernel, stride, (pads,), dilation, ceil_mode)
            assert window.output == (count,), (size, kernel, stride, dilation, pads)
            assert window.pads == (pads,)
            fitting += 1
        else:
            with pytest.raises(ArgumentError, match="output would be empty"):
                Window.of((size,), kernel, stride, (pads,), dilation, ceil_mode)
            empty += 1
    assert fitting > 4000
    assert empty > 50


def test_dropped_counts_the_last_positions_that_no_window_reaches():
    seen = set()
    for size, kernel, stride, dilation, pads in small_axes():
        starts = windows_by_hand(size, kernel, stride, dilation, pads, False)
        if starts:
            last = starts[-1] + dilation * (kernel - 1)
            dropped = sum(position > last for position in range(size))
            assert Window.of((size,), kernel, stride, (pads,), dilation).dropped == (dropped,)
            seen.add(dropped)
    assert seen >= {0, 1, 2, 3}


@pytest.mark.parametrize("word", ["same", "SAME_UPPER", "SAME_LOWER"])
def test_same_keeps_ceil_of_size_over_stride_with_the_fewest_zeros(word):
    odd = 0
    for size, kernel, stride, dilation in itertools.product(SIZES, KERNELS, STRIDES, DILATIONS):
        window = Window.of((size,), kernel, stride, word, dilation)
        ((before, after),) = window.pads
        assert window.output == (-(-size // stride),)
        assert before + after == 0 or len(
            windows_by_hand(size, kernel, stride, dilation, (before, after - 1), False)
        ) < len(windows_by_hand(size, kernel, stride, dilation, (before, after), False))
        extra = (before + after) % 2
        assert (after - before, before - after)[word == "SAME_LOWER"] == extra
        odd += extra
    assert odd > 50


def test_valid_is_no_padding():
    assert Window.of((5, 6), 3, padding="valid") == Window.of((5, 6), 3, padding=0)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "output"),
    [(2, 1, 2, 1), (4, 1, 2, 2), (2, 3, 2, 1), (5, 2, 2, 3), (3, 2, 3, 1)],
)
def test_ceil_mode_by_hand(size, kernel, stride, output):
    assert window_axis(size, kernel, stride, 1, 0, ceil_mode=True) == (0, 0, output)


def test_window_of_normalises_every_argument():
    window = Window.of((9, 8), (3, 2), stride=np.int64(2), padding=[1, 0], dilation=(1,), ceil_mode=1)
    assert window == Window((9, 8), (3, 2), (2, 2), (1, 1), ((1, 1), (0, 0)), (5, 4), True)
    assert (window.rank, window.extent, window.padded) == (2, (3, 2), (11, 8))


def test_pairs_pad_each_side_on_its_own():
    assert Window.of((4, 5), (2, 3), padding=((1, 2), (0, 3))).output == (6, 6)
    assert Window.of((4,), 3, padding=((0, 2),)).pads == ((0, 2),)


def test_pointwise_reads_every_position_and_no_padding():
    assert Window.of((4, 5), 1).is_pointwise
    assert not Window.of((4, 5), (1, 3), padding=(0, 1)).is_pointwise
    assert not Window.of((4, 5), 1, stride=2).is_pointwise
    assert not Window.of((3, 3), 1, stride=2, padding=1).is_pointwise
    assert not Window.of((1, 1), 1, stride=5, padding=1).is_pointwise


@pytest.mark.parametrize("value", [2, (2,), [2, 2], np.int32(2), np.array(2), np.array([2, 2])])
def test_per_axis_takes_one_value_or_one_per_axis(value):
    assert per_axis(value, 2, "stride") == (2, 2)


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({"stride": 0}, ArgumentError, r"stride: expected at least 1, got 0"),
        ({"stride": (1, -1)}, ArgumentError, r"stride: expected at least 1, got -1"),
        ({"stride": 1.0}, ArgumentTypeError, r"stride: expected an integer, got 1\.0 \(float\)"),
        ({"stride": True}, ArgumentTypeError, r"stride: expected an integer, got True \(bool\)"),
        ({"stride": np.True_}, ArgumentTypeError, r"stride: expected an integer, got .*bool"),
        ({"stride": np.array(1.5)}, ArgumentTypeError, r"stride: expected an integer, got array\(1\.5\)"),
        ({"stride": "2"}, ArgumentTypeError, r"stride: expected an integer, got '2' \(str\)"),
        ({"stride": None}, ArgumentTypeError, r"stride: expected an integer, got None"),
        ({"stride": (1, 2, 3)}, ArgumentError, r"stride: expected 1 or 2 values, got 3: \(1, 2, 3\)"),
        ({"stride": ()}, ArgumentError, r"stride: expected 1 or 2 values, got 0: \(\)"),
        ({"stride": 2**48 + 1}, ArgumentError, rf"stride: expected at most {2**48}, got {2**48 + 1}"),
        ({"dilation": 0}, ArgumentError, r"dilation: expected at least 1, got 0"),
        ({"kernel": (0, 3)}, ArgumentError, r"kernel_size: expected at least 1, got 0"),
        ({"kernel": 9}, ArgumentError, r"kernel_size: a kernel of 9×9 does not fit into the padded input of 7×6"),
        ({"kernel": 4, "dilation": 3}, ArgumentError, r"a kernel of 10×10 does not fit .*\(input 7×6, padding 0×0\)"),
        (
            {"kernel": 9, "padding": ((1, 0), (0, 1))},
            ArgumentError,
            r"8×7 \(input 7×6, padding \(\(1, 0\), \(0, 1\)\)\)",
        ),
        ({"kernel": 9, "padding": "valid"}, ArgumentError, r"use a smaller kernel or dilation, or more padding"),
        ({"padding": -1}, ArgumentError, r"padding: expected at least 0, got -1"),
        ({"padding": ((0, -1), (0, 0))}, ArgumentError, r"padding: expected at least 0, got -1"),
        ({"padding": (1, 2, 1, 2)}, ArgumentError, r"padding: expected 1 or 2 values, got 4: \(1, 2, 1, 2\)"),
        ({"padding": ((1, 2),)}, ArgumentError, r"padding: expected 2 pairs \(before, after\), got \(\(1, 2\),\)"),
        ({"padding": ((1, 2), 3)}, ArgumentError, r"padding: expected 2 pairs \(before, after\)"),
        ({"padding": "SAME"}, ArgumentError, r"padding: expected numbers or one of valid, same, .*, got 'SAME'"),
        ({"padding": 2**40}, ArgumentError, r"padded input: \(\d+, \d+\) has \d+ elements, more than any memory holds"),
        ({"input": (0, 4)}, ArgumentError, r"input: expected spatial sizes of at least 1, got 0×4"),
    ],
)
def test_errors_say_which_argument_and_what_came(keywords, error, text):
    arguments = {"input": (7, 6), "kernel": 3} | keywords
    with pytest.raises(error, match=text):
        Window.of(**arguments)


def test_errors_are_those_of_both_worlds():
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(ArgumentError, RuntimeError)
    assert issubclass(ArgumentTypeError, TypeError)


def test_element_count_refuses_what_no_memory_holds():
    assert element_count((2, 3, 4)) == 24
    assert element_count((0, 2**60)) == 0
    assert element_count((MAX_ELEMENTS,)) == MAX_ELEMENTS
    with pytest.raises(ArgumentError, match=r"y: \(16777216, 16777217\) has 281474993487872 elements"):
        element_count((2**24, 2**24 + 1), "y")


def test_exact_output_size_refuses_a_fraction():
    assert exact_output_size(7, 3) == 5
    assert exact_output_size(7, 3, 2) == 3
    assert exact_output_size(227, 11, 4) == 55
    assert exact_output_size(7, 3, 3, padding=1) == 3
    assert exact_output_size(9, 3, 2, dilation=2) == 3
    with pytest.raises(ArgumentError, match=r"stride: .*\(7 - 3\) / 3 \+ 1 = 2\.33; fitting_paddings"):
        exact_output_size(7, 3, 3)
    with pytest.raises(ArgumentError, match="does not fit into the padded input"):
        exact_output_size(2, 3)
    with pytest.raises(ArgumentTypeError, match="size: expected an integer"):
        exact_output_size(7.0, 3)


def test_fitting_paddings_are_all_that_cover_the_input_exactly():
    assert fitting_paddings(32, 5, 1) == [0, 1, 2, 3, 4]
    assert fitting_paddings(7, 3, 3) == [1]
    assert fitting_paddings(2, 5, 1) == [2, 3, 4]
    for size, kernel, stride in itertools.product(SIZES, KERNELS, STRIDES):
        exact = []
        for padding in range(kernel):
            try:
                exact_output_size(size, kernel, stride, padding)
                exact.append(padding)
            except ArgumentError:
                pass
        assert fitting_paddings(size, kernel, stride) == exact
    with pytest.raises(ArgumentError, match="stride: expected at least 1, got 0"):
        fitting_paddings(7, 3, 0)


def assert_reference_agrees(size, kernel, stride, padding, dilation, ceil_mode):
    """Both derivations give the same output shape, or both refuse."""
    x, w = np.zeros((1, 1, *size), np.float32), np.zeros((1, 1, *kernel), np.float32)
    try:
        expected = Window.of(size, kernel, stride, padding, dilation, ceil_mode).output
    except ArgumentError:
        expected = None
    try:
        if ceil_mode:
            shape = reference.max_pool(x, kernel, stride, padding, dilation, ceil_mode)[0].shape[2:]
        else:
            shape = reference.conv(x, w, stride=stride, padding=padding, dilation=dilation).shape[2:]
    except ValueError:
        shape = None
    assert shape == expected, (size, kernel, stride, padding, dilation, ceil_mode)
    return expected is not None


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_the_reference_derives_the_same_sizes(ceil_mode):
    fitting = [
        assert_reference_agrees((size,), (kernel,), stride, (pads,), dilation, ceil_mode)
        for size, kernel, stride, dilation, pads in small_axes()
    ]
    assert fitting.count(True) > 4000
    assert fitting.count(False) > 50


@pytest.mark.parametrize(
    "padding", [1, (2, 0, 1), ((0, 1), (2, 3), (1, 0)), "valid", "same", "SAME_UPPER", "SAME_LOWER"]
)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_the_reference_derives_the_same_sizes_in_three_dimensions(padding, ceil_mode):
    for size, kernel, stride, dilation in itertools.product(
        [(5, 4, 6), (7, 3, 4)], [(2, 3, 1), (3, 1, 2)], [1, 2, (1, 2, 3)], [1, (1, 2, 2)]
    ):
        assert_reference_agrees(size, kernel, stride, padding, dilation, ceil_mode)
