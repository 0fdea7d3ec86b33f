/* SPDX-License-Identifier: Apache-2.0 */
/* What a server with sockets is told: its addresses, its cores, the workers on each; and SO_REUSEPORT groups by CPU. */
#pragma once

#include "address.h"

#include <getopt.h>
#include <stdbool.h>

#define MAX_BINDS 64
#define MAX_WORKERS 1024

struct group {
	union address binds[MAX_BINDS];
	unsigned int nbinds;
	int cores[MAX_WORKERS];
	unsigned int ncores;
	unsigned int per_core; /* workers on each core */
	bool reuseport;        /* one socket per worker and address, not one per address */
};

/* For getopt_long(). */
#define GROUP_OPTIONS \
	{ "bind", required_argument, NULL, 'b' }, { "cores", required_argument, NULL, 'c' }, \
	{ "per-core", required_argument, NULL, 'w' }, { "reuseport", no_argument, NULL, 'p' }

/* Takes one of GROUP_OPTIONS with its argument (a list is cut up); false when it is none of them. */
bool group_option(struct group *g, int option, char *argument);

/* Refuses what cannot be served, once all options are taken. */
void group_check(const struct group *g);

/* Workers over all cores, numbered core by core. */
static inline unsigned int group_workers(const struct group *g)
{
	return g->ncores * g->per_core;
}

/* The core of a worker. */
static inline int group_core(const struct group *g, unsigned int worker)
{
	return g->cores[worker / g->per_core];
}

/* Sockets of one address: one for each worker, or one that all share. */
static inline unsigned int group_sockets(const struct group *g)
{
	return g->reuseport ? group_workers(g) : 1;
}

/*
 * Lets the CPU that receives a packet pick the socket (SO_ATTACH_REUSEPORT_CBPF): one of that core's workers at random.
 * ``fd``: any of a group's, bound in the workers' order; a packet received on another core falls back to the flow hash.
 */
void group_by_cpu(const struct group *g, int fd);
