/* What vector mathematics needs beside simd.h: lanes chosen by a comparison, the bits of the floating-point format, and
 * the coefficients of the approximations, which differ between the element types. */
#ifndef FASTCONV_VECTOR_MATH_H
#define FASTCONV_VECTOR_MATH_H

#include <float.h>

#include "simd.h"

/* LN2_HIGH has so few digits that its product with any exponent is exact.  ROUNDER is 1.5 · 2^mantissa: adding it leaves
 * a whole number in the low bits. */
#ifdef FASTCONV_DOUBLE
#define MANTISSA_BITS 52
#define BITS_OF_ONE 0x3ff0000000000000
#define BITS_OF_ROOT_HALF 0x3fe6a09e667f3bcd
#define ROUNDER 6755399441055744.0
#define SMALLEST_NORMAL DBL_MIN
#define LARGEST DBL_MAX
#define EXP_LOWEST -746.0 /* exp gives 0 from here on, */
#define EXP_HIGHEST 710.0 /* infinity from here on, */
#define EXPM1_LOWEST -40.0 /* expm1 -1, */
#define TANH_HIGHEST 40.0 /* and tanh(x / 2) 1 */
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#else
#define MANTISSA_BITS 23
#define BITS_OF_ONE 0x3f800000
#define BITS_OF_ROOT_HALF 0x3f3504f3
#define ROUNDER 12582912.0f
#define SMALLEST_NORMAL FLT_MIN
#define LARGEST FLT_MAX
#define EXP_LOWEST -104.0f
#define EXP_HIGHEST 89.0f
#define EXPM1_LOWEST -20.0f
#define TANH_HIGHEST 20.0f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#endif

/* Minimax polynomials, lowest power first; the largest error is given relative to the function.
 *
 * EXP_SERIES     (e^r - 1 - r) / r²               abs(r) <= ln(2) / 2       7e-9, 1e-17 of e^r
 * ATANH_SERIES   (atanh(√z) / √z - 1) / z         0 <= z <= 1/9             4e-10, 1e-19 of atanh
 * ERFC_SERIES    erfc(u) exp(u²) / t              t = 1 / (1 + 0.3 u)       2e-8, 4e-17
 */
#ifdef FASTCONV_DOUBLE
static const real EXP_SERIES[] = {
    0.50000000000000010223,   0.16666666666666674531,    0.041666666666624120963, 0.0083333333333222067887,
    0.0013888888917216744117, 0.00019841269886591959012, 2.480152129181300182e-5, 2.7557242335915926112e-6,
    2.7620090197565907414e-7, 2.5110050114931214417e-8,
};
static const real ATANH_SERIES[] = {
    0.33333333333333333449,  0.19999999999999750022,  0.14285714285803393962,  0.11111111098732380062,
    0.090909099715975801849, 0.076922712215348980703, 0.066676048969967753751, 0.058669420876943006448,
    0.054241009541464382604, 0.037396641702137288378, 0.078268309084229849655,
};
static const real ERFC_SERIES[] = {
    0.16925687505082366741,   0.16925687597425850272,   0.16164028745420922193,      0.14640773321140578449,
    0.12457875873906603128,   0.098299086255710870543,  0.069719831535606057042,     0.046370520783188843971,
    0.0096842845448192215502, 0.04751710995976734762,   -0.11956880021304590722,     0.25474047234067292445,
    -0.46296014887721633728,  0.6272943797669041408,    -0.64452898199296613594,     0.46438523153465347132,
    -0.1830360538151091347,   -0.014400290902671085272, 0.061667810296182472463,     -0.034347217238802823618,
    0.0089917951544486584685, -0.00096955956190583328347,
};
#else
static const real EXP_SERIES[] = {0.5000000027f, 0.1666657697f, 0.04166637513f, 0.008363181001f, 0.001394112408f};
static const real ATANH_SERIES[] = {0.3333333368f, 0.1999984815f, 0.1429640539f, 0.1085002055f, 0.1162689144f};
static const real ERFC_SERIES[] = {
    0.1691880083f, 0.1707151743f, 0.1483395504f, 0.2149245536f, -0.094647148f, 0.5477147874f, -0.5122734577f,
    0.4855609478f, -0.1295224357f,
};
#endif
#define TERMS(series) ((int)(sizeof(series) / sizeof(real)))
#define EXP_TERMS TERMS(EXP_SERIES)
#define ATANH_TERMS TERMS(ATANH_SERIES)
#define ERFC_TERMS TERMS(ERFC_SERIES)

#ifdef FC_VECTORS

/* a where x > y, else b. */
FC_INLINE vec vselect_greater(vec x, vec y, vec a, vec b) {
#ifdef __AVX512F__
    return (vec)FC_OP(mask_mov)(b, FC_COMPARE(x, y, _CMP_GT_OQ), a);
#else
    return vselect((vec_bits)(x > y), a, b);
#endif
}

/* a where x is a number, b where it is NaN. */
FC_INLINE vec vselect_number(vec x, vec a, vec b) {
#ifdef __AVX512F__
    return (vec)FC_OP(mask_mov)(b, FC_COMPARE(x, x, _CMP_ORD_Q), a);
#else
    return vselect((vec_bits)(x == x), a, b);
#endif
}

/* The first n lanes of v, n <= LANES; `rest` in the others. */
FC_INLINE vec vfirst(vec v, int n, vec rest) {
    vec_bits lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    return vselect((vec_bits)(lane < (real_bits)n - (vec_bits){0}), v, rest);
}

FC_INLINE vec vabs(vec v) { return (vec)((vec_bits)v & (vec_bits)~(vec_bits)vset1((real)-0.0)); }
FC_INLINE vec vcopysign(vec v, vec sign) {
    vec_bits bit = (vec_bits)vset1((real)-0.0);
    return (vec)(((vec_bits)v & ~bit) | ((vec_bits)sign & bit));
}

FC_INLINE vec vsqrt(vec v) {
#ifdef FC_X86
    return (vec)FC_OP(sqrt)(v);
#else
    for (int i = 0; i < LANES; i++) v[i] = (real)sqrt(v[i]);
    return v;
#endif
}

/* The nearest whole number, for abs(v) < 2^(mantissa - 1). */
FC_INLINE vec vround(vec v) {
#if defined(__AVX512F__)
    return (vec)FC_OP(roundscale)(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
    return (vec)FC_OP(round)(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    return (v + ROUNDER) - ROUNDER;
#endif
}

/* 2^n for whole n of normal numbers. */
FC_INLINE vec vpow2(vec n) { return (vec)(((vec_bits)(n + ROUNDER) << MANTISSA_BITS) + (real_bits)BITS_OF_ONE); }

/* v · 2^n, rounded once, also where the result is subnormal or infinite. */
FC_INLINE vec vldexp(vec v, vec n) {
#ifdef __AVX512F__
    return (vec)FC_OP(scalef)(v, n);
#else
    vec half = vround(n * (real)0.5);
    return v * vpow2(half) * vpow2(n - half);
#endif
}

/* v = fraction · 2^exponent with √½ <= fraction < √2, for normal positive v. */
FC_INLINE vec vfraction(vec v, vec *exponent) {
    vec_bits whole = ((vec_bits)v - (real_bits)BITS_OF_ROOT_HALF) >> MANTISSA_BITS;
    *exponent = (vec)(whole + (vec_bits)vset1(ROUNDER)) - ROUNDER;
    return (vec)((vec_bits)v - (whole << MANTISSA_BITS));
}

#else

FC_INLINE vec vselect_greater(vec x, vec y, vec a, vec b) { return x > y ? a : b; }
FC_INLINE vec vselect_number(vec x, vec a, vec b) { return x == x ? a : b; }
FC_INLINE vec vfirst(vec v, int n, vec rest) { return n > 0 ? v : rest; }
FC_INLINE vec vabs(vec v) { return (real)fabs(v); }
FC_INLINE vec vcopysign(vec v, vec sign) { return (real)copysign(v, sign); }
FC_INLINE vec vsqrt(vec v) { return (real)sqrt(v); }
FC_INLINE vec vround(vec v) { return (real)rint(v); }
FC_INLINE vec vpow2(vec n) { return (real)ldexp(1.0, (int)n); }
FC_INLINE vec vldexp(vec v, vec n) { return (real)ldexp(v, (int)n); }
FC_INLINE vec vfraction(vec v, vec *exponent) {
    int whole;
    double fraction = frexp(v, &whole);
    int low = fraction < 0.70710678118654752;
    *exponent = (real)(whole - low);
    return (real)(low ? 2 * fraction : fraction);
}

#endif

#endif
