/* SPDX-License-Identifier: Apache-2.0 */
/* One thread, pinned to one core, that serves one port or forwards between two, each opened through netmap. */
#ifndef WORKER_H
#define WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct nm_desc;

enum role { DROP, REFLECT, ECHO, FORWARD };
enum { MAX_PORTS = 2, MAX_WORKERS = 64 };

typedef _Atomic uint64_t counter;

/* Written by the worker alone, read by the thread that answers. "other": frames that are not the test's and have no
 * host rings to go to; "up", "down": to and from the kernel through the host rings; "stuck": passes that ended at a
 * full transmit ring. */
struct counters {
	counter received, discarded, sent, other, up, down, useful, empty, stuck;
};

struct port {
	const char *name;
	struct nm_desc *netmap;
	bool host;
};

struct worker {
	enum role role;
	uint16_t udp_port;
	int core;
	bool copies;
	unsigned int nports;
	struct port ports[MAX_PORTS];
	pthread_t thread;
	_Alignas(64) struct counters counters;
};

/* Opens the worker's ports in the memory of "first" (NULL: the worker's own first port) where netmap allows it.
 * Returns false after saying on stderr why not. */
bool worker_open(struct worker *w, struct nm_desc *first);

/* Whether the worker's ports share their memory, so that frames can change hands without a copy. */
bool worker_shares_memory(const struct worker *w);

/* Starts the thread; ends the process when that is not possible. */
void worker_start(struct worker *w);

#endif
