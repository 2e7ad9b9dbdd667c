"""Runs kernels: steps bound to their sizes, and programs of steps.

Decisions
---------
a. A program looks for signals between its steps once it has run for a tenth of a second: Ctrl-C does not wait for the
   end of a long run, and short runs pay a few nanoseconds a step for reading a coarse clock.
b. The pointers of plain arrays are read from their heads (array_memory.pyx); everything else comes through the buffer
   protocol.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastconv._kernels.array_memory cimport FC_ARRAY_WRITEABLE, fc_array_head, head_of
from fastconv._kernels.team cimport (
    ALIGNMENT, MAX_THREADS, Job, kernel_function, run_job, scratch_stride, threads_of_calls,
)

from _thread import allocate_lock

cdef extern from "clock.h" nogil:
    int64_t fc_milliseconds()

cdef enum:
    MAX_ARRAYS = 12
    SIGNAL_CHECK = 100   # milliseconds


cdef class Step:
    """A kernel bound to its sizes and constants, ready to run on arrays: no decision is left.

    Parameters
    ----------
    kernel : (capsule, function)
        Entry of a kernel module's ``KERNELS``: the compiled function, and what turns a dict into its sizes.
    sizes : dict
        Every field of the kernel's sizes.
    outputs, inputs : int
        How many arrays a call brings; outputs come first and are written.
    constants : sequence of contiguous arrays
        Packed weights and tables, held as long as the step lives.
    tasks : int
        Independent pieces of work.
    scratch : int
        Bytes that each thread needs.
    shared : int
        Bytes that all threads share, where more than none: they follow the constants, and the first 64 are zero at first.
    grain : int
        Tasks that a thread takes at a time, in their order; 0 for a quarter of an equal share.
    threads : int
        The most that are worth waking.
    """

    cdef kernel_function function
    cdef object capsule
    cdef bytes sizes
    cdef readonly tuple constants
    cdef void* pointers[MAX_ARRAYS]
    cdef Py_ssize_t outputs, arrays
    cdef readonly Py_ssize_t tasks, scratch, shared, grain, threads

    def __cinit__(
        self, kernel, dict sizes, *, outputs=1, inputs=1, constants=(), tasks, scratch=0, shared=0, grain=0,
        threads=MAX_THREADS,
    ):
        cdef Py_buffer view
        self.capsule, as_struct = kernel
        self.function = <kernel_function> PyCapsule_GetPointer(self.capsule, b"fastconv kernel")
        self.sizes = as_struct(sizes)
        self.constants = tuple(constants)
        self.outputs, self.arrays = outputs, outputs + inputs
        self.tasks, self.scratch, self.threads = tasks, scratch, min(threads, MAX_THREADS)
        self.shared, self.grain = -(-shared // ALIGNMENT) * ALIGNMENT, grain
        if self.arrays + len(self.constants) + (shared > 0) > MAX_ARRAYS:
            raise ValueError(f"a step takes at most {MAX_ARRAYS} arrays")
        for i, constant in enumerate(self.constants, self.arrays):
            PyObject_GetBuffer(constant, &view, PyBUF_STRIDES)
            self.pointers[i] = view.buf
            PyBuffer_Release(&view)

    cdef Job job(self, void** pointers) noexcept:
        """On arrays, and constants, whose addresses are in `pointers`."""
        cdef Job job
        job.function = self.function
        job.sizes = <const void*> PyBytes_AS_STRING(self.sizes)
        job.arrays = pointers
        job.tasks, job.grain, job.threads = self.tasks, self.grain, self.threads
        job.scratch, job.scratch_stride = NULL, self.scratch
        job.shared, job.shared_slot = self.shared, self.arrays + <Py_ssize_t> len(self.constants)
        return job

    def __call__(self, *arrays):
        """Run on `arrays` (outputs, then inputs), whose shapes and strides are those the sizes were made for."""
        cdef Job job
        cdef void* pointers[MAX_ARRAYS]
        cdef Py_buffer views[MAX_ARRAYS]
        cdef fc_array_head* head
        cdef Py_ssize_t i, taken = 0
        cdef bint done
        if len(arrays) != self.arrays:
            raise TypeError(f"expected {self.arrays} arrays, got {len(arrays)}")
        memcpy(pointers, self.pointers, sizeof(pointers))
        try:
            for i in range(self.arrays):
                head = head_of(arrays[i])
                if head != NULL and (i >= self.outputs or head.flags & FC_ARRAY_WRITEABLE):
                    pointers[i] = head.data
                    continue
                PyObject_GetBuffer(
                    arrays[i], &views[taken], PyBUF_STRIDES | (PyBUF_WRITABLE if i < self.outputs else 0)
                )
                pointers[i] = views[taken].buf
                taken += 1
            job = self.job(pointers)
            job.threads = min(threads_of_calls(), job.threads)
            with nogil:
                done = run_job(&job)
        finally:
            while taken:
                taken -= 1
                PyBuffer_Release(&views[taken])
        if not done:
            raise MemoryError(f"no memory for {self.scratch} bytes of scratch per thread and {self.shared} for all")


cdef class Program:
    """Steps on arrays that stay where they are, run one after the other in a single call without the GIL.

    Parameters
    ----------
    calls : sequence of (Step, arrays)
        The arrays of a step as its call takes them.  In the place of an array, a name stands for one that each run
        brings, and (name, bytes) for what lies so far behind the start of that one.
    """

    cdef Job* jobs
    cdef void** pointers            # MAX_ARRAYS for each job
    cdef Py_ssize_t count, scratch
    cdef list held, places
    cdef tuple names
    cdef object running

    def __cinit__(self, calls):
        cdef Step step
        cdef Py_buffer view
        cdef Py_ssize_t i, slot
        self.count = len(calls)
        self.jobs = <Job*> calloc(max(self.count, 1), sizeof(Job))
        self.pointers = <void**> calloc(max(self.count, 1) * MAX_ARRAYS, sizeof(void*))
        if self.jobs == NULL or self.pointers == NULL:
            raise MemoryError(f"no memory for a program of {self.count} steps")
        self.held, self.places, names = [], [], {}
        for i, (call, arrays) in enumerate(calls):
            step = call
            if len(arrays) != step.arrays:
                raise TypeError(f"step {i}: expected {step.arrays} arrays, got {len(arrays)}")
            memcpy(&self.pointers[i * MAX_ARRAYS], step.pointers, sizeof(step.pointers))
            for slot, array in enumerate(arrays):
                if isinstance(array, (str, tuple)):
                    name, start = (array, 0) if isinstance(array, str) else array
                    name = names.setdefault(name, len(names))
                    self.places.append((i * MAX_ARRAYS + slot, name, start, slot < step.outputs))
                    continue
                PyObject_GetBuffer(array, &view, PyBUF_STRIDES | (PyBUF_WRITABLE if slot < step.outputs else 0))
                self.pointers[i * MAX_ARRAYS + slot] = view.buf
                PyBuffer_Release(&view)
            self.jobs[i] = step.job(&self.pointers[i * MAX_ARRAYS])
            self.scratch = max(self.scratch, step.scratch)
            self.held.append((step, arrays))
        self.names = tuple(names)
        self.running = allocate_lock()

    def __dealloc__(self):
        free(self.jobs)
        free(self.pointers)

    def __call__(self, dict arrays):
        """Run with `arrays` for the names: their shapes and strides are those the steps were planned for.

        Python's signal handlers may run in between, and what they raise, KeyboardInterrupt say, ends the run.
        """
        cdef Py_buffer view
        cdef fc_array_head* head
        cdef Job job
        cdef Py_ssize_t i, place, start, most = threads_of_calls()
        cdef int64_t next_check
        cdef bint done = True
        views = [arrays[name] for name in self.names]
        with self.running:
            for place, name, start, written in self.places:
                head = head_of(views[name])
                if head != NULL and (not written or head.flags & FC_ARRAY_WRITEABLE):
                    self.pointers[place] = head.data + start
                    continue
                PyObject_GetBuffer(views[name], &view, PyBUF_STRIDES | (PyBUF_WRITABLE if written else 0))
                self.pointers[place] = <char*> view.buf + start
                PyBuffer_Release(&view)
            with nogil:
                next_check = fc_milliseconds() + SIGNAL_CHECK
                for i in range(self.count):
                    if fc_milliseconds() > next_check:
                        with gil:
                            PyErr_CheckSignals()
                        next_check = fc_milliseconds() + SIGNAL_CHECK
                    job = self.jobs[i]
                    job.threads = min(job.threads, most)
                    done = run_job(&job)
                    if not done:
                        break
        if not done:
            raise MemoryError(f"no memory for {self.scratch} bytes of scratch per thread")


def record_bytes():
    """Bytes of a step in a program."""
    return sizeof(Job) + MAX_ARRAYS * sizeof(void*)


def scratch_bytes(Step step, Py_ssize_t threads):
    """Bytes allocated for a step where calls may use `threads` threads."""
    return step.shared + scratch_stride(step.scratch) * max(1, min(threads, step.threads, step.tasks)) + ALIGNMENT
