"""Copying rows of an input into packed form; shared by the kernels that pack."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    ctypedef int vmask
    const int LANES
    vec vload(const real*)
    vec vload_mask(const real*, vmask, vec)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vec vset1(real)
    vec veven(vec, vec)
    vec vodd(vec, vec)
    vmask vinside(int64_t, int64_t)


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


cdef inline void pack_phases(
    const real* x, int64_t x_column, int64_t start, int64_t stride, int64_t size, int64_t slots,
    const int64_t* phase, int64_t phases, int64_t phase_step, real* packed,
) noexcept nogil:
    """packed[p · phase_step + i] = x[start + phase[p] + i·stride], zero outside [0, size)."""
    cdef int64_t p
    if x_column == 1 and stride == 1:
        pack_registers(1, x, start, size, slots, phase_step, packed)
    elif x_column == 1 and stride == 2 and phases == 2:
        pack_registers(2, x, start, size, slots, phase_step, packed)
    elif x_column == 1 and stride == 4 and phases == 4:
        pack_registers(4, x, start, size, slots, phase_step, packed)
    else:
        for p in range(phases):
            pack_row(x, x_column, start + phase[p], stride, size, slots, packed + p * phase_step)


cdef inline void pack_registers(
    const int stride, const real* x, int64_t start, int64_t size, int64_t slots, int64_t phase_step, real* packed
) noexcept nogil:
    """All phases of a stride; those registers at the ends that lie partly outside are loaded by mask."""
    cdef int64_t slot = 0
    cdef int64_t inside = min(slots, (size - start) // stride) if size > start else 0
    while slot < slots and start + slot * stride < 0:
        pack_register(stride, True, x, start + slot * stride, size, min(slots - slot, LANES), phase_step, packed + slot)
        slot += LANES
    while slot + LANES <= inside:
        pack_register(stride, False, x, start + slot * stride, size, LANES, phase_step, packed + slot)
        slot += LANES
    while slot < slots:
        pack_register(stride, True, x, start + slot * stride, size, min(slots - slot, LANES), phase_step, packed + slot)
        slot += LANES


cdef inline void pack_register(
    const int stride, const bint masked, const real* x, int64_t at, int64_t size, int64_t slots, int64_t phase_step,
    real* packed,
) noexcept nogil:
    """Up to LANES slots of every phase."""
    cdef vec value[4]
    cdef vec half[4]
    cdef int j
    for j in range(stride):
        if masked:
            value[j] = vload_mask(x + at + j * LANES, vinside(at + j * LANES, size), vset1(0))
        else:
            value[j] = vload(x + at + j * LANES)
    if stride == 2:
        half[0], half[1] = veven(value[0], value[1]), vodd(value[0], value[1])
        value[0], value[1] = half[0], half[1]
    elif stride == 4:
        half[0], half[1] = veven(value[0], value[1]), veven(value[2], value[3])
        half[2], half[3] = vodd(value[0], value[1]), vodd(value[2], value[3])
        value[0], value[2] = veven(half[0], half[1]), vodd(half[0], half[1])
        value[1], value[3] = veven(half[2], half[3]), vodd(half[2], half[3])
    for j in range(stride):
        if not masked or slots == LANES:
            vstore(packed + j * phase_step, value[j])
        else:
            vstore_first(packed + j * phase_step, value[j], <int> slots)
