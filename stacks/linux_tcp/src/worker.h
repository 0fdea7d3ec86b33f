/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: one thread pinned to one core that accepts connections and serves each to its end. */
#pragma once

#include "listeners.h"
#include "threads.h"

struct counters {
	counter accepted;
	counter completed;     /* reply handed to the kernel, connection closed */
	counter failed;        /* accepted, but the client went away, sent no request in time, or took no reply */
	counter accept_errors; /* accept4() failed: the client had gone, or no descriptor or memory was left */
	counter wakeups;       /* times that epoll_wait() or a blocking accept4() returned */
	counter empty_accepts; /* woken for a connection that another worker had taken (mode epoll) */
};

struct worker {
	const struct options *options;
	int core;
	unsigned int number; /* over all cores; of its listening socket in a reuseport group */
	unsigned int nlisteners;
	struct listener **listeners;
	pthread_t thread;
	pid_t tid;
	pthread_barrier_t *serving;
	_Alignas(64) struct counters counters;
};

/*
 * Starts the workers and returns when all of them serve: per_core threads a core, in mode block, where a thread can
 * only wait for one socket, as many for each address. Exits on failure.
 */
struct worker *workers_start(const struct options *o, struct listener *listeners, unsigned int *count);
