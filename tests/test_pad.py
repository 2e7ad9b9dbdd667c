"""Padding against the reference, bit for bit: every mode, item size, memory order and thread count; errors; torch."""

import itertools

import numpy as np
import pytest

import fastconv.nn.functional as F
from fastconv import reference
from fastconv.errors import ArgumentError, ArgumentTypeError
from fastconv.ops.pad import MODES, PAD, PadSpec, pad_plan
from fastconv.ops.pad_units import PLAIN, largest_unit

DTYPES = [np.bool_, np.int8, np.uint16, np.float16, np.float32, np.int64, np.float64, np.complex64, np.complex128]


def numbers(rng, shape, dtype):
    """Every bit pattern, NaN of all kinds included."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def same_bytes(actual, expected, problem=""):
    assert actual.dtype == expected.dtype, problem
    assert actual.shape == expected.shape, problem
    assert np.ascontiguousarray(actual).tobytes() == np.ascontiguousarray(expected).tobytes(), problem


def check(x, pad, mode="constant", value=None):
    y = pad_plan(x, pad, mode, value, "direct")(x)
    expected = reference.pad(x, pad, mode, 0 if value is None else value)
    same_bytes(y, expected, f"{x.shape} {x.strides} {pad} {mode} {value} {x.dtype}")
    assert not np.shares_memory(x, y)
    return y


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "channels last": channels_last,
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "every second": lambda x: np.repeat(np.repeat(x, 2, axis=-1), 2, axis=1)[:, ::2, ..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1],
    "one row for all": lambda x: np.broadcast_to(x[..., :1, :], x.shape),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_every_item_size(isa, team, mode, dtype, rng):
    for shape, pads in [
        ((2, 3, 70), [(2, 3), (0, 1), (-1, 2)]),
        ((2, 3, 9, 16), [(1, 1, 1, 1), (3, 0, 0, 2), (-2, 2, 1, -1), (0, 0, 2, 2), (-3, -4, -1, 0)]),
        ((2, 17, 4, 5, 6), [(1, 1, 1, 1, 1, 1), (0, 2, 0, 0, 1, 0), (2, -1, -1, 2, 0, 3)]),
    ]:
        for pad in pads:
            check(numbers(rng, shape, dtype), pad, mode)
            check(channels_last(numbers(rng, shape, dtype)), pad, mode)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", MODES)
def test_any_strides(mode, layout, rng):
    for shape, pad in [
        ((2, 3, 9, 10), (1, 2, 3, 0)),
        ((1, 300, 5, 4), (1, 1, 1, 1)),
        ((2, 4, 3, 5, 6), (1, 1, -1, 2, 0, 1)),
    ]:
        x = LAYOUTS[layout](numbers(rng, shape, np.float32))
        x.flags.writeable = False
        before = x.tobytes()
        y = check(x, pad, mode)
        assert x.tobytes() == before
        assert np.moveaxis(y, 1, -1).flags.c_contiguous == (layout == "channels last")


@pytest.mark.parametrize("columns", range(1, 40))
def test_every_width_of_a_run(isa, columns, rng):
    """Short runs are copied in overlapping pieces, or in vectors whose masks leave the borders free."""
    for dtype in (np.int8, np.float32, np.float64, np.complex128):
        x = numbers(rng, (3, 4, columns), dtype)
        for before, after in ((1, 2), (0, 1), (15, 0), (7, 8), (16, 17), (-1, 3)):
            check(x, (before, after), value=1)
        check(x, (0, columns - 1), "reflect")
        check(x, (columns, 0), "circular")
        check(x, (-columns, columns + 5))


def test_writes_its_result_and_nothing_else(isa, team, rng):
    """Vectors that reach behind a row never reach behind the rows of a task."""
    for columns, pad in itertools.product((1, 3, 7, 14, 16, 40), ((1, 1, 1, 1), (3, 0, 0, 2), (0, 5, 0, 0))):
        x = numbers(rng, (2, 40, 7, columns), np.float32)
        plan = pad_plan(x, pad, "constant", None, "direct")
        expected = reference.pad(x, pad)
        memory = np.full(expected.size + 128, 12345, np.float32)
        plan.step(memory[64:-64], x)
        same_bytes(memory[64:-64].reshape(expected.shape), expected, (columns, pad))
        assert (memory[:64] == 12345).all()
        assert (memory[-64:] == 12345).all()


@pytest.mark.parametrize("mode", MODES)
def test_small_planes_in_units(isa, team, mode, rng):
    """Several planes at a time, planes whose number has no divisor, images that do not follow on, and wide rows."""
    for side, channels in itertools.product((1, 2, 3, 5, 7, 8, 14, 17, 33), (1, 13, 48)):
        x, wide = (numbers(rng, (2, channels, side, side + 1), dtype) for dtype in (np.float32, np.float64))
        most = min(side - 1, 3) if mode == "reflect" else min(side, 3)
        for pad in ((most,) * 4, (0, most, most, 0), (most, -1, 0, most)):
            check(x, pad, mode)
            check(wide, pad, mode)
            check(x[:, ::3], pad, mode)
    check(numbers(rng, (2, 2, 3, 700), np.float32), (2, 5, 1, 1), mode)


def test_elements_larger_than_a_vector_have_no_unit():
    tables = [np.arange(4) * 8]
    assert largest_unit(tables, 8, 1)[1].words == 0
    assert largest_unit(tables, 8, 2)[1].words == 8


def test_a_filling_keeps_its_bits(isa):
    """Neither signalling NaN nor small integers, which are denormals to the vectors, may change on the way."""
    for bits in (0x7FA00001, 1, -0x80000000):
        x = np.arange(2 * 3 * 5 * 5, dtype=np.int32).reshape(2, 3, 5, 5)
        check(x, (1, 1, 1, 1), value=bits)
        check(x, (40, 1), value=bits)


@pytest.mark.parametrize("vector", [1, 4, 8, 16])
@pytest.mark.parametrize("mode", MODES)
def test_no_load_of_a_unit_leaves_what_it_reads(mode, vector):
    for shape, pad in [((1, 32, 7, 7), 1), ((1, 8, 4, 3), 1), ((1, 6, 56, 56), 2), ((1, 2, 3, 900), 2)]:
        strides = np.ones(shape, np.float32).strides
        spec = PadSpec(shape, strides, "<f4", ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode, bytes(4))
        tables = [axis.table() for axis in spec.axes()]
        outer, unit = largest_unit(tables, 4, vector)
        assert unit.words * np.prod([len(table) for table in outer]) == np.prod(spec.y_shape)
        loads, at = [], 0
        for count, vectors in [*unit.groups.tolist(), (unit.last_loads, 1)]:
            if count == PLAIN:
                loads += [unit.entries[at] + 4 * vector * v for v in range(vectors)]
                at += 1
            else:
                loads += unit.entries[at : at + 2 * count * vectors : 2].tolist()
                at += 2 * count * vectors
        assert at == len(unit.entries)
        assert sum(unit.groups[:, 1]) + 1 == -(-unit.words // vector)
        assert min(loads) >= 0
        assert max(loads) + 4 * min(vector, unit.readable) <= 4 * unit.readable
        assert unit.readable <= np.prod(shape)


def test_any_axes_of_a_constant(rng):
    for shape in [(5,), (4, 3), (2, 3, 4), (2, 3, 4, 5, 6), (2, 1, 3, 1, 2, 2), (2, 2, 2, 2, 2, 2, 2)]:
        for axes in range(1, len(shape) + 1):
            x = numbers(rng, shape, np.int16)
            pad = tuple(int(n) for n in rng.integers(-1, 3, 2 * axes))
            same_bytes(F.pad(x, pad, value=7), reference.pad(x, pad, value=7), (shape, pad))
    assert F.pad(np.ones((0, 3)), (1, 1)).shape == (0, 5)
    assert F.pad(np.ones((0, 3)), (1, 1, 2, 0)).tolist() == np.zeros((2, 5)).tolist()
    assert F.pad(np.ones((2, 3)), (-1, -2)).shape == (2, 0)
    assert F.pad(np.float32(3), ()) == 3


def test_loops_that_do_not_merge_are_left_to_the_reference(rng):
    x = np.broadcast_to(numbers(rng, (2, 1, 2, 1, 2, 1, 2), np.float32), (2, 3, 2, 3, 2, 3, 2))
    spec = pad_spec(x, [(1, 1)] * 7)
    refusals = {candidate.algorithm: candidate.refusal for candidate in PAD.candidates(spec)}
    assert refusals["direct"].startswith("the kernel has 5 loops, too few for strides of")
    assert not refusals["reference"]
    same_bytes(F.pad(x, (1, 1) * 7), reference.pad(x, (1, 1) * 7))
    with pytest.raises(ArgumentError, match="algorithm: 'direct' refuses this padding: the kernel has 5 loops"):
        F.pad(x, (1, 1) * 7, algorithm="direct")


def pad_spec(x, pairs):
    return PadSpec(x.shape, x.strides, x.dtype.str, tuple(pairs), "constant", bytes(x.itemsize))


def test_elements_that_are_no_item_are_left_to_the_reference():
    x = np.ones((2, 3), np.clongdouble)
    if x.itemsize == 32:
        assert "elements of 1, 2, 4, 8 or 16 bytes" in PAD.rows[0].refusal(pad_spec(x, [(0, 0), (1, 1)]))
    assert F.pad(x, (1, 1)).tolist() == [[0, 1, 1, 1, 0]] * 2


@pytest.mark.parametrize("memory", [np.asarray, channels_last])
def test_writes_its_output_and_nothing_else(team, memory, rng):
    for shape, pad, mode in itertools.product(
        [(1, 3, 40, 41), (2, 70, 5, 6), (1, 300, 4, 5)], [(1, 2, 3, 0), (-1, 1, 0, -1), (2, 0, -1, 2)], MODES
    ):
        x = memory(rng.standard_normal(shape))
        plan = pad_plan(x, pad, mode, None, "direct")
        expected = plan(x)
        guard, size = 64, expected.size
        y = np.full(size + 2 * guard, np.nan)
        y[:guard] = y[-guard:] = 12345
        plan.step(y[guard:-guard], x)
        assert (y[:guard] == 12345).all()
        assert (y[-guard:] == 12345).all()
        assert sorted(y[guard:-guard]) == sorted(expected.flat)


def test_values(rng):
    x = np.zeros((1, 2), np.float32)
    assert np.signbit(F.pad(x, (1, 0), value=-0.0)).tolist() == [[True, False, False]]
    assert np.signbit(F.pad(x, (1, 0), value=0.0)).tolist() == [[False, False, False]]
    assert np.isnan(F.pad(x, (1, 0), value=np.nan)[0, 0])
    assert F.pad(x, (1, 1), value=np.float64(-np.inf)).tolist() == [[-np.inf, 0, 0, -np.inf]]
    assert F.pad(x.astype(np.uint8), (1, 0), value=255).tolist() == [[255, 0, 0]]
    assert F.pad(x.astype(int), (1, 0), value=-1.7).tolist() == [[-1, 0, 0]]
    assert F.pad(x.astype(bool), (0, 1), value=1).tolist() == [[False, False, True]]
    assert F.pad(x.astype(np.complex64), (0, 1), value=2j).tolist() == [[0, 0, 2j]]
    assert F.pad(x, (1, 1), "reflect", 0).shape == (1, 4)


ERRORS = [
    (lambda x: F.pad(x, (1, 2, 3)), r"pad: expected pairs \(before, after\), the last axis first, got \(1, 2, 3\)"),
    (lambda x: F.pad(x, 1), "pad: expected pairs .* got 1"),
    (lambda x: F.pad(x, (1, 1) * 5), r"pad: 5 pairs for an input of 4 axes, shape \(1, 2, 4, 5\)"),
    (lambda x: F.pad(x, (1, 1), "edge"), "mode: expected one of constant, reflect, replicate, circular, got 'edge'"),
    (
        lambda x: F.pad(x, (1, 1), "reflect"),
        "pad: reflect padding takes 2 values for 2 or 3 axes; 4 values for 3 or 4 axes",
    ),
    (lambda x: F.pad(x[0, 0], (1, 1, 1, 1), "circular"), r"got 4 values for shape \(4, 5\)"),
    (lambda x: F.pad(x, (5, 0, 0, 0), "reflect"), "reflect padding of axis 3 takes at most 4 in shape .* got"),
    (lambda x: F.pad(x, (0, 0, 0, 5), "circular"), r"circular padding of axis 2 takes at most 4 .* wraps around once"),
    (lambda x: F.pad(x, (-5, 1, 0, 0), "circular"), r"pad: \(-5, 1\) crops 5 of the 5 positions of axis 3"),
    (lambda x: F.pad(x, (-3, -3)), r"pad: \(-3, -3\) crops 6 of the 5 positions of axis 3 in shape"),
    (lambda x: F.pad(x, (-6, 9)), r"pad: \(-6, 9\) crops 6 of the 5"),
    (lambda x: F.pad(x[..., :0], (1, 1, 0, 0), "replicate"), "input: replicate padding of axis 3, which is empty"),
    (lambda x: F.pad(x, (2**47, 2**47)), "output: .* more than any memory holds"),
    (lambda x: F.pad(x, (1, 1, 1, 1), "reflect", 1.0), "value: reflect padding takes no value, got 1.0"),
    (lambda x: F.pad(x.astype(np.uint8), (1, 1), value=300), "value: 300 does not fit into an element of type uint8"),
    (lambda x: F.pad(x.astype(np.uint8), (1, 1), value=-1), "value: -1 does not fit into an element of type uint8"),
    (lambda x: F.pad(x.astype(int), (1, 1), value=np.nan), "value: nan does not fit into an element of type int64"),
    (lambda x: F.pad(x.astype(np.float16), (1, 1), value=1e6), "value: 1000000.0 does not fit into .* float16"),
    (lambda x: F.pad(x, (1, 1), value="0"), "value: '0' does not fit"),
    (lambda x: F.pad(x, (1, 1), algorithm="memcpy"), "algorithm: expected 'auto' or one of 'direct', 'reference'"),
]


@pytest.mark.parametrize(("call", "text"), ERRORS)
def test_errors(call, text):
    x = np.ones((1, 2, 4, 5), np.float32)
    for _ in range(2):
        with pytest.raises(ArgumentError, match=text):
            call(x)


def test_type_errors():
    x = np.ones((1, 2, 4, 5), np.float32)
    F.pad(x, (1, 1))
    for wrong in ((1.0, 1), (True, 1), ("1", 1), ((1, 1), (1, 1)), (None, 1)):
        with pytest.raises(ArgumentTypeError, match=r"pad: expected (an integer|integers), got"):
            F.pad(x, wrong)
    with pytest.raises(ArgumentTypeError, match="input: expected an array, got list"):
        F.pad([1.0], (1, 1))


def test_a_second_call_finds_its_plan():
    x = np.ones((1, 2, 4, 5), np.float32)
    assert pad_plan(x, [1, np.int8(1)], "constant", None, "auto") is pad_plan(x, (1, 1), "constant", None, "auto")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_an_empty_batch_is_padded_and_an_empty_plane_refused(mode):
    assert F.pad(np.ones((0, 2, 4, 5), np.float32), (1, 2, 1, 0), mode).shape == (0, 2, 5, 8)
    with pytest.raises(ArgumentError, match=r"\[\(-4, 0\), \(-2, -3\)\] leaves nothing of the last axes of shape"):
        F.pad(np.ones((1, 2, 4, 5), np.float32), (-2, -3, -4, 0), mode)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_against_torch(torch, rng, rank, mode):
    numbers = (-1, 0, 1, 3)
    choices = [pairs for pairs in itertools.product(numbers, repeat=2 * rank) if rank < 3 or sum(pairs) % 5 == 0]
    for pairs, memory in itertools.product(choices, (np.asarray, channels_last)):
        x = memory(rng.standard_normal((1, 2, *(5, 6, 4)[:rank])).astype(np.float32))
        value = 1.5 if mode == "constant" else None
        expected = torch.nn.functional.pad(torch.from_numpy(x), pairs, mode, value).numpy()
        same_bytes(F.pad(x, pairs, mode, value), expected, (pairs, mode))
        same_bytes(F.pad(x[0], pairs, mode, value), expected[0], (pairs, mode))


@pytest.mark.parametrize("mode", MODES)
def test_where_torch_raises(torch, mode):
    x = np.ones((1, 2, 4, 5), np.float32)
    for pad in [
        (1,),
        (1, 1),
        (5, 0, 0, 0),
        (4, 0, 0, 4),
        (6, 0, 0, 0),
        (1, 1) * 3,
        (1, 1) * 5,
        (-3, -3, 0, 0),
        (0, 0, -5, 0),
    ]:
        try:
            torch.nn.functional.pad(torch.from_numpy(x), pad, mode)
        except (RuntimeError, NotImplementedError):
            with pytest.raises(RuntimeError):
                F.pad(x, pad, mode)
        else:
            F.pad(x, pad, mode)
