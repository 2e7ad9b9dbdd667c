/* Milliseconds from some start: a clock that is read in a few nanoseconds and stands still for up to ten of them. */
#ifndef FASTCONV_CLOCK_H
#define FASTCONV_CLOCK_H

#include <stdint.h>

#if defined(__unix__) || defined(__APPLE__)
#include <time.h>

static inline int64_t fc_milliseconds(void) {
    struct timespec now;
#if defined(CLOCK_MONOTONIC_COARSE)
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#elif defined(CLOCK_MONOTONIC_RAW_APPROX)
    clock_gettime(CLOCK_MONOTONIC_RAW_APPROX, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#else

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

static inline int64_t fc_milliseconds(void) { return (int64_t)GetTickCount64(); }

#endif

#endif
