/* Lanes that change their places, within a register and between two: interleaved, turned, picked, every second one.
   The end of simd.h, which says what a register is. */
#ifndef FASTCONV_LANES_H
#define FASTCONV_LANES_H

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
FC_INLINE void vstore_mask(real *p, vmask m, vec v) { FC_OP(mask_storeu)(p, m, v); }

/* Whether -0.0 has been among some values: of bits as whole numbers it is the least, which `least` keeps, 0 at first. */
#ifdef FASTCONV_DOUBLE
FC_INLINE vec vleast(vec least, vec v) { return (vec)_mm512_min_epi64((__m512i)least, (__m512i)v); }
FC_INLINE int vleast_is_zero(vec least) { return _mm512_cmpeq_epi64_mask((__m512i)least, _mm512_set1_epi64(INT64_MIN)) != 0; }
#else
FC_INLINE vec vleast(vec least, vec v) { return (vec)_mm512_min_epi32((__m512i)least, (__m512i)v); }
FC_INLINE int vleast_is_zero(vec least) { return _mm512_cmpeq_epi32_mask((__m512i)least, _mm512_set1_epi32(INT32_MIN)) != 0; }
#endif
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
