"""Pooling and unpooling against torch, over generated arguments."""

from math import prod

import numpy as np
import pytest
from live import FLOATS, agree, amounts, array, batch, chance, generated, pick, shape, size
from tolerance import sum_tolerance

from fastconv import reference
from fastconv.nn import functional as F

MOST = {1: 12, 2: 9, 3: 6}


def pair(torch, name, rank):
    return getattr(F, name.format(rank)), getattr(torch.nn.functional, name.format(rank))


def images(draw, rank, dtypes, special=0.0):
    dtype = pick(draw, *dtypes)
    x = array(draw, batch(draw, size(draw, 1, 4), *shape(draw, rank, 1, MOST[rank])), dtype, special)
    fault = size(draw, 0, 40)
    if fault == 0 and len(x):
        return x[0]
    return x[..., :0] if fault == 1 else x


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_pool(torch, rank):
    ours, theirs = pair(torch, "max_pool{}d", rank)

    def check(draw):
        x = images(draw, rank, (*FLOATS, np.int8, np.uint8, np.int32, np.int64, np.bool_), pick(draw, 0.0, 0.3))
        arguments = (
            amounts(draw, rank, 1, 4),
            None if chance(draw, 3) else amounts(draw, rank, 1, 3),
            amounts(draw, rank, 0, 1),
            amounts(draw, rank, 1, 2),
            pick(draw, False, True),
            pick(draw, False, True),
        )

        def marked(t, *arguments):
            """torch, with the index -1 of a window in the padding alone; its own is beyond the plane at times."""
            y = theirs(t, *arguments)
            if isinstance(y, tuple):
                y[1][torch.from_numpy(ours(x, *arguments)[1] < 0)] = -1
            return y

        return agree(torch, ours, marked, x, *arguments)

    generated(check, 400)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_avg_pool(torch, rank):
    ours, theirs = pair(torch, "avg_pool{}d", rank)

    def check(draw):
        x = images(draw, rank, (*FLOATS[rank == 3 :], np.int64, np.int32))
        arguments = [
            amounts(draw, rank, 1, 4),
            None if chance(draw, 3) else amounts(draw, rank, 1, 3),
            amounts(draw, rank, 0, 1),
            pick(draw, False, True),
            pick(draw, False, True),
        ]
        if rank > 1:
            arguments.append(pick(draw, None, None, None, 3, -2, 0))

        def bound(expected):
            positive = np.abs(x.astype(np.float64))
            is_batched = x.ndim == rank + 2
            magnitude = np.abs(reference.avg_pool(positive if is_batched else positive[None], *arguments))
            return sum_tolerance(prod(x.shape[-rank:]) + 1, magnitude if is_batched else magnitude[0], x.dtype)

        return agree(torch, ours, theirs, x, *arguments, tolerance=bound)

    generated(check, 400, answered=0.12)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_adaptive_pools(torch, rank):
    average, largest = pair(torch, "adaptive_avg_pool{}d", rank), pair(torch, "adaptive_max_pool{}d", rank)

    def check(draw):
        output = amounts(draw, rank, 0 if chance(draw, 8) else 1, 13, single=rank == 1)
        if rank > 1 and chance(draw, 4):
            output = tuple(pick(draw, None, size(draw, 1, 5)) for _ in range(rank))
        dtypes = (np.float32, np.float64)
        x = images(draw, rank, dtypes)
        if not x.size and x.ndim > rank:
            return None  # the mean of an empty axis is NaN here, and an error of some sizes in torch

        def bound(expected):
            magnitude = np.broadcast_to(np.abs(x.astype(np.float64)).max(initial=0), expected.shape)
            return sum_tolerance(prod(x.shape[-rank:]) + 1, magnitude, x.dtype)

        answered = agree(torch, *average, x, output, tolerance=bound)
        y = images(draw, rank, dtypes, 0.3)
        if y.size:
            agree(torch, *largest, y, output, pick(draw, False, True))
        return answered

    generated(check, 250, refused=False)  # outputs that are refused are rare among these


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_lp_pool(torch, rank):
    ours, theirs = pair(torch, "lp_pool{}d", rank)

    def check(draw):
        x = np.abs(images(draw, rank, (np.float32, np.float64)))  # torch gives NaN for odd powers of negative numbers
        p = pick(draw, 1, 2, 3, 1.5, 2.0)
        kernel, stride = size(draw, 1, 3), pick(draw, None, 1, 2, 3, 0)
        if rank > 1:  # torch takes no tuples in one dimension
            kernel = amounts(draw, rank, 1, 3, single=False)
            stride = None if chance(draw, 3) else amounts(draw, rank, 1, 3, single=False)

        def bound(expected):
            # one rounding of each power and of their sum, and of the root, which divides relative errors by p
            roundings = 27 + 2 + 8 * (1 + abs(np.log(np.maximum(expected, 1e-3))))
            return np.finfo(x.dtype).eps * np.abs(expected) * roundings

        return agree(torch, ours, theirs, x, p, kernel, stride, tolerance=bound)

    generated(check, 200)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_max_unpool(torch, rank):
    ours, theirs = pair(torch, "max_unpool{}d", rank)

    def check(draw):
        x = array(draw, batch(draw, size(draw, 1, 3), *shape(draw, rank, 2, MOST[rank])), pick(draw, *FLOATS[1:]))
        kernel = shape(draw, rank, 1, 3) if chance(draw, 2) else size(draw, 1, 3)
        stride, padding = pick(draw, None, 1, 2, 3), pick(draw, 0, 0, 1)
        try:
            values, indices = getattr(F, f"max_pool{rank}d")(x, kernel, stride, padding, return_indices=True)
        except ValueError:
            return None
        output = pick(draw, None, x.shape, x.shape[-rank:], x.shape[-rank:], (3,) * rank, (2,) * (rank + 3))
        if chance(draw, 12):
            indices = indices + pick(draw, 1, 40, -1)
        if chance(draw, 12):
            indices = indices.astype(np.int32)
        if chance(draw, 20):
            values = values[..., :1]
        if len({*indices.reshape(-1).tolist()}) < indices.size and stride in (1, 2):
            # of several values for one position torch's threads decide; equal values leave nothing to decide
            values = np.ones_like(values)
        return agree(torch, ours, theirs, values, indices, kernel, stride, padding, output)

    generated(check, 250)


@pytest.mark.parametrize("rank", [2, 3])
def test_fractional_max_pool(torch, rank):
    ours, theirs = pair(torch, "fractional_max_pool{}d", rank)

    def check(draw):
        dtype = pick(draw, np.float32, np.float64)
        planes, sizes = shape(draw, 2, 1, 3), shape(draw, rank, 3, 10)
        x = array(draw, (*planes, *sizes), dtype, pick(draw, 0.0, 0.2))
        samples = np.random.default_rng(size(draw, 0, 999)).random((*planes, rank)).astype(dtype)
        kernel = (size(draw, 1, 3),) * (rank + 1) if chance(draw, 12) else shape(draw, rank, 1, 3)
        how = (
            {"output_size": shape(draw, rank, 1, 6)}
            if chance(draw, 2)
            else {"output_ratio": (pick(draw, 0.35, 0.5, 0.8),) * rank}
        )
        return agree(
            torch,
            ours,
            theirs,
            x,
            kernel,
            return_indices=pick(draw, False, True),
            _random_samples=samples,
            **how,
        )

    generated(check, 200)
