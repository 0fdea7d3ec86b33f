/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: one thread pinned to one core that receives in batches and answers (echo) or counts (drop). */
#pragma once

#include "sockets.h"
#include "threads.h"

struct counters {
	counter received;
	counter sent;
	counter send_errors;
	counter discarded;   /* role drop: test datagrams, by length when --payload was given */
	counter other;       /* role drop: datagrams that are none */
	counter batches;     /* receive calls that returned at least one datagram */
	counter empty_polls; /* receive calls that found nothing (modes epoll and busy) */
};

struct worker {
	const struct options *options;
	int core;
	unsigned int nsocks;
	struct sock **socks;
	pthread_t thread;
	pid_t tid;           /* set by the worker before it serves */
	pthread_barrier_t *serving;
	_Alignas(64) struct counters counters;
};

/*
 * Starts the workers and returns when all of them serve: a thread per core, or in mode block, where a thread can only
 * wait for one socket, a thread per core and address. Exits on failure.
 */
struct worker *workers_start(const struct options *o, struct sock *socks, unsigned int *count);
