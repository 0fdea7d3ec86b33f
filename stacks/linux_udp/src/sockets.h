/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets: one per address shared by all workers, or one per address and worker in a SO_REUSEPORT group. */
#pragma once

#include "options.h"
#include "sockopt.h"

struct sock {
	int fd;
	const union address *bind;
	int core; /* the worker's core; -1: shared by all */
	struct drops drops;
};

/* Opens and binds all: one for each address, or for each address and worker (address-major). Exits on failure. */
struct sock *sockets_open(const struct options *o, unsigned int *count);
