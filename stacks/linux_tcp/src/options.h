/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of the server, checked and bounded before any socket is opened. */
#pragma once

#include "group.h"

#define MAX_BACKLOG 1048576

/* How a worker waits for a connection: in accept4(), one connection after the other, or in epoll_wait(), many open. */
enum mode { MODE_BLOCK, MODE_EPOLL };

struct options {
	enum mode mode;
	struct group group;
	bool steer_by_cpu;    /* the CPU that receives the SYN picks the listening socket, not the flow hash */
	unsigned int backlog; /* of each listening socket */
};

/* Fills *o; prints what is wrong to stderr and exits with status 2 on a bad command line. */
void options_parse(struct options *o, int argc, char **argv);

const char *mode_name(enum mode mode);

/* Workers in all: per_core on each core, and in mode block, where a worker waits for one socket, as many an address. */
unsigned int options_workers(const struct options *o);
