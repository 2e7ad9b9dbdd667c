"""Resampling and rearranging: kernels against the reference, torch's semantics, torch itself, and what is refused."""

import math

import numpy as np
import pytest
from tolerance import assert_same_values, assert_within

from fastconv import config
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.nn import functional as F
from fastconv.ops.resample import RESAMPLE, ResampleSpec

NAN, INF = np.nan, np.inf

# sizes, outputs, factors: enlarged, reduced, kept, uneven, one element, wider than any vector
RANKS = {
    1: [((7,), (17,), None), ((40,), (9,), None), ((1,), (5,), None), ((33,), (66,), (2.0,)), ((10,), (13,), (1.37,))],
    2: [
        ((5, 7), (10, 14), (2.0, 2.0)),
        ((9, 11), (4, 6), None),
        ((3, 40), (3, 101), None),
        ((6, 6), (1, 1), None),
        ((1, 1), (4, 3), None),
        ((13, 8), (17, 20), (1.34, 2.6)),
        ((70, 50), (300, 120), None),
    ],
    3: [((3, 4, 5), (6, 8, 10), (2.0, 2.0, 2.0)), ((4, 5, 19), (3, 9, 7), None)],
}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
CASES = [
    (sizes, outputs, factors, mode, align_corners, antialias)
    for rank, shapes in RANKS.items()
    for sizes, outputs, factors in shapes
    for mode, align_corners, antialias in [
        ("nearest", False, False),
        ("nearest-exact", False, False),
        (LINEAR[rank], False, False),
        (LINEAR[rank], True, False),
        *([("bicubic", False, False), ("bicubic", True, False)] if rank == 2 else []),
        *([("bilinear", False, True), ("bicubic", False, True), ("lanczos", False, True)] if rank == 2 else []),
    ]
]


def resample_tolerance(x, expected, spec, dtype):
    """One product and sum per tap and axis; the magnitudes of the weights of one axis add up to less than 1.5."""
    taps = sum(weights.shape[1] for _, weights in spec.taps())
    copies = spec.mode.startswith("nearest")
    return 0.0 if copies else 2 * (taps + 6) * np.finfo(dtype).eps * np.abs(x).max() * 1.5 ** len(spec.sizes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_against_reference(isa, team, case, dtype, rng):
    sizes, outputs, factors, *how = case
    spec = ResampleSpec(3, sizes, outputs, np.dtype(dtype).name, how[0], factors, *how[1:])
    x = rng.standard_normal((1, 3, *sizes)).astype(dtype)
    memory = np.full(3 * math.prod(outputs) + 32, NAN, dtype)
    memory[:16] = memory[-16:] = 12345
    y = memory[16:-16].reshape(1, 3, *outputs)
    RESAMPLE.rows[0].plan(spec)(y, x)
    assert (memory[:16] == 12345).all()
    assert (memory[-16:] == 12345).all()
    expected = np.full(y.shape, NAN, dtype)
    RESAMPLE.rows[-1].plan(spec)(expected, x)
    assert_same_values(y, expected, resample_tolerance(x, expected, spec, dtype), case)


def test_same_bits_for_any_number_of_threads(isa, rng):
    x = rng.standard_normal((2, 5, 61, 67)).astype(np.float32)
    for mode in ("nearest", "bilinear", "bicubic"):
        results = []
        for threads in (1, 2, 3, 7):
            with config.threads(threads):
                results += [F.interpolate(x, (150, 170), mode=mode).tobytes() for _ in range(2)]
        assert len(set(results)) == 1


class TestInterpolate:
    """TORCH_SEMANTICS.md, section 1.3."""

    def line(self, *values):
        return np.array(values, np.float32)[None, None]

    def test_nearest_floors_and_nearest_exact_takes_the_centre(self):
        x = self.line(0, 1, 2, 3, 4)
        assert F.interpolate(x, 3).ravel().tolist() == [0, 1, 3]
        assert F.interpolate(x, 3, mode="nearest-exact").ravel().tolist() == [0, 2, 4]
        assert F.interpolate(x, scale_factor=2).ravel().tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]

    def test_the_output_size_is_rounded_down(self):
        assert F.interpolate(self.line(*range(10)), scale_factor=1.37).shape == (1, 1, 13)
        assert F.interpolate(self.line(*range(10)), scale_factor=0.99).shape == (1, 1, 9)

    def test_linear_aligns_edges_or_corners(self):
        x = self.line(0, 4)
        assert F.interpolate(x, 4, mode="linear").ravel().tolist() == [0, 1, 3, 4]
        assert F.interpolate(x, 5, mode="linear", align_corners=True).ravel().tolist() == [0, 1, 2, 3, 4]

    def test_a_recomputed_scale_changes_values(self):
        x = self.line(*range(10))
        asked = F.interpolate(x, scale_factor=1.37, mode="linear")
        recomputed = F.interpolate(x, scale_factor=1.37, mode="linear", recompute_scale_factor=True)
        assert asked.shape == recomputed.shape
        assert (asked != recomputed).any()
        assert_within(recomputed, F.interpolate(x, 13, mode="linear"), 0.0)

    def test_area_averages(self):
        assert F.interpolate(self.line(0, 1, 2, 3, 4), 3, mode="area").ravel().tolist() == [0.5, 2, 3.5]
        assert F.interpolate(self.line(0, 1, 2, 3), scale_factor=0.5, mode="area").ravel().tolist() == [0.5, 2.5]

    def test_uint8_stays_uint8(self):
        x = np.array([[[[0, 255], [255, 0]]]], np.uint8)
        y = F.interpolate(x, (4, 4), mode="bilinear")
        assert y.dtype == np.uint8
        assert y[0, 0, 0].tolist() == [0, 64, 191, 255]
        assert F.interpolate(x, scale_factor=2)[0, 0, 0].tolist() == [0, 0, 255, 255]

    def test_nan_stays_where_it_is(self, isa):
        x = self.line(0, NAN, 2, 3, INF, 5)
        y = F.interpolate(x, 6, mode="linear")
        assert np.isnan(y[0, 0, 1])
        assert y[0, 0, 3] == 3 or np.isnan(y[0, 0, 3])
        assert_same_values(F.interpolate(x, 12), np.repeat(x, 2, axis=-1))

    def test_an_empty_batch(self):
        assert F.interpolate(np.ones((0, 3, 4, 4), np.float32), scale_factor=2.0, mode="bicubic").shape == (0, 3, 8, 8)

    def test_any_strides_and_float16(self, rng):
        x = rng.standard_normal((2, 3, 6, 8)).astype(np.float32)
        expected = F.interpolate(np.ascontiguousarray(x[:, ::-1, ::2]), 9, mode="bilinear")
        assert_within(F.interpolate(x[:, ::-1, ::2], 9, mode="bilinear"), expected, 0.0)
        half = F.interpolate(x.astype(np.float16), 9, mode="bilinear")
        assert half.dtype == np.float16
        assert_same_values(half, F.interpolate(x, 9, mode="bilinear"), 4e-3)

    def test_the_older_names(self, rng):
        x = rng.standard_normal((1, 2, 3, 4))
        assert_within(F.upsample(x, scale_factor=2), F.interpolate(x, scale_factor=2), 0.0)
        assert_within(F.upsample_nearest(x, 5), F.interpolate(x, 5), 0.0)
        assert_within(F.upsample_bilinear(x, 5), F.interpolate(x, 5, mode="bilinear", align_corners=True), 0.0)

    @pytest.mark.parametrize(
        ("shape", "arguments", "message"),
        [
            ((4, 4), {"size": 2}, r"input: expected \(N, C, \*spatial\) with 1 to 3 spatial axes, got shape \(4, 4\)"),
            ((1, 1, 4, 4), {}, "size, scale_factor: expected one of the two, got None and None"),
            ((1, 1, 4, 4), {"size": 2, "scale_factor": 2}, "size, scale_factor: expected one of the two, got 2 and 2"),
            ((1, 1, 4, 4), {"size": (2,)}, r"size: expected one value or 2, one per spatial axis, got 1: \(2,\)"),
            (
                (1, 1, 4, 4),
                {"scale_factor": (2, 2, 2)},
                "scale_factor: expected one value or 2, one per spatial axis, got 3",
            ),
            ((1, 1, 4, 4), {"size": (0, 2)}, "size: expected at least 1, got 0"),
            (
                (1, 1, 4, 4),
                {"scale_factor": 0.1},
                r"scale_factor: expected spatial .* got \(4, 4\) resampled to \(0, 0\)",
            ),
            ((1, 1, 4, 4), {"scale_factor": -2}, r"scale_factor: expected spatial sizes of at least 1"),
            (
                (1, 1, 0, 4),
                {"size": 2},
                r"size: expected spatial sizes of at least 1, got \(0, 4\) resampled to \(2, 2\)",
            ),
            ((1, 1, 4, 4), {"size": 2, "mode": "cubic"}, "mode: expected one of nearest, .*, got 'cubic'"),
            (
                (1, 1, 4),
                {"size": 2, "mode": "bilinear"},
                r"mode: bilinear resamples 2 spatial axes, the input \(1, 1, 4\) has 1",
            ),
            (
                (1, 1, 4, 4),
                {"size": 2, "align_corners": True},
                "align_corners: has a meaning for linear, .* not for nearest",
            ),
            ((1, 1, 4, 4), {"size": 2, "align_corners": False}, "align_corners: has a meaning for linear"),
            (
                (1, 1, 4, 4),
                {"size": 2, "recompute_scale_factor": True},
                "recompute_scale_factor: has no meaning with an",
            ),
            (
                (1, 1, 4, 4),
                {"size": 2, "antialias": True},
                r"antialias: works with .* on \(N, C, H, W\) only, not with nearest",
            ),
            (
                (1, 1, 4, 4),
                {"size": 2, "mode": "lanczos"},
                "mode: lanczos requires antialias=True, and align_corners=False",
            ),
        ],
    )
    def test_refusals(self, shape, arguments, message):
        with pytest.raises(ArgumentError, match=message):
            F.interpolate(np.ones(shape, np.float32), **arguments)

    def test_refusals_of_type(self):
        with pytest.raises(ArgumentTypeError, match=r"size: expected an integer, got 2\.5"):
            F.interpolate(np.ones((1, 1, 4)), 2.5)
        with pytest.raises(ArgumentTypeError, match="scale_factor: expected a number, got 'big'"):
            F.interpolate(np.ones((1, 1, 4)), scale_factor="big")
        with pytest.raises(ArgumentTypeError, match="input: mode linear of bool is not defined; convert with astype"):
            F.interpolate(np.ones((1, 1, 4), bool), 2, mode="linear")


class TestRearranging:
    def test_pixel_shuffle_and_back(self, rng):
        x = np.arange(16).reshape(1, 4, 2, 2)
        y = F.pixel_shuffle(x, 2)
        assert y[0, 0].tolist() == [[0, 4, 1, 5], [8, 12, 9, 13], [2, 6, 3, 7], [10, 14, 11, 15]]
        assert F.pixel_unshuffle(y, 2).tolist() == x.tolist()
        unbatched = rng.standard_normal((18, 3, 5)).astype(np.float32)
        assert_within(F.pixel_unshuffle(F.pixel_shuffle(unbatched, 3), 3), unbatched, 0.0)
        with pytest.raises(
            ArgumentError, match=r"input: expected a multiple of 2² = 4 channels, got 3 in shape \(3, 4, 4\)"
        ):
            F.pixel_shuffle(np.ones((3, 4, 4)), 2)
        with pytest.raises(ArgumentError, match="upscale_factor: expected at least 1, got 0"):
            F.pixel_shuffle(x, 0)
        with pytest.raises(ArgumentError, match=r"input: expected \(..., C, H, W\), got shape \(4, 4\)"):
            F.pixel_shuffle(np.ones((4, 4)), 2)
        with pytest.raises(
            ArgumentError, match=r"input: expected height and width to be multiples of 2, got shape \(1, 3, 4\)"
        ):
            F.pixel_unshuffle(np.ones((1, 3, 4)), 2)

    def test_channel_shuffle(self):
        x = np.arange(6).reshape(1, 6, 1)
        assert F.channel_shuffle(x, 2).ravel().tolist() == [0, 3, 1, 4, 2, 5]
        assert F.channel_shuffle(x, 3).ravel().tolist() == [0, 2, 4, 1, 3, 5]
        with pytest.raises(ArgumentError, match=r"groups: 4 groups do not divide the 6 channels of input \(1, 6, 1\)"):
            F.channel_shuffle(x, 4)
        with pytest.raises(ArgumentError, match=r"input: expected \(N, C, \*spatial\), got shape \(1, 6\)"):
            F.channel_shuffle(x[..., 0], 2)

    def test_unfold_and_fold(self, rng):
        x = np.arange(9.0).reshape(1, 1, 3, 3)
        columns = F.unfold(x, 2)
        assert columns[0].tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
        assert F.unfold(x[0], 2).tolist() == columns[0].tolist()
        folded = F.fold(columns, (3, 3), 2)
        assert folded[0, 0].tolist() == [[0, 2, 2], [6, 16, 10], [6, 14, 8]]
        assert F.fold(columns[0], 3, 2).tolist() == folded[0].tolist()
        geometry = {"kernel_size": (3, 2), "dilation": (1, 2), "padding": (2, 1), "stride": (2, 1)}
        x = rng.standard_normal((2, 3, 8, 9)).astype(np.float32)
        columns = F.unfold(x, **geometry)
        ones = F.fold(F.unfold(np.ones_like(x), **geometry), (8, 9), **geometry)
        assert_same_values(F.fold(columns, (8, 9), **geometry), x * ones, 1e-5)

    def test_unfold_and_fold_refuse(self):
        x = np.ones((1, 4, 9))
        for call, message in (
            (
                lambda: F.unfold(np.ones((4, 4)), 2),
                r"input: expected \(N, C, H, W\) or \(C, H, W\), got shape \(4, 4\)",
            ),
            (lambda: F.unfold(np.ones((1, 1, 4, 4)), 5), "kernel_size: a kernel of 5×5 does not fit"),
            (
                lambda: F.fold(x[:, :, :8], 4, 2),
                r"input: expected 9 columns, one per window \(3 × 3\) of output_size \(4, 4\)",
            ),
            (
                lambda: F.fold(np.ones((1, 5, 9)), 4, 2),
                r"input: expected a multiple of 4 rows, the size of kernel \(2, 2\)",
            ),
            (lambda: F.fold(x[0, 0], 4, 2), r"input: expected \(N, C \* kernel, windows\)"),
        ):
            with pytest.raises(ArgumentError, match=message):
                call()


class TestGridSample:
    x = np.arange(1.0, 5.0).reshape(1, 1, 2, 2)

    def at(self, *points, **keywords):
        return F.grid_sample(self.x, np.array(points).reshape(1, 1, -1, 2), **keywords).ravel().tolist()

    def test_by_hand(self):
        corners = (-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)
        assert self.at(*corners, align_corners=True) == [1, 2, 3, 4]
        assert self.at(*corners) == [0.25, 0.5, 0.75, 1.0]
        assert self.at((0.0, 0.0)) == [2.5]
        assert self.at((-3.0, 0.0), (0.5, -0.5), padding_mode="border") == [2, 2]
        assert self.at((-2.0, -0.5), padding_mode="reflection") == [1.5]
        assert self.at((0.6, -0.6), (-0.4, 0.4), mode="nearest") == [2, 3]

    def test_the_identity(self, rng):
        x = rng.standard_normal((2, 3, 5, 7))
        identity = np.tile(np.eye(2, 3), (2, 1, 1))
        for align_corners in (False, True):
            grid = F.affine_grid(identity, x.shape, align_corners)
            for mode in ("bilinear", "nearest", "bicubic"):
                assert_within(F.grid_sample(x, grid, mode, align_corners=align_corners), x, 1e-12)
        cube = x.reshape(1, 2, 3, 5, 7)
        grid = F.affine_grid(np.eye(3, 4)[None], cube.shape)
        assert_within(F.grid_sample(cube, grid), cube, 1e-12)

    def test_positions_that_are_no_numbers(self):
        for padding_mode in ("zeros", "border", "reflection"):
            for mode in ("bilinear", "nearest", "bicubic"):
                y = self.at((NAN, 0.0), (INF, 0.0), (1e30, 0.0), (0.0, 0.0), mode=mode, padding_mode=padding_mode)
                assert np.isfinite(y[3])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"mode": "linear"}, "mode: expected 'bilinear', 'nearest' or 'bicubic', got 'linear'"),
            ({"padding_mode": "edge"}, "padding_mode: expected 'zeros', 'border' or 'reflection', got 'edge'"),
            ({"grid": np.ones((1, 2, 2, 3))}, r"grid: expected \(1, \*output, 2\) for input \(1, 1, 2, 2\), got"),
            ({"grid": np.ones((2, 2, 2, 2))}, r"grid: expected \(1, \*output, 2\)"),
            ({"input": np.ones((1, 2, 2))}, r"input: expected \(N, C, H, W\) or \(N, C, D, H, W\) with elements"),
            ({"input": np.ones((1, 1, 0, 2))}, "input: expected .* with elements, got shape"),
        ],
    )
    def test_refusals(self, arguments, message):
        with pytest.raises(ArgumentError, match=message):
            F.grid_sample(**{"input": self.x, "grid": np.ones((1, 2, 2, 2))} | arguments)

    def test_more_refusals(self):
        with pytest.raises(
            ArgumentTypeError, match="input and grid: expected one element type, got float64 and float32"
        ):
            F.grid_sample(self.x, np.ones((1, 2, 2, 2), np.float32))
        with pytest.raises(ArgumentError, match=r"mode: bicubic samples \(N, C, H, W\) only"):
            F.grid_sample(np.ones((1, 1, 2, 2, 2)), np.ones((1, 2, 2, 2, 3)), "bicubic")
        with pytest.raises(
            ArgumentError, match=r"theta: expected shape \(1, 2, 3\) for size \(1, 1, 2, 2\), got \(1, 3, 3\)"
        ):
            F.affine_grid(np.ones((1, 3, 3)), (1, 1, 2, 2))
        with pytest.raises(ArgumentError, match="size: expected at least 1, got 0"):
            F.affine_grid(np.ones((1, 2, 3)), (1, 1, 0, 2))
        with pytest.raises(ArgumentError, match=r"size: expected \(N, C, H, W\) or \(N, C, D, H, W\), got \(1, 1, 2\)"):
            F.affine_grid(np.ones((1, 2, 3)), (1, 1, 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
class TestAgainstTorch:
    def test_interpolate(self, torch, rng, dtype):
        for sizes, outputs, factors, mode, align_corners, antialias in CASES:
            x = rng.standard_normal((2, 3, *sizes)).astype(dtype)
            how = {"size": outputs} if factors is None else {"scale_factor": factors}
            how |= {"mode": mode} | ({"antialias": True} if antialias else {})
            if mode in LINEAR.values() or mode == "bicubic":
                how["align_corners"] = align_corners
            expected = torch.nn.functional.interpolate(torch.from_numpy(x), **how).numpy()
            spec = ResampleSpec(6, sizes, outputs, np.dtype(dtype).name, mode, factors, align_corners, antialias)
            # torch computes positions in the element type: their error, of a few eps of the size, weighs the difference
            tolerance = 2 * resample_tolerance(x, expected, spec, dtype) * (1 + max(sizes))
            assert_same_values(F.interpolate(x, **how), expected, tolerance, (sizes, how))

    def test_grid_sample(self, torch, rng, dtype):
        for sizes, outputs in (((5, 7), (4, 6)), ((3, 4, 5), (2, 3, 4))):
            x = rng.standard_normal((2, 3, *sizes)).astype(dtype)
            grid = rng.uniform(-1.7, 1.7, (2, *outputs, len(sizes))).astype(dtype)
            theta = rng.standard_normal((2, len(sizes), len(sizes) + 1)).astype(dtype)
            for align_corners in (False, True):
                expected = torch.nn.functional.affine_grid(torch.from_numpy(theta), x.shape, align_corners).numpy()
                assert_within(F.affine_grid(theta, x.shape, align_corners), expected, 20 * np.finfo(dtype).eps)
                for mode in ("bilinear", "nearest", *(["bicubic"] if len(sizes) == 2 else [])):
                    for padding_mode in ("zeros", "border", "reflection"):
                        how = mode, padding_mode, align_corners
                        expected = torch.nn.functional.grid_sample(torch.from_numpy(x), torch.from_numpy(grid), *how)
                        tolerance = 300 * np.finfo(dtype).eps
                        assert_same_values(F.grid_sample(x, grid, *how), expected.numpy(), tolerance, (sizes, how))

    def test_rearranging(self, torch, rng, dtype):
        x = rng.standard_normal((2, 12, 6, 8)).astype(dtype)
        t, functions = torch.from_numpy(x), torch.nn.functional
        assert_within(F.pixel_shuffle(x, 2), functions.pixel_shuffle(t, 2).numpy(), 0.0)
        assert_within(F.pixel_unshuffle(x, 2), functions.pixel_unshuffle(t, 2).numpy(), 0.0)
        assert_within(F.channel_shuffle(x, 3), functions.channel_shuffle(t, 3).numpy(), 0.0)
        for how in ((2, 1, 0, 1), ((3, 2), 2, (1, 2), (2, 1)), (3, 1, 1, 3)):
            columns = F.unfold(x, *how)
            assert_within(columns, functions.unfold(t, *how).numpy(), 0.0)
            expected = functions.fold(torch.from_numpy(columns), (6, 8), *how).numpy()
            assert_within(F.fold(columns, (6, 8), *how), expected, 20 * np.finfo(dtype).eps)
