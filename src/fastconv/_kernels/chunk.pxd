"""Chunks: the part of a convolution's output that one task computes, and its packed input.

Packed input of one chunk, per depth tap kd and input channel c (only the phases that some tap needs):

    [kd][c][row phase][row slot][column phase][column slot]      pitch = one row slot, plane = one (kd, c)

    position p of the padded input = slot · stride + phase       tap k of output o reads slot o + k·dilation // stride
                                                                 of phase k·dilation % stride
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastconv._kernels.packing cimport pack_phases, real

cdef struct ConvSizes:
    int64_t groups, channels, filters                   # the last two per group
    int64_t x_image, x_channel, x_depth, x_row, x_column            # strides, in elements
    int64_t y_image, y_channel, y_depth, y_row, y_column
    int64_t in_depth, in_rows, in_columns
    int64_t out_depth, out_rows, out_columns
    int64_t pad_depth, pad_row, pad_column              # zeros before
    int64_t stride_depth, stride_row, stride_column
    int64_t kernel_depth, dilation_depth, taps          # taps: channels × kernel
    int64_t packed                                      # 0: x is read where it lies
    int64_t row_phases, row_slots, column_phases, column_slots, pitch, plane
    int64_t chunk_rows, chunk_columns, chunks_down, chunks_across   # in output positions
    int64_t task_panels, chunk_tasks                    # panels of filters to a task, tasks to a chunk
    int64_t panel, last_panel                           # filters in one, and in the last of a group
    int64_t panel_scratch                               # element of the scratch where a panel's result starts
    int64_t lanes_are_filters
    int64_t has_residual                                # y = clamp(sum + residual): an array laid out as y
    double low, high                                    # clamp; infinite where there is none


cdef struct Chunk:
    int64_t image, group, depth, row, column            # of its first output position
    int64_t rows, columns


cdef inline void pack_chunk(
    const ConvSizes* s, const real* x, const int64_t* row_phase, const int64_t* column_phase, const Chunk* chunk,
    real* packed,
) noexcept nogil:
    cdef int64_t rows = s.row_slots - s.chunk_rows + chunk.rows
    cdef int64_t columns = s.column_slots - s.chunk_columns + chunk.columns
    cdef int64_t tap, channel, phase, slot, depth, row
    cdef const real* plane
    cdef real* line
    for tap in range(s.kernel_depth):
        depth = chunk.depth * s.stride_depth - s.pad_depth + tap * s.dilation_depth
        for channel in range(s.channels):
            plane = x + channel * s.x_channel + depth * s.x_depth
            for phase in range(s.row_phases):
                for slot in range(rows):
                    row = (chunk.row + slot) * s.stride_row + row_phase[phase] - s.pad_row
                    line = packed + (tap * s.channels + channel) * s.plane + (phase * s.row_slots + slot) * s.pitch
                    if depth < 0 or depth >= s.in_depth or row < 0 or row >= s.in_rows:
                        memset(line, 0, s.column_phases * s.column_slots * sizeof(real))
                        continue
                    pack_phases(
                        plane + row * s.x_row, s.x_column, chunk.column * s.stride_column - s.pad_column,
                        s.stride_column, s.in_columns, columns, column_phase, s.column_phases, s.column_slots, line,
                    )


cdef inline Chunk chunk_of(const ConvSizes* s, int64_t index) noexcept nogil:
    cdef Chunk chunk
    chunk.column = index % s.chunks_across * s.chunk_columns
    index //= s.chunks_across
    chunk.row = index % s.chunks_down * s.chunk_rows
    index //= s.chunks_down
    chunk.depth = index % s.out_depth
    index //= s.out_depth
    chunk.group = index % s.groups
    chunk.image = index // s.groups
    chunk.rows = min(s.chunk_rows, s.out_rows - chunk.row)
    chunk.columns = min(s.chunk_columns, s.out_columns - chunk.column)
    return chunk
