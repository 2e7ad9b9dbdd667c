/* What threads of a team tell each other, and what they do while they wait.  Without POSIX threads there is one thread. */
#ifndef FASTCONV_ATOMICS_H
#define FASTCONV_ATOMICS_H

#include <Python.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>

static inline void fc_yield(void) { sched_yield(); }
#define fc_load(address) __atomic_load_n(address, __ATOMIC_SEQ_CST)
#define fc_store(address, value) __atomic_store_n(address, value, __ATOMIC_SEQ_CST)
#define fc_add(address, value) __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST)

#else

#define fc_yield() ((void)0)
#define fc_load(address) (*(volatile Py_ssize_t *)(address))
#define fc_store(address, value) (*(volatile Py_ssize_t *)(address) = (value))
static inline Py_ssize_t fc_add(Py_ssize_t *address, Py_ssize_t value) { Py_ssize_t before = *address; *address += value; return before; }

#endif

#if defined(__x86_64__) || defined(__i386__)
#define fc_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define fc_pause() __asm__ volatile("yield")
#else
#define fc_pause() ((void)0)
#endif

#endif
