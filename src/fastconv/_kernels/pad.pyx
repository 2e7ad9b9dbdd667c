"""Padding and cropping of any number of axes: memory movement, one row of the result at a time.

Decisions
---------
a. All modes are one kernel: the plan lists, per axis, where every position of the result comes from, or that it comes
   from nowhere.  A constant, a mirror and a wrap differ in a table.
b. A row is [before][run][after].  The run lies contiguous in the input; the few positions around it are looked up one by
   one, or filled where they come from nowhere.
c. Only the size of an element matters, never its type.  Elements of the size of `real` are moved in vectors: a row is
   loaded from `before` positions in front of its run, with masks at both ends that bring the filling.  Rows are written
   from the top, and a vector that reaches behind its row is overwritten by the next.  For short rows a call of memcpy
   and the loops around it take longer than the row.
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    ctypedef int vmask
    const int LANES
    vec vload(const real*)
    vec vload_mask(const real*, vmask, vec)
    void vstore(real*, vec)
    vec vset1(real)
    vmask vinside(int64_t, int64_t)

cdef struct PadSizes:
    int64_t itemsize
    int64_t size_0, size_1, size_2, size_3              # of the outer axes of the result
    int64_t before, run, after                          # elements of a row
    int64_t run_start, run_step                         # bytes from the source of the row, and from element to element
    int64_t filled                                      # before and after come from nowhere
    int64_t in_vectors                                  # elements of the size of `real`, less than LANES around the run
    int64_t task_rows

ctypedef fused item:
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    complex


cdef inline void copy(char* to, const char* start, int64_t size) noexcept nogil:
    """Short runs, the rows of small maps, in pieces that may overlap: a call of memcpy takes longer than they do."""
    if size > 64 or size < 8:
        memcpy(to, start, size)
    elif size > 32:
        memcpy(to, start, 32)
        memcpy(to + size - 32, start + size - 32, 32)
    elif size >= 16:
        memcpy(to, start, 16)
        memcpy(to + size - 16, start + size - 16, 16)
    else:
        memcpy(to, start, 8)
        memcpy(to + size - 8, start + size - 8, 8)


cdef inline void look_up(
    const char* x, const int64_t* source, int64_t count, item value, item* y
) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        y[i] = value if source[i] == INT64_MIN else (<const item*> (x + source[i]))[0]


cdef inline void fill(item* y, int64_t count, item value) noexcept nogil:
    cdef int64_t i
    for i in range(count):
        y[i] = value


cdef inline void pad_row(
    const PadSizes* s, const char* x, const int64_t* source, item value, item* y
) noexcept nogil:
    cdef int64_t i
    look_up(x, source, s.before, value, y)
    y += s.before
    if s.run_step == sizeof(item):
        copy(<char*> y, x + s.run_start, s.run * sizeof(item))
    else:
        for i in range(s.run):
            y[i] = (<const item*> (x + s.run_start + i * s.run_step))[0]
    look_up(x, source + s.before, s.after, value, y + s.run)


cdef inline int64_t inner_end(const PadSizes* s) noexcept nogil:
    """Where in a row the vectors end that, behind the first, lie inside the run."""
    return LANES + max(s.before + s.run - LANES, 0) // LANES * LANES


cdef inline void set_masks(const PadSizes* s, vmask* masks) noexcept nogil:
    """Of the first vector of a row, and of the two behind those inside the run."""
    cdef int64_t end = inner_end(s) - s.before
    masks[0] = vinside(-s.before, s.run)
    masks[1] = vinside(end, s.run)
    masks[2] = vinside(end + LANES, s.run)


cdef inline item* pad_vectors(
    const PadSizes* s, const char* x, const int64_t* rows, int64_t count, const int64_t* source, const vmask* masks,
    item value, item* y,
) noexcept nogil:
    """`count` rows, and up to a vector behind them; x is NULL where they come from nowhere."""
    cdef int64_t before = s.before, filled = s.filled, columns = s.before + s.run + s.after, end = inner_end(s)
    cdef int64_t at, row
    cdef vmask first = masks[0]
    cdef vec filling = vset1((<real*> &value)[0])
    cdef const real* run
    cdef real* to
    for row in range(count):
        to = <real*> y
        if x == NULL or rows[row] == INT64_MIN:
            at = 0
            while at < columns:
                vstore(to + at, filling)
                at += LANES
            y += columns
            continue
        run = <const real*> (x + rows[row] + s.run_start) - before
        vstore(to, vload_mask(run, first, filling))
        at = LANES
        while at < end:
            vstore(to + at, vload(run + at))
            at += LANES
        if at < columns:
            vstore(to + at, vload_mask(run + at, masks[1], filling))
        if at + LANES < columns:
            vstore(to + at + LANES, vload_mask(run + at + LANES, masks[2], filling))
        if not filled:
            look_up(x + rows[row], source, before, value, y)
            look_up(x + rows[row], source + before, s.after, value, y + before + s.run)
        y += columns
    return y


cdef void pad_rows(
    const PadSizes* s, void* const* arrays, int64_t first, int64_t last, const item* value
) noexcept nogil:
    cdef const int64_t* source_0 = <const int64_t*> arrays[2]
    cdef const int64_t* source_1 = source_0 + s.size_0
    cdef const int64_t* source_2 = source_1 + s.size_1
    cdef const int64_t* source_3 = source_2 + s.size_2
    cdef const int64_t* row_source = <const int64_t*> arrays[3]
    cdef int64_t columns = s.before + s.run + s.after
    cdef int64_t i_3 = first % s.size_3, i_2 = first // s.size_3
    cdef int64_t i_1 = i_2 // s.size_2, i_0 = i_1 // s.size_1, end, vectors = 0
    cdef item* y = <item*> arrays[0] + first * columns
    cdef const char* x
    cdef int64_t behind = (LANES + columns - 1) // columns      # the last rows, which may not be reached behind
    cdef vmask masks[3]
    if s.in_vectors:
        set_masks(s, masks)
    i_1, i_2 = i_1 % s.size_1, i_2 % s.size_2
    while first < last:
        x = NULL
        if source_0[i_0] != INT64_MIN and source_1[i_1] != INT64_MIN and source_2[i_2] != INT64_MIN:
            x = <const char*> arrays[1] + (source_0[i_0] + source_1[i_1] + source_2[i_2])
        end = min(i_3 + last - first, s.size_3)
        first += end - i_3
        if s.in_vectors and sizeof(item) == sizeof(real):
            vectors = max(0, min(end - i_3, last - first + end - i_3 - behind))
            y = pad_vectors(s, x, source_3 + i_3, vectors, row_source, masks, value[0], y)
        for i_3 in range(i_3 + vectors, end):
            if x != NULL and source_3[i_3] != INT64_MIN:
                pad_row(s, x + source_3[i_3], row_source, value[0], y)
            else:
                fill(y, columns, value[0])
            y += columns
        i_3 = 0
        i_2 += 1
        if i_2 == s.size_2:
            i_2 = 0
            i_1 += 1
        if i_1 == s.size_1:
            i_1 = 0
            i_0 += 1


cdef void pad(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, where the positions of the outer axes come from (bytes, INT64_MIN from nowhere), the same for the
    positions before and after the run, and the value of what comes from nowhere."""
    cdef const PadSizes* s = <const PadSizes*> sizes
    cdef int64_t rows = s.size_0 * s.size_1 * s.size_2 * s.size_3
    cdef int64_t start = first * s.task_rows, end = min(last * s.task_rows, rows)
    if s.itemsize == 1:
        pad_rows(s, arrays, start, end, <const uint8_t*> arrays[4])
    elif s.itemsize == 2:
        pad_rows(s, arrays, start, end, <const uint16_t*> arrays[4])
    elif s.itemsize == 4:
        pad_rows(s, arrays, start, end, <const uint32_t*> arrays[4])
    elif s.itemsize == 8:
        pad_rows(s, arrays, start, end, <const uint64_t*> arrays[4])
    else:
        pad_rows(s, arrays, start, end, <const complex*> arrays[4])


def pad_sizes(dict fields):
    cdef PadSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {"pad": (PyCapsule_New(<void*> pad, b"fastconv kernel", NULL), pad_sizes)}
NOWHERE = INT64_MIN
OUTER_AXES = 4
SLOTS = LANES
ITEM_SIZES = (1, 2, 4, 8, 16)
