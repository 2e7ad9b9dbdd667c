"""The machine's limits: multiply-adds from registers, and memory read, copied and written in the simplest loops."""

from libc.stdint cimport int64_t

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    const int LANES
    const int TILE_PIXELS
    const int TILE_VECTORS
    vec vload(const real*)
    void vstore(real*, vec)
    vec vset1(real)
    vec vadd(vec, vec)
    vec vmuladd(vec, vec, vec)
    real vsum(vec)

cdef enum:
    STREAMS = 8
    MAX_CHAINS = 28

cdef struct RoofSizes:
    int64_t count       # multiply-adds of a chain, or elements of a task
    int64_t repeats     # passes over them


cdef void multiply_adds(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: one result per task, one factor.  As many independent chains as the convolution's tile has registers."""
    cdef const RoofSizes* s = <const RoofSizes*> sizes
    cdef vec chain[MAX_CHAINS]
    cdef vec factor, one, total
    cdef int64_t _i
    cdef Py_ssize_t task
    cdef int j
    for task in range(first, last):
        factor, one, total = vset1((<const real*> arrays[1])[0]), vset1(1), vset1(0)
        for j in range(TILE_PIXELS):
            chain[j] = vset1(<real> j)  # equal chains would be computed once
            chain[TILE_PIXELS + j] = vset1(<real> (-1 - j))
        for _i in range(s.count):
            for j in range(TILE_PIXELS):
                chain[j] = vmuladd(one, chain[j], factor)
                if TILE_VECTORS > 1:
                    chain[TILE_PIXELS + j] = vmuladd(one, chain[TILE_PIXELS + j], factor)
        for j in range(TILE_PIXELS):
            total = vadd(total, vadd(chain[j], chain[TILE_PIXELS + j]))
        (<real*> arrays[0])[task] = vsum(total)


cdef void read(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: one sum per task, x.  A task reads `count` elements `repeats` times."""
    cdef const RoofSizes* s = <const RoofSizes*> sizes
    cdef vec total[STREAMS]
    cdef const real* x
    cdef int64_t _i, _repeat
    cdef Py_ssize_t task
    cdef int j
    for task in range(first, last):
        for j in range(STREAMS):
            total[j] = vset1(0)
        for _repeat in range(s.repeats):
            x = <const real*> arrays[1] + task * s.count
            for _i in range(s.count // (STREAMS * LANES)):
                for j in range(STREAMS):
                    total[j] = vadd(total[j], vload(x + j * LANES))
                x += STREAMS * LANES
        for j in range(1, STREAMS):
            total[0] = vadd(total[0], total[j])
        (<real*> arrays[0])[task] = vsum(total[0])


cdef void copy(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x.  A task copies `count` elements `repeats` times."""
    cdef const RoofSizes* s = <const RoofSizes*> sizes
    cdef int64_t _i, _repeat, start
    cdef Py_ssize_t task
    cdef int j
    for task in range(first, last):
        for _repeat in range(s.repeats):
            start = task * s.count
            for _i in range(s.count // (STREAMS * LANES)):
                for j in range(STREAMS):
                    vstore(<real*> arrays[0] + start + j * LANES, vload(<const real*> arrays[1] + start + j * LANES))
                start += STREAMS * LANES


def roof_sizes(dict fields):
    cdef RoofSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "multiply_adds": (PyCapsule_New(<void*> multiply_adds, b"fastconv kernel", NULL), roof_sizes),
    "read": (PyCapsule_New(<void*> read, b"fastconv kernel", NULL), roof_sizes),
    "copy": (PyCapsule_New(<void*> copy, b"fastconv kernel", NULL), roof_sizes),
}
# floating-point operations of one step of all chains
CHAIN_FLOPS = 2 * LANES * TILE_PIXELS * (2 if TILE_VECTORS > 1 else 1)
