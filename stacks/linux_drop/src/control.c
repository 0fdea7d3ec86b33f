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

#define MAX_DIGITS 18

void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

void refuse(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

unsigned long number(const char *what, const char *text, unsigned long low, unsigned long high)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < low || value > high)
		refuse("%s %s: expected a number from %lu to %lu", what, text, low, high);
	return value;
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

static void obey(const char *line, void (*stats)(unsigned long id))
{
	const char *id = line + strlen("stats ");

	if (!strncmp(line, "stats ", strlen("stats ")) && *id && strlen(id) <= MAX_DIGITS &&
	    strspn(id, "0123456789") == strlen(id))
		stats(strtoul(id, NULL, 10));
	else
		printf("error unknown command\n");
	fflush(stdout);
}

/* Reads what there is on standard input and obeys each full line; returns false at its end or on a line too long. */
static bool read_lines(void (*stats)(unsigned long id))
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
		obey(line, stats);
		line = end + 1;
	}
	used -= (size_t)(line - pending);
	memmove(pending, line, used);
	return used < sizeof(pending) - 1;
}

void control_serve(int signals, void (*stats)(unsigned long id))
{
	struct pollfd wait[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = signals, .events = POLLIN } };

	printf("ready\n");
	fflush(stdout);
	for (;;) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			die("poll");
		if (wait[1].revents)
			return;
		if (wait[0].revents && !read_lines(stats))
			return;
	}
}
