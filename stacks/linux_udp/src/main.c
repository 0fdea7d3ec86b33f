/* SPDX-License-Identifier: Apache-2.0 */
/* udp-server: answers or discards UDP datagrams with one pinned worker per core. See README.md of this stack. */
#define _GNU_SOURCE
#include "control.h"
#include "stats.h"

int main(int argc, char **argv)
{
	struct options options;
	struct server server = { 0 };
	int signals;

	options_parse(&options, argc, argv);
	signals = control_signals();
	server.socks = sockets_open(&options, &server.nsocks);
	server.workers = workers_start(&options, server.socks, &server.nworkers);
	control_ready(" workers=%u sockets=%u mode=%s", server.nworkers, server.nsocks, mode_name(options.mode));
	control_loop(signals, stats_print, &server);
	return 0;
}
