"""Winograd convolution, fused per chunk of tiles: F(m, r) along each axis, `ops/winograd_forms.py` has the forms.

Decisions
---------
a. Six points 0, ±√½, ±√2, ∞ or eight points 0, ±½, ±1, ±2, ∞ on an axis, or one, which is no transform.  Of six, the
   textbook's 0, ±1, ±2, ∞ lose four times as much accuracy; the transforms cost the same.  Points alone decide what the
   transforms are, whatever they are divided into taps and outputs.
b. A chunk of tiles goes through all stages while it is in the second-level cache: input transform, a matrix product for
   each point, output transform.  Whole-image stages would carry 36 / 16 of the input and of the output through memory twice.
c. Lanes are channels in the input transform, which is the same for maps of any size, and turns its input in squares as
   the direct convolution turns its results.  Where there are few channels, lanes are tiles: one channel at a time is
   packed so that the same element of all tiles of a chunk lies side by side, row after row without a gap (below).
d. The products use the direct convolution's tile: tiles take the place of pixels, lanes are filters.  Filters that are
   needed next are fetched meanwhile, because with few tiles they come from memory no faster than they are used.
e. Scaling is kept in the filter transform, which is done once, in float64.
f. Images whose maps have few tiles share a chunk: each chunk reads all filters of its panels again.
g. A kernel with depth has the taps of its depth as further channels.  V is a ring of as many input planes, each with a
   tag that says which one it is, and neighbouring outputs in depth are neighbouring tasks: a plane is transformed once for
   all outputs that it belongs to.  Taps in the padding are left out, hence they come before the channels in U.
h. The last chunks are cut, so that threads end at the same time.  Where the second-level cache holds the filters, a part
   of the tiles goes through all stages.  Where it does not, parts of the filters share one transformed input: all threads
   make it before anything else, a piece of the channels at a time, and whole chunks in between leave nobody waiting.
i. A tile whose last row or column of outputs lies outside has no products at the point ∞ of that axis, which contributes
   to nothing else: a map of 7×7 takes 121 products, as tiles of 4 and 3 would, not 144.
j. With a dilation, the pixels of a tile are as far apart, and as many tiles interleave: neighbours in the order of tiles
   begin at neighbouring pixels.  Lanes are tiles.
k. With few filters to a group lanes are tiles all the way (`winograd_lanes.pxd`).
l. With a stride of 2, the taps 0 and 2 of an axis meet every second value, at ±½, ±5/4 and ∞ or at ±1 and ∞; tap 1 meets the
   others, which are their own transform, in plain products.  Lanes are channels.  Each plain product contributes to one
   output alone, and what holds for ∞ holds for it.
m. A kernel of other sizes is a sum over blocks of as many taps as a tile has outputs.  What a block reads is then the
   transformed input of a neighbouring tile: tiles are transformed once, V has those that a chunk's last tiles need beyond
   it, in rows of constant length, and blocks are further rows of V and U.  The products go row by row of tiles.
n. Transposed with a stride of 2, the four convolutions of every second row and column of the output are one, whose tiles have
   the points of all of them (`winograd_transposed.pxd`): results are neighbours, and the input is turned once.

    packed[column of the tile][row phase][row slot][tile across]    one channel of one image, phase = row % m
    V[point][slot of the ring][piece][block of LANES channels][tile][channel]   transformed input
    V[point][slot of the ring][piece][channel][tile]    the same where lanes are tiles; rows are written up to a register
                                                    too far: the next row mends it, a piece ends with room
    U[group][panel][point][depth tap][block][channel][F]   transformed filters
    M[point][tile][F]           products, of one panel; tiles of a point are those that have products there

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; points after Barabasz et al., Error
Analysis and Improving the Accuracy of Winograd Convolution, 2018.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.chunk cimport Chunk, ConvSizes, chunk_of
from fastconv._kernels.packing cimport real
from fastconv._kernels.tile cimport LANES, row_of_streamed_filters, taps_inside
from fastconv._kernels.winograd_channels cimport transform_lanes_by_form
from fastconv._kernels.winograd_filters cimport TransformSizes, transform_block
from fastconv._kernels.winograd_lanes cimport LEAST_LANES, winograd_of_lanes
from fastconv._kernels.winograd_outputs cimport store_tiles
from fastconv._kernels.winograd_tiles cimport transform_by_form
from fastconv._kernels.winograd_transforms cimport Used, WinogradSizes, first_pixel, used_tiles
from fastconv._kernels.winograd_transposed cimport transform_transposed

cdef extern from "atomics.h" nogil:
    Py_ssize_t fc_load(Py_ssize_t*)
    Py_ssize_t fc_add(Py_ssize_t*, Py_ssize_t)
    void fc_pause()
    void fc_yield()

cdef enum:
    # Of the scratch: for each slot of the ring, which plane of which chunk it holds.  Of the shared memory: how many of the
    # pieces are transformed.
    HEAD_BYTES = 64
    MAX_PANEL = 64
    SPINS = 2000        # before a waiting thread lets others run


cdef struct Task:
    int64_t shared                      # bool: V is where all threads find it
    int64_t first_chunk, last_chunk
    int64_t first_channel, last_channel     # to transform
    int64_t first_panel, last_panel
    int64_t band, bands                 # part of the chunks' tiles


cdef struct Place:
    Chunk chunk                         # with the first of its images
    int64_t images
    int64_t depth, turn, begin, end     # first input plane, slot of it, taps along the depth that lie inside


cdef inline Task task_at(const WinogradSizes* s, int64_t index) noexcept nogil:
    """Pieces of shared inputs come first, whole chunks follow, parts of cut chunks are last."""
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t panels = (c.filters + c.panel - 1) // c.panel
    cdef int64_t transforms = s.cut_chunks * s.pieces
    cdef int64_t others = index - transforms - (s.whole_chunks + s.task_chunks - 1) // s.task_chunks
    cdef Task task
    task.shared = index < transforms or others >= 0 and s.pieces > 0
    task.first_channel, task.last_channel = 0, 0 if task.shared else c.channels
    task.first_panel, task.last_panel = 0, 0 if task.shared else panels
    task.band, task.bands = 0, 1
    if index < transforms:
        task.first_chunk = s.whole_chunks + index // s.pieces
        task.first_channel = index % s.pieces * s.piece_channels
        task.last_channel = min(task.first_channel + s.piece_channels, c.channels)
    elif others < 0:
        task.first_chunk = (index - transforms) * s.task_chunks
        task.last_chunk = min(task.first_chunk + s.task_chunks, s.whole_chunks)
        return task
    elif s.pieces == 0:
        task.first_chunk = s.whole_chunks + others % s.cut_chunks
        task.band, task.bands = others // s.cut_chunks, s.bands
    else:
        if others >= s.whole_panels:
            task.band, task.bands = (others - s.whole_panels) % s.bands, s.bands
            others = s.whole_panels + (others - s.whole_panels) // s.bands
        task.first_chunk = s.whole_chunks + others // panels
        task.first_panel = others % panels
        task.last_panel = task.first_panel + 1
    task.last_chunk = task.first_chunk + 1
    return task


cdef inline Place place_of(const WinogradSizes* s, int64_t index) noexcept nogil:
    """A chunk; neighbouring indices are neighbours in depth."""
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t depth = index % c.out_depth, place = index // c.out_depth, places = c.chunks_down * c.chunks_across
    cdef Place at
    at.chunk = chunk_of(c, (place // places * c.out_depth + depth) * places + place % places)
    at.chunk.image *= s.chunk_images
    at.images = min(s.chunk_images, s.images - at.chunk.image)
    at.depth = depth * c.stride_depth - c.pad_depth
    at.turn = depth * c.stride_depth // c.dilation_depth     # a plane has the same slot for every output
    taps_inside(at.depth, at.depth, c.kernel_depth, c.dilation_depth, c.in_depth, &at.begin, &at.end)
    return at


cdef inline int64_t take_band(
    const WinogradSizes* s, int64_t band, int64_t bands, Place* at
) noexcept nogil:
    """Leave a part of the images, of the columns or of the rows of tiles; it may be empty.  How many come before it."""
    cdef Chunk* chunk = &at.chunk
    cdef int64_t lines = chunk.columns if s.bands_across else chunk.rows
    cdef int64_t first
    if s.chunk_images > 1:
        lines = at.images
    first = band * lines // bands
    lines = (band + 1) * lines // bands - first
    if s.chunk_images > 1:
        at.chunk.image += first
        at.images = lines
    elif s.bands_across:
        chunk.column += first
        chunk.columns = lines
    else:
        chunk.row += first
        chunk.rows = lines
    return first


cdef inline void transform_planes(
    const WinogradSizes* s, const Place* at, const real* x, const int64_t* rows, const Task* task,
    int64_t* tags, int64_t tag, real* packed, real* transformed,
) noexcept nogil:
    """Some channels of the planes that a chunk needs; a thread's own V has tags that say which are there."""
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t tap, plane, slot
    cdef Chunk chunk = at.chunk
    if s.blocks > 1:
        chunk.rows += s.more_rows
        chunk.columns = c.chunk_columns + s.more_columns
    x += at.chunk.image * c.x_image + at.chunk.group * c.channels * c.x_channel
    for tap in range(at.begin, at.end):
        plane, slot = at.depth + tap * c.dilation_depth, (at.turn + tap) % c.kernel_depth
        if not task.shared:
            if tags[slot] == tag + plane:
                continue
            tags[slot] = tag + plane
        if s.transposed:
            transform_transposed(
                s, &at.chunk, at.images, task.first_channel, task.last_channel, x + plane * c.x_depth,
                rows + slot * c.channels, packed, transformed,
            )
        elif s.channel_lanes:
            transform_lanes_by_form(
                s, &chunk, at.images, task.first_channel, task.last_channel, x + plane * c.x_depth,
                rows + slot * c.channels, packed, transformed,
            )
        else:
            transform_by_form(
                s, &chunk, at.images, task.first_channel, task.last_channel, x + plane * c.x_depth,
                rows + slot * s.blocks * c.channels, packed, transformed,
            )


cdef inline void multiply_panel(
    const WinogradSizes* s, void* const* arrays, const Place* at, int64_t before, int64_t panel, const real* transformed,
    real* packed,
) noexcept nogil:
    """Products and results of one panel of filters; V starts with `before` images, columns or rows of tiles of others."""
    cdef const ConvSizes* c = &s.chunks
    cdef int64_t panels = (c.filters + c.panel - 1) // c.panel, filter = panel * c.panel
    cdef int64_t group_filters = (panels - 1) * c.panel + c.last_panel
    cdef int64_t width = c.panel if panel < panels - 1 else c.last_panel
    cdef int64_t apart = LANES if s.channel_lanes else 1
    cdef int64_t tap_rows = s.blocks * c.channels, point_rows = c.kernel_depth * tap_rows     # of U
    cdef int64_t pitch = c.chunk_columns + s.more_columns       # of rows of tiles, with blocks
    cdef int64_t points = s.points_down * s.points_across
    cdef int64_t point, image, start, tiles_down, tiles_across, step, run, runs, apart_images
    cdef Used used = used_tiles(s, &at.chunk)
    cdef const int64_t* rows = <const int64_t*> arrays[4 + c.has_residual]
    cdef const real* w = <const real*> arrays[2] + (at.chunk.group * group_filters + filter) * points * point_rows
    cdef real* products = packed + s.m_scratch
    cdef real zeros[MAX_PANEL]
    memset(zeros, 0, sizeof(zeros))
    rows += (at.turn + at.begin) % c.kernel_depth * tap_rows
    w += at.begin * tap_rows * width
    for point in range(points):
        tiles_down = at.chunk.rows if point // s.points_across < used.down else used.rows
        tiles_across = at.chunk.columns if point % s.points_across < used.across else used.columns
        if tiles_down * tiles_across == 0:
            continue
        if s.blocks > 1:
            apart_images = (tiles_down + s.more_rows) * pitch
            step = apart_images if s.chunk_images > 1 else 1 if s.bands_across else pitch
            runs = at.images * tiles_down
        else:
            apart_images = 0
            step = tiles_down * tiles_across if s.chunk_images > 1 else 1 if s.bands_across else tiles_across
            tiles_across *= at.images * tiles_down
            runs = 1
        for run in range(runs):
            row_of_streamed_filters(
                tiles_across, width,
                transformed + point * s.v_plane
                + (before * step + run // tiles_down * apart_images + run % tiles_down * pitch) * apart,
                apart, rows, (at.end - at.begin) * tap_rows, w + point * point_rows * width, zeros,
                products + (point * s.chunk_tiles + run * tiles_across) * width, w + (point + 1) * point_rows * width,
            )
    for image in range(at.images):
        start = (
            (at.chunk.image + image) * c.y_image + (at.chunk.group * c.filters + filter) * c.y_channel
            + at.chunk.depth * c.y_depth + first_pixel(s.tile_rows, s.spread_rows, at.chunk.row) * s.y_row
            + at.chunk.column * s.tile_columns * c.y_column
        )
        store_tiles(
            s, &at.chunk, image, products, width,
            <const real*> arrays[3] + at.chunk.group * group_filters + filter, min(c.panel, c.filters - filter),
            packed + c.panel_scratch, <real*> arrays[0] + start,
            (<const real*> arrays[4] if c.has_residual else <const real*> arrays[0]) + start,
        )


cdef inline void winograd_tasks(
    const WinogradSizes* s, void* const* arrays, int64_t first, int64_t last, char* scratch
) noexcept nogil:
    cdef const ConvSizes* c = &s.chunks
    cdef Py_ssize_t* done = <Py_ssize_t*> arrays[5 + c.has_residual]
    cdef real* packed = <real*> (scratch + HEAD_BYTES)
    cdef real* transformed
    cdef int64_t index, chunk, part, panel, before
    cdef Task task
    cdef Place at
    for index in range(first, last):
        task = task_at(s, index)
        if task.shared and task.first_panel < task.last_panel:
            wait_for(done, s.cut_chunks * s.pieces)
        for chunk in range(task.first_chunk, task.last_chunk):
            at = place_of(s, chunk)
            before = take_band(s, task.band, task.bands, &at) if task.bands > 1 else 0
            if at.images * at.chunk.rows * at.chunk.columns == 0:
                continue
            part = task.band + 1 if task.bands > 1 else 0       # 0: the whole, which lies in V in another way
            transformed = packed + s.v_scratch
            if task.shared:
                transformed = <real*> (<char*> done + HEAD_BYTES) + (chunk - s.whole_chunks) * s.v_chunk
            if task.first_channel < task.last_channel:
                transform_planes(
                    s, &at, <const real*> arrays[1], <const int64_t*> arrays[4 + c.has_residual], &task,
                    <int64_t*> scratch, (chunk // c.out_depth * (s.bands + 1) + part) * c.in_depth + 1, packed, transformed,
                )
            for panel in range(task.first_panel, task.last_panel):
                multiply_panel(s, arrays, &at, before if task.shared else 0, panel, transformed, packed)
        if index < s.cut_chunks * s.pieces:
            fc_add(done, 1)


cdef inline void wait_for(Py_ssize_t* done, int64_t pieces) noexcept nogil:
    """Tasks are taken in their order: a thread has every piece that is missing in hand."""
    cdef int64_t spins = 0
    while fc_load(done) < pieces:
        spins += 1
        if spins < SPINS:
            fc_pause()
        else:
            fc_yield()


cdef void winograd(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, transformed filters, bias padded to panels, [residual,] offset of each row of V, all twice, [shared V]."""
    winograd_tasks(<const WinogradSizes*> sizes, arrays, first, last, scratch)


cdef void winograd_lanes(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: y, x, transformed filters, bias padded to panels[, residual]."""
    if LANES >= LEAST_LANES:    # for fewer it is never chosen
        winograd_of_lanes(<const ConvSizes*> sizes, arrays, first, last, <real*> scratch)


cdef void transform_filters(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil:
    """arrays: U, w[filter][channel][row][column], G[point][tap] of rows and of columns in float64.

    A task is LANES channels of one panel.
    """
    cdef Py_ssize_t task
    for task in range(first, last):
        transform_block(
            <const TransformSizes*> sizes, task, <const real*> arrays[1], <const double*> arrays[2],
            <const double*> arrays[3], <real*> arrays[0], <real*> scratch,
        )


def winograd_sizes(dict fields):
    cdef WinogradSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def conv_sizes(dict fields):
    cdef ConvSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


def transform_sizes(dict fields):
    cdef TransformSizes sizes = fields
    return PyBytes_FromStringAndSize(<const char*> &sizes, sizeof(sizes))


KERNELS = {
    "winograd": (PyCapsule_New(<void*> winograd, b"fastconv kernel", NULL), winograd_sizes),
    "winograd_lanes": (PyCapsule_New(<void*> winograd_lanes, b"fastconv kernel", NULL), conv_sizes),
    "transform_filters": (PyCapsule_New(<void*> transform_filters, b"fastconv kernel", NULL), transform_sizes),
}
