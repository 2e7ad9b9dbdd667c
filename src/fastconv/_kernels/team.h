/* What the team needs of the system: threads and locks.  Without POSIX threads there is one thread. */
#ifndef FASTCONV_TEAM_H
#define FASTCONV_TEAM_H

#include <Python.h>

#include "atomics.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define FC_THREADS 1
#define FC_THREAD_LOCAL __thread
typedef pthread_mutex_t fc_mutex;
typedef pthread_cond_t fc_condition;

static inline int fc_trylock(fc_mutex *mutex) { return pthread_mutex_trylock(mutex) == 0; }
static inline void fc_lock(fc_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void fc_unlock(fc_mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void fc_wait(fc_condition *condition, fc_mutex *mutex) { pthread_cond_wait(condition, mutex); }
static inline void fc_wake_all(fc_condition *condition) { pthread_cond_broadcast(condition); }
static inline void fc_on_fork_in_child(void (*reset)(void)) { pthread_atfork(NULL, NULL, reset); }

static inline void fc_reset(fc_mutex *mutex, fc_condition *condition) {
    pthread_mutex_init(mutex, NULL);
    if (condition) pthread_cond_init(condition, NULL);
}

#if defined(__linux__)
#include <sched.h>

/* A thread and the processors it may run on: `allowed` by whoever started or confined it, `given` by us. */
typedef struct { pthread_t thread; cpu_set_t allowed, given; } fc_worker;

static inline int fc_processor(void) { return sched_getcpu(); }

static inline void fc_adopt(fc_worker *worker) {
    worker->thread = pthread_self();
    if (pthread_getaffinity_np(worker->thread, sizeof(cpu_set_t), &worker->given)) CPU_ZERO(&worker->given);
    worker->allowed = worker->given;
}

/* Let the worker run on every processor it may but this one.  What somebody else confined it to since, holds. */
static void fc_keep_off(fc_worker *worker, int processor) {
    cpu_set_t found;
    if (pthread_getaffinity_np(worker->thread, sizeof found, &found)) return;
    if (!CPU_EQUAL(&found, &worker->given)) worker->allowed = found;
    worker->given = worker->allowed;
    if (processor >= 0 && processor < CPU_SETSIZE) CPU_CLR(processor, &worker->given);
    if (!CPU_COUNT(&worker->given)) worker->given = worker->allowed;
    if (!CPU_EQUAL(&worker->given, &found)) pthread_setaffinity_np(worker->thread, sizeof worker->given, &worker->given);
}
#else
typedef char fc_worker;
static inline int fc_processor(void) { return -1; }
static inline void fc_adopt(fc_worker *worker) { (void)worker; }
static inline void fc_keep_off(fc_worker *worker, int processor) { (void)worker; (void)processor; }
#endif

typedef struct { void (*body)(void *); void *argument; } fc_start;

static void *fc_thread_main(void *memory) {
    fc_start start = *(fc_start *)memory;
    free(memory);
    start.body(start.argument);
    return NULL;
}

/* A detached thread that takes no signals: those belong to the interpreter. */
static int fc_start_thread(void (*body)(void *), void *argument) {
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int started;
    fc_start *start = malloc(sizeof *start);
    if (!start) return 0;
    start->body = body;
    start->argument = argument;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    started = pthread_create(&thread, &attributes, fc_thread_main, start) == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started) free(start);
    return started;
}

#else

#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <intrin.h>
#include <windows.h>

#define FC_THREADS 0
#define FC_THREAD_LOCAL __declspec(thread)
typedef volatile long fc_mutex;
typedef char fc_condition;

static int fc_trylock(fc_mutex *mutex) { return _InterlockedExchange(mutex, 1) == 0; }
static void fc_lock(fc_mutex *mutex) { while (!fc_trylock(mutex)) {} }
static void fc_unlock(fc_mutex *mutex) { _InterlockedExchange(mutex, 0); }
static void fc_reset(fc_mutex *mutex, fc_condition *condition) { (void)condition; *mutex = 0; }
static int fc_start_thread(void (*body)(void *), void *argument) { (void)body; (void)argument; return 0; }
typedef char fc_worker;
static int fc_processor(void) { return -1; }
#define fc_adopt(worker) ((void)(worker))
#define fc_keep_off(worker, processor) ((void)(worker), (void)(processor))
#define fc_wait(condition, mutex) ((void)0)
#define fc_wake_all(condition) ((void)0)
#define fc_on_fork_in_child(reset) ((void)(reset))

#endif

/* The number of threads that calls of this thread may use; 0 for the process's. */
static FC_THREAD_LOCAL Py_ssize_t fc_own_threads = 0;

#endif
