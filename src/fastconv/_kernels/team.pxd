"""The one signature that every kernel has, and what other modules ask the team."""

# sizes    a struct of int64 fields, the kernel family's own
# arrays   outputs, then inputs, then constants: element pointers
# first, last   the range of tasks to do; how they are shared changes no bit.  Threads take them in their order, so a task
#          may wait for what an earlier one prepares, and for no later one
# scratch  this thread's own buffer, 64-byte aligned; its first 64 bytes are zero when a job starts and persist between
#          the ranges that one thread is given, so a kernel may remember there what it has prepared
ctypedef void (*kernel_function)(
    const void* sizes, void* const* arrays, Py_ssize_t first, Py_ssize_t last, char* scratch
) noexcept nogil

cdef enum:
    MAX_THREADS = 256
    ALIGNMENT = 64

cdef struct Job:
    kernel_function function
    const void* sizes
    void** arrays
    Py_ssize_t tasks
    Py_ssize_t grain
    Py_ssize_t threads
    char* scratch
    Py_ssize_t scratch_stride   # bytes of a thread
    Py_ssize_t shared      # bytes before the scratch, whose address is the last of `arrays`
    Py_ssize_t shared_slot

cdef Py_ssize_t threads_of_calls() noexcept nogil
cdef bint run_job(Job* job) noexcept nogil
cdef Py_ssize_t scratch_stride(Py_ssize_t scratch) noexcept nogil
