"""Chunks: the part of a convolution's output that one task computes, and its packed input.

Packed input of one chunk, per depth tap kd and input channel c (only the phases that some tap needs):

    [kd][c][row phase][row slot][column phase][column slot]      pitch = one row slot, plane = one (kd, c)

    position p of the padded input = slot · stride + phase       tap k of output o reads slot o + k·dilation // stride
                                                                 of phase k·dilation % stride
"""

from libc.stdint cimport int64_t

from fastconv._kernels.activation cimport Parameters
from fastconv._kernels.packing cimport pack_lines, real

cdef extern from "fields.h":
    pass

cdef struct ConvSizes:
    int64_t groups, channels, filters                   # the last two per group
    int64_t x_image, x_channel, x_depth, x_row, x_column            # strides, in elements
    int64_t y_image, y_channel, y_depth, y_row, y_column
    int64_t in_depth, in_rows, in_columns
    int64_t out_depth, out_rows, out_columns
    int64_t pad_depth, pad_row, pad_column              # zeros before
    int64_t stride_depth, stride_row, stride_column
    int64_t kernel_depth, dilation_depth, kernel_rows, dilation_row, kernel_columns, dilation_column
    int64_t taps                                        # channels × kernel
    int64_t w_image                                     # elements from the filters of an image to the next; 0: all share
    int64_t packed                                      # 0: x is read where it lies
    int64_t block, group_blocks, group_packed           # groups of a chunk, such blocks, elements packed for a group
    int64_t row_phases, row_slots, column_phases, column_slots, pitch, plane
    int64_t whole_registers                             # column slots are: lines may be written to their end
    int64_t chunk_rows, chunk_columns, chunks_down, chunks_across   # in output positions
    int64_t task_panels, chunk_tasks                    # panels of filters to a task, tasks to a chunk
    int64_t panel, last_panel                           # filters in one, and in the last of a group
    int64_t panel_scratch                               # element of the scratch where a panel's results start
    int64_t trimmed                                     # taps in the padding are left out
    int64_t tap_block                                   # taps that all rows meet before the next; 0: rows meet all in turn
    int64_t store_rows                                  # rows of results that are stored together
    int64_t has_residual                                # y = clamp(sum + residual): an array laid out as y
    double low, high                                    # clamp; infinite where there is none
    int64_t activation                                  # an Operation that follows; 0: none
    Parameters parameters


cdef struct Chunk:
    int64_t image, group, depth, row, column            # of its first output position
    int64_t groups, rows, columns


cdef inline void pack_chunk(
    const ConvSizes* s, const real* x, const int64_t* row_phase, const int64_t* column_phase, const Chunk* chunk,
    real* packed,
) noexcept nogil:
    """The input of one group."""
    cdef int64_t rows = s.row_slots - s.chunk_rows + chunk.rows
    cdef int64_t columns = s.column_slots - s.chunk_columns + chunk.columns
    cdef int64_t tap, channel, phase, depth, row, inside
    cdef const real* plane
    cdef real* lines
    if s.whole_registers:
        columns = s.column_slots
    for tap in range(s.kernel_depth):
        depth = chunk.depth * s.stride_depth - s.pad_depth + tap * s.dilation_depth
        inside = 0 <= depth < s.in_depth
        for channel in range(s.channels):
            plane = x + channel * s.x_channel + depth * s.x_depth
            lines = packed + (tap * s.channels + channel) * s.plane
            for phase in range(s.row_phases):
                row = chunk.row * s.stride_row + row_phase[phase] - s.pad_row
                pack_lines(
                    plane, s.x_row, row, s.stride_row, s.in_rows * inside, rows,
                    s.x_column, chunk.column * s.stride_column - s.pad_column, s.stride_column, s.in_columns, columns,
                    column_phase, s.column_phases, s.column_slots, lines, s.pitch,
                )
                lines += s.row_slots * s.pitch


cdef inline Chunk chunk_of(const ConvSizes* s, int64_t index) noexcept nogil:
    cdef Chunk chunk
    chunk.column = index % s.chunks_across * s.chunk_columns
    index //= s.chunks_across
    chunk.row = index % s.chunks_down * s.chunk_rows
    index //= s.chunks_down
    chunk.depth = index % s.out_depth
    index //= s.out_depth
    chunk.group = index % s.group_blocks * s.block
    chunk.image = index // s.group_blocks
    chunk.groups = min(s.block, s.groups - chunk.group)
    chunk.rows = min(s.chunk_rows, s.out_rows - chunk.row)
    chunk.columns = min(s.chunk_columns, s.out_columns - chunk.column)
    return chunk
