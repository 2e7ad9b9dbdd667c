"""A team of threads that shares the tasks of one job at a time.

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
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from "team.h" nogil:
    ctypedef struct fc_mutex:
        pass
    ctypedef struct fc_condition:
        pass
    ctypedef struct fc_worker:
        pass
    const bint FC_THREADS
    bint fc_trylock(fc_mutex*)
    void fc_lock(fc_mutex*)
    void fc_unlock(fc_mutex*)
    void fc_wait(fc_condition*, fc_mutex*)
    void fc_wake_all(fc_condition*)
    bint fc_start_thread(void (*)(void*) noexcept nogil, void*)
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
    Py_ssize_t fc_own_threads

cdef enum:
    IDLE_SPINS = 2000    # about 20 µs of looking for the next job before a worker sleeps
    RANGES_PER_THREAD = 4

cdef struct Team:
    fc_mutex owner         # held by the caller whose job it is
    fc_mutex sleep
    fc_condition wake
    Py_ssize_t workers     # started so far
    Py_ssize_t known       # of them, those that have told what they are
    int processor          # that workers keep off
    Py_ssize_t sleeping
    Py_ssize_t jobs        # counts jobs; a change is what workers look for
    Py_ssize_t open
    Py_ssize_t active      # workers inside the job, or looking whether it is open
    Py_ssize_t next        # first task nobody has taken
    Job job
    char* scratch          # of `capacity` bytes, for the job in hand
    Py_ssize_t capacity
    fc_worker worker[MAX_THREADS]  # by thread

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


def scratch_held():
    """Bytes of the scratch that the team keeps for its next job."""
    return team.capacity + ALIGNMENT if team.scratch != NULL else 0


fc_on_fork_in_child(forget_threads)
