/* The head of a NumPy array, as NumPy's C interface publishes it (PyArrayObject_fields). */
#ifndef FASTCONV_ARRAY_MEMORY_H
#define FASTCONV_ARRAY_MEMORY_H

#include <Python.h>
#include <stdint.h>

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

/* The upper half of a product, exclusive-or the lower half. */
static inline uint64_t fc_fold(uint64_t a, uint64_t b) {
#if defined(__SIZEOF_INT128__)
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)(product >> 64) ^ (uint64_t)product;
#else
    uint64_t low = (a & 0xffffffff) * (b & 0xffffffff), high = (a >> 32) * (b >> 32);
    uint64_t left = (a >> 32) * (b & 0xffffffff), right = (a & 0xffffffff) * (b >> 32);
    uint64_t middle = (low >> 32) + (left & 0xffffffff) + (right & 0xffffffff);
    high += (left >> 32) + (right >> 32) + (middle >> 32);
    return high ^ ((middle << 32) | (low & 0xffffffff));
#endif
}

#endif
