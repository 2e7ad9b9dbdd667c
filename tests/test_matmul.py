"""Products of pairs of computed matrices: the kernel against NumPy's product in a wider type."""

import numpy as np
import pytest

from fastconv import config
from fastconv.ops.cost import sum_error
from fastconv.ops.matmul import MATMUL, MatmulSpec

CASES = [
    (1, 1, 1, 1),
    (3, 5, 7, 4),
    (12, 197, 64, 197),
    (12, 197, 197, 64),
    (2, 49, 32, 49),
    (70, 16, 3, 33),
    (2, 1, 300, 130),
]


def product(x, w, steps):
    spec = MatmulSpec(len(x), x.shape[1], x.shape[2], w.shape[1], x.dtype.name, steps)
    plan = MATMUL.choose(spec).plan(spec)
    packed = np.empty(plan.packed_elements, x.dtype)
    y = np.empty((len(x), x.shape[1], w.shape[1]), x.dtype)
    plan.pack_step(packed, w)
    plan.step(y, x, packed, plan.bias)
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_products_within_the_bound_of_a_sum(isa, team, case, dtype, rng):
    count, rows, inner, columns = case
    heads = rng.standard_normal((rows, count, inner)).astype(dtype)  # matrices interleave, as those of attention do
    w = rng.standard_normal((count, columns, inner)).astype(dtype)
    exact = np.einsum("rci,coi->cro", heads.astype(np.longdouble), w.astype(np.longdouble))
    magnitude = np.einsum("rci,coi->cro", np.abs(heads).astype(np.float64), np.abs(w).astype(np.float64))
    results = {}
    for name, x, steps in (
        ("apart", heads.transpose(1, 0, 2), (inner, count * inner)),
        ("together", np.ascontiguousarray(heads.transpose(1, 0, 2)), (rows * inner, inner)),
    ):
        results[name] = product(x, w, steps)
        assert results[name].dtype == dtype
        assert (np.abs(results[name] - exact) <= sum_error(inner + 1, np.dtype(dtype).name) * magnitude).all()
    assert results["apart"].tobytes() == results["together"].tobytes()


def test_same_bits_for_any_number_of_threads(isa, rng):
    x, w = rng.standard_normal((9, 60, 50), np.float32), rng.standard_normal((9, 70, 50), np.float32)
    results = set()
    for threads in (1, 2, 3, 7):
        with config.threads(threads):
            results.add(product(x, w, (3000, 50)).tobytes())
    assert len(results) == 1


def test_nan_and_infinity_stay_in_their_rows(isa):
    x, w = np.ones((2, 3, 4), np.float32), np.ones((2, 5, 4), np.float32)
    x[0, 1, 2], w[1, 4, 0] = np.nan, np.inf
    y = product(x, w, (12, 4))
    assert np.isnan(y[0, 1]).all()
    assert (y[0, [0, 2]] == 4).all()
    assert (y[1, :, 4] == np.inf).all()
    assert (y[1, :, :4] == 4).all()
