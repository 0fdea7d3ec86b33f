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
	"usage: udp-server --role echo|drop --bind ADDRESS:PORT [--bind ...] --cores N[,N...]\n"
	"                  [--reuseport] [--steering hash|cpu|ebpf|incoming-cpu] [--mode block|epoll|busy]\n"
	"                  [--batch 1..64] [--busy-poll-us N] [--rcvbuf BYTES] [--payload BYTES[,BYTES...]]\n";

static const char *const mode_names[] = { "block", "epoll", "busy" };

const char *mode_name(enum mode mode)
{
	return mode_names[mode];
}

static void __attribute__((noreturn, format(printf, 1, 2))) refuse(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("udp-server: ", stderr);
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

socklen_t address_length(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

/* ADDRESS:PORT, an IPv6 address in brackets. */
static void add_bind(struct options *o, const char *text)
{
	union address *bind = &o->binds[o->nbinds];
	const char *colon = strrchr(text, ':');
	bool v6 = *text == '[' && colon && colon[-1] == ']';
	char address[INET6_ADDRSTRLEN];
	size_t length = colon ? (size_t)(colon - text) - 2 * v6 : sizeof(address);
	in_port_t port;

	if (length >= sizeof(address))
		refuse("--bind %s: expected ADDRESS:PORT or [ADDRESS]:PORT", text);
	if (o->nbinds == MAX_BINDS)
		refuse("--bind: more than %d addresses", MAX_BINDS);
	memcpy(address, text + v6, length);
	address[length] = '\0';
	port = htons((in_port_t)number("bind", colon + 1, 1, 65535));
	if (v6)
		bind->v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = port };
	else
		bind->v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port };
	if (inet_pton(v6 ? AF_INET6 : AF_INET, address, v6 ? (void *)&bind->v6.sin6_addr : &bind->v4.sin_addr) != 1)
		refuse("--bind %s: %s is not an %s address", text, address, v6 ? "IPv6" : "IPv4");
	o->nbinds++;
}

static void add_payloads(struct options *o, char *list)
{
	char *rest = list;

	for (char *word = strsep(&rest, ","); word; word = strsep(&rest, ",")) {
		if (o->npayloads == MAX_PAYLOADS)
			refuse("--payload: more than %d lengths", MAX_PAYLOADS);
		o->payloads[o->npayloads++] = number("payload", word, 0, 65507);
	}
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

static void check_together(const struct options *o)
{
	if (!o->nbinds || !o->ncores)
		refuse("--bind and --cores are both needed");
	if (o->steering != STEER_HASH && !o->reuseport)
		refuse("--steering other than hash needs --reuseport");
	if (o->nbinds * o->ncores > MAX_WORKERS)
		refuse("%u addresses on %u cores are more than %d sockets", o->nbinds, o->ncores, MAX_WORKERS);
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{ "role", required_argument, NULL, 'r' },     { "bind", required_argument, NULL, 'b' },
		{ "cores", required_argument, NULL, 'c' },    { "reuseport", no_argument, NULL, 'p' },
		{ "steering", required_argument, NULL, 's' }, { "mode", required_argument, NULL, 'm' },
		{ "batch", required_argument, NULL, 'n' },    { "busy-poll-us", required_argument, NULL, 'u' },
		{ "rcvbuf", required_argument, NULL, 'f' },   { "payload", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	static const char *const roles[] = { "echo", "drop" };
	static const char *const steering[] = { "hash", "cpu", "ebpf", "incoming-cpu" };
	bool role_given = false;
	int c;

	*o = (struct options){ .batch = 32 };
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'r': o->role = choice("role", optarg, roles, 2); role_given = true; break;
		case 'b': add_bind(o, optarg); break;
		case 'c': add_cores(o, optarg); break;
		case 'p': o->reuseport = true; break;
		case 's': o->steering = choice("steering", optarg, steering, 4); break;
		case 'm': o->mode = choice("mode", optarg, mode_names, 3); break;
		case 'n': o->batch = number("batch", optarg, 1, MAX_BATCH); break;
		case 'u': o->busy_poll_us = number("busy-poll-us", optarg, 0, 1000000); break;
		case 'f': o->rcvbuf = number("rcvbuf", optarg, 0, 1 << 30); break;
		case 'l': add_payloads(o, optarg); break;
		default: refuse("unknown or incomplete option");
		}
	}
	if (optind != argc)
		refuse("unexpected argument %s", argv[optind]);
	if (!role_given)
		refuse("--role is needed");
	check_together(o);
}
