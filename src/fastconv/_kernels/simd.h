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

/* vlow, vhigh: two vectors interleaved, the first and the second half of the result.
 *
 * vtranspose: a square of LANES vectors in place, log2(LANES) rounds, each interleaving row i with row i + LANES/2. */
#if defined(FC_VECTORS) && (defined(__clang__) || __GNUC__ >= 12)
#if VECTOR_BYTES / REAL_BYTES == 2
#define FC_LOW 0, 2
#define FC_HIGH 1, 3
#elif VECTOR_BYTES / REAL_BYTES == 4
#define FC_LOW 0, 4, 1, 5
#define FC_HIGH 2, 6, 3, 7
#elif VECTOR_BYTES / REAL_BYTES == 8
#define FC_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define FC_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FC_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FC_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif
FC_INLINE vec vlow(vec a, vec b) { return __builtin_shufflevector(a, b, FC_LOW); }
FC_INLINE vec vhigh(vec a, vec b) { return __builtin_shufflevector(a, b, FC_HIGH); }
FC_INLINE void vtranspose(vec *row) {
    for (int round = 1; round < LANES; round *= 2) {
        vec next[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = vlow(row[i], row[i + LANES / 2]);
            next[2 * i + 1] = vhigh(row[i], row[i + LANES / 2]);
        }
        for (int i = 0; i < LANES; i++) row[i] = next[i];
    }
}
#else
FC_INLINE vec fc_interleaved(vec a, vec b, int first) {
    real in[2][LANES], out[LANES];
    vstore(in[0], a);
    vstore(in[1], b);
    for (int i = 0; i < LANES; i++) out[i] = in[i % 2][(first + i) / 2];
    return vload(out);
}
FC_INLINE vec vlow(vec a, vec b) { return fc_interleaved(a, b, 0); }
FC_INLINE vec vhigh(vec a, vec b) { return fc_interleaved(a, b, LANES); }
FC_INLINE void vtranspose(vec *row) {
    real in[LANES][LANES], out[LANES][LANES];
    for (int i = 0; i < LANES; i++) vstore(in[i], row[i]);
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) out[i][j] = in[j][i];
    for (int i = 0; i < LANES; i++) row[i] = vload(out[i]);
}
#endif

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

/* `kept` with some lanes of `from` in it, each at any place: pick[i] is i where lane i is kept, and the lane of `from` plus
 * LANES, with the sign bit set, where it is taken. */
#if defined(FC_VECTORS) && defined(__AVX512F__)
FC_INLINE vec vpicked(vec kept, vec from, const real_bits *pick) {
    return (vec)FC_OP(permutex2var)(kept, _mm512_loadu_si512(pick), from);
}
#elif defined(FC_VECTORS) && defined(__AVX2__) && !defined(FASTCONV_DOUBLE)
FC_INLINE vec vpicked(vec kept, vec from, const real_bits *pick) {
    __m256i lanes = _mm256_loadu_si256((const __m256i *)pick);
    return (vec)_mm256_blendv_ps(kept, _mm256_permutevar8x32_ps(from, lanes), _mm256_castsi256_ps(lanes));
}
#else
FC_INLINE vec vpicked(vec kept, vec from, const real_bits *pick) {
    real lanes[LANES], others[LANES];
    vstore(lanes, kept);
    vstore(others, from);
    for (int i = 0; i < LANES; i++)
        if (pick[i] < 0) lanes[i] = others[pick[i] & (LANES - 1)];
    return vload(lanes);
}
#endif

/* Any lanes of a register, or of two: index[i] is the lane, of b plus LANES, as bits. */
#if defined(FC_VECTORS) && defined(__AVX512F__)
FC_INLINE vec vlanes(vec a, vec index) { return (vec)FC_OP(permutexvar)((__m512i)index, a); }
FC_INLINE vec vlanes_of_two(vec a, vec b, vec index) { return (vec)FC_OP(permutex2var)(a, (__m512i)index, b); }
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

/* p[2·i] = v[i] for the first n lanes; what lies between them stays as it is. */
#if defined(FC_VECTORS) && defined(__AVX512F__) && (defined(__clang__) || __GNUC__ >= 12)
#ifdef FASTCONV_DOUBLE
#define FC_LOW_TWICE 0, 0, 1, 1, 2, 2, 3, 3
#define FC_HIGH_TWICE 4, 4, 5, 5, 6, 6, 7, 7
#else
#define FC_LOW_TWICE 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7
#define FC_HIGH_TWICE 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15
#endif
FC_INLINE void vstore_spread(real *p, vec v, int n) {
    uint32_t lanes = 0x55555555u & (uint32_t)((1ull << 2 * n) - 1);
    FC_OP(mask_storeu)(p, (vmask)(lanes & FC_ALL_LANES), __builtin_shufflevector(v, v, FC_LOW_TWICE));
    FC_OP(mask_storeu)(p + LANES, (vmask)(lanes >> LANES & FC_ALL_LANES), __builtin_shufflevector(v, v, FC_HIGH_TWICE));
}
#else
FC_INLINE void vstore_spread(real *p, vec v, int n) {
    real lanes[LANES];
    vstore(lanes, v);
    for (int i = 0; i < n; i++) p[2 * i] = lanes[i];
}
#endif

/* Every second lane, or pair of lanes, of two neighbouring vectors: the even and the odd ones.  vshift: a moved down by a lane, with the last
 * lane of b behind it. */
#if defined(FC_VECTORS) && (defined(__clang__) || __GNUC__ >= 12)
#if VECTOR_BYTES / REAL_BYTES == 2
#define FC_EVEN 0, 2
#define FC_ODD 1, 3
#define FC_SHIFT 1, 3
#define FC_EVEN_PAIRS 0, 1
#define FC_ODD_PAIRS 2, 3
#elif VECTOR_BYTES / REAL_BYTES == 4
#define FC_EVEN 0, 2, 4, 6
#define FC_ODD 1, 3, 5, 7
#define FC_EVEN_PAIRS 0, 1, 4, 5
#define FC_ODD_PAIRS 2, 3, 6, 7
#define FC_SHIFT 1, 2, 3, 7
#elif VECTOR_BYTES / REAL_BYTES == 8
#define FC_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define FC_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define FC_EVEN_PAIRS 0, 1, 4, 5, 8, 9, 12, 13
#define FC_ODD_PAIRS 2, 3, 6, 7, 10, 11, 14, 15
#define FC_SHIFT 1, 2, 3, 4, 5, 6, 7, 15
#else
#define FC_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define FC_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FC_EVEN_PAIRS 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29
#define FC_ODD_PAIRS 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31
#define FC_SHIFT 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 31
#endif
FC_INLINE vec veven(vec a, vec b) { return __builtin_shufflevector(a, b, FC_EVEN); }
FC_INLINE vec vodd(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ODD); }
FC_INLINE vec veven_pairs(vec a, vec b) { return __builtin_shufflevector(a, b, FC_EVEN_PAIRS); }
FC_INLINE vec vodd_pairs(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ODD_PAIRS); }
FC_INLINE vec vshift(vec a, vec b) { return __builtin_shufflevector(a, b, FC_SHIFT); }
#else
FC_INLINE vec fc_every_second(vec a, vec b, int run, int first) {
    real in[2 * LANES], out[LANES];
    vstore(in, a);
    vstore(in + LANES, b);
    for (int i = 0; i < LANES; i++) out[i] = in[(2 * (i / run) + first) * run + i % run];
    return vload(out);
}
FC_INLINE vec veven(vec a, vec b) { return fc_every_second(a, b, 1, 0); }
FC_INLINE vec vodd(vec a, vec b) { return fc_every_second(a, b, 1, 1); }
FC_INLINE vec veven_pairs(vec a, vec b) { return fc_every_second(a, b, 2, 0); }
FC_INLINE vec vodd_pairs(vec a, vec b) { return fc_every_second(a, b, 2, 1); }
FC_INLINE vec vshift(vec a, vec b) {
    real lanes[LANES + 1], last[LANES];
    vstore(lanes, a);
    vstore(last, b);
    lanes[LANES] = last[LANES - 1];
    return vload(lanes + 1);
}
#endif

/* The same in an order that needs no lane to leave its 128 bits: vordered of such a register is veven or vodd. */
#if defined(FC_VECTORS) && VECTOR_BYTES > 16 && (defined(__clang__) || __GNUC__ >= 12)
#if VECTOR_BYTES / REAL_BYTES == 4
#define FC_NEAR_EVEN 0, 4, 2, 6
#define FC_NEAR_ODD 1, 5, 3, 7
#define FC_ORDERED 0, 2, 1, 3
#elif VECTOR_BYTES / REAL_BYTES == 8 && REAL_BYTES == 4
#define FC_NEAR_EVEN 0, 2, 8, 10, 4, 6, 12, 14
#define FC_NEAR_ODD 1, 3, 9, 11, 5, 7, 13, 15
#define FC_ORDERED 0, 1, 4, 5, 2, 3, 6, 7
#elif VECTOR_BYTES / REAL_BYTES == 8
#define FC_NEAR_EVEN 0, 8, 2, 10, 4, 12, 6, 14
#define FC_NEAR_ODD 1, 9, 3, 11, 5, 13, 7, 15
#define FC_ORDERED 0, 2, 4, 6, 1, 3, 5, 7
#else
#define FC_NEAR_EVEN 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30
#define FC_NEAR_ODD 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31
#define FC_ORDERED 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15
#endif
FC_INLINE vec vnear_even(vec a, vec b) { return __builtin_shufflevector(a, b, FC_NEAR_EVEN); }
FC_INLINE vec vnear_odd(vec a, vec b) { return __builtin_shufflevector(a, b, FC_NEAR_ODD); }
FC_INLINE vec vordered(vec v) { return __builtin_shufflevector(v, v, FC_ORDERED); }
#else
FC_INLINE vec vnear_even(vec a, vec b) { return veven(a, b); }
FC_INLINE vec vnear_odd(vec a, vec b) { return vodd(a, b); }
FC_INLINE vec vordered(vec v) { return v; }
#endif

#endif
