/* SPDX-License-Identifier: Apache-2.0 */
/* The listening sockets: one per address shared by all workers, or one per address and worker in a reuseport group. */
#pragma once

#include "options.h"

#include <stdint.h>

struct listener {
	int fd;
	const union address *bind;
	int worker; /* number of the worker, counted over cores; -1: shared by all */
};

/* Opens all: one for each address, or for each address and worker (address-major). Exits on failure. */
struct listener *listeners_open(const struct options *o, unsigned int *count);

/* Connections that wait to be accepted, and the backlog that the kernel granted. */
void listener_queue(const struct listener *l, uint32_t *waiting, uint32_t *backlog);
