/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <inttypes.h>
#include <stdio.h>

static void print_worker(struct worker *w, const char *separator)
{
	struct counters *c = &w->counters;
	struct sched s = thread_sched(w->tid);

	printf("%s{\"core\":%d,\"received\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"send_errors\":%" PRIu64
	       ",\"discarded\":%" PRIu64 ",\"other\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"empty_polls\":%" PRIu64
	       ",\"cpu_ns\":%" PRIu64 ",\"voluntary_switches\":%" PRIu64 ",\"involuntary_switches\":%" PRIu64,
	       separator, w->core, get(&c->received), get(&c->sent), get(&c->send_errors), get(&c->discarded),
	       get(&c->other), get(&c->batches), get(&c->empty_polls), thread_cpu_ns(w->thread), s.voluntary_switches,
	       s.involuntary_switches);
	if (s.has_wait)
		printf(",\"run_queue_wait_ns\":%" PRIu64, s.wait_ns);
	putchar('}');
}

static void print_socket(struct sock *s, const char *separator)
{
	char address[INET6_ADDRSTRLEN];
	uint32_t queued = drops_read(&s->drops, s->fd);

	printf("%s{\"bind\":\"%s:%u\",\"core\":%d,\"drops\":%" PRIu64 ",\"queued_bytes\":%" PRIu32 "}", separator,
	       address_text(s->bind, address), ntohs(s->bind->v4.sin_port), s->core, s->drops.total, queued);
}

void stats_print(void *server)
{
	struct server *s = server;

	printf("{\"workers\":[");
	for (unsigned int i = 0; i < s->nworkers; i++)
		print_worker(&s->workers[i], i ? "," : "");
	printf("],\"sockets\":[");
	for (unsigned int i = 0; i < s->nsocks; i++)
		print_socket(&s->socks[i], i ? "," : "");
	printf("]}");
}
