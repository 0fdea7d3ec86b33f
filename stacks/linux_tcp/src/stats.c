/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <inttypes.h>
#include <stdio.h>

static void print_worker(struct worker *w, const char *separator)
{
	struct counters *c = &w->counters;
	struct sched s = thread_sched(w->tid);

	printf("%s{\"core\":%d,\"accepted\":%" PRIu64 ",\"completed\":%" PRIu64 ",\"failed\":%" PRIu64
	       ",\"accept_errors\":%" PRIu64 ",\"wakeups\":%" PRIu64 ",\"empty_accepts\":%" PRIu64
	       ",\"cpu_ns\":%" PRIu64 ",\"voluntary_switches\":%" PRIu64 ",\"involuntary_switches\":%" PRIu64,
	       separator, w->core, get(&c->accepted), get(&c->completed), get(&c->failed), get(&c->accept_errors),
	       get(&c->wakeups), get(&c->empty_accepts), thread_cpu_ns(w->thread), s.voluntary_switches,
	       s.involuntary_switches);
	if (s.has_wait)
		printf(",\"wait_ns\":%" PRIu64 ",\"slices\":%" PRIu64, s.wait_ns, s.slices);
	putchar('}');
}

static void print_listener(const struct listener *l, const char *separator)
{
	char address[INET6_ADDRSTRLEN];
	uint32_t waiting, backlog;

	listener_queue(l, &waiting, &backlog);
	printf("%s{\"bind\":\"%s:%u\",\"worker\":%d,\"waiting\":%" PRIu32 ",\"backlog\":%" PRIu32 "}", separator,
	       address_text(l->bind, address), ntohs(l->bind->v4.sin_port), l->worker, waiting, backlog);
}

void stats_print(void *server)
{
	struct server *s = server;

	printf("{\"workers\":[");
	for (unsigned int i = 0; i < s->nworkers; i++)
		print_worker(&s->workers[i], i ? "," : "");
	printf("],\"listeners\":[");
	for (unsigned int i = 0; i < s->nlisteners; i++)
		print_listener(&s->listeners[i], i ? "," : "");
	printf("]}");
}
