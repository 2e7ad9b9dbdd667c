"""How far apart two correct floating-point results may be, and the comparison that uses it.

A sum of n terms, formed in any order with unit roundoff u, errs by at most gamma(n) * sum of abs(terms), where
gamma(n) = n u / (1 - n u) (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, sections 3.1 and 4.2).
Two such results differ by at most twice that.  With eps = 2 u and n (n + 1) u <= 1, which covers 4,000 terms in
float32, 2 gamma(n) <= (n + 1) eps.  A convolution of K products and a bias has n = K + 1, hence

    difference <= (K + 2) * eps * sum of abs(w) * abs(x)        element by element.

Storing float16 rounds each result once more: eps(float16) times the same sum, plus one subnormal step near zero.
"""

from math import prod

import numpy as np

from fastconv import reference


def wider(dtype):
    """A type with eleven bits more at least, results in which are exact beside those in `dtype`."""
    return np.float64 if np.dtype(dtype).itemsize < 8 else np.longdouble


def sum_tolerance(terms, magnitude, dtype):
    """Largest difference between two sums of `terms` values whose magnitudes add up to `magnitude` (an array)."""
    dtype = np.dtype(dtype)
    magnitude = np.asarray(magnitude, np.float64)
    if dtype.kind != "f":
        return np.zeros(magnitude.shape)
    wide = np.promote_types(dtype, np.float32)
    bound = (np.asarray(terms) + 1) * np.finfo(wide).eps * magnitude
    if wide != dtype:
        bound = bound + np.finfo(dtype).eps * magnitude + float(np.finfo(dtype).smallest_subnormal)
    return bound


def conv_tolerance(x, w, b=None, *, transpose=False, **geometry):
    """Largest difference between two convolutions of `x` with `w` and `b`, for each element of the result."""
    function = reference.conv_transpose if transpose else reference.conv
    channels = x.shape[1] // geometry.get("groups", 1)
    absolute = [None if a is None else np.abs(a.astype(np.float64)) for a in (x, w, b)]
    return sum_tolerance(channels * prod(w.shape[2:]) + 1, function(*absolute, **geometry), x.dtype)


def assert_within(actual, expected, tolerance, problem=""):
    """`actual` has the type, the shape and, up to `tolerance`, the values of `expected`, NaN and infinity included.

    An expected array that is constant or mostly zero proves nothing and fails.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, problem
    assert actual.shape == expected.shape, problem
    if expected.size >= 8:
        assert (expected != expected.flat[0]).any(), f"mistrusted, constant: {problem}"
        assert np.count_nonzero(expected) * 2 >= expected.size, f"mistrusted, mostly zero: {problem}"
    assert_same_values(actual, expected, tolerance, problem)


def assert_same_values(actual, expected, tolerance=0.0, problem=""):
    a, e = np.asarray(actual).astype(np.float64), np.asarray(expected).astype(np.float64)
    assert a.shape == e.shape, problem
    same = (a == e) | (np.isnan(a) & np.isnan(e))
    with np.errstate(invalid="ignore"):
        excess = np.where(same, 0, np.abs(a - e) - tolerance)
    assert (excess <= 0).all(), (
        f"{problem}: {(~(excess <= 0)).sum()} of {a.size} differ, by up to {np.nanmax(excess)} beyond"
    )
