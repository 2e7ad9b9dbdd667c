"""Copying rows of an input into packed form; shared by the kernels that pack."""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    ctypedef int vmask
    const int LANES
    vec vload(const real*)
    vec vload_inside(const real*, vmask)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vec veven(vec, vec)
    vec vodd(vec, vec)
    vec veven_pairs(vec, vec)
    vec vodd_pairs(vec, vec)
    vmask vinside(int64_t, int64_t)

cdef enum:
    MAX_STRIDE = 4


cdef inline int64_t strides_in(int64_t length, int64_t stride) noexcept nogil:
    """length / stride, rounded up; a division takes as long as packing a row."""
    if stride == 1:
        return length
    if stride == 2:
        return (length + 1) >> 1
    return (length + stride - 1) // stride


cdef inline void pack_row(
    const real* x, int64_t x_column, int64_t start, int64_t stride, int64_t size, int64_t slots, real* packed
) noexcept nogil:
    """packed[i] = x[start + i·stride], zero where that lies outside [0, size)."""
    cdef int64_t before = 0, after = 0, i
    if start < 0:
        before = min(strides_in(-start, stride), slots)
    if start < size:
        after = strides_in(size - start, stride)
    after = max(before, min(after, slots))
    memset(packed, 0, before * sizeof(real))
    if stride == 1 and x_column == 1:
        memcpy(packed + before, x + start + before, (after - before) * sizeof(real))
    else:
        for i in range(before, after):
            packed[i] = x[(start + i * stride) * x_column]
    memset(packed + after, 0, (slots - after) * sizeof(real))


cdef inline void pack_lines(
    const real* x, int64_t x_row, int64_t row, int64_t row_stride, int64_t in_rows, int64_t rows,
    int64_t x_column, int64_t start, int64_t stride, int64_t size, int64_t slots,
    const int64_t* phase, int64_t phases, int64_t phase_step, real* line, int64_t pitch,
) noexcept nogil:
    """line[i][p · phase_step + j] = x[row + i·row_stride][start + phase[p] + j·stride], zero outside the input."""
    cdef int64_t before = 0, after = 0, p
    if row < 0:
        before = min(strides_in(-row, row_stride), rows)
    if row < in_rows:
        after = strides_in(in_rows - row, row_stride)
    after = max(before, min(after, rows))
    if before:
        memset(line, 0, before * pitch * sizeof(real))
    if after < rows:
        memset(line + after * pitch, 0, (rows - after) * pitch * sizeof(real))
    x += (row + before * row_stride) * x_row
    line += before * pitch
    rows = after - before
    x_row *= row_stride
    if x_column == 1 and stride == 1:
        pack_registers(1, 1, x, x_row, rows, start, size, slots, phase_step, line, pitch)
    elif x_column == 1 and stride == 2 and phases == 2:
        pack_registers(2, 2, x, x_row, rows, start, size, slots, phase_step, line, pitch)
    elif x_column == 1 and stride == 2 and phase[0] == 0:
        pack_registers(2, 1, x, x_row, rows, start, size, slots, phase_step, line, pitch)
    elif x_column == 1 and stride == 4 and phases == 4:
        pack_registers(4, 4, x, x_row, rows, start, size, slots, phase_step, line, pitch)
    else:
        for row in range(rows):
            for p in range(phases):
                pack_row(
                    x + row * x_row, x_column, start + phase[p], stride, size, slots, line + row * pitch + p * phase_step
                )


cdef inline void pack_registers(
    const int stride, const int phases, const real* x, int64_t x_row, int64_t rows, int64_t start, int64_t size,
    int64_t slots, int64_t phase_step, real* line, int64_t pitch,
) noexcept nogil:
    """The first phases of a stride: registers that begin before the input, those inside, and those that end behind it."""
    cdef int64_t inside = min(slots, (size - start) // stride) if size > start else 0
    cdef int64_t slot = 0, first, row
    while slot < slots and start + slot * stride < 0:
        pack_edge(stride, phases, x, x_row, rows, start + slot * stride, size, slots - slot, phase_step, line + slot, pitch)
        slot += LANES
    first = slot
    while slot + LANES <= inside:
        slot += LANES
    for row in range(rows if first < slot else 0):
        pack_inside(
            stride, phases, x + row * x_row + start + first * stride, slot - first, phase_step, line + row * pitch + first
        )
    while slot < slots:
        pack_edge(stride, phases, x, x_row, rows, start + slot * stride, size, slots - slot, phase_step, line + slot, pitch)
        slot += LANES


cdef inline void pack_inside(
    const int stride, const int phases, const real* x, int64_t slots, int64_t phase_step, real* packed
) noexcept nogil:
    cdef vec value[MAX_STRIDE]
    cdef int64_t slot = 0
    cdef int j
    while slot < slots:
        for j in range(stride):
            value[j] = vload(x + slot * stride + j * LANES)
        split_phases(stride, 1, value)
        for j in range(phases):
            vstore(packed + slot + j * phase_step, value[j])
        slot += LANES


cdef inline void pack_edge(
    const int stride, const int phases, const real* x, int64_t x_row, int64_t rows, int64_t at, int64_t size,
    int64_t slots, int64_t phase_step, real* packed, int64_t pitch,
) noexcept nogil:
    """One register of every row and phase, or what is left of it, that lies partly outside."""
    cdef vec value[MAX_STRIDE]
    cdef vmask inside[MAX_STRIDE]
    cdef int j
    for j in range(stride):
        inside[j] = vinside(at + j * LANES, size)
    for _row in range(rows):
        for j in range(stride):
            value[j] = vload_inside(x + at + j * LANES, inside[j])
        split_phases(stride, 1, value)
        for j in range(phases):
            if slots >= LANES:
                vstore(packed + j * phase_step, value[j])
            else:
                vstore_first(packed + j * phase_step, value[j], <int> slots)
        x += x_row
        packed += pitch


cdef inline vec even(const int run, vec a, vec b) noexcept nogil:
    """Of two registers every second lane, or pair of lanes, from the first on."""
    return veven(a, b) if run == 1 else veven_pairs(a, b)


cdef inline vec odd(const int run, vec a, vec b) noexcept nogil:
    return vodd(a, b) if run == 1 else vodd_pairs(a, b)


cdef inline void split_phases(const int stride, const int run, vec* value) noexcept nogil:
    """Neighbours to registers of every `stride`-th; `run` 2: of pairs."""
    cdef vec half[MAX_STRIDE]
    if stride == 2:
        half[0], half[1] = even(run, value[0], value[1]), odd(run, value[0], value[1])
        value[0], value[1] = half[0], half[1]
    elif stride == 4:
        half[0], half[1] = even(run, value[0], value[1]), even(run, value[2], value[3])
        half[2], half[3] = odd(run, value[0], value[1]), odd(run, value[2], value[3])
        value[0], value[2] = even(run, half[0], half[1]), odd(run, half[0], half[1])
        value[1], value[3] = even(run, half[2], half[3]), odd(run, half[2], half[3])
