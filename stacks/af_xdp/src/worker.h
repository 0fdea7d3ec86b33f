/* SPDX-License-Identifier: Apache-2.0 */
/* Workers: one pinned thread a core, each with its share of every port's queues. */
#pragma once

#include "program.h"
#include "sockets.h"
#include "threads.h"

/* received = discarded + sent + refused + tx_full + other. */
struct counters {
	counter received;	/* frames */
	counter discarded;	/* test frames, thrown away as the role says */
	counter other;		/* frames that are not the test's, thrown away (whole bypass) */
	counter sent;		/* test frames put into a tx ring */
	counter refused;	/* test frames whose time to live was used up */
	counter tx_full;	/* test frames for which no tx ring had room */
	counter tx_busy;	/* sends that the driver put off */
	counter wakeups;	/* system calls that woke the kernel's side of a ring */
	counter useful_polls;	/* looks into a socket's rings that found frames */
	counter empty_polls;	/* and that did not */
};

struct worker {
	const struct options *options;
	int core;
	pthread_t thread;
	struct memory memory;
	struct sock *socks;
	unsigned int nsocks;
	struct counters counters;
};

/* Opens every worker's sockets and enters them into the programs' maps. */
struct worker *workers_open(const struct options *o, const struct program *programs);

/* Starts the threads: frames are served from here on. */
void workers_start(struct worker *workers);
