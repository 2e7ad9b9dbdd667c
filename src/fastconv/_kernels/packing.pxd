"""Copying rows of an input into packed form; shared by the kernels that pack."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

cdef extern from "simd.h" nogil:
    ctypedef float real


cdef inline void pack_row(
    const real* x, int64_t x_column, int64_t start, int64_t stride, int64_t size, int64_t slots, real* packed
) noexcept nogil:
    """packed[i] = x[start + i·stride], zero where that lies outside [0, size)."""
    cdef int64_t before = 0, after = 0, i
    if start < 0:
        before = min((-start + stride - 1) // stride, slots)
    if start < size:
        after = (size - start + stride - 1) // stride
    after = max(before, min(after, slots))
    memset(packed, 0, before * sizeof(real))
    if stride == 1 and x_column == 1:
        memcpy(packed + before, x + start + before, (after - before) * sizeof(real))
    else:
        for i in range(before, after):
            packed[i] = x[(start + i * stride) * x_column]
    memset(packed + after, 0, (slots - after) * sizeof(real))
