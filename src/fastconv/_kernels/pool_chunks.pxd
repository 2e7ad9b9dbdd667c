"""Chunks of planes whose windows slide: the sizes that the kernels share, and how chunks are counted."""

from libc.stdint cimport int64_t

cdef struct PoolSizes:
    int64_t channels
    int64_t x_image, x_channel, x_depth, x_row          # strides, in elements; that of the columns is 1
    int64_t y_image, y_channel                          # inside a plane y is contiguous
    int64_t in_depth, in_rows, in_columns
    int64_t out_depth, out_rows, out_columns
    int64_t pad_depth, pad_row, pad_column              # positions before
    int64_t stride_depth, stride_row, stride_column
    int64_t kernel_depth, dilation_depth, kernel_column, dilation_column
    int64_t row_phases, row_reach                       # slots beyond the output rows
    int64_t line, phase, plane                          # elements of a reduced row, of a row phase, of a depth tap
    int64_t taps                                        # of the second pass: depth × rows
    int64_t chunk_rows, chunk_columns, chunks_down, chunks_across   # in output positions
    int64_t square                                      # the usual windows: the size of the kernel, else 0
    int64_t one_divisor                                 # all windows divide by the same number
    int64_t strips, paired, block                       # of picks: vectors of a row; a vector has two rows; planes at a time

cdef struct Chunk:
    int64_t image, channel, depth, down, across
    int64_t row, column, rows, columns                  # first output position, and how many


cdef inline Chunk chunk_of(const PoolSizes* s, int64_t index) noexcept nogil:
    cdef Chunk chunk
    chunk.across = index % s.chunks_across
    index //= s.chunks_across
    chunk.down = index % s.chunks_down
    index //= s.chunks_down
    chunk.depth = index % s.out_depth
    index //= s.out_depth
    chunk.channel = index % s.channels
    chunk.image = index // s.channels
    place(s, &chunk)
    return chunk


cdef inline void place(const PoolSizes* s, Chunk* chunk) noexcept nogil:
    chunk.row = chunk.down * s.chunk_rows
    chunk.column = chunk.across * s.chunk_columns
    chunk.rows = min(s.chunk_rows, s.out_rows - chunk.row)
    chunk.columns = min(s.chunk_columns, s.out_columns - chunk.column)


cdef inline void next_chunk(const PoolSizes* s, Chunk* chunk) noexcept nogil:
    """Counting up instead of dividing: five divisions take as long as a small plane."""
    chunk.across += 1
    if chunk.across == s.chunks_across:
        chunk.across = 0
        chunk.down += 1
    if chunk.down == s.chunks_down:
        chunk.down = 0
        chunk.depth += 1
    if chunk.depth == s.out_depth:
        chunk.depth = 0
        chunk.channel += 1
    if chunk.channel == s.channels:
        chunk.channel = 0
        chunk.image += 1
    place(s, chunk)
