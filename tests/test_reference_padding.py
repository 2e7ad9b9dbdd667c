import itertools

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within

from fastconv.reference import pad

MODES = ("constant", "reflect", "replicate", "circular")


def padded(size, pairs, mode="constant", value=0):
    """The row 1, 2, ... `size`, padded, as a list."""
    return pad(np.arange(1, size + 1)[None, None], pairs, mode, value)[0, 0].tolist()


class TestByHand:
    def test_constant(self):
        assert padded(3, (1, 2)) == [0, 1, 2, 3, 0, 0]
        assert padded(3, (1, 0), value=7) == [7, 1, 2, 3]
        assert padded(3, (1, 0), value=None) == [0, 1, 2, 3]

    def test_negative_numbers_crop(self):
        assert padded(5, (-1, -2)) == [2, 3]
        assert padded(5, (-2, 1)) == [3, 4, 5, 0]
        assert padded(3, (-3, 2)) == [0, 0]

    def test_reflect_does_not_repeat_the_border(self):
        assert padded(4, (2, 3), "reflect") == [3, 2, 1, 2, 3, 4, 3, 2, 1]
        assert padded(5, (-1, 2), "reflect") == [2, 3, 4, 5, 4, 3]
        assert padded(5, (-4, 3), "reflect") == [5, 4, 3, 2]

    def test_reflect_beyond_the_input_repeats(self):
        assert padded(2, (3, 3), "reflect") == [2, 1, 2, 1, 2, 1, 2, 1]
        assert padded(1, (2, 1), "reflect") == [1, 1, 1, 1]

    def test_replicate(self):
        assert padded(3, (2, 1), "replicate") == [1, 1, 1, 2, 3, 3]
        assert padded(3, (-1, 1), "replicate") == [2, 3, 3]

    def test_circular_wraps_around_what_is_left_after_cropping(self):
        assert padded(3, (2, 1), "circular") == [2, 3, 1, 2, 3, 1]
        assert padded(5, (-1, 2), "circular") == [2, 3, 4, 5, 2, 3]
        assert padded(5, (2, -1), "circular") == [3, 4, 1, 2, 3, 4]
        assert padded(2, (3, 0), "circular") == [2, 1, 2, 1, 2]

    def test_the_last_axis_comes_first(self):
        x = np.array([[1, 2], [3, 4]])
        assert pad(x, (1, 0)).tolist() == [[0, 1, 2], [0, 3, 4]]
        assert pad(x, (0, 0, 1, 0)).tolist() == [[0, 0], [1, 2], [3, 4]]
        assert pad(x, (1, 0, 0, 1), "replicate").tolist() == [[1, 1, 2], [3, 3, 4], [3, 3, 4]]

    def test_any_axis_may_be_padded_with_a_constant(self):
        assert pad(np.ones((2, 3, 4)), (0, 0, 1, 1, 2, 0)).shape == (4, 5, 4)
        assert pad(np.ones((0, 3)), (1, 1, 2, 0)).sum() == 0

    def test_an_odd_count_and_an_unknown_mode_raise(self):
        with pytest.raises(ValueError, match=r"pad: expected pairs \(before, after\), got 3 values"):
            pad(np.ones((1, 1, 4)), (1, 2, 3))
        with pytest.raises(ValueError, match="expected constant, reflect, replicate or circular, got 'edge'"):
            pad(np.ones((1, 1, 4)), (1, 2), "edge")

    @pytest.mark.parametrize("mode", MODES)
    def test_the_result_is_new_and_of_the_same_type(self, mode):
        for dtype in (np.float16, np.float64, np.int8, np.uint8):
            x = np.arange(6, dtype=dtype).reshape(1, 1, 6)
            y = pad(x, (0, 0), mode)
            assert y.dtype == dtype
            assert_same_values(y, x)
            assert not np.shares_memory(x, y)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("mode", "numpys"), [("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
def test_the_modes_are_those_of_numpy(rng, rank, mode, numpys):
    x = rng.standard_normal((2, 3, *(4, 5, 6)[:rank]))
    pairs = [(1, 2), (0, 3), (2, 0)][:rank]
    filling = {"constant_values": 2.5} if mode == "constant" else {}
    expected = np.pad(x, [(0, 0), (0, 0), *pairs], numpys, **filling)
    assert_within(pad(x, [n for pair in pairs[::-1] for n in pair], mode, 2.5), expected, 0.0)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_padding_against_torch(torch, rng, rank, mode):
    numbers = (-1, 0, 1, 3)
    choices = [pairs for pairs in itertools.product(numbers, repeat=2 * rank) if rank < 3 or sum(pairs) % 5 == 0]
    assert len(choices) >= 16
    for pairs, dtype in itertools.product(choices, (np.float32, np.float64)):
        x = rng.standard_normal((1, 2, *(5, 6, 4)[:rank])).astype(dtype)
        value = 1.5 if mode == "constant" else None
        expected = torch.nn.functional.pad(torch.from_numpy(x), pairs, mode, value).numpy()
        assert_within(pad(x, pairs, mode, value), expected, 0.0, (pairs, mode))
