"""What a layer remembers of its last call.

A call of a small layer is shorter than the search for its plan: shapes, strides and types are compared in the heads of
the arrays (array_memory.pxd), without an object made for any of them.
"""

from cpython.object cimport PyObject
from libc.string cimport memcpy

from fastconv._kernels.array_memory cimport FC_ARRAY_ALIGNED, fc_array_head, head_of
from fastconv._kernels.engine cimport threads_of_calls

cdef enum:
    MAX_AXES = 5
    NO_ARRAY = -1

cdef Py_ssize_t plans_forgotten = 0


cdef class Recent:
    """A layer's last plan, found again without a look at the plan cache by calls of the same form.

    Parameters
    ----------
    plan : object
        The answer of :meth:`find`.
    arrays : tuple of arrays and None
        Up to three, whose shapes, strides and element types are remembered; the arrays are not kept alive.
    facts : tuple
        What else the plan depends on, compared by identity; with something unhashable, which may change, nothing is found.
    """

    cdef object plan
    cdef tuple facts, dtypes
    cdef Py_ssize_t threads, forgotten
    cdef int axes[3]
    cdef Py_ssize_t shape[3][MAX_AXES]
    cdef Py_ssize_t strides[3][MAX_AXES]

    def __cinit__(self, plan=None, tuple arrays=(), tuple facts=()):
        cdef fc_array_head* head
        cdef Py_ssize_t size
        cdef int i
        self.axes[0] = self.axes[1] = self.axes[2] = NO_ARRAY
        self.plan, self.facts, self.forgotten = plan, facts, plans_forgotten
        self.dtypes = tuple([None if array is None else array.dtype for array in arrays])
        for i, array in enumerate(arrays):
            if array is None:
                continue
            head = head_of(array)
            if head == NULL or head.axes > MAX_AXES or not head.flags & FC_ARRAY_ALIGNED:
                return
            self.axes[i] = head.axes
            size = head.axes * sizeof(Py_ssize_t)
            memcpy(self.shape[i], head.shape, size)
            memcpy(self.strides[i], head.strides, size)
        try:
            hash(facts)
        except TypeError:
            return
        self.threads = 0 if plan is None else threads_of_calls()

    def __reduce__(self):
        return Recent, ()

    def find(self, x, w, b, tuple facts):
        """The plan, or None where an array has another form, a fact or the number of threads is another."""
        cdef Py_ssize_t i
        if self.threads != threads_of_calls() or self.forgotten != plans_forgotten:
            return None
        if not (self.has_form(0, x) and self.has_form(1, w) and self.has_form(2, b)):
            return None
        if len(facts) != len(self.facts):
            return None
        for i in range(len(facts)):
            if facts[i] is not self.facts[i]:
                return None
        return self.plan

    cdef bint has_form(self, int i, array):
        cdef fc_array_head* head
        cdef int axis
        if array is None:
            return self.axes[i] == NO_ARRAY
        head = head_of(array)
        if head == NULL or head.axes != self.axes[i] or head.dtype != <PyObject*> self.dtypes[i]:
            return False
        if not head.flags & FC_ARRAY_ALIGNED:
            return False
        for axis in range(head.axes):
            if head.shape[axis] != self.shape[i][axis] or head.strides[axis] != self.strides[i][axis]:
                return False
        return True


def forget_recent():
    """Let no :class:`Recent` made so far find its plan."""
    global plans_forgotten
    plans_forgotten += 1
