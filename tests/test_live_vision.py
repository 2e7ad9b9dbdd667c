"""Padding, resampling and rearranging against torch, over generated arguments."""

import numpy as np
import pytest
from live import FLOATS, agree, amounts, array, batch, chance, generated, pick, shape, size
from tolerance import sum_tolerance

from fastconv.nn import functional as F


def test_pad(torch):
    def check(draw):
        rank = size(draw, 1, 5)
        x = array(draw, shape(draw, rank, 1, 5), pick(draw, *FLOATS, np.int64, np.int8, np.uint8))
        mode = pick(draw, "constant", "reflect", "replicate", "circular", "mirror" if chance(draw, 8) else "constant")
        count = 2 * size(draw, 1, 3) if chance(draw, 4) else 2 * min(max(rank - 2, 1), 3)
        low = -2 if chance(draw, 3) else 0
        pads = [size(draw, low, 3) for _ in range(count + (1 if chance(draw, 20) else 0))]
        value = pick(draw, None, 1, -2.0, 3) if x.dtype.kind != "u" else pick(draw, None, 1)
        if mode != "constant" and not chance(draw, 8):
            value = None
        if (
            any(-amount >= n for amount, n in zip(pads, np.repeat(x.shape[::-1], 2), strict=False))
            and mode == "replicate"
        ):
            return None  # a cropped axis without elements is refused here
        if mode == "circular" and min(pads) < 0:
            return None  # beside a crop torch reads memory that it has not written
        return agree(torch, F.pad, torch.nn.functional.pad, x, pads, mode, value)

    generated(check, 600)


def resample_bound(x):
    """Torch computes positions in the element type, which an error of a few eps of the size per axis adds to."""

    def bound(expected):
        sizes = np.array(x.shape[2:] + expected.shape[2:], float)
        return 200 * np.finfo(x.dtype).eps * np.abs(x).max(initial=0) * (1 + sizes.max())

    return bound


def test_interpolate(torch):
    def check(draw):
        rank = size(draw, 1, 3)
        modes = {1: ["linear"], 2: ["bilinear", "bicubic"], 3: ["trilinear"]}[rank]
        if chance(draw, 20):
            modes = ["linear", "bilinear", "trilinear", "bicubic", "spline"]
        mode = pick(draw, "nearest", "nearest-exact", "area", *modes, *modes)
        x = array(draw, (size(draw, 0 if chance(draw, 10) else 1, 2), size(draw, 1, 3), *shape(draw, rank, 1, 9)),
                  pick(draw, np.float32, np.float64))  # fmt: skip
        if chance(draw, 30):
            x = x[0, 0]
        how = {"mode": mode}
        if chance(draw, 2):
            how["size"] = amounts(draw, rank, 1, 12)
            if isinstance(how["size"], tuple) and len(how["size"]) == 1 and rank > 1:
                return None
        if chance(draw, 2) or ("size" not in how and chance(draw, 10) is False):
            how["scale_factor"] = pick(
                draw, 0.5, 1.0, 1.5, 2, 2.0, 3, 0.7, 0.01, tuple([1.3, 2.0, 0.6][:rank]), (2.0,) * 4
            )
        if mode in ("linear", "bilinear", "bicubic", "trilinear") or chance(draw, 12):
            how["align_corners"] = pick(draw, None, False, True)
        if chance(draw, 4):
            how["recompute_scale_factor"] = pick(draw, False, True)
        if chance(draw, 6) and mode in ("bilinear", "bicubic"):
            how["antialias"] = True
        if mode == "area" and isinstance(how.get("scale_factor"), float) and how["scale_factor"] < 1:
            return None  # torch has an empty result where the others are refused
        exact = mode.startswith("nearest")
        return agree(
            torch,
            F.interpolate,
            torch.nn.functional.interpolate,
            x,
            **how,
            tolerance=0.0 if exact else resample_bound(x),
        )

    generated(check, 600)


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("name", ["upsample", "upsample_nearest", "upsample_bilinear"])
def test_upsample(torch, name):
    def check(draw):
        x = array(draw, (1, size(draw, 1, 3), *shape(draw, 2, 1, 6)), np.float32)
        size_or_factor = pick(draw, (None, 2), (None, 1.5), ((3, 5), None), (4, None), (None, None))
        ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
        return agree(torch, ours, theirs, x, *size_or_factor, tolerance=resample_bound(x))

    generated(check, 60)


def test_interpolate_bytes(torch):
    """uint8 stays uint8; torch rounds its fixed-point sums, which may come out one apart."""

    def check(draw):
        x = array(draw, (1, size(draw, 1, 4), *shape(draw, 2, 1, 12)), np.uint8) * np.uint8(25)
        mode = pick(draw, "nearest", "bilinear", "bicubic")
        how = {"size": shape(draw, 2, 1, 14), "mode": mode}
        return agree(
            torch, F.interpolate, torch.nn.functional.interpolate, x, **how, tolerance=0.0 if mode == "nearest" else 1.0
        )

    generated(check, 100, refused=False)


def test_grid_sample(torch):
    def check(draw):
        rank, dtype = size(draw, 2, 3), pick(draw, np.float32, np.float64)
        n, c = shape(draw, 2, 1, 3)
        x = array(draw, (n, c, *shape(draw, rank, 1, 6)), dtype)
        grid = array(draw, (n, *shape(draw, rank, 1, 5), rank), dtype)
        fault = size(draw, 0, 20)
        if fault == 0:
            grid = grid[..., :1]
        elif fault == 1:
            grid = grid[:0]
        elif fault == 2:
            x = x[0]
        elif fault == 3:
            grid = grid.astype(np.float64 if dtype == np.float32 else np.float32)
        elif fault == 4:
            x = x[..., :0]
        mode = pick(draw, "bilinear", "nearest", "bicubic", "bilinear" if chance(draw, 2) else "cubic")
        if mode == "nearest":
            grid = grid + dtype(0.01)  # not on the edge between two elements, where the last bit decides
        padding = pick(draw, "zeros", "border", "reflection", "zeros" if chance(draw, 2) else "wrap")

        def bound(expected):
            slope = np.abs(x).max(initial=0) * 4 * (1 + max(x.shape[2:]))
            return 200 * np.finfo(dtype).eps * slope * (1 + np.abs(grid).max(initial=0)) * (mode != "nearest")

        return agree(
            torch,
            F.grid_sample,
            torch.nn.functional.grid_sample,
            x,
            grid,
            mode,
            padding,
            pick(draw, None, False, True),
            tolerance=bound,
        )

    generated(check, 400)


def test_affine_grid(torch):
    def check(draw):
        rank, n = size(draw, 2, 3), size(draw, 1, 3)
        theta = array(draw, (n, rank, rank + 1), pick(draw, np.float32, np.float64))
        sizes = [n, 2, *shape(draw, rank, 1, 6)]
        fault = size(draw, 0, 16)
        if fault == 0:
            sizes[0] += 1
        elif fault == 1:
            theta = theta[:, :-1]
        elif fault == 2:
            sizes[2] = 0
        elif fault == 3:
            sizes = sizes[:3]
        return agree(
            torch,
            F.affine_grid,
            torch.nn.functional.affine_grid,
            theta,
            sizes,
            pick(draw, None, False, True),
            tolerance=30 * np.finfo(theta.dtype).eps * (1 + np.abs(theta).max()),
        )

    generated(check, 200)


@pytest.mark.parametrize("name", ["pixel_shuffle", "pixel_unshuffle", "channel_shuffle"])
def test_rearranging(torch, name):
    def check(draw):
        factor = pick(draw, 1, 2, 2, 3, 0 if chance(draw, 4) else 1, 1.5 if chance(draw, 4) else 2)
        whole = int(factor) or 1
        n, c, h, w = shape(draw, 4, 1, 3)
        x = array(draw, (n, c * whole**2, h * whole, w * whole), pick(draw, *FLOATS, np.int64))
        if chance(draw, 10):
            x = x[:, :, :, 1:]
        if chance(draw, 10):
            x = x[:, 1:]
        if name != "channel_shuffle" and chance(draw, 6):
            x = x[0] if chance(draw, 2) else x[None]
        if chance(draw, 20):
            x = x.reshape(-1)
        return agree(torch, getattr(F, name), getattr(torch.nn.functional, name), x, factor)

    generated(check, 200)


def test_unfold_and_fold(torch):
    def check(draw):
        x = array(draw, batch(draw, size(draw, 1, 3), *shape(draw, 2, 1, 8)), pick(draw, *FLOATS[1:]))
        window = [amounts(draw, 2, low, high, single=False) for low, high in ((1, 3), (1, 2), (0, 2), (1, 3))]
        if not agree(torch, F.unfold, torch.nn.functional.unfold, x, *window):
            return False
        columns = np.ascontiguousarray(F.unfold(x, *window))
        output = x.shape[-2:]
        fault = size(draw, 0, 20)
        if fault == 0:
            output = (output[0], output[1] + 3)
        elif fault == 1:
            columns = columns[..., 1:]
        elif fault == 2:
            columns = columns[..., 1:, :]
        if not columns.size:
            return None
        kernel_taps = columns.shape[-2] // max(x.shape[-3], 1)
        largest = np.abs(columns).max(initial=0)
        return agree(
            torch,
            F.fold,
            torch.nn.functional.fold,
            columns,
            output,
            *window,
            tolerance=sum_tolerance(kernel_taps, kernel_taps * largest, columns.dtype),
        )

    generated(check, 400)


def test_deform_conv2d(torch):
    """torch has no such function; its grid_sample finds what every tap of torchvision's definition sees."""

    def theirs(x, moves, w, b, stride, padding, dilation, mask):
        (n, channels, height, width), (kh, kw) = x.shape, w.shape[2:]
        oh, ow = moves.shape[2:]
        shares = moves.shape[1] // (2 * kh * kw)
        parts = moves.reshape(n, shares, kh * kw, 2, oh, ow)
        columns = []
        for g in range(shares):
            part = x[:, g * channels // shares : (g + 1) * channels // shares]
            for t in range(kh * kw):
                y = (torch.arange(oh) * stride - padding + t // kw * dilation)[:, None] + parts[:, g, t, 0]
                z = (torch.arange(ow) * stride - padding + t % kw * dilation)[None] + parts[:, g, t, 1]
                grid = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], -1)
                seen = torch.nn.functional.grid_sample(part, grid, "bilinear", "zeros", False)
                columns.append(seen if mask is None else seen * mask[:, g * kh * kw + t, None])
        columns = torch.stack(columns).reshape(shares, kh * kw, n, channels // shares, oh, ow)
        columns = columns.permute(2, 0, 3, 1, 4, 5).reshape(n, channels * kh * kw, oh, ow)
        groups = channels // w.shape[1]
        return torch.nn.functional.conv2d(columns, w.reshape(w.shape[0], -1, 1, 1), b, groups=groups)

    def check(draw):
        groups, shares = pick(draw, 1, 2), pick(draw, 1, 2)
        kernel, stride, padding, dilation = shape(draw, 2, 1, 3), *shape(draw, 3, 1, 2)
        x = array(draw, (size(draw, 1, 2), 2 * size(draw, 1, 2), *shape(draw, 2, 5, 8)), np.float64)
        w = array(draw, (2 * size(draw, 1, 2), x.shape[1] // groups, *kernel), np.float64)
        out = [
            (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[2:], kernel, strict=True)
        ]
        taps = kernel[0] * kernel[1]
        moves = array(draw, (x.shape[0], shares * 2 * taps, *out), np.float64)
        b = array(draw, w.shape[:1], np.float64) if chance(draw, 2) else None
        mask = array(draw, (x.shape[0], shares * taps, *out), np.float64) if chance(draw, 2) else None
        arguments = (x, moves, w, b, stride, padding, dilation, mask)
        return agree(torch, F.deform_conv2d, theirs, *arguments, tolerance=lambda y: 1e-11 * max(np.abs(y).max(), 1))

    generated(check, 80, refused=False, answered=0.9)
