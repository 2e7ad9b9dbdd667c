"""Losses, distances, embeddings and attention against torch, over generated arguments."""

import numpy as np
import pytest
from live import FLOATS, agree, array, chance, generated, pick, shape, size

from fastconv.nn import functional as F


def near(*arrays, units=60):
    """A few roundings per term; a sum of n terms adds n, a mean as many and divides them again."""

    def bound(expected):
        count = max(a.size for a in arrays)
        largest = max(np.abs(a.astype(np.float64)).max(initial=1) for a in arrays) ** 2
        return (units + count) * np.finfo(expected.dtype).eps * (largest + np.abs(expected.astype(float)))

    return bound


def reduction(draw):
    return {"reduction": pick(draw, "none", "mean", "sum", "none" if chance(draw, 2) else "average")}


PAIRS = {
    "mse_loss": {},
    "l1_loss": {},
    "smooth_l1_loss": {"beta": (1.0, 0.5, 0.0, -1.0)},
    "huber_loss": {"delta": (1.0, 0.5, 0.0)},
    "kl_div": {"log_target": (False, True)},
    "binary_cross_entropy": {},
    "binary_cross_entropy_with_logits": {},
}


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_arrays(torch, name):
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)

    def check(draw):
        dtype = pick(draw, *FLOATS[1:])
        sizes = shape(draw, size(draw, 0, 3), 1, 5)
        x, y = array(draw, sizes, dtype), array(draw, sizes, dtype)
        if name == "binary_cross_entropy":
            x, y = (np.abs(a) / max(np.abs(a).max(initial=0), 1) for a in (x, y))
            if chance(draw, 15):
                x = x + dtype(2)
        elif name in ("kl_div", "binary_cross_entropy_with_logits"):
            y = np.abs(y) / 8
        fault = size(draw, 0, 25)
        if fault == 0 and sizes:
            y = np.concatenate([y, y, y])
        how = reduction(draw) | {key: pick(draw, *values) for key, values in PAIRS[name].items()}
        x, y = np.asarray(x, dtype), np.asarray(y, dtype)
        if name.startswith("binary") and chance(draw, 3):
            how["weight"] = np.asarray(np.abs(array(draw, sizes, dtype)))
        if name.endswith("logits") and chance(draw, 3):
            how["pos_weight"] = np.asarray(np.abs(array(draw, sizes, dtype)))
        return agree(
            torch, ours, theirs, x, y, **how, tolerance=near(x, y, *[a for a in how.values() if hasattr(a, "dtype")])
        )

    generated(check, 250)


def classes(draw, sizes, count, dtype=np.int64):
    target = np.random.default_rng(size(draw, 0, 999)).integers(0, count, sizes)
    if chance(draw, 15) and target.size:
        target = np.where(np.arange(target.size).reshape(target.shape) == 0, pick(draw, -1, count, 99), target)
    return np.asarray(target, dtype)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_of_classes(torch, name):
    def check(draw):
        dtype, count = pick(draw, *FLOATS[1:]), size(draw, 1, 5)
        rest = shape(draw, size(draw, 0, 2), 1, 4)
        batch = () if not rest and chance(draw, 4) else (size(draw, 1, 4),)
        x = array(draw, (*batch, count, *rest), dtype)
        how = reduction(draw)
        if chance(draw, 2):
            how["weight"] = np.asarray(np.abs(array(draw, (count + chance(draw, 20),), dtype, layout=False)))
        if name == "cross_entropy":
            how["label_smoothing"] = pick(draw, 0.0, 0.1, 0.0 if chance(draw, 2) else 1.5)
        if name == "cross_entropy" and chance(draw, 3):
            y = np.abs(array(draw, x.shape, dtype)) / 8
        else:
            y = classes(draw, (*batch, *rest), count)
            if chance(draw, 2):
                how["ignore_index"] = pick(draw, 0, 1, -1, -100)
            if chance(draw, 25):
                y = y.astype(np.float64) if y.ndim else y[None, None]
        ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
        return agree(
            torch, ours, theirs, x, y, **how, tolerance=near(x, *[a for a in how.values() if hasattr(a, "dtype")])
        )

    generated(check, 400)


def test_one_hot(torch):
    def check(draw):
        x = classes(draw, shape(draw, size(draw, 0, 3), 1, 4), 4, pick(draw, np.int64, np.int64, np.float32))
        return agree(torch, F.one_hot, torch.nn.functional.one_hot, x, pick(draw, -1, 4, 9, 2, 0))

    generated(check, 150)


def test_distances(torch):
    def check(draw):
        dtype = pick(draw, *FLOATS[1:])
        sizes = shape(draw, size(draw, 1, 4), 1, 5)
        a, b = array(draw, sizes, dtype), array(draw, sizes[1:] if chance(draw, 6) else sizes, dtype)
        if chance(draw, 15):
            b = np.concatenate([b, b, b], axis=-1) if b.ndim else b
        if chance(draw, 2):
            dim = size(draw, -len(sizes) - 1, len(sizes))
            ours, theirs, how = F.cosine_similarity, torch.nn.functional.cosine_similarity, {"dim": dim}
        else:
            how = {"p": pick(draw, 2.0, 1.0, 3.0, 0.0, np.inf), "keepdim": pick(draw, False, True)}
            ours, theirs = F.pairwise_distance, torch.nn.functional.pairwise_distance
        return agree(torch, ours, theirs, a, b, **how, tolerance=near(a, b, units=100))

    generated(check, 400)


def test_embedding(torch):
    def check(draw):
        weight = array(draw, (size(draw, 2, 6), size(draw, 1, 5)), pick(draw, *FLOATS[1:]), layout=False)
        index = classes(
            draw, shape(draw, size(draw, 0, 3), 1, 4), len(weight), pick(draw, np.int64, np.int64, np.int32)
        )
        if chance(draw, 15):
            index = index.astype(np.float32)
        padding_idx = pick(draw, None, 0, -1, 99 if chance(draw, 3) else None)
        return agree(torch, F.embedding, torch.nn.functional.embedding, index, weight, padding_idx)

    generated(check, 200)


def test_attention(torch):
    def check(draw):
        dtype = pick(draw, *FLOATS[1:])
        lead, rows, columns, inner, outer = shape(draw, size(draw, 0, 2), 1, 3), *shape(draw, 4, 1, 6)
        q, k = array(draw, (*lead, rows, inner), dtype), array(draw, (*lead, columns, inner), dtype)
        v = array(draw, (*lead, columns, outer), dtype)
        how = {"scale": pick(draw, None, 0.5)}
        if chance(draw, 3):
            how["is_causal"] = True
        if chance(draw, 3):
            mask = array(draw, (rows, columns), dtype, layout=False)
            how["attn_mask"] = mask > -2 if chance(draw, 2) else mask
        if chance(draw, 15):
            k = k[..., 1:]
        ours, theirs = F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention
        return agree(torch, ours, theirs, q, k, v, **how, tolerance=near(q, k, units=400))

    generated(check, 250)
