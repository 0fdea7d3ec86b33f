/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: accept-server --bind ADDRESS:PORT [--bind ...] --cores N[,N...] [--per-core 1..64]\n"
	"                     [--reuseport] [--steering hash|cpu] [--mode block|epoll] [--backlog N]\n";

static const char *const mode_names[] = { "block", "epoll" };

const char *mode_name(enum mode mode)
{
	return mode_names[mode];
}

static void __attribute__((noreturn, format(printf, 1, 2))) refuse(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("accept-server: ", stderr);
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n%s", usage);
	va_end(args);
	exit(2);
}

static unsigned int number(const char *option, const char *text, unsigned long low, unsigned long high)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || value < low || value > high)
		refuse("--%s %s: expected a number from %lu to %lu", option, text, low, high);
	return (unsigned int)value;
}

static unsigned int choice(const char *option, const char *text, const char *const *names, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (!strcmp(text, names[i]))
			return i;
	refuse("--%s %s: not one of its values", option, text);
}

static void add_bind(struct options *o, const char *text)
{
	struct sockaddr_in *bind = &o->binds[o->nbinds];
	const char *colon = strrchr(text, ':');
	char address[INET_ADDRSTRLEN];
	size_t length = colon ? (size_t)(colon - text) : sizeof(address);

	if (length >= sizeof(address))
		refuse("--bind %s: expected ADDRESS:PORT", text);
	if (o->nbinds == MAX_BINDS)
		refuse("--bind: more than %d addresses", MAX_BINDS);
	memcpy(address, text, length);
	address[length] = '\0';
	bind->sin_family = AF_INET;
	bind->sin_port = htons((in_port_t)number("bind", colon + 1, 1, 65535));
	if (inet_pton(AF_INET, address, &bind->sin_addr) != 1)
		refuse("--bind %s: %s is not an IPv4 address", text, address);
	o->nbinds++;
}

static void add_cores(struct options *o, char *list)
{
	char *rest = list;

	for (char *word = strsep(&rest, ","); word; word = strsep(&rest, ",")) {
		if (o->ncores == MAX_WORKERS)
			refuse("--cores: more than %d cores", MAX_WORKERS);
		o->cores[o->ncores++] = (int)number("cores", word, 0, CPU_SETSIZE - 1);
	}
}

unsigned int options_workers(const struct options *o)
{
	return o->ncores * o->per_core * (o->mode == MODE_BLOCK ? o->nbinds : 1);
}

static void check_together(const struct options *o)
{
	if (!o->nbinds || !o->ncores)
		refuse("--bind and --cores are both needed");
	if (o->steer_by_cpu && !o->reuseport)
		refuse("--steering cpu needs --reuseport");
	if (o->nbinds * o->ncores * o->per_core > MAX_WORKERS)
		refuse("%u addresses, %u cores and %u workers on each are more than %d sockets", o->nbinds, o->ncores,
		       o->per_core, MAX_WORKERS);
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{ "bind", required_argument, NULL, 'b' },     { "cores", required_argument, NULL, 'c' },
		{ "reuseport", no_argument, NULL, 'p' },      { "steering", required_argument, NULL, 's' },
		{ "mode", required_argument, NULL, 'm' },     { "backlog", required_argument, NULL, 'l' },
		{ "per-core", required_argument, NULL, 'n' }, { NULL, 0, NULL, 0 },
	};
	static const char *const steering[] = { "hash", "cpu" };
	int c;

	*o = (struct options){ .mode = MODE_EPOLL, .per_core = 1, .backlog = 4096 };
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'b': add_bind(o, optarg); break;
		case 'c': add_cores(o, optarg); break;
		case 'p': o->reuseport = true; break;
		case 's': o->steer_by_cpu = choice("steering", optarg, steering, 2); break;
		case 'm': o->mode = choice("mode", optarg, mode_names, 2); break;
		case 'l': o->backlog = number("backlog", optarg, 1, MAX_BACKLOG); break;
		case 'n': o->per_core = number("per-core", optarg, 1, 64); break;
		default: refuse("unknown or incomplete option");
		}
	}
	if (optind != argc)
		refuse("unexpected argument %s", argv[optind]);
	check_together(o);
}
