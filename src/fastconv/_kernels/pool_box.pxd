"""Boxes of a pooling input: windows listed per axis, and counting through the outputs."""

from libc.stdint cimport int64_t

from fastconv._kernels.reduction cimport real

cdef struct BoxSizes:
    int64_t images, channels                # planes; the channels of pixels are their unit
    int64_t unit                            # channels of a pixel
    int64_t x_image, x_channel, x_depth, x_row, x_column        # strides, in elements
    int64_t in_rows, in_columns
    int64_t out_depth, out_rows, out_columns
    int64_t step_depth, step_row, step_column                   # from tap to tap
    int64_t line                            # values of a plane that is one box, contiguous and x_channel from the next; else 0

cdef struct Box:
    int64_t depth, row, column          # first position
    int64_t depths, rows, columns       # taps

cdef struct Place:
    int64_t image, channel, depth, row, column                  # of an output


cdef inline void next_place(const BoxSizes* s, Place* place) noexcept nogil:
    """Counting up instead of dividing: four divisions take as long as a small box."""
    place.column += 1
    if place.column == s.out_columns:
        place.column = 0
        place.row += 1
    if place.row == s.out_rows:
        place.row = 0
        place.depth += 1
    if place.depth == s.out_depth:
        place.depth = 0
        place.channel += 1
    if place.channel == s.channels:
        place.channel = 0
        place.image += 1


cdef inline Place place_of(const BoxSizes* s, int64_t index) noexcept nogil:
    cdef Place place
    place.column = index % s.out_columns
    index //= s.out_columns
    place.row = index % s.out_rows
    index //= s.out_rows
    place.depth = index % s.out_depth
    index //= s.out_depth
    place.channel = index % s.channels
    place.image = index // s.channels
    return place


cdef inline Box box_of(void* const* arrays, const Place* place) noexcept nogil:
    """arrays: y, x, then (first position, taps) of every window by depth, by row and by column."""
    cdef Box box
    box.depth = (<const int64_t*> arrays[2])[2 * place.depth]
    box.depths = (<const int64_t*> arrays[2])[2 * place.depth + 1]
    box.row = (<const int64_t*> arrays[3])[2 * place.row]
    box.rows = (<const int64_t*> arrays[3])[2 * place.row + 1]
    box.column = (<const int64_t*> arrays[4])[2 * place.column]
    box.columns = (<const int64_t*> arrays[4])[2 * place.column + 1]
    return box


cdef inline real divisor_of(void* const* arrays, const Place* place) noexcept nogil:
    """The arrays behind the windows: divisors by depth, row and column; a box divides by their product."""
    return (
        (<const real*> arrays[5])[place.depth] * (<const real*> arrays[6])[place.row]
        * (<const real*> arrays[7])[place.column]
    )


cdef inline const real* plane_of(const BoxSizes* s, void* const* arrays, const Place* place) noexcept nogil:
    return <const real*> arrays[1] + place.image * s.x_image + place.channel * s.x_channel


cdef inline const real* row_of(
    const BoxSizes* s, const Box* box, const real* x, int64_t depth, int64_t row
) noexcept nogil:
    """The first value of a box in one of its rows."""
    return (
        x + (box.depth + depth * s.step_depth) * s.x_depth + (box.row + row * s.step_row) * s.x_row
        + box.column * s.x_column
    )
