/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <inttypes.h>
#include <stdio.h>

static void print_worker(struct worker *w, const char *separator)
{
	struct counters *c = &w->counters;

	printf("%s{\"core\":%d,\"received\":%" PRIu64 ",\"discarded\":%" PRIu64 ",\"other\":%" PRIu64 ",\"sent\":%" PRIu64
	       ",\"refused\":%" PRIu64 ",\"tx_full\":%" PRIu64 ",\"tx_busy\":%" PRIu64 ",\"wakeups\":%" PRIu64
	       ",\"useful_polls\":%" PRIu64 ",\"empty_polls\":%" PRIu64 ",\"cpu_ns\":%" PRIu64 "}",
	       separator, w->core, get(&c->received), get(&c->discarded), get(&c->other), get(&c->sent), get(&c->refused),
	       get(&c->tx_full), get(&c->tx_busy), get(&c->wakeups), get(&c->useful_polls), get(&c->empty_polls),
	       thread_cpu_ns(w->thread));
}

static void print_socket(const struct sock *s, const char *separator)
{
	struct xdp_statistics x = socket_statistics(s);

	printf("%s{\"ifname\":\"%s\",\"queue\":%u,\"zero_copy\":%s,\"napi_id\":%u,\"rx_dropped\":%" PRIu64
	       ",\"rx_ring_full\":%" PRIu64 ",\"fill_ring_empty\":%" PRIu64 ",\"rx_invalid\":%" PRIu64
	       ",\"tx_invalid\":%" PRIu64 "}",
	       separator, s->port->ifname, s->queue, s->zero_copy ? "true" : "false", s->napi_id,
	       (uint64_t)x.rx_dropped, (uint64_t)x.rx_ring_full, (uint64_t)x.rx_fill_ring_empty_descs,
	       (uint64_t)x.rx_invalid_descs, (uint64_t)x.tx_invalid_descs);
}

static void print_port(const struct program *p, const char *separator)
{
	struct queue_counters sum = program_counters(p);

	printf("%s{\"ifname\":\"%s\",\"redirected\":%" PRIu64 ",\"passed\":%" PRIu64 "}", separator, p->port->ifname,
	       (uint64_t)sum.redirected, (uint64_t)sum.passed);
}

void stats_print(void *server)
{
	struct server *s = server;
	const char *separator = "";

	printf("{\"workers\":[");
	for (unsigned int i = 0; i < s->options->ncores; i++)
		print_worker(&s->workers[i], i ? "," : "");
	printf("],\"sockets\":[");
	for (unsigned int i = 0; i < s->options->ncores; i++)
		for (unsigned int k = 0; k < s->workers[i].nsocks; k++, separator = ",")
			print_socket(&s->workers[i].socks[k], separator);
	printf("],\"ports\":[");
	for (unsigned int i = 0; i < s->options->nports; i++)
		print_port(&s->programs[i], i ? "," : "");
	printf("]}");
}
