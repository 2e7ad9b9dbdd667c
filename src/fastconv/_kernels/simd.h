/* One vector register of the element type, for every instruction set of the build table.
 *
 * The same kernel text is compiled once per instruction set and element type.  Here is all that differs between
 * them: `real` (float, or double with -DFASTCONV_DOUBLE), `vec` (LANES reals), and the shape of the register tile.
 *
 *                            lanes are filters:             lanes are pixels:
 *                registers   TILE_PIXELS × TILE_VECTORS     TILE_FILTERS × ROW_VECTORS accumulators
 *   AVX-512      32 zmm      14 × 2                         6 × 4
 *   AVX2 + FMA   16 ymm       6 × 2                         6 × 2
 *   NEON         32 q         6 × 4                         6 × 4
 *   SSE2         16 xmm       3 × 4                         4 × 2
 *   plain C      -            4 × 1                         4 × 1     (one element; no vector extensions)
 *
 * Adding an instruction set: one branch here, one row in setup.py.
 */
#ifndef FASTCONV_SIMD_H
#define FASTCONV_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && !defined(FASTCONV_PLAIN_C)
#define FC_VECTORS 1
#endif

#if defined(FC_VECTORS) && defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR_BYTES 64
#define TILE_PIXELS 14
#define TILE_VECTORS 2
#define TILE_FILTERS 6
#define ROW_VECTORS 4
#define FC_X86(type, name) _mm512_##name##_##type
#elif defined(FC_VECTORS) && defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VECTOR_BYTES 32
#define TILE_PIXELS 6
#define TILE_VECTORS 2
#define TILE_FILTERS 6
#define ROW_VECTORS 2
#define FC_X86(type, name) _mm256_##name##_##type
#elif defined(FC_VECTORS) && defined(__SSE2__)
#include <emmintrin.h>
#define VECTOR_BYTES 16
#define TILE_PIXELS 3
#define TILE_VECTORS 4
#define TILE_FILTERS 4
#define ROW_VECTORS 2
#define FC_X86(type, name) _mm_##name##_##type
#elif defined(FC_VECTORS)
#define VECTOR_BYTES 16
#define TILE_PIXELS 6
#define TILE_VECTORS 4
#define TILE_FILTERS 6
#define ROW_VECTORS 4
#endif

#ifdef FASTCONV_DOUBLE
typedef double real;
typedef int64_t real_bits;
#define REAL_BYTES 8
#define FC_OP(name) FC_X86(pd, name)
#define FC_COMPARE _mm512_cmp_pd_mask
#else
typedef float real;
typedef int32_t real_bits;
#define REAL_BYTES 4
#define FC_OP(name) FC_X86(ps, name)
#define FC_COMPARE _mm512_cmp_ps_mask
#endif

#ifndef VECTOR_BYTES
#define VECTOR_BYTES REAL_BYTES
#define TILE_PIXELS 4
#define TILE_VECTORS 1
#define TILE_FILTERS 4
#define ROW_VECTORS 1
#endif

#define LANES (VECTOR_BYTES / REAL_BYTES)

#if defined(__GNUC__) || defined(__clang__)
#define FC_INLINE static inline __attribute__((always_inline))
/* Kernels pass tile sizes as constant arguments; the loops over them become registers only where the call is really
 * inlined, so Cython's `inline` has to be an order. */
#undef CYTHON_INLINE
#define CYTHON_INLINE inline __attribute__((always_inline))
#define prefetch(address) __builtin_prefetch(address)
#define prefetch_to_second(address) __builtin_prefetch(address, 0, 2) /* level of the cache */
#else
#define FC_INLINE static inline
#define prefetch(address) ((void)(address))
#define prefetch_to_second(address) ((void)(address))
#endif

#ifdef FC_VECTORS

typedef real vec __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef real fc_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef real_bits vec_bits __attribute__((vector_size(VECTOR_BYTES), may_alias));

FC_INLINE vec vload(const real *p) { return *(const fc_unaligned *)p; }
FC_INLINE void vstore(real *p, vec v) { *(fc_unaligned *)p = v; }
FC_INLINE vec vset1(real x) { return x - (vec){0}; } /* x - 0 is x for every x, -0.0 and NaN included */
FC_INLINE vec vselect(vec_bits mask, vec a, vec b) { return (vec)(((vec_bits)a & mask) | ((vec_bits)b & ~mask)); }

#else

typedef real vec;

FC_INLINE vec vload(const real *p) { return *p; }
FC_INLINE void vstore(real *p, vec v) { *p = v; }
FC_INLINE vec vset1(real x) { return x; }

#endif

/* LANES of float16, widened exactly, where WIDENS.  Kernels of AVX-512 leave it to those of AVX2, whose narrower conversion
 * is the faster one on Zen 4; without an instruction for it, widening would take longer than reading what is wide. */
#if defined(FC_VECTORS) && defined(__F16C__) && VECTOR_BYTES == 32 && !defined(FASTCONV_DOUBLE)
#define WIDENS 1
FC_INLINE vec vload_half(const uint16_t *p) { return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)); }
#else
#define WIDENS 0
FC_INLINE vec vload_half(const uint16_t *p) { return vset1(*p); }
#endif

/* As many elements as fill a register as doubles; the operators are those of the language. */
#ifdef FC_VECTORS
#define DOUBLE_LANES (VECTOR_BYTES / 8)
typedef double dvec __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef real fc_narrow __attribute__((vector_size(DOUBLE_LANES * REAL_BYTES), aligned(sizeof(real)), may_alias));
FC_INLINE dvec dload(const real *p) { return __builtin_convertvector(*(const fc_narrow *)p, dvec); }
FC_INLINE void dstore(real *p, dvec v) { *(fc_narrow *)p = __builtin_convertvector(v, fc_narrow); }
#else
#define DOUBLE_LANES 1
typedef double dvec;
FC_INLINE dvec dload(const real *p) { return *p; }
FC_INLINE void dstore(real *p, dvec v) { *p = (real)v; }
#endif

FC_INLINE vec vadd(vec a, vec b) { return a + b; }
FC_INLINE vec vsub(vec a, vec b) { return a - b; }
FC_INLINE vec vmul(vec a, vec b) { return a * b; }
FC_INLINE vec vmuladd(vec acc, vec a, vec b) { return acc + a * b; }

/* The larger and the smaller operand; the second where either is NaN or both are zero. */
#ifdef FC_X86
FC_INLINE vec vmax(vec a, vec b) { return (vec)FC_OP(max)(a, b); }
FC_INLINE vec vmin(vec a, vec b) { return (vec)FC_OP(min)(a, b); }
#elif defined(FC_VECTORS)
FC_INLINE vec vmax(vec a, vec b) { return vselect((vec_bits)(a > b), a, b); }
FC_INLINE vec vmin(vec a, vec b) { return vselect((vec_bits)(a < b), a, b); }
#else
FC_INLINE vec vmax(vec a, vec b) { return a > b ? a : b; }
FC_INLINE vec vmin(vec a, vec b) { return a < b ? a : b; }
#endif

/* torch's running maximum: a NaN replaces whatever stands, of equal values the first stays. */
#if defined(FC_VECTORS) && defined(__AVX512F__)
FC_INLINE vec vmax_running(vec best, vec v) {
    return (vec)FC_OP(mask_mov)(vmax(v, best), FC_COMPARE(v, v, _CMP_UNORD_Q), v);
}
#elif defined(FC_VECTORS)
FC_INLINE vec vmax_running(vec best, vec v) { return vselect((vec_bits)(v == v), vmax(v, best), v); }
#else
FC_INLINE vec vmax_running(vec best, vec v) { return v == v ? vmax(v, best) : v; }
#endif

/* The sum of all lanes, in halves. */
FC_INLINE real vsum(vec v) {
    real lanes[LANES];
    vstore(lanes, v);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
}

FC_INLINE vec vdiv(vec a, vec b) { return a / b; }

/* The same value, from here on in a register: GCC would rather load an operand again for each of its uses. */
#if defined(FC_X86)
FC_INLINE vec vkeep(vec v) {
    __asm__("" : "+v"(v));
    return v;
}
#else
FC_INLINE vec vkeep(vec v) { return v; }
#endif

/* Lanes that fulfil a condition. */
#if defined(FC_VECTORS) && defined(__AVX512F__)
typedef uint16_t vmask;
#define FC_ALL_LANES ((vmask)((1u << LANES) - 1))
FC_INLINE vmask vall(void) { return FC_ALL_LANES; }
FC_INLINE int vis_all(vmask m) { return m == FC_ALL_LANES; }
FC_INLINE vmask vrange(int64_t first, int64_t last) { return ((1u << last) - 1) & ~((1u << first) - 1); }
/* A comparison under a mask waits for the one before, and GCC would make it one. */
FC_INLINE vmask vno_nan(vmask m, vec a, vec b) {
    vmask ordered = FC_COMPARE(a, b, _CMP_ORD_Q);
    __asm__("" : "+k"(ordered));
    return m & ordered;
}
FC_INLINE vec vload_mask(const real *p, vmask m, vec fill) { return (vec)FC_OP(mask_loadu)(fill, m, p); }
FC_INLINE vec vload_inside(const real *p, vmask m) { return (vec)FC_OP(maskz_loadu)(m, p); }
#elif defined(FC_VECTORS)
typedef vec_bits vmask;
FC_INLINE vmask vall(void) { return ~(vmask){0}; }
FC_INLINE int vis_all(vmask m) {
    real_bits all = -1;
    for (int i = 0; i < LANES; i++) all &= m[i];
    return all;
}
FC_INLINE vmask vrange(int64_t first, int64_t last) {
    vmask lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    return (lane >= (real_bits)first) & (lane < (real_bits)last);
}
#if defined(__AVX2__)
FC_INLINE vmask vno_nan(vmask m, vec a, vec b) { return m & (vmask)FC_OP(cmp)(a, b, _CMP_ORD_Q); }
#elif defined(FC_X86)
FC_INLINE vmask vno_nan(vmask m, vec a, vec b) { return m & (vmask)FC_OP(cmpord)(a, b); }
#else
FC_INLINE vmask vno_nan(vmask m, vec a, vec b) { return m & (a == a) & (b == b); }
#endif
#ifdef __AVX2__
FC_INLINE vec vload_mask(const real *p, vmask m, vec fill) {
    return vselect(m, (vec)FC_OP(maskload)(p, (__m256i)m), fill);
}
FC_INLINE vec vload_inside(const real *p, vmask m) { return (vec)FC_OP(maskload)(p, (__m256i)m); }
#else
FC_INLINE vec vload_mask(const real *p, vmask m, vec fill) {
    for (int i = 0; i < LANES; i++)
        if (m[i]) fill[i] = p[i];
    return fill;
}
FC_INLINE vec vload_inside(const real *p, vmask m) { return vload_mask(p, m, vset1(0)); }
#endif
#else
typedef int vmask;
FC_INLINE vmask vall(void) { return 1; }
FC_INLINE int vis_all(vmask m) { return m; }
FC_INLINE vmask vrange(int64_t first, int64_t last) { return first < last; }
FC_INLINE vmask vno_nan(vmask m, vec a, vec b) { return m & (a == a) & (b == b); }
FC_INLINE vec vload_mask(const real *p, vmask m, vec fill) { return m ? *p : fill; }
FC_INLINE vec vload_inside(const real *p, vmask m) { return m ? *p : 0; }
#endif

/* vload_mask leaves `fill` in the other lanes, vload_inside zero; neither touches their memory.  Without MASKED_LOADS they
 * go lane by lane. */
#if defined(FC_VECTORS) && defined(__AVX2__)
#define MASKED_LOADS 1
#else
#define MASKED_LOADS 0
#endif

/* A whole number in each lane, as bits; and the running maximum that remembers where it was found: `best` and `place`
 * take v and `at` in the lanes where v is larger or NaN. */
#ifdef FC_VECTORS
FC_INLINE vec vplace(int64_t n) { return (vec)((real_bits)n - (vec_bits){0}); }
#else
FC_INLINE vec vplace(int64_t n) {
    real_bits bits = (real_bits)n;
    vec v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
#endif
#if defined(FC_VECTORS) && defined(__AVX512F__)
FC_INLINE void vmax_place(vec *best, vec *place, vec v, vec at) {
    vmask taken = FC_COMPARE(v, *best, _CMP_GT_OQ) | FC_COMPARE(v, v, _CMP_UNORD_Q);
    *best = (vec)FC_OP(mask_mov)(*best, taken, v);
    *place = (vec)FC_OP(mask_mov)(*place, taken, at);
}
#elif defined(FC_VECTORS)
FC_INLINE void vmax_place(vec *best, vec *place, vec v, vec at) {
    vec_bits taken = (vec_bits)(v > *best) | (vec_bits)(v != v);
    *best = vselect(taken, v, *best);
    *place = vselect(taken, at, *place);
}
#else
FC_INLINE void vmax_place(vec *best, vec *place, vec v, vec at) {
    if (v > *best || v != v) {
        *best = v;
        *place = at;
    }
}
#endif

/* The lanes i with 0 <= at + i < size. */
FC_INLINE vmask vinside(int64_t at, int64_t size) {
    int64_t first = at < 0 ? -at : 0, last = size - at;
    return vrange(first < LANES ? first : LANES, last < 0 ? 0 : last < LANES ? last : LANES);
}

/* The first n lanes, 0 < n <= LANES; memory behind them is not touched, lanes behind them load as zero. */
#if defined(FC_VECTORS) && defined(__AVX512F__)
FC_INLINE vec vload_first(const real *p, int n) { return (vec)FC_OP(maskz_loadu)((1u << n) - 1, p); }
FC_INLINE void vstore_first(real *p, vec v, int n) { FC_OP(mask_storeu)(p, (1u << n) - 1, v); }
#elif defined(FC_VECTORS) && defined(__AVX2__)
FC_INLINE vec vload_first(const real *p, int n) { return (vec)FC_OP(maskload)(p, (__m256i)vrange(0, n)); }
#else
FC_INLINE vec vload_first(const real *p, int n) {
    real lanes[LANES] = {0};
    for (int i = 0; i < n; i++) lanes[i] = p[i];
    return vload(lanes);
}
#endif
#if !(defined(FC_VECTORS) && defined(__AVX512F__))
/* In halves; a masked store takes tens of cycles on AMD's processors without AVX-512. */
FC_INLINE void vstore_first(real *p, vec v, int n) {
    real lanes[LANES];
    int done = 0;
    if (n == LANES) {
        vstore(p, v);
        return;
    }
    vstore(lanes, v);
    for (int half = LANES / 2; half; half /= 2) {
        if (!(n & half)) continue;
        memcpy(p + done, lanes + done, half * sizeof(real));
        done += half;
    }
}
#endif

#include "lanes.h"

#endif
