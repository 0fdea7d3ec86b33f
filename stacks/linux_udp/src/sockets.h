/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets: one per address shared by all workers, or one per address and worker in a SO_REUSEPORT group. */
#pragma once

#include "options.h"

#include <stdint.h>

struct sock {
	int fd;
	const union address *bind;
	int core;            /* the worker's core; -1: shared by all */
	uint32_t last_drops; /* SK_MEMINFO_DROPS as last read: 32 bits wide, so it wraps */
	uint64_t drops;
};

/* Opens and binds all sockets: o->nbinds of them, or o->nbinds * o->ncores (address-major). Exits on failure. */
struct sock *sockets_open(const struct options *o, unsigned int *count);

/* Reads the kernel's drop count into s->drops and returns the bytes queued on the socket. */
uint32_t socket_read_meminfo(struct sock *s);
