/* SPDX-License-Identifier: Apache-2.0 */
/* af-xdp: serves one role on AF_XDP sockets, one pinned worker a core. See README.md of this stack. */
#define _GNU_SOURCE
#include <stdio.h>

#include "control.h"
#include "stats.h"

/* What is slower than asked, a line each, before "ready". */
static void notices(const struct options *o, const struct worker *workers)
{
	const struct sock *first = &workers[0].socks[0];

	if (o->zero_copy && !first->zero_copy)
		printf("notice: zero-copy was asked, %s has copy mode only: the kernel copies every frame\n",
		       first->port->ifname);
	if (o->busy_budget && !first->napi_id)
		printf("notice: busy polling has no effect: the kernel ties no NAPI to a socket in %s mode on %s\n",
		       first->zero_copy ? "zero-copy" : "copy", first->port->ifname);
}

int main(int argc, char **argv)
{
	struct options options;
	struct program *programs;
	struct server server;
	int signals;

	options_parse(&options, argc, argv);
	signals = control_signals();
	programs = programs_load(&options);
	server = (struct server){ &options, programs, workers_open(&options, programs) };
	workers_start(server.workers);
	programs_attach(programs, &options);
	notices(&options, server.workers);
	control_ready(" workers=%u", options.ncores);
	control_loop(signals, stats_print, &server);
	programs_detach(programs, &options);
	return 0;
}
