"""What the stages of Winograd convolution share: sizes, where tiles lie, and the transforms of one axis of vectors."""

from libc.math cimport M_SQRT2
from libc.stdint cimport int64_t

from fastconv._kernels.chunk cimport Chunk, ConvSizes
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport vadd, vec, vmuladd, vset1

cdef extern from "simd.h" nogil:
    vec vsub(vec, vec)
    vec vmul(vec, vec)

cdef enum:
    MAX_SIDE = 9            # points of one axis
    MAX_POINTS = 64         # where lanes are tiles
    MAX_TILE = 6            # outputs of one axis
    MAX_COLUMNS = 32        # tiles across a chunk
    MAX_REACH = 3           # tiles that a tile's columns reach beyond it

cdef struct WinogradSizes:
    ConvSizes chunks                    # of tiles: kernels of as many taps as points; its images are blocks of `chunk_images`
    int64_t points_down, points_across  # of the form of each axis, 1: not transformed
    int64_t tile_rows, tile_columns     # output pixels of a tile
    int64_t spread_rows, spread_columns     # dilation: pixels from one row or column of a tile to the next
    int64_t y_rows, y_columns           # output pixels
    int64_t y_row                       # elements from one to the next; that of `chunks` is for the rows of a tile
    int64_t lone_points                 # of an axis, the last: each contributes to one output of a tile alone
    int64_t blocks                      # of taps: a tile has the products of as many transformed tiles, of itself and
    int64_t more_rows, more_columns     # of so many below and to the right
    int64_t images, chunk_images
    int64_t strip                       # elements of one column and row phase of the packed channel
    int64_t chunk_tiles                 # of all images of a full chunk
    int64_t v_plane, v_chunk            # elements of one point of V, and of all
    int64_t whole_chunks, task_chunks   # chunks that are not cut, and how many make a task
    int64_t cut_chunks                  # those that come after them
    int64_t pieces, piece_channels      # in which all threads transform a cut chunk's channels; 0: each its own tiles
    int64_t whole_panels                # panels of shared inputs that are a task each; the others are cut
    int64_t bands, bands_across         # parts of the tiles, and whether they are columns of a chunk, not rows
    int64_t channel_lanes               # lanes of the input transform are channels, not tiles
    int64_t transposed                  # a Layout of `winograd_transposed.pxd`; 0: not transposed
    int64_t result_rows                 # rows of tiles whose results are made, and stored, at a time
    int64_t line_scratch, v_scratch, m_scratch      # elements of the scratch where they start

cdef struct Used:
    int64_t rows, columns               # of the chunk's tiles that have products at the last points of an axis
    int64_t down, across                # points that come before these


cdef inline Used used_tiles(const WinogradSizes* s, const Chunk* chunk) noexcept nogil:
    """The last points of an axis contribute to one output of a tile each, the last of all to the last output."""
    cdef Used used
    cdef int64_t beyond
    used.rows, used.columns, used.down, used.across = chunk.rows, chunk.columns, s.points_down, s.points_across
    if s.channel_lanes:
        beyond = (chunk.row + chunk.rows) * s.tile_rows - s.y_rows
        if beyond > 0:
            used.rows -= 1
            used.down -= min(beyond + 1, s.lone_points)
        beyond = (chunk.column + chunk.columns) * s.tile_columns - s.y_columns
        if beyond > 0:
            used.columns -= 1
            used.across -= min(beyond + 1, s.lone_points)
    return used


cdef inline bint is_strided(const int points) noexcept nogil:
    """As many points have forms with a stride alone."""
    return points == 5 or points == 9


cdef inline bint is_left_out(const int points, const int point, int64_t used) noexcept nogil:
    """Whether tiles that end outside have no products there; where it can be the last point alone, all tiles are as one."""
    return point >= used if is_strided(points) else point == points - 1


cdef inline int64_t first_pixel(int64_t m, int64_t spread, int64_t tile) noexcept nogil:
    """Where a tile begins: so many tiles interleave as their pixels are apart, and m times as many pixels are theirs."""
    return tile * m if spread == 1 else tile // spread * m * spread + tile % spread


cdef inline void input_transform(const int points, vec* d, const int stride) noexcept nogil:
    """As many values as points, `stride` apart, by the rows of Bᵀ: the polynomial's values at the points."""
    if points == 6:
        input_at_6_points(d, stride)
    elif points == 8:
        input_at_8_points(d, stride)
    elif points == 5:
        input_at_5_points(d, stride)
    elif points == 7:
        input_at_7_points(d, stride)
    elif points == 9:
        input_at_9_points(d, stride)


cdef inline void input_of_blocks(const int points, vec* d, const int stride) noexcept nogil:
    """The same, where five points are those of three outputs of three taps, not of a stride."""
    if points == 5:
        input_at_5_points_of_stride_1(d, stride)
    else:
        input_transform(points, d, stride)


cdef inline void output_transform(const int points, const int outputs, vec* p, const int stride) noexcept nogil:
    """Products at all points, `stride` apart, by the rows of Aᵀ, into the first `outputs` of them."""
    if points == 6:
        output_of_6_points(p, stride, outputs)
    elif points == 8:
        output_of_8_points(p, stride, outputs)
    elif points == 5 and outputs == 3:
        output_of_5_points_of_stride_1(p, stride, outputs)
    elif points == 5:
        output_of_5_points(p, stride)
    elif points == 7:
        output_of_7_points(p, stride)
    elif points == 9:
        output_of_9_points(p, stride)


cdef inline void input_at_6_points(vec* d, const int stride) noexcept nogil:
    cdef vec half_root = vset1(<real> (0.5 * M_SQRT2))
    cdef vec root = vset1(<real> M_SQRT2)
    cdef vec d0 = d[0]
    cdef vec d1 = d[stride]
    cdef vec d2 = d[2 * stride]
    cdef vec d3 = d[3 * stride]
    cdef vec d4 = d[4 * stride]
    cdef vec d5 = d[5 * stride]
    cdef vec even, odd
    d[0] = vmuladd(vadd(d0, d4), vset1(-2.5), d2)
    even = vmuladd(d4, vset1(-2), d2)
    odd = vmuladd(vmul(half_root, d3), vset1(<real> -M_SQRT2), d1)
    d[stride] = vadd(even, odd)
    d[2 * stride] = vsub(even, odd)
    even = vmuladd(d4, vset1(-0.5), d2)
    odd = vmuladd(vmul(root, d3), vset1(<real> (-0.5 * M_SQRT2)), d1)
    d[3 * stride] = vadd(even, odd)
    d[4 * stride] = vsub(even, odd)
    d[5 * stride] = vmuladd(vadd(d1, d5), vset1(-2.5), d3)


cdef inline void input_at_8_points(vec* d, const int stride) noexcept nogil:
    cdef vec d1 = d[stride]
    cdef vec d2 = d[2 * stride]
    cdef vec d3 = d[3 * stride]
    cdef vec d4 = d[4 * stride]
    cdef vec d5 = d[5 * stride]
    cdef vec d6 = d[6 * stride]
    cdef vec even, odd
    d[0] = vmuladd(vsub(d6, d[0]), vset1(5.25), vsub(d2, d4))
    d[7 * stride] = vmuladd(vsub(d[7 * stride], d1), vset1(5.25), vsub(d3, d5))
    even = vmuladd(vmuladd(d6, vset1(4), d2), vset1(-5), d4)
    odd = vmuladd(vmuladd(vmul(vset1(0.5), d5), vset1(2), d1), vset1(-2.5), d3)
    d[stride] = vadd(even, odd)
    d[2 * stride] = vsub(even, odd)
    even = vmuladd(vadd(d2, d6), vset1(-4.25), d4)
    odd = vmuladd(vadd(d1, d5), vset1(-4.25), d3)
    d[3 * stride] = vadd(even, odd)
    d[4 * stride] = vsub(even, odd)
    even = vmuladd(vmuladd(d6, vset1(0.25), d2), vset1(-1.25), d4)
    odd = vmuladd(vmuladd(vmul(vset1(0.5), d1), vset1(2), d5), vset1(-2.5), d3)
    d[5 * stride] = vadd(even, odd)
    d[6 * stride] = vsub(even, odd)


cdef inline void input_at_5_points(vec* d, const int stride) noexcept nogil:
    """Of every second value at ±1 and infinity; the others as they are, in between."""
    cdef vec d0 = d[0]
    cdef vec d1 = d[stride]
    cdef vec d2 = d[2 * stride]
    d[0], d[stride] = vadd(d2, d0), vsub(d2, d0)
    d[2 * stride] = d1
    d[4 * stride] = vsub(d[4 * stride], d0)


cdef inline void input_at_5_points_of_stride_1(vec* d, const int stride) noexcept nogil:
    """At ±1/2, ±5/4 and infinity."""
    cdef vec d0 = d[0]
    cdef vec d1 = d[stride]
    cdef vec d2 = d[2 * stride]
    cdef vec d3 = d[3 * stride]
    cdef vec even = vmul(vset1(0.5), vmuladd(d2, vset1(-1.5625), d0))
    cdef vec odd = vmuladd(d3, vset1(-1.5625), d1)
    d[0], d[stride] = vadd(odd, even), vsub(odd, even)
    even = vmul(vset1(1.25), vmuladd(d2, vset1(-0.25), d0))
    odd = vmuladd(d3, vset1(-0.25), d1)
    d[2 * stride], d[3 * stride] = vadd(odd, even), vsub(odd, even)
    d[4 * stride] = vmuladd(vmuladd(d[4 * stride], vset1(-1.8125), d2), vset1(0.390625), d0)


cdef inline void input_at_7_points(vec* d, const int stride) noexcept nogil:
    """At ±5/16, ±7/8, ±27/16 and infinity."""
    cdef vec d0 = d[0]
    cdef vec d2 = d[2 * stride]
    cdef vec d4 = d[4 * stride]
    cdef vec d1 = d[stride]
    cdef vec d3 = d[3 * stride]
    cdef vec d5 = d[5 * stride]
    seventh_pair(d, d0, d2, d4, d1, d3, d5, stride, 0.3125, 0.765625, 2.84765625)
    seventh_pair(d + 2 * stride, d0, d2, d4, d1, d3, d5, stride, 0.875, 0.09765625, 2.84765625)
    seventh_pair(d + 4 * stride, d0, d2, d4, d1, d3, d5, stride, 1.6875, 0.09765625, 0.765625)
    d[6 * stride] = vmuladd(
        vmuladd(
            vmuladd(d[6 * stride], vset1(-(0.09765625 + 0.765625 + 2.84765625)), d4),
            vset1(0.09765625 * 0.765625 + 0.09765625 * 2.84765625 + 0.765625 * 2.84765625), d2,
        ),
        vset1(-0.09765625 * 0.765625 * 2.84765625), d0,
    )


cdef inline void seventh_pair(
    vec* to, vec d0, vec d2, vec d4, vec d1, vec d3, vec d5, const int stride, const real p, const real s, const real t
) noexcept nogil:
    """The values at ±p; s and t are the squares of the others."""
    cdef vec even = vmuladd(vmuladd(vmul(vset1(p), d4), vset1(-p * (s + t)), d2), vset1(p * s * t), d0)
    cdef vec odd = vmuladd(vmuladd(d5, vset1(-(s + t)), d3), vset1(s * t), d1)
    to[0], to[stride] = vadd(odd, even), vsub(odd, even)


cdef inline void input_at_9_points(vec* d, const int stride) noexcept nogil:
    """The same at ±1/2, ±5/4 and infinity."""
    cdef vec d0 = d[0]
    cdef vec d1 = d[stride]
    cdef vec d2 = d[2 * stride]
    cdef vec d3 = d[3 * stride]
    cdef vec d4 = d[4 * stride]
    cdef vec d6 = d[6 * stride]
    cdef vec even, odd
    even = vmul(vset1(0.5), vmuladd(d4, vset1(-1.5625), d0))
    odd = vmuladd(d6, vset1(-1.5625), d2)
    d[0], d[stride] = vadd(odd, even), vsub(odd, even)
    even = vmul(vset1(1.25), vmuladd(d4, vset1(-0.25), d0))
    odd = vmuladd(d6, vset1(-0.25), d2)
    d[2 * stride], d[3 * stride] = vadd(odd, even), vsub(odd, even)
    d[8 * stride] = vmuladd(vmuladd(d[8 * stride], vset1(-1.8125), d4), vset1(0.390625), d0)
    d[4 * stride], d[6 * stride] = d1, d[5 * stride]
    d[5 * stride] = d3


cdef inline void output_of_5_points(vec* p, const int stride) noexcept nogil:
    cdef vec even = vadd(p[0], p[stride])
    p[stride] = vadd(vsub(p[0], p[stride]), vadd(p[3 * stride], p[4 * stride]))
    p[0] = vadd(even, p[2 * stride])


cdef inline void output_of_5_points_of_stride_1(vec* p, const int stride, const int outputs) noexcept nogil:
    """Three outputs or four, the last of which has what is at infinity."""
    cdef vec low_even = vadd(p[0], p[stride])
    cdef vec low_odd = vsub(p[0], p[stride])
    cdef vec high_even = vadd(p[2 * stride], p[3 * stride])
    cdef vec high_odd = vsub(p[2 * stride], p[3 * stride])
    p[0] = vadd(low_even, high_even)
    p[stride] = vmuladd(vmul(vset1(0.5), low_odd), vset1(1.25), high_odd)
    if outputs == 3:
        p[2 * stride] = vmuladd(vmuladd(p[4 * stride], vset1(0.25), low_even), vset1(1.5625), high_even)
    else:
        p[2 * stride] = vmuladd(vmul(vset1(0.25), low_even), vset1(1.5625), high_even)
        p[3 * stride] = vmuladd(vmuladd(p[4 * stride], vset1(0.125), low_odd), vset1(1.953125), high_odd)


cdef inline void output_of_7_points(vec* p, const int stride) noexcept nogil:
    """Four outputs."""
    cdef vec low_even = vadd(p[0], p[stride])
    cdef vec low_odd = vsub(p[0], p[stride])
    cdef vec middle_even = vadd(p[2 * stride], p[3 * stride])
    cdef vec middle_odd = vsub(p[2 * stride], p[3 * stride])
    cdef vec high_even = vadd(p[4 * stride], p[5 * stride])
    cdef vec high_odd = vsub(p[4 * stride], p[5 * stride])
    p[0] = vadd(vadd(low_even, middle_even), high_even)
    p[stride] = vmuladd(vmuladd(vmul(vset1(0.3125), low_odd), vset1(0.875), middle_odd), vset1(1.6875), high_odd)
    p[2 * stride] = vmuladd(
        vmuladd(vmul(vset1(0.09765625), low_even), vset1(0.765625), middle_even), vset1(2.84765625), high_even
    )
    p[3 * stride] = vmuladd(
        vmuladd(vmuladd(p[6 * stride], vset1(0.030517578125), low_odd), vset1(0.669921875), middle_odd),
        vset1(4.805419921875), high_odd,
    )


cdef inline void output_of_9_points(vec* p, const int stride) noexcept nogil:
    cdef vec low_even = vadd(p[0], p[stride])
    cdef vec low_odd = vsub(p[0], p[stride])
    cdef vec high_even = vadd(p[2 * stride], p[3 * stride])
    cdef vec high_odd = vsub(p[2 * stride], p[3 * stride])
    p[0] = vadd(vadd(low_even, high_even), p[4 * stride])
    p[stride] = vmuladd(vmuladd(p[5 * stride], vset1(0.5), low_odd), vset1(1.25), high_odd)
    p[2 * stride] = vmuladd(vmuladd(p[6 * stride], vset1(0.25), low_even), vset1(1.5625), high_even)
    p[3 * stride] = vmuladd(
        vmuladd(vadd(p[7 * stride], p[8 * stride]), vset1(0.125), low_odd), vset1(1.953125), high_odd
    )


cdef inline void output_of_6_points(vec* p, const int stride, const int outputs) noexcept nogil:
    cdef vec root = vset1(<real> M_SQRT2)
    cdef vec half_root = vset1(<real> (0.5 * M_SQRT2))
    cdef vec low_even = vadd(p[stride], p[2 * stride])
    cdef vec low_odd = vsub(p[stride], p[2 * stride])
    cdef vec high_even = vadd(p[3 * stride], p[4 * stride])
    cdef vec high_odd = vsub(p[3 * stride], p[4 * stride])
    cdef vec last = p[5 * stride]
    p[0] = vadd(vadd(p[0], low_even), high_even)
    p[stride] = vmuladd(vmul(half_root, low_odd), root, high_odd)
    if outputs == 2:
        p[stride] = vadd(p[stride], last)
        return
    p[2 * stride] = vmuladd(vmul(vset1(0.5), low_even), vset1(2), high_even)
    p[3 * stride] = vmuladd(
        vmuladd(last, vset1(<real> (0.25 * M_SQRT2)), low_odd), vset1(<real> (2 * M_SQRT2)), high_odd
    )


cdef inline void output_of_8_points(vec* p, const int stride, const int outputs) noexcept nogil:
    cdef vec low_even = vadd(p[stride], p[2 * stride])
    cdef vec low_odd = vsub(p[stride], p[2 * stride])
    cdef vec one_even = vadd(p[3 * stride], p[4 * stride])
    cdef vec one_odd = vsub(p[3 * stride], p[4 * stride])
    cdef vec high_even = vadd(p[5 * stride], p[6 * stride])
    cdef vec high_odd = vsub(p[5 * stride], p[6 * stride])
    cdef vec last = p[7 * stride]
    cdef int i
    p[0] = vadd(vadd(p[0], low_even), vadd(one_even, high_even))
    for i in range(1, outputs):
        if i == outputs - 1:
            one_odd = vadd(one_odd, last)
        if i % 2:
            p[i * stride] = vmuladd(vmuladd(one_odd, vset1(1.0 / (1 << i)), low_odd), vset1(1 << i), high_odd)
        else:
            p[i * stride] = vmuladd(vmuladd(one_even, vset1(1.0 / (1 << i)), low_even), vset1(1 << i), high_even)
