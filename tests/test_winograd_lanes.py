"""Winograd with tiles in the lanes of registers from the input to the output."""

from dataclasses import replace

import numpy as np
import pytest
from specs import padded_by_one
from tolerance import wider

from fastconv import _kernels, config, reference
from fastconv.geometry import Window
from fastconv.ops.conv_kernel import LoopsPlan, conv_nest
from fastconv.ops.conv_spec import conv_spec
from fastconv.ops.winograd_error import winograd_errors
from fastconv.ops.winograd_forms import SMALL_FORMS
from fastconv.ops.winograd_lanes import WinogradLanes, computes, register_shape, winograd_loops

# images, channels, height, width, filters of a group: maps that registers of 1, 2 and 4 rows of tiles hold just, or not quite
LANES = [
    (2, 1, 1, 1, 1),
    (1, 3, 7, 7, 5),
    (1, 4, 14, 14, 4),
    (2, 2, 16, 16, 6),
    (1, 8, 28, 28, 8),
    (1, 2, 9, 32, 3),
    (1, 5, 17, 62, 18),
    (1, 2, 6, 64, 33),
    (1, 3, 11, 131, 7),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", LANES, ids=str)
def test_tiles_as_lanes_are_within_the_bound_for_known_arrays(isa, shape, dtype, rng):
    """Whatever the number of threads; every output is written, and no other memory."""
    batch, channels, height, width, filters = shape
    x = rng.standard_normal((batch, 3 * channels, height, width)).astype(dtype)
    w = rng.standard_normal((3 * filters, channels, 3, 3)).astype(dtype)
    b = rng.standard_normal(3 * filters).astype(dtype)
    for pads in (((1, 1), (1, 1)), ((0, 2), (2, 0)), ((3, 2), (4, 5))):
        spec = conv_spec(x.shape, x.strides, x.dtype, w.shape, w.dtype, (b.shape, b.dtype), 1, pads, 1, 3)
        if not computes(conv_nest(spec)):
            pytest.skip("a register has too few lanes for tiles")
        wide = (array.astype(wider(dtype)) for array in (x, w, b))
        exact = reference.conv(*wide, padding=pads, groups=3, accumulate=wider(dtype))
        bounds = winograd_errors(
            x, w, b, Window.of(x.shape[2:], (3, 3), padding=pads), 3, np.dtype(dtype).name, SMALL_FORMS[3, 3]
        )
        results = set()
        for threads in (1, 2, 3):
            with config.threads(threads):
                loops = WinogradLanes(conv_nest(spec))
            packed = loops.pack(w, b)
            assert [len(array) for array in packed] == list(loops.packed_elements)
            memory = np.full(exact.size + 128, np.nan, dtype)
            memory[:64] = memory[-64:] = 12345
            with config.threads(threads):
                loops.step(memory[64:-64], x, *packed)
            assert (memory[:64] == 12345).all()
            assert (memory[-64:] == 12345).all()
            results.add(memory.tobytes())
        assert len(results) == 1
        assert (np.abs(memory[64:-64].reshape(exact.shape) - exact) <= bounds).all()


def test_few_registers_of_tiles_are_cut_into_parts_of_their_filters(isa, rng):
    """So that all threads have some; the results and what follows them are the same."""
    x = rng.standard_normal((1, 32, 14, 14)).astype(np.float32)
    w = rng.standard_normal((60, 32, 3, 3)).astype(np.float32)
    residual = rng.standard_normal((1, 60, 14, 14)).astype(np.float32)
    nest = replace(conv_nest(padded_by_one(x.shape, w.shape)), residual=True, activation=("silu", ()))
    if not computes(nest):
        pytest.skip("a register has too few lanes for tiles")
    results, tasks = set(), []
    for threads in (1, 2, 3, 16):
        with config.threads(threads):
            step = WinogradLanes(nest).step
            tasks.append(step.tasks)
            y = np.full_like(residual, np.nan)
            step(y, x, *WinogradLanes(nest).pack(w, None), residual)
        assert np.isfinite(y).all()
        results.add(y.tobytes())
    assert len(results) == 1
    assert tasks[1] % 2 == 0
    assert tasks[2] % 3 == 0
    assert tasks == sorted(tasks)


def test_tiles_as_lanes_keep_an_infinity_to_its_tiles(isa, rng):
    """No tile reads what lies beside it in the register: another row of tiles, or another column beyond the map."""
    x = rng.standard_normal((1, 2, 32, 16)).astype(np.float32)
    x[0, 0, 16, 0] = np.inf
    w = rng.standard_normal((2, 2, 3, 3)).astype(np.float32)
    spec = conv_spec(x.shape, x.strides, x.dtype, w.shape, w.dtype, None, 1, 1, 1, 1)
    if not computes(conv_nest(spec)):
        pytest.skip("a register has too few lanes for tiles")
    plan = LoopsPlan(spec, WinogradLanes(conv_nest(spec)))
    y = plan(x, plan.pack(w, None))
    assert not np.isfinite(y[0, :, 15:18, :2]).any()
    y[0, :, 12:20, :4] = 0
    assert np.isfinite(y).all()


def test_tiles_are_lanes_where_groups_have_few_filters():
    """Shapes at which the two were measured to differ by far with AVX-512."""
    if _kernels.ISA != "avx512":
        pytest.skip(f"the figures are those of AVX-512, this machine has {_kernels.ISA}")
    assert [register_shape(conv_nest(padded_by_one((1, 1, *side), (1, 1, 3, 3))), 16, rows) for side, rows in
            (((56, 56), 1), ((28, 28), 2), ((14, 14), 4), ((20, 112), 1))] == [(4, 56), (8, 28), (16, 14), (4, 56)]  # fmt: skip
    grouped = [conv_nest(padded_by_one((1, channels, side, side), (channels, channels, 3, 3)))
               for channels, side in ((8, 56), (8, 28), (16, 14))]  # fmt: skip
    assert {type(winograd_loops(replace(nest, groups=32))) for nest in grouped} == {WinogradLanes}
    large = conv_nest(padded_by_one((1, 256, 14, 14), (256, 256, 3, 3)))
    assert type(winograd_loops(large)) is not WinogradLanes
    for side in (7, 9, 14, 28):
        one, many = (conv_nest(padded_by_one((images, 8, side, side), (8, 8, 3, 3))) for images in (1, 32))
        assert type(winograd_loops(one)) is type(winograd_loops(many))
