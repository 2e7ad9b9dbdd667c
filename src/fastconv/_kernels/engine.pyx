"""Runs kernels: a team of threads, and steps bound to their sizes.

Decisions
---------
a. A team of our own instead of OpenMP: libgomp's child hangs after a fork, every library brings its own pool, and its
   threads either spin when idle or wake slowly.  Here idle threads sleep, a forked child starts anew, and one number
   rules.
b. Threads take ranges of tasks from a shared counter, so a core that is slowed by a neighbour delays nobody.  Tasks never
   share an output element: the bits do not depend on who does what.  They are taken in their order, hence one may wait
   for memory that earlier ones fill for all.
c. One job at a time uses the team.  A second Python thread that comes meanwhile computes alone: it neither waits nor
   oversubscribes the cores.
d. The number of threads belongs to a call.  A thread of Python may have a limit of its own, so that sessions with
   different numbers run at the same time without knowing of each other.
e. A worker joins a job only while it is open, and the caller closes it when no task is left: a call never waits for a
   thread that has not woken up yet.
f. A worker is kept off the processor that its caller is on (Linux).  The system may wake it up there, behind a caller
   that does not wait, and leave the other processor idle for whole jobs: beside other processes, layers of 0.45 ms
   on two threads were seen to take 0.9.
g. A program looks for signals between its steps once it has run for a tenth of a second: Ctrl-C does not wait for the
   end of a long run, and short runs pay a few nanoseconds a step for reading a coarse clock.
h. The pointers of plain arrays are read from their heads (array_memory.pyx); everything else comes through the buffer
   protocol.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from fastconv._kernels.array_memory cimport FC_ARRAY_WRITEABLE, fc_array_head, head_of

from _thread import allocate_lock

cdef extern from "team.h" nogil:
    ctypedef struct fc_mutex:
        pass
    ctypedef struct fc_condition:
        pass
    const bint FC_THREADS
    bint fc_trylock(fc_mutex*)
    void fc_lock(fc_mutex*)
    void fc_unlock(fc_mutex*)
    void fc_wait(fc_condition*, fc_mutex*)
    void fc_wake_all(fc_condition*)
    bint fc_start_thread(void (*)(void*) noexcept nogil, void*)
    ctypedef struct fc_worker:
        pass
    int fc_processor()
    void fc_adopt(fc_worker*)
    void fc_keep_off(fc_worker*, int)
    void fc_on_fork_in_child(void (*)() noexcept nogil)
    void fc_pause()
    void fc_yield()
    Py_ssize_t fc_load(Py_ssize_t*)
    void fc_store(Py_ssize_t*, Py_ssize_t)
    Py_ssize_t fc_add(Py_ssize_t*, Py_ssize_t)  # returns the value before
    void fc_reset(fc_mutex*, fc_condition*)
    int64_t fc_milliseconds()
    Py_ssize_t fc_own_threads

cdef enum:
    MAX_THREADS = 256
    MAX_ARRAYS = 12
    ALIGNMENT = 64
    IDLE_SPINS = 2000    # about 20 µs of looking for the next job before a worker sleeps
    RANGES_PER_THREAD = 4
    SIGNAL_CHECK = 100   # milliseconds

cdef struct Job:
    kernel_function function
    const void* sizes
    void** arrays
    Py_ssize_t tasks
    Py_ssize_t grain
    Py_ssize_t threads
    char* scratch
    Py_ssize_t scratch_stride
    Py_ssize_t shared      # bytes before the scratch, whose address is the last of `arrays`
    Py_ssize_t shared_slot

cdef struct Team:
    fc_mutex owner         # held by the caller whose job it is
    fc_mutex sleep
    fc_condition wake
    Py_ssize_t workers     # started so far
    Py_ssize_t known       # of them, those that have told what they are
    fc_worker worker[MAX_THREADS]  # by thread
    int processor          # that workers keep off
    Py_ssize_t sleeping
    Py_ssize_t jobs        # counts jobs; a change is what workers look for
    Py_ssize_t open
    Py_ssize_t active      # workers inside the job, or looking whether it is open
    Py_ssize_t next        # first task nobody has taken
    Job job
    char* scratch          # of `capacity` bytes, for the job in hand
    Py_ssize_t capacity

cdef Team team
team.processor = -1
cdef Py_ssize_t team_threads = 1


cdef Py_ssize_t threads_of_calls() noexcept nogil:
    return fc_own_threads if fc_own_threads else team_threads


cdef void take_tasks(Job* job, Py_ssize_t thread) noexcept nogil:
    cdef Py_ssize_t first, last
    cdef char* scratch = job.scratch + thread * job.scratch_stride
    memset(scratch, 0, ALIGNMENT)
    while True:
        first = fc_add(&team.next, job.grain)
        if first >= job.tasks:
            return
        last = min(first + job.grain, job.tasks)
        job.function(job.sizes, job.arrays, first, last, scratch)


cdef void work(void* index) noexcept nogil:
    cdef Py_ssize_t thread = <Py_ssize_t> index
    cdef Py_ssize_t seen = 0
    cdef Py_ssize_t spins
    fc_adopt(&team.worker[thread])
    fc_add(&team.known, 1)
    while True:
        spins = 0
        while fc_load(&team.jobs) == seen:
            spins += 1
            if spins < IDLE_SPINS:
                fc_pause()
                continue
            fc_lock(&team.sleep)
            team.sleeping += 1
            while fc_load(&team.jobs) == seen:
                fc_wait(&team.wake, &team.sleep)
            team.sleeping -= 1
            fc_unlock(&team.sleep)
        seen = fc_load(&team.jobs)
        fc_add(&team.active, 1)
        if fc_load(&team.open) and thread < team.job.threads:
            take_tasks(&team.job, thread)
        fc_add(&team.active, -1)


cdef void forget_threads() noexcept nogil:
    """In a forked child only the calling thread exists, and locks may be held by threads that do not.

    The scratch is left alone: one of them may have been about to exchange it.
    """
    fc_reset(&team.owner, NULL)
    fc_reset(&team.sleep, &team.wake)
    team.workers = team.known = team.sleeping = team.active = team.open = 0
    team.processor = -1
    team.scratch, team.capacity = NULL, 0


cdef bint reserve_scratch(Py_ssize_t size) noexcept nogil:
    if size > team.capacity:
        free(team.scratch)
        team.scratch = <char*> malloc(size + ALIGNMENT)
        team.capacity = size if team.scratch != NULL else 0
    return team.scratch != NULL


cdef char* aligned(char* memory) noexcept nogil:
    return <char*> ((<uintptr_t> memory + ALIGNMENT - 1) & ~<uintptr_t> (ALIGNMENT - 1))


cdef void keep_workers_off(int processor) noexcept nogil:
    """The caller is on `processor`: a worker that woke up there would wait for the end of the job it shall share."""
    cdef Py_ssize_t thread
    if processor == team.processor or fc_load(&team.known) < team.workers:
        return
    for thread in range(1, team.workers + 1):
        fc_keep_off(&team.worker[thread], processor)
    team.processor = processor


cdef void run_in_team(Job* job) noexcept nogil:
    """The caller owns the team."""
    while team.workers < job.threads - 1:
        if not fc_start_thread(work, <void*> (team.workers + 1)):
            break
        team.workers += 1
        team.processor = -1
    keep_workers_off(fc_processor())
    team.job = job[0]
    fc_store(&team.next, 0)
    fc_store(&team.open, 1)
    fc_add(&team.jobs, 1)
    fc_lock(&team.sleep)
    if team.sleeping:
        fc_wake_all(&team.wake)
    fc_unlock(&team.sleep)
    take_tasks(&team.job, 0)
    fc_store(&team.open, 0)
    cdef Py_ssize_t spins = 0
    while fc_load(&team.active):
        spins += 1
        if spins < IDLE_SPINS:
            fc_pause()
        else:
            fc_yield()


cdef bint run_alone(Job* job, char* scratch) noexcept nogil:
    memset(scratch, 0, ALIGNMENT)
    job.function(job.sizes, job.arrays, 0, job.tasks, scratch)
    return True


cdef Py_ssize_t scratch_stride(Py_ssize_t scratch) noexcept nogil:
    """From one thread's part to the next: whole lines of the cache, and room for the first 64 bytes that every job has."""
    return (scratch + 2 * ALIGNMENT - 1) & ~<Py_ssize_t> (ALIGNMENT - 1)


cdef void place_scratch(Job* job, char* memory) noexcept nogil:
    job.scratch = aligned(memory)
    if job.shared:
        memset(job.scratch, 0, ALIGNMENT)
        job.arrays[job.shared_slot] = job.scratch
        job.scratch += job.shared


cdef bint run_job(Job* job) noexcept nogil:
    """False where memory for the scratch is missing; nothing has been computed then."""
    cdef char* memory
    if job.tasks <= 0:
        return True
    job.threads = max(1, min(job.threads, job.tasks))
    job.scratch_stride = scratch_stride(job.scratch_stride)
    if fc_trylock(&team.owner):
        if not reserve_scratch(job.shared + job.scratch_stride * job.threads):
            fc_unlock(&team.owner)
            return False
        place_scratch(job, team.scratch)
        if job.grain == 0:
            job.grain = max(1, job.tasks // (job.threads * RANGES_PER_THREAD))
        if job.threads > 1:
            run_in_team(job)
        else:
            run_alone(job, job.scratch)
        fc_unlock(&team.owner)
        return True
    memory = <char*> malloc(job.shared + job.scratch_stride + ALIGNMENT)
    if memory == NULL:
        return False
    place_scratch(job, memory)
    run_alone(job, job.scratch)
    free(memory)
    return True


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


cdef Py_ssize_t possible_threads(Py_ssize_t threads):
    return max(1, min(threads, MAX_THREADS)) if FC_THREADS else 1


def set_threads(Py_ssize_t threads):
    """Let jobs use `threads` threads, the calling one included."""
    global team_threads
    team_threads = possible_threads(threads)


def get_threads():
    """The threads that a call from this thread may use."""
    return threads_of_calls()


def process_threads():
    """The threads of calls from those threads that have no limit of their own."""
    return team_threads


def limit_threads(Py_ssize_t threads):
    """Let the calls of this thread use `threads` threads, or as many as others for 0; the limit that held before."""
    global fc_own_threads
    before = fc_own_threads
    fc_own_threads = possible_threads(threads) if threads else 0
    return before


def record_bytes():
    """Bytes of a step in a program."""
    return sizeof(Job) + MAX_ARRAYS * sizeof(void*)


def scratch_bytes(Step step, Py_ssize_t threads):
    """Bytes allocated for a step where calls may use `threads` threads."""
    return step.shared + scratch_stride(step.scratch) * max(1, min(threads, step.threads, step.tasks)) + ALIGNMENT


def scratch_held():
    """Bytes of the scratch that the team keeps for its next job."""
    return team.capacity + ALIGNMENT if team.scratch != NULL else 0


fc_on_fork_in_child(forget_threads)
