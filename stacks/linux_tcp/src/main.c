/* SPDX-License-Identifier: Apache-2.0 */
/* accept-server: accepts TCP connections with pinned workers, answers one request each. See README.md of this stack. */
#define _GNU_SOURCE
#include "control.h"
#include "stats.h"

#include <sys/resource.h>

/* Under overload thousands of connections may be open at once: take what the host allows. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
}

int main(int argc, char **argv)
{
	struct options options;
	struct server server = { 0 };
	int signals;

	options_parse(&options, argc, argv);
	raise_descriptor_limit();
	signals = control_signals();
	server.listeners = listeners_open(&options, &server.nlisteners);
	server.workers = workers_start(&options, server.listeners, &server.nworkers);
	control_ready(" workers=%u listeners=%u mode=%s", server.nworkers, server.nlisteners, mode_name(options.mode));
	control_loop(signals, stats_print, &server);
	return 0;
}
