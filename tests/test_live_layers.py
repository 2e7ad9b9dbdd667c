"""Layers against torch, over generated constructor arguments: the same repr, state and results, or both refuse."""

import re
from pathlib import Path

import numpy as np
import pytest
from live import agree, amounts, array, batch, chance, generated, pick, shape, size

from fastconv import nn
from fastconv.nn import functional as F


def conv(draw, rank, transposed):
    groups = pick(draw, 1, 1, 2)
    inner, outer = groups * size(draw, 1, 3), groups * size(draw, 1, 3) + chance(draw, 30)
    how = {
        "stride": amounts(draw, rank, 1, 2, single=False),
        "dilation": amounts(draw, rank, 1, 2, single=False),
        "groups": groups,
    }
    how["bias"] = pick(draw, True, False)
    if transposed:
        how |= {
            "padding": amounts(draw, rank, 0, 1, single=False),
            "output_padding": amounts(draw, rank, 0, 1, single=False),
        }
    else:
        how["padding"] = (
            amounts(draw, rank, 0, 2, single=False) if chance(draw, 2) else pick(draw, "valid", "valid", "full")
        )
        how["padding_mode"] = pick(
            draw, "zeros", "reflect", "replicate", "circular", "zeros" if chance(draw, 2) else "mirror"
        )
    return (
        (inner, outer, amounts(draw, rank, 1, 3, single=False)),
        how,
        batch(draw, inner + chance(draw, 20), *shape(draw, rank, 2, 7)),
    )


def batch_norm(draw, rank, _):
    how = {
        "momentum": pick(draw, 0.1, None, 0.0),
        "affine": pick(draw, True, False),
        "track_running_stats": pick(draw, True, False),
        "bias": pick(draw, True, False),
    }
    sizes = () if rank == 1 and chance(draw, 2) else shape(draw, rank, 1, 4)
    return (3,), how, (size(draw, 1, 3), 3 + chance(draw, 12), *sizes)


def instance_norm(draw, rank, _):
    args, how, _ = batch_norm(draw, rank, _)
    return args, how, batch(draw, 3, *shape(draw, rank, 1, 5))


def pad(draw, rank, low):
    amount = size(draw, 0, 3) if chance(draw, 2) else tuple(size(draw, low, 3) for _ in range(2 * rank))
    return (amount,), {}, batch(draw, 2, *shape(draw, rank, 2, 5))


def max_pool(draw, rank, _):
    how = {"stride": pick(draw, None, 1, 2), "padding": size(draw, 0, 1), "dilation": size(draw, 1, 2)}
    how |= {"return_indices": False, "ceil_mode": pick(draw, False, True)}
    return (amounts(draw, rank, 2, 3, wrong=12),), how, batch(draw, 2, *shape(draw, rank, 2, 8))


def adaptive_pool(draw, rank, _):
    return (amounts(draw, rank, 1, 5, single=rank == 1),), {}, batch(draw, 2, *shape(draw, rank, 1, 7))


# torch's circular padding beside a crop reads memory that it has not written
LAYERS = {
    "Conv{}d": (conv, False),
    "ConvTranspose{}d": (conv, True),
    "BatchNorm{}d": (batch_norm, None),
    "InstanceNorm{}d": (instance_norm, None),
    "ZeroPad{}d": (pad, -1),
    "ReflectionPad{}d": (pad, -1),
    "ReplicationPad{}d": (pad, -1),
    "CircularPad{}d": (pad, 0),
    "MaxPool{}d": (max_pool, None),
    "AdaptiveAvgPool{}d": (adaptive_pool, None),
    "AdaptiveMaxPool{}d": (adaptive_pool, None),
}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_layer(torch, name, rank):
    case, kind = LAYERS[name]

    def check(draw):
        args, how, sizes = case(draw, rank, kind)
        training, seed = pick(draw, True, False), size(draw, 0, 999)
        if "Norm" in name and 0 in sizes:
            return None
        x = array(draw, sizes)
        reprs, states = [], []

        def run(namespace, convert):
            def call(x):
                layer = getattr(namespace, name.format(rank))(*args, **how).train(training)
                rng = np.random.default_rng(seed)
                state = layer.state_dict()
                drawn = {key: np.asarray(rng.random(tuple(value.shape)), np.float32) for key, value in state.items()}
                layer.load_state_dict({key: convert(value) for key, value in drawn.items()})
                y = layer(x)
                reprs.append(repr(layer))
                states.append({key: np.array(value.detach()) if hasattr(value, "detach") else value
                               for key, value in layer.state_dict().items()})  # fmt: skip
                return y

            return call

        amplified = 300 if "Norm" in name else 1  # one or two values per channel have hardly any variance
        answered = agree(
            torch,
            run(nn, np.asarray),
            run(torch.nn, torch.from_numpy),
            x,
            tolerance=lambda expected: 3e-5 * amplified * (1 + np.abs(expected).max(initial=0)),
        )
        if answered and len(reprs) == 2:
            assert reprs[0] == reprs[1]
            assert list(states[0]) == list(states[1])
            for key, array_of_torch in states[0].items():
                np.testing.assert_allclose(states[1][key], array_of_torch, rtol=1e-4, atol=1e-5, err_msg=key)
        return answered

    refused = "Conv" in name or name in ("BatchNorm{}d", "ReflectionPad{}d", "CircularPad{}d")
    generated(check, 80, refused=refused)


def test_every_function_is_held_against_torch():
    """Its name, or that of its family, stands in one of these files; ``…_with_indices`` is ``return_indices``."""
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_live_*.py"))
    missing = []
    for name in F.__all__:
        name = name.removesuffix("_with_indices")
        family = re.sub(r"[123]d$", "", name)
        if not re.search(rf"\b{name}\b|\b{family}\{{(rank)?\}}d", text):
            missing.append(name)
    assert not missing
