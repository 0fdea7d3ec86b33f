/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

void die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
	exit(1);
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

/* Who asked waits for the line; when nobody can read it any more, nobody needs this process. */
static void end_line(void)
{
	putchar('\n');
	if (fflush(stdout))
		die("standard output");
}

void control_ready(const char *format, ...)
{
	va_list args;

	fputs("ready", stdout);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	end_line();
}

/* Returns false when the process is to end. */
static bool obey(const char *line, void (*stats)(void *server), void *server)
{
	const char *id = line + strlen("stats ");

	if (!strcmp(line, "quit"))
		return false;
	if (!strncmp(line, "stats ", strlen("stats ")) && *id && strlen(id) <= 20 &&
	    strspn(id, "0123456789") == strlen(id)) {
		printf("stats %s ", id);
		stats(server);
		end_line();
	} else if (*line) {
		fputs("error unknown command", stdout);
		end_line();
	}
	return true;
}

/* Reads what there is and obeys each full line; returns false when there will be no more. */
static bool read_lines(void (*stats)(void *server), void *server)
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
		if (!obey(line, stats, server))
			return false;
		line = end + 1;
	}
	used -= (size_t)(line - pending);
	memmove(pending, line, used);
	return used < sizeof(pending) - 1;
}

void control_loop(int signals, void (*stats)(void *server), void *server)
{
	struct pollfd wait[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = signals, .events = POLLIN } };

	for (;;) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (wait[1].revents || (wait[0].revents && !read_lines(stats, server)))
			return;
	}
}
