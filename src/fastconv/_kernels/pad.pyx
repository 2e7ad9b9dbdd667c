"""Padding and cropping of any number of axes: memory movement, one row or one small plane of the result at a time.

Decisions
---------
a. All modes are one kernel: the plan lists, per axis, where every position of the result comes from, or that it comes
   from nowhere.  A constant, a mirror and a wrap differ in a table.
b. **Units.**  Elements of 4, 8 and 16 bytes move as words in vectors.  A row, or several small planes, are a unit that is
   put together by a list: vectors that are loaded as they are, and vectors whose lanes are picked out of one or more
   loads.  Lanes of nowhere keep the filling.  With a list, narrow rows fill whole vectors, and a mirrored border is a
   shuffle like any other; row by row, most lanes of a small map would be empty.
c. Neighbours with as many loads are a group, and its loop has no branches; few vectors that could be loaded as they are
   join the group beside them.
d. Units are written from the top, and a vector that reaches behind its unit is overwritten by the next.  No load leaves
   the positions that its unit reads.
e. Other elements, and rows whose neighbours lie far apart, move one by one as [before][run][after]: the run in order, the
   few positions around it looked up.
"""

from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef int real_bits
    ctypedef float vec
    ctypedef int vmask
    const int LANES
    vec vload(const real*)
    vec vload_mask(const real*, vmask, vec)
    vec vpicked(vec, vec, const real_bits*)
    void vstore(real*, vec)
    void vstore_first(real*, vec, int)
    vmask vinside(int64_t, int64_t)

cdef enum:
    PLAIN = 0           # instead of a number of loads: vectors that follow one another in the input

cdef struct PadSizes:
    int64_t itemsize
    int64_t size_0, size_1, size_2, size_3              # of the outer axes of the result
    int64_t before, run, after                          # elements of a row
    int64_t run_start, run_step                         # bytes from the source of the row, and from element to element
    int64_t words                                       # of a unit; 0 where elements move one by one
    int64_t groups, last_loads                          # parts of its list, and loads of its last vector
    int64_t readable                                    # words from the first to the last that a unit reads
    int64_t task_rows                                   # rows or units

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


cdef inline vec moved(
    const bint narrow, const int64_t loads, const char* x, const int32_t* entry, const real_bits* picks, vec filling,
    vmask readable,
) noexcept nogil:
    """A vector whose lanes come from `loads` places; the entry has the offset and the pick of each."""
    cdef vec result = filling, loaded
    cdef int64_t i
    for i in range(loads):
        if narrow:
            loaded = vload_mask(<const real*> (x + entry[2 * i]), readable, filling)
        else:
            loaded = vload(<const real*> (x + entry[2 * i]))
        result = vpicked(result, loaded, picks + entry[2 * i + 1])
    return result


cdef inline const int32_t* move_group(
    const bint narrow, const int64_t loads, int64_t count, const char* x, const int32_t* entry, const real_bits* picks,
    vec filling, vmask readable, real* y,
) noexcept nogil:
    cdef int64_t v
    for v in range(count):
        vstore(y + v * LANES, moved(narrow, loads, x, entry, picks, filling, readable))
        entry += 2 * loads
    return entry


cdef inline void store_last(real* y, vec value, const real* end) noexcept nogil:
    if end - y >= LANES:
        vstore(y, value)
    else:
        vstore_first(y, value, <int> (end - y))


cdef inline void move_unit(
    const bint narrow, const PadSizes* s, const char* x, void* const* arrays, vec filling, vmask readable, real* y,
    const real* end,
) noexcept nogil:
    cdef const int64_t* group = <const int64_t*> arrays[5]
    cdef const int32_t* entry = <const int32_t*> arrays[6]
    cdef const real_bits* picks = <const real_bits*> arrays[7]
    cdef int64_t loads, count, _group, v
    for _group in range(s.groups):
        loads, count = group[0], group[1]
        if loads == PLAIN:
            for v in range(count):
                vstore(y + v * LANES, vload(<const real*> (x + entry[0]) + v * LANES))
            entry += 1
        elif loads == 1:
            entry = move_group(narrow, 1, count, x, entry, picks, filling, readable, y)
        elif loads == 2:
            entry = move_group(narrow, 2, count, x, entry, picks, filling, readable, y)
        elif loads == 3:
            entry = move_group(narrow, 3, count, x, entry, picks, filling, readable, y)
        else:
            entry = move_group(narrow, loads, count, x, entry, picks, filling, readable, y)
        y += count * LANES
        group += 2
    store_last(y, moved(narrow, s.last_loads, x, entry, picks, filling, readable), end)


cdef inline void fill_unit(int64_t words, vec filling, real* y, const real* end) noexcept nogil:
    while words > LANES:
        vstore(y, filling)
        y += LANES
        words -= LANES
    store_last(y, filling, end)


cdef inline void move_units(
    const PadSizes* s, const char* x, const int64_t* sources, int64_t count, void* const* arrays, real* y,
    const real* end,
) noexcept nogil:
    """`count` units; nothing is written from `end` on.  x is NULL where they come from nowhere."""
    cdef vec filling = vload(<const real*> arrays[4])
    cdef vmask readable = vinside(0, s.readable)
    cdef int64_t unit
    for unit in range(count):
        if x == NULL or sources[unit] == INT64_MIN:
            fill_unit(s.words, filling, y, end)
        elif s.readable < LANES:
            move_unit(True, s, x + sources[unit], arrays, filling, readable, y, end)
        else:
            move_unit(False, s, x + sources[unit], arrays, filling, readable, y, end)
        y += s.words


cdef void pad_rows(
    const PadSizes* s, void* const* arrays, int64_t first, int64_t last, const item* value
) noexcept nogil:
    cdef const int64_t* source_0 = <const int64_t*> arrays[2]
    cdef const int64_t* source_1 = source_0 + s.size_0
    cdef const int64_t* source_2 = source_1 + s.size_1
    cdef const int64_t* source_3 = source_2 + s.size_2
    cdef const int64_t* row_source = <const int64_t*> arrays[3]
    cdef int64_t columns = s.words if s.words else s.before + s.run + s.after
    cdef int64_t i_3 = first % s.size_3, i_2 = first // s.size_3
    cdef int64_t i_1 = i_2 // s.size_2, i_0 = i_1 // s.size_1, end
    cdef item* y = <item*> arrays[0] + first * columns
    cdef const char* x
    cdef const real* y_end = <const real*> (y + (last - first) * columns)
    i_1, i_2 = i_1 % s.size_1, i_2 % s.size_2
    while first < last:
        x = NULL
        if source_0[i_0] != INT64_MIN and source_1[i_1] != INT64_MIN and source_2[i_2] != INT64_MIN:
            x = <const char*> arrays[1] + (source_0[i_0] + source_1[i_1] + source_2[i_2])
        end = min(i_3 + last - first, s.size_3)
        first += end - i_3
        if s.words and sizeof(item) == 4:
            move_units(s, x, source_3 + i_3, end - i_3, arrays, <real*> y, y_end)
            y += (end - i_3) * columns
            i_3 = end
        for i_3 in range(i_3, end):
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
    positions before and after the run, and a vector of the value that fills; and for units

    (loads of a vector or PLAIN, vectors) of each group, without the last vector of the unit; the entries of all, for each
    load its offset in bytes and where its pick starts, and for PLAIN the offset of all; and the picks, as `vpicked` takes
    them."""
    cdef const PadSizes* s = <const PadSizes*> sizes
    cdef int64_t rows = s.size_0 * s.size_1 * s.size_2 * s.size_3
    cdef int64_t start = first * s.task_rows, end = min(last * s.task_rows, rows)
    if s.itemsize == 1:
        pad_rows(s, arrays, start, end, <const uint8_t*> arrays[4])
    elif s.itemsize == 2:
        pad_rows(s, arrays, start, end, <const uint16_t*> arrays[4])
    elif s.itemsize == 4 or s.words:
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
