/* SPDX-License-Identifier: Apache-2.0 */
/* Workers as threads: started on their core, and what the scheduler did with them. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Written by its worker alone, read by the control thread: relaxed order is enough, no locked instruction. */
typedef _Atomic uint64_t counter;

static inline uint64_t get(counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

/* Starts a thread on this core alone, named NAME/CORE (15 characters at most); ends the process when it cannot. */
pthread_t thread_start(int core, const char *name, void *(*body)(void *), void *argument);

/* Time that the thread has run, in ns. */
uint64_t thread_cpu_ns(pthread_t thread);

/* What the scheduler did with a thread since its start. */
struct sched {
	uint64_t voluntary_switches;   /* it waited for something */
	uint64_t involuntary_switches; /* another was given its core */
	bool has_wait;                 /* the kernel has CONFIG_SCHED_INFO: without it the next two are 0 */
	uint64_t wait_ns;              /* ready to run, waiting for its core */
	uint64_t slices;               /* times that it was given the core */
};

/* Reads /proc/self/task/TID/status and schedstat; ends the process on failure. */
struct sched thread_sched(pid_t tid);
