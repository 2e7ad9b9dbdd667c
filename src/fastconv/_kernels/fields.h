/* Keeps what turns an int into a field of a struct out of line: Cython asks to inline it for each of a hundred fields.
 * Under a version of Cython that has another name for it, the declaration has no effect. */
#ifndef FASTCONV_FIELDS_H
#define FASTCONV_FIELDS_H

#include <Python.h>
#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wattributes"  /* Cython's own declaration says inline */
__attribute__((noinline, unused)) static int64_t __Pyx_PyLong_As_int64_t(PyObject *);
#endif

#endif
