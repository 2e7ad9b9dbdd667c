"""What a layer or a session remembers of its last call.

A call of a small layer is shorter than the search for its plan: shapes, strides and types are compared in the heads of
the arrays (array_memory.pxd), without an object made for any of them.
"""

from cpython.object cimport PyObject
from libc.string cimport memcpy

import numpy as np

from fastconv._kernels.array_memory cimport FC_ARRAY_ALIGNED, fc_array_head, head_of
from fastconv._kernels.team cimport threads_of_calls

from fastconv._kernels.team import limit_threads

cdef enum:
    MAX_AXES = 5
    MAX_FEEDS = 4
    NO_ARRAY = -1

cdef struct Form:
    int axes            # or NO_ARRAY
    PyObject* dtype     # which somebody else keeps alive
    Py_ssize_t shape[MAX_AXES]
    Py_ssize_t strides[MAX_AXES]

cdef Py_ssize_t plans_forgotten = 0


cdef bint read_form(Form* form, array):
    """False for an array whose form cannot be told from its head."""
    cdef fc_array_head* head
    form.axes = NO_ARRAY
    if array is None:
        return True
    head = head_of(array)
    if head == NULL or head.axes > MAX_AXES or not head.flags & FC_ARRAY_ALIGNED:
        return False
    form.axes, form.dtype = head.axes, head.dtype
    memcpy(form.shape, head.shape, head.axes * sizeof(Py_ssize_t))
    memcpy(form.strides, head.strides, head.axes * sizeof(Py_ssize_t))
    return True


cdef bint has_form(const Form* form, array):
    cdef fc_array_head* head
    cdef int axis
    if array is None:
        return form.axes == NO_ARRAY
    head = head_of(array)
    if head == NULL or head.axes != form.axes or head.dtype != form.dtype or not head.flags & FC_ARRAY_ALIGNED:
        return False
    for axis in range(head.axes):
        if head.shape[axis] != form.shape[axis] or head.strides[axis] != form.strides[axis]:
            return False
    return True


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
    cdef Form forms[3]

    def __cinit__(self, plan=None, tuple arrays=(), tuple facts=()):
        cdef int i
        self.plan, self.facts, self.forgotten = plan, facts, plans_forgotten
        self.dtypes = tuple([None if array is None else array.dtype for array in arrays])
        for i in range(3):
            if not read_form(&self.forms[i], arrays[i] if i < len(arrays) else None):
                return
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
        if not (has_form(&self.forms[0], x) and has_form(&self.forms[1], w) and has_form(&self.forms[2], b)):
            return None
        if len(facts) != len(self.facts):
            return None
        for i in range(len(facts)):
            if facts[i] is not self.facts[i]:
                return None
        return self.plan


cdef class RecentRun:
    """What a session ran last, run again on feeds of the same form without the checks of the first time.

    Parameters
    ----------
    feeds : dict of str to array
        What it ran on.
    outputs : tuple of (str, tuple, dtype)
        Names, shapes and types of the arrays that it writes and returns.
    contexts : list
        Where a run finds what nobody else is using; its ``segments`` are called with feeds and outputs by name.
    threads : int
        Of the session's calls, and 0 for those of the thread that calls.
    """

    cdef tuple names, dtypes, outputs
    cdef list contexts
    cdef Py_ssize_t count, threads, limit
    cdef Form forms[MAX_FEEDS]

    def __cinit__(self, dict feeds=None, tuple outputs=(), list contexts=None, Py_ssize_t threads=0):
        cdef Py_ssize_t i
        self.count = NO_ARRAY
        if feeds is None or len(feeds) > MAX_FEEDS:
            return
        self.names, self.dtypes = tuple(feeds), tuple([array.dtype for array in feeds.values()])
        self.outputs, self.contexts = outputs, contexts
        self.limit, self.threads = threads, threads or threads_of_calls()
        for i, array in enumerate(feeds.values()):
            if not read_form(&self.forms[i], array):
                return
        self.count = len(feeds)

    def run(self, feeds):
        """Fresh arrays; None for feeds of another form, another number of threads, or where every context is in use."""
        cdef Py_ssize_t i
        cdef dict arrays
        if type(feeds) is not dict or len(<dict> feeds) != self.count or not self.contexts:
            return None
        if not self.limit and self.threads != threads_of_calls():
            return None
        for i in range(self.count):
            if not has_form(&self.forms[i], (<dict> feeds).get(self.names[i])):
                return None
        try:
            context = self.contexts.pop()
        except IndexError:  # another thread took it
            return None
        arrays = (<dict> feeds).copy()
        results = []
        for name, shape, dtype in self.outputs:
            arrays[name] = y = np.empty(shape, dtype)
            results.append(y)
        if self.limit:
            before = limit_threads(self.limit)
        try:
            for segment in context.segments:
                segment(arrays)
        finally:
            if self.limit:
                limit_threads(before)
        self.contexts.append(context)
        return results


def forget_recent():
    """Let no :class:`Recent` made so far find its plan."""
    global plans_forgotten
    plans_forgotten += 1
