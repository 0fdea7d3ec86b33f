/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "control.h"

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

/* Time on a core and time runnable but waiting for it in ns, and how often it was switched to: /proc's schedstat. */
struct scheduling {
	uint64_t run_ns, wait_ns, slices;
	uint64_t voluntary, involuntary; /* context switches */
};

static FILE *open_of(pid_t tid, const char *file)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", (int)tid, file);
	return fopen(path, "re");
}

/* A kernel without schedstat leaves zeros; the harness knows from the file's absence. */
static struct scheduling scheduling_of(pid_t tid)
{
	struct scheduling s = { 0 };
	FILE *file = open_of(tid, "schedstat");
	char line[256];

	if (file) {
		if (fscanf(file, "%" SCNu64 " %" SCNu64 " %" SCNu64, &s.run_ns, &s.wait_ns, &s.slices) != 3)
			s = (struct scheduling){ 0 };
		fclose(file);
	}
	file = open_of(tid, "status");
	if (!file)
		die("status of a worker");
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &s.voluntary);
		sscanf(line, "nonvoluntary_ctxt_switches: %" SCNu64, &s.involuntary);
	}
	fclose(file);
	return s;
}

static void print_worker(struct worker *w, const char *separator)
{
	struct counters *c = &w->counters;
	struct scheduling s = scheduling_of(w->tid);

	printf("%s{\"core\":%d,\"accepted\":%" PRIu64 ",\"completed\":%" PRIu64 ",\"failed\":%" PRIu64
	       ",\"accept_errors\":%" PRIu64 ",\"wakeups\":%" PRIu64 ",\"empty_accepts\":%" PRIu64
	       ",\"cpu_ns\":%" PRIu64 ",\"wait_ns\":%" PRIu64 ",\"slices\":%" PRIu64
	       ",\"voluntary_switches\":%" PRIu64 ",\"involuntary_switches\":%" PRIu64 "}",
	       separator, w->core, get(&c->accepted), get(&c->completed), get(&c->failed), get(&c->accept_errors),
	       get(&c->wakeups), get(&c->empty_accepts), cpu_time_ns(w->thread), s.wait_ns, s.slices, s.voluntary,
	       s.involuntary);
}

static void print_listener(const struct listener *l, const char *separator)
{
	char address[INET_ADDRSTRLEN];
	uint32_t waiting, backlog;

	listener_queue(l, &waiting, &backlog);
	inet_ntop(AF_INET, &l->bind->sin_addr, address, sizeof(address));
	printf("%s{\"bind\":\"%s:%u\",\"worker\":%d,\"waiting\":%" PRIu32 ",\"backlog\":%" PRIu32 "}", separator,
	       address, ntohs(l->bind->sin_port), l->worker, waiting, backlog);
}

static void print_stats(struct server *s, const char *id)
{
	printf("stats %s {\"workers\":[", id);
	for (unsigned int i = 0; i < s->nworkers; i++)
		print_worker(&s->workers[i], i ? "," : "");
	printf("],\"listeners\":[");
	for (unsigned int i = 0; i < s->nlisteners; i++)
		print_listener(&s->listeners[i], i ? "," : "");
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
