"""Arithmetic with broadcasting against NumPy, bit by bit: one rounding leaves no choice."""

import numpy as np
import pytest

from fastconv.ops.binary import BINARY, FUNCTIONS, BinarySpec

SHAPES = [
    ((3, 4, 5), (3, 4, 5)),
    ((2, 3, 7, 7), (1, 3, 1, 1)),
    ((2, 3, 7, 7), (2, 3, 1, 1)),
    ((2, 3, 7, 7), (2, 1, 7, 7)),
    ((2, 3, 7, 7), (7, 1)),
    ((2, 3, 100, 101), (3, 1, 1)),
    ((5, 9), (9,)),
    ((5, 1), (1, 9)),
    ((1, 17), (3, 1)),
    ((), (4,)),
    ((), ()),
    ((1,), (1, 1)),
    ((20_000,), ()),
    ((8191,), (8191,)),
    ((8193,), (8193,)),
    ((3, 1, 2, 5), (1, 4, 1, 5)),
    ((0, 3), (3,)),
    ((3, 0), (3, 1)),
]


def spec_of(operation, a, b, *limits):
    return BinarySpec.of(operation, (a.shape, a.strides), (b.shape, b.strides), a.dtype, *limits)


def computed(spec, a, b):
    y = np.full(np.broadcast_shapes(a.shape, b.shape), np.nan, a.dtype)
    BINARY.choose(spec, "direct").plan(spec)(y, a, b)
    return y


@pytest.mark.parametrize("operation", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_pattern(operation, dtype, isa, rng):
    for shapes in SHAPES:
        for a_shape, b_shape in (shapes, shapes[::-1]):
            a, b = (rng.standard_normal(shape).astype(dtype) for shape in (a_shape, b_shape))
            expected = FUNCTIONS[operation](a, b)
            np.testing.assert_array_equal(computed(spec_of(operation, a, b), a, b), expected, str(shapes))
            clamped = np.clip(expected, np.dtype(dtype).type(-0.5), np.dtype(dtype).type(0.25))
            np.testing.assert_array_equal(computed(spec_of(operation, a, b, -0.5, 0.25), a, b), clamped, str(shapes))


def test_the_team_changes_no_bit(team, rng):
    a, b = (
        rng.standard_normal((2, 40, 33, 31)).astype(np.float32),
        rng.standard_normal((2, 40, 1, 1)).astype(np.float32),
    )
    np.testing.assert_array_equal(computed(spec_of("mul", a, b), a, b), a * b)


@pytest.mark.parametrize("operation", FUNCTIONS)
def test_nan_and_infinity(operation, isa):
    values = np.float32([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0, 3e38])
    a, b = np.repeat(values, len(values)), np.tile(values, len(values))
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[operation](a, b)
    np.testing.assert_array_equal(computed(spec_of(operation, a, b), a, b), expected)
    np.testing.assert_array_equal(computed(spec_of(operation, a, b, 0.0), a, b), np.maximum(expected, 0))


@pytest.mark.parametrize("over", ["a", "b", "both"])
def test_in_place(over, isa, rng):
    a, b = (
        rng.standard_normal((2, 9, 33, 31)).astype(np.float32),
        rng.standard_normal((2, 9, 33, 31)).astype(np.float32),
    )
    if over == "both":
        b = a
    expected = a - b
    spec = spec_of("sub", a, b)
    y = b if over == "b" else a
    BINARY.choose(spec, "direct").plan(spec)(y, a, b)
    np.testing.assert_array_equal(y, expected)


def test_strided_operands(rng):
    whole = rng.standard_normal((3, 8, 5, 4)).astype(np.float32)
    a, b = whole[:, 2:5], whole[:, 5:]
    np.testing.assert_array_equal(computed(spec_of("add", a, b), a, b), a + b)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (np.empty((4, 6), np.float32).T, np.empty((6, 4), np.float32), "innermost axis is contiguous in neither"),
        (np.empty((2, 1, 3, 1, 2, 5)), np.empty((1, 2, 1, 3, 1, 5)), "the kernel has 4 loops, the operands need 6"),
        (np.empty(3, np.int32), np.empty(3, np.int32), "the kernels compute float32 and float64, the input is int32"),
    ],
)
def test_what_is_left_to_numpy(a, b, reason):
    spec = spec_of("add", a, b)
    refusals = {candidate.algorithm: candidate.refusal for candidate in BINARY.candidates(spec)}
    assert reason in refusals["direct"]
    assert BINARY.choose(spec).name == "reference"


def test_the_reference_clamps(rng):
    a, b = rng.standard_normal((2, 4, 3)), rng.standard_normal((4, 1))
    spec = spec_of("mul", a, b, -1.0, 0.5)
    y = np.empty(a.shape)
    BINARY.choose(spec, "reference").plan(spec)(y, a, b)
    np.testing.assert_array_equal(y, np.clip(a * b, -1, 0.5))


def test_operands_that_do_not_broadcast():
    with pytest.raises(ValueError, match="broadcast"):
        spec_of("add", np.empty((3, 4)), np.empty((2, 4)))
