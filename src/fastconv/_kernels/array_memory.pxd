"""The head of a NumPy array, read in place.

Where arrays are laid out as published, which is checked once, a call finds pointers, shapes and strides there.  A buffer
costs more than a small layer's arithmetic: NumPy writes out the format of the elements for each one.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_TYPE, PyTypeObject

cdef extern from "array_memory.h" nogil:
    ctypedef struct fc_array_head:
        char* data
        int axes
        Py_ssize_t* shape
        Py_ssize_t* strides
        PyObject* dtype
        int flags
    const int FC_ARRAY_ALIGNED
    const int FC_ARRAY_WRITEABLE

cdef PyTypeObject* read_type  # of the arrays whose heads are read; NULL where their layout is another


cdef inline fc_array_head* head_of(array):
    """NULL for what is no plain array."""
    if Py_TYPE(array) == read_type:
        return <fc_array_head*> <PyObject*> array
    return NULL
