"""Copies between arrays of any strides, against NumPy."""

from itertools import permutations

import numpy as np
import pytest

from fastconv.ops.strided_copy import copy_step

SHAPES = [(3, 4), (1, 8, 4, 5), (2, 3, 4, 5, 6), (40, 50), (16, 16), (17, 15), (100, 33, 17), (0, 3), (5,), ()]


def copied(y, x):
    step = copy_step(y.shape, y.strides, x.strides, y.itemsize)
    step(y, x)
    return y


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8", "c16"])
def test_every_order_of_axes(dtype, rng):
    for shape in SHAPES:
        x = (rng.random(shape) * 255).astype(dtype)
        for order in permutations(range(len(shape))):
            turned = x.transpose(order)
            np.testing.assert_array_equal(copied(np.zeros(turned.shape, dtype), turned), turned)
            back = np.zeros(shape, dtype)
            copied(back.transpose(order), turned)
            np.testing.assert_array_equal(back, x)


def test_slices_reversals_and_repetitions(rng):
    x = rng.random((6, 9, 8))
    for view in (
        x[::2, 1:-1, ::-3],
        x[::-1],
        x[:, 3:4],
        np.broadcast_to(x[:, :1], x.shape),
        np.broadcast_to(x[0, 0, 0], x.shape),
    ):
        np.testing.assert_array_equal(copied(np.zeros(view.shape), view), view)


def test_into_a_part_of_an_array(rng):
    whole, x = np.zeros((3, 10, 7)), rng.random((3, 4, 7))
    copied(whole[:, 2:6], x)
    np.testing.assert_array_equal(whole[:, 2:6], x)
    assert not whole[:, :2].any()
    assert not whole[:, 6:].any()


def test_the_team(team, rng):
    x = rng.random((4, 60, 50, 30)).astype(np.float32)
    turned = x.transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(copied(np.zeros(turned.shape, np.float32), turned), turned)


def test_what_the_kernel_has_no_loops_for():
    x = np.empty((2,) * 7)
    assert copy_step(x.shape, x.strides, x.strides[::-1], 8) is None
    assert copy_step((3,), (12,), (12,), 12) is None
