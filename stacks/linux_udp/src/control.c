/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "control.h"
#include "sched.h"

#include <arpa/inet.h>
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
	struct sched s;

	sched_read(w->tid, &s);
	printf("%s{\"core\":%d,\"received\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"send_errors\":%" PRIu64
	       ",\"discarded\":%" PRIu64 ",\"other\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"empty_polls\":%" PRIu64
	       ",\"cpu_ns\":%" PRIu64 ",\"voluntary_switches\":%" PRIu64 ",\"involuntary_switches\":%" PRIu64,
	       separator, w->core, get(&c->received), get(&c->sent), get(&c->send_errors), get(&c->discarded),
	       get(&c->other), get(&c->batches), get(&c->empty_polls), cpu_time_ns(w->thread), s.voluntary_switches,
	       s.involuntary_switches);
	if (s.has_wait)
		printf(",\"run_queue_wait_ns\":%" PRIu64, s.wait_ns);
	putchar('}');
}

static void print_socket(struct sock *s, const char *separator)
{
	char address[INET6_ADDRSTRLEN];
	uint32_t queued = socket_read_meminfo(s);

	bool v6 = s->bind->any.sa_family == AF_INET6;

	inet_ntop(v6 ? AF_INET6 : AF_INET, v6 ? (const void *)&s->bind->v6.sin6_addr : &s->bind->v4.sin_addr, address,
		  sizeof(address));
	printf("%s{\"bind\":\"%s:%u\",\"core\":%d,\"drops\":%" PRIu64 ",\"queued_bytes\":%" PRIu32 "}", separator, address,
	       ntohs(v6 ? s->bind->v6.sin6_port : s->bind->v4.sin_port), s->core, s->drops, queued);
}

static void print_stats(struct server *s, const char *id)
{
	printf("stats %s {\"workers\":[", id);
	for (unsigned int i = 0; i < s->nworkers; i++)
		print_worker(&s->workers[i], i ? "," : "");
	printf("],\"sockets\":[");
	for (unsigned int i = 0; i < s->nsocks; i++)
		print_socket(&s->socks[i], i ? "," : "");
	printf("]}\n");
	fflush(stdout);
}

/* Returns false when the process is to end. */
static bool obey(struct server *s, const char *line)
{
	const char *id = line + strlen("stats ");

	if (!strcmp(line, "quit"))
		return false;
	if (!strncmp(line, "stats ", strlen("stats ")) && *id && strlen(id) <= 20 &&
	    strspn(id, "0123456789") == strlen(id))
		print_stats(s, id);
	else if (*line) {
		printf("error unknown command\n");
		fflush(stdout);
	}
	return true;
}

/* Reads what there is on stdin and obeys each full line; returns false at its end, on "quit", or on a line too long. */
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
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		if (!obey(s, line))
			return false;
		line = end + 1;
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
		if (wait[1].revents)
			return;
		if (wait[0].revents && !read_lines(s))
			return;
	}
}
