/* The head of a NumPy array, as NumPy's C interface publishes it (PyArrayObject_fields).  A buffer costs more than a small
   layer's arithmetic: NumPy writes out the format of the elements for each one. */
#ifndef FASTCONV_ARRAY_HEAD_H
#define FASTCONV_ARRAY_HEAD_H

#include <Python.h>

typedef struct {
    PyObject_HEAD
    char *data;
    int axes;
    Py_ssize_t *shape, *strides;
    PyObject *base, *dtype;
    int flags;
} fc_array_head;

#define FC_ARRAY_ALIGNED 0x100
#define FC_ARRAY_WRITEABLE 0x400

#endif
