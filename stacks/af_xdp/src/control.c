/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static uint64_t get(counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static uint64_t cpu_time_ns(pthread_t thread)
{
	struct timespec spent;
	clockid_t clock;

	errno = pthread_getcpuclockid(thread, &clock);
	if (errno || clock_gettime(clock, &spent))
		die("CPU clock of a worker");
	return (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
}

static void print_worker(struct worker *w, const char *separator)
{
	struct counters *c = &w->counters;

	printf("%s{\"core\":%d,\"received\":%" PRIu64 ",\"discarded\":%" PRIu64 ",\"other\":%" PRIu64 ",\"sent\":%" PRIu64
	       ",\"refused\":%" PRIu64 ",\"tx_full\":%" PRIu64 ",\"tx_busy\":%" PRIu64 ",\"wakeups\":%" PRIu64
	       ",\"useful_polls\":%" PRIu64 ",\"empty_polls\":%" PRIu64 ",\"cpu_ns\":%" PRIu64 "}",
	       separator, w->core, get(&c->received), get(&c->discarded), get(&c->other), get(&c->sent), get(&c->refused),
	       get(&c->tx_full), get(&c->tx_busy), get(&c->wakeups), get(&c->useful_polls), get(&c->empty_polls),
	       cpu_time_ns(w->thread));
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

static void print_stats(struct server *s, const char *id)
{
	const char *separator = "";

	printf("stats %s {\"workers\":[", id);
	for (unsigned int i = 0; i < s->options->ncores; i++)
		print_worker(&s->workers[i], i ? "," : "");
	printf("],\"sockets\":[");
	for (unsigned int i = 0; i < s->options->ncores; i++)
		for (unsigned int k = 0; k < s->workers[i].nsocks; k++, separator = ",")
			print_socket(&s->workers[i].socks[k], separator);
	printf("],\"ports\":[");
	for (unsigned int i = 0; i < s->options->nports; i++)
		print_port(&s->programs[i], i ? "," : "");
	printf("]}\n");
	fflush(stdout);
}

static void obey(struct server *s, const char *line)
{
	const char *id = line + strlen("stats ");

	if (!strncmp(line, "stats ", strlen("stats ")) && *id && strlen(id) <= 20 &&
	    strspn(id, "0123456789") == strlen(id)) {
		print_stats(s, id);
	} else if (*line) {
		printf("error unknown command\n");
		fflush(stdout);
	}
}

/* Reads what there is on stdin and obeys each full line; returns false at its end, or on a line too long. */
static bool read_lines(struct server *s)
{
	static char pending[256];
	static size_t used;
	ssize_t n = read(STDIN_FILENO, pending + used, sizeof(pending) - 1 - used);
	char *line = pending, *end;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	used += (size_t)n;
	pending[used] = '\0';
	for (; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		obey(s, line);
	}
	used -= (size_t)(line - pending);
	memmove(pending, line, used);
	return used < sizeof(pending) - 1;
}

int control_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		die("sigprocmask");
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		die("signalfd");
	return fd;
}

void control_loop(struct server *s, int signals)
{
	struct pollfd wait[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = signals, .events = POLLIN } };

	for (;;) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (wait[1].revents || (wait[0].revents && !read_lines(s)))
			return;
	}
}
