"""Elementary functions of a vector; shared by the kernels that need them.

Largest errors found, in units in the last place of the exact result, over each 53rd float32 and 5 million float64, on
every instruction set; `tests/test_functional_activation.py` holds what is made of them to bounds that follow:

    exp     1.1     also where the result is subnormal
    expm1   2.4
    log     1.2
    log1p   1.3     for √½ - 1 <= x <= 1 alone
    tanh    2.6
    erfc    relative error (5 + 2 x²) eps, from rounding x²; for x >= 0 alone

The usual edges hold: NaN stays NaN, exp(-inf) = 0, exp(inf) = inf, log(0) = -inf, log(x < 0) = NaN.
"""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t

cdef extern from "vector_math.h" nogil:
    ctypedef float real
    ctypedef float vec
    const int LANES
    const real SMALLEST_NORMAL, LARGEST, EXP_LOWEST, EXP_HIGHEST, EXPM1_LOWEST, TANH_HIGHEST, LN2_HIGH, LN2_LOW
    const real* EXP_SERIES
    const real* ATANH_SERIES
    const real* ERFC_SERIES
    const int EXP_TERMS, ATANH_TERMS, ERFC_TERMS, MANTISSA_BITS
    vec vload(const real*)
    void vstore(real*, vec)
    vec vload_first(const real*, int)
    void vstore_first(real*, vec, int)
    vec vset1(real)
    vec vmuladd(vec, vec, vec)
    vec vmax(vec, vec)
    vec vmin(vec, vec)
    vec vselect_greater(vec, vec, vec, vec)
    vec vselect_number(vec, vec, vec)
    vec vfirst(vec, int, vec)
    vec vabs(vec)
    vec vcopysign(vec, vec)
    vec vsqrt(vec)
    vec vround(vec)
    vec vpow2(vec)
    vec vldexp(vec, vec)
    vec vfraction(vec, vec*)

cdef enum:
    MAX_LANES = 16


cdef inline vec polynomial(const int terms, const real* coefficient, vec x) noexcept nogil:
    cdef vec y = vset1(coefficient[terms - 1])
    cdef int i
    for i in range(terms - 1):
        y = vmuladd(vset1(coefficient[terms - 2 - i]), y, x)
    return y


cdef inline vec reduced(vec x, vec* exponent) noexcept nogil:
    """r of x = exponent · ln 2 + r."""
    exponent[0] = vround(x * vset1(1.44269504088896340736))
    return vmuladd(vmuladd(x, exponent[0], vset1(-LN2_HIGH)), exponent[0], vset1(-LN2_LOW))


cdef inline vec vexp(vec x) noexcept nogil:
    return vexp_falling(vmin(vset1(EXP_HIGHEST), x))


cdef inline vec vexp_falling(vec x) noexcept nogil:
    """For x <= 0, or what is not too large."""
    cdef vec exponent, r
    x = vmax(vset1(EXP_LOWEST), x)
    r = reduced(x, &exponent)
    r = vmuladd(vset1(1), r, vmuladd(vset1(1), r, polynomial(EXP_TERMS, EXP_SERIES, r)))
    return vldexp(r, exponent)


cdef inline vec vexpm1(vec x) noexcept nogil:
    """Computed as half the result twice: 2^exponent alone may be infinite where the result is not."""
    cdef vec exponent, half
    cdef vec r = reduced(vmin(vset1(EXP_HIGHEST), vmax(vset1(EXPM1_LOWEST), x)), &exponent)
    cdef vec p = vmuladd(r, r * r, polynomial(EXP_TERMS, EXP_SERIES, r))
    half = vpow2(exponent - vset1(1))
    return vset1(2) * vmuladd(half - vset1(0.5), half, p)


cdef inline vec vlog1p_fraction(vec f) noexcept nogil:
    """log(1 + f) for √½ - 1 <= f <= 1, as 2 atanh(f / (2 + f))."""
    cdef vec s = f / (vset1(2) + f)
    cdef vec z = s * s
    return f - s * (f - vset1(2) * z * polynomial(ATANH_TERMS, ATANH_SERIES, z))


cdef inline vec vlog(vec x) noexcept nogil:
    cdef vec exponent, result
    cdef vec is_small = vselect_greater(vset1(SMALLEST_NORMAL), x, vset1(MANTISSA_BITS + 1), vset1(0))
    cdef vec fraction = vfraction(vldexp(x, is_small), &exponent)
    exponent = exponent - is_small
    result = vmuladd(
        vmuladd(vlog1p_fraction(fraction - vset1(1)), exponent, vset1(LN2_LOW)), exponent, vset1(LN2_HIGH)
    )
    result = vselect_greater(x, vset1(0), result, vselect_greater(vset1(0), x, vset1(NAN), x - vset1(INFINITY)))
    return vselect_greater(x, vset1(LARGEST), x, result)


cdef inline vec vtanh(vec x) noexcept nogil:
    cdef vec e = vexpm1(vmin(vset1(TANH_HIGHEST), vset1(2) * vabs(x)))
    return vcopysign(e / (e + vset1(2)), x)


cdef inline vec verfc_positive(vec x) noexcept nogil:
    """erfc(x) = t · P(t) · exp(-x²) for x >= 0; the form of Abramowitz and Stegun 7.1.26 with a longer polynomial."""
    cdef vec t = vset1(1) / vmuladd(vset1(1), vset1(0.3), x)
    return t * polynomial(ERFC_TERMS, ERFC_SERIES, t) * vexp(-(x * x))


cdef inline vec load_left(const real* p, int64_t left) noexcept nogil:
    """A vector of which `left` elements are there; zero in the other lanes."""
    return vload(p) if left >= LANES else vload_first(p, <int> left)


cdef inline vec first_left(vec v, int64_t left, vec rest) noexcept nogil:
    """The first `left` lanes of `v`; `rest` in the others."""
    return v if left >= LANES else vfirst(v, <int> left, rest)


cdef inline void store_left(real* p, vec v, int64_t left) noexcept nogil:
    if left >= LANES:
        vstore(p, v)
    else:
        vstore_first(p, v, <int> left)


cdef inline real sum_of_lanes(vec v) noexcept nogil:
    """Four sums, so that no addition waits for more than a quarter of the others."""
    cdef real[MAX_LANES] lane
    cdef real[4] total
    cdef int i
    vstore(lane, v)
    for i in range(4):
        total[i] = 0
    for i in range(LANES):
        total[i % 4] += lane[i]
    return (total[0] + total[1]) + (total[2] + total[3])


cdef inline real largest_of_lanes(vec v) noexcept nogil:
    cdef real[MAX_LANES] lane
    cdef real largest
    cdef int i
    vstore(lane, v)
    largest = lane[0]
    for i in range(1, LANES):
        largest = lane[i] if lane[i] > largest else largest
    return largest
