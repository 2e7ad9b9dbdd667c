import itertools

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within, sum_tolerance

from fastconv.reference import adaptive_avg_pool, interpolate, pixel_shuffle, pixel_unshuffle

FLOATS = [np.float16, np.float32, np.float64]
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
SHAPES = {1: (2, 3, 7), 2: (2, 3, 5, 6), 3: (1, 2, 4, 3, 5)}


def resized(values, *arguments, **keywords):
    return interpolate(np.array(values, np.float64)[None, None], *arguments, **keywords)[0, 0].tolist()


class TestByHand:
    def test_nearest_takes_the_floor(self):
        assert resized([1, 2, 3], 6) == [1, 1, 2, 2, 3, 3]
        assert resized([1, 2, 3, 4, 5], 3) == [1, 2, 4]
        assert resized([1, 2, 3], 5) == [1, 1, 2, 2, 3]

    def test_nearest_exact_takes_the_pixel_under_the_centre(self):
        assert resized([1, 2, 3, 4, 5], 3, mode="nearest-exact") == [1, 3, 5]
        assert resized([1, 2, 3, 4], 2, mode="nearest-exact") == [2, 4]

    def test_linear_between_pixel_centres(self):
        assert resized([0, 4], 4, mode="linear") == [0, 1, 3, 4]
        assert resized([0, 2, 4, 6], 2, mode="linear") == [1, 5]
        assert resized([0, 3, 9], 1, mode="linear") == [3]

    def test_linear_with_aligned_corners(self):
        assert resized([0, 4], 5, mode="linear", align_corners=True) == [0, 1, 2, 3, 4]
        assert resized([0, 3, 9], 1, mode="linear", align_corners=True) == [0]

    def test_bilinear(self):
        assert resized([[0, 4], [8, 12]], (3, 3), mode="bilinear", align_corners=True) == [
            [0, 2, 4],
            [4, 6, 8],
            [8, 10, 12],
        ]

    def test_bicubic_half_way_has_the_weights_of_a_equal_to_minus_three_quarters(self):
        """a / 8 at a distance of 1.5, (4 - a) / 8 at a distance of 0.5."""
        impulse = resized([[0, 0, 1, 0, 0, 0]] * 2, (2, 3), mode="bicubic")
        np.testing.assert_allclose(impulse[0], [-0.09375, 0.59375, 0], rtol=1e-14)
        constant = resized([[5] * 4] * 3, (7, 9), mode="bicubic")
        np.testing.assert_allclose(constant, 5, rtol=1e-14)

    def test_the_size_is_the_floor_of_the_scaled_size(self):
        x = np.ones((1, 1, 5, 7))
        assert interpolate(x, scale_factor=1.5).shape == (1, 1, 7, 10)
        assert interpolate(x, scale_factor=(0.5, 2), mode="bilinear").shape == (1, 1, 2, 14)
        assert interpolate(x, size=4, mode="area").shape == (1, 1, 4, 4)

    def test_a_size_that_stays_ignores_the_scale_as_in_torch(self):
        """torch copies axes in linear modes and in two-dimensional nearest, where it also halves exact doubles."""
        row = [0, 1, 2, 3, 4, 5, 6]
        assert resized(row, scale_factor=1.1, mode="linear") == row
        assert resized([row], scale_factor=(1, 1.1)) == [row]
        assert resized([row], scale_factor=(1, 2.05)) == [[n // 2 for n in range(14)]]
        assert resized(row, scale_factor=1.1) == [0, 0, 1, 2, 3, 4, 5]
        assert resized(row, scale_factor=2.05) == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]

    def test_recomputing_the_scale_changes_the_values(self):
        given = resized([0, 1, 2, 3, 4], scale_factor=0.5, mode="linear")
        recomputed = resized([0, 1, 2, 3, 4], scale_factor=0.5, mode="linear", recompute_scale_factor=True)
        assert given == [0.5, 2.5]
        assert recomputed == [0.75, 3.25]

    def test_antialiasing_averages_where_it_shrinks(self):
        assert resized([[0, 0, 8, 0]] * 4, (4, 2), mode="bilinear", antialias=True)[0] == pytest.approx([8 / 7, 24 / 7])
        x = np.random.default_rng(3).standard_normal((1, 1, 4, 5))
        assert_within(
            interpolate(x, (8, 10), mode="bilinear", antialias=True), interpolate(x, (8, 10), mode="bilinear"), 1e-15
        )

    def test_unsigned_bytes_stay_and_are_rounded(self):
        x = np.array([[[[0, 255], [10, 11]]]], np.uint8)
        y = interpolate(x, (2, 4), mode="bilinear")
        assert y.dtype == np.uint8
        assert y.tolist() == [[[[0, 64, 191, 255], [10, 10, 11, 11]]]]
        overshoot = interpolate(np.array([[[[0, 0, 255, 255]]]], np.uint8), (1, 8), mode="bicubic")
        assert (overshoot.min(), overshoot.max()) == (0, 255)

    def test_nearest_keeps_integers_exactly(self):
        x = np.array([[[2**62 + 1, -5]]])
        assert interpolate(x, 4).tolist() == [[[2**62 + 1, 2**62 + 1, -5, -5]]]

    def test_an_empty_batch(self):
        for mode in ("nearest", "bilinear", "bicubic", "area"):
            assert interpolate(np.ones((0, 2, 3, 3)), (5, 4), mode=mode).shape == (0, 2, 5, 4)

    def test_nan_stays_near(self):
        assert_same_values(resized([np.nan, 1, 2, 3], 8, mode="linear"), [np.nan] * 3 + [1.25, 1.75, 2.25, 2.75, 3])

    @pytest.mark.parametrize(
        ("keywords", "text"),
        [
            ({}, "expected either size or scale_factor"),
            ({"size": 3, "scale_factor": 2}, "expected either size or scale_factor"),
            ({"size": 3, "mode": "cubic"}, "mode: 'cubic' is unknown"),
            ({"size": 3, "mode": "lanczos"}, "mode: 'lanczos' is unknown, or known with antialias only"),
            ({"size": 3, "mode": "linear", "antialias": True}, "antialias: expected mode bilinear, bicubic or lanczos"),
        ],
    )
    def test_errors(self, keywords, text):
        with pytest.raises(ValueError, match=text):
            interpolate(np.ones((1, 1, 4)), **keywords)


class TestPixelShuffle:
    def test_by_hand(self):
        x = np.array([1, 2, 3, 4])[None, :, None, None]
        assert pixel_shuffle(x, 2).tolist() == [[[[1, 2], [3, 4]]]]
        assert pixel_unshuffle(np.array([[[[1, 2], [3, 4]]]]), 2).ravel().tolist() == [1, 2, 3, 4]

    def test_unshuffle_is_the_inverse(self, rng):
        for shape, r in (((2, 18, 4, 5), 3), ((8, 3, 2), 2), ((0, 4, 3, 3), 2)):
            x = rng.standard_normal(shape)
            y = pixel_shuffle(x, r)
            assert y.shape == (*shape[:-3], shape[-3] // r**2, shape[-2] * r, shape[-1] * r)
            assert_same_values(pixel_unshuffle(y, r), x)

    def test_against_torch(self, torch, rng):
        x = rng.standard_normal((2, 18, 6, 9)).astype(np.float32)
        assert_within(pixel_shuffle(x, 3), torch.nn.functional.pixel_shuffle(torch.from_numpy(x), 3).numpy(), 0.0)
        assert_within(pixel_unshuffle(x, 3), torch.nn.functional.pixel_unshuffle(torch.from_numpy(x), 3).numpy(), 0.0)


def targets(rank):
    """Keywords for sizes, scales and scales that are recomputed."""
    yield from ({"size": size} for size in (1, 2, 5, 8, 13, (3, 9, 4)[:rank]))
    for factor in (0.4, 0.5, 1.0, 1.1, 1.7, 2, 2.05, 3, (1.5, 0.7, 2.3)[:rank]):
        yield {"scale_factor": factor}
        yield {"scale_factor": factor, "recompute_scale_factor": True}


def weights_tolerance(x, dtype, taps):
    """Of sums of `taps` values, with weights that differ by the rounding of positions: eps times at most 32."""
    largest = np.abs(x.astype(np.float64)).max()
    return (
        sum_tolerance(taps, 2 * largest, dtype)
        + 2 * taps * 32 * np.finfo(np.promote_types(dtype, np.float32)).eps * largest
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rank", [1, 2, 3])
class TestAgainstTorch:
    @pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
    def test_nearest(self, torch, rng, rank, dtype, mode):
        x = rng.standard_normal(SHAPES[rank]).astype(dtype)
        for target in targets(rank):
            expected = torch.nn.functional.interpolate(torch.from_numpy(x), mode=mode, **target).numpy()
            assert_within(interpolate(x, mode=mode, **target), expected, 0.0, (mode, target))

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_linear(self, torch, rng, rank, dtype, align_corners):
        x = rng.standard_normal(SHAPES[rank]).astype(dtype)
        for target in targets(rank):
            keywords = {"mode": LINEAR[rank], "align_corners": align_corners, **target}
            expected = torch.nn.functional.interpolate(torch.from_numpy(x), **keywords).numpy()
            assert_within(interpolate(x, **keywords), expected, weights_tolerance(x, dtype, 2**rank), keywords)

    def test_area(self, torch, rng, rank, dtype):
        x = rng.standard_normal(SHAPES[rank]).astype(dtype)
        for target in targets(rank):
            expected = torch.nn.functional.interpolate(torch.from_numpy(x), mode="area", **target).numpy()
            magnitude = adaptive_avg_pool(np.abs(x.astype(np.float64)), expected.shape[2:])
            tolerance = sum_tolerance(x[0, 0].size + 1, magnitude, dtype)
            assert_within(interpolate(x, mode="area", **target), expected, tolerance, target)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("align_corners", [False, True])
def test_bicubic_against_torch(torch, rng, dtype, align_corners):
    x = rng.standard_normal(SHAPES[2]).astype(dtype)
    for target in targets(2):
        keywords = {"mode": "bicubic", "align_corners": align_corners, **target}
        expected = torch.nn.functional.interpolate(torch.from_numpy(x), **keywords).numpy()
        assert_within(interpolate(x, **keywords), expected, weights_tolerance(x, dtype, 16), keywords)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
def test_antialiased_filters_against_torch(torch, rng, dtype, mode):
    x = rng.standard_normal((2, 3, 11, 14)).astype(dtype)
    for target, align_corners in itertools.product(targets(2), (False, True)):
        if mode == "lanczos" and align_corners:
            continue
        keywords = {"mode": mode, "align_corners": align_corners, "antialias": True, **target}
        expected = torch.nn.functional.interpolate(torch.from_numpy(x), **keywords).numpy()
        assert_within(interpolate(x, **keywords), expected, weights_tolerance(x, dtype, 11 + 14), keywords)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_unsigned_bytes_against_torch(torch, rng, mode):
    """torch's weights have fixed points, which may turn the rounding of a half: by one."""
    x = rng.integers(0, 256, (2, 3, 8, 9)).astype(np.uint8)
    for size in ((5, 4), (16, 18), (13, 7)):
        expected = torch.nn.functional.interpolate(torch.from_numpy(x), size=size, mode=mode).numpy()
        assert_within(interpolate(x, size, mode=mode), expected, 1.0, size)
