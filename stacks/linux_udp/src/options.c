/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "options.h"

#include "arguments.h"

#include <getopt.h>
#include <stddef.h>

const char usage[] =
	"usage: udp-server --role echo|drop --bind ADDRESS:PORT [--bind ...] --cores N[,N...]\n"
	"                  [--per-core 1..64]\n"
	"                  [--reuseport] [--steering hash|cpu|ebpf|incoming-cpu] [--mode block|epoll|busy]\n"
	"                  [--batch 1..64] [--busy-poll-us N] [--rcvbuf BYTES] [--payload BYTES[,BYTES...]]\n";

static const char *const mode_names[] = { "block", "epoll", "busy" };

const char *mode_name(enum mode mode)
{
	return mode_names[mode];
}

static void add_bind(struct options *o, const char *text)
{
	if (o->nbinds == MAX_BINDS)
		refuse("--bind: more than %d addresses", MAX_BINDS);
	o->binds[o->nbinds++] = address_of("--bind", text);
}

static void add_payloads(struct options *o, char *list)
{
	o->npayloads = number_list("--payload", list, o->payloads, o->npayloads, MAX_PAYLOADS, 65507);
}

/* Each core once for each of its workers: from here on there is one of o->cores for each worker (and address). */
static void repeat_cores(struct options *o)
{
	for (unsigned int i = o->ncores * o->per_core; i-- > 0;)
		o->cores[i] = o->cores[i / o->per_core];
	o->ncores *= o->per_core;
}

static void check_together(const struct options *o)
{
	if (!o->nbinds || !o->ncores)
		refuse("--bind and --cores are both needed");
	if (o->steering != STEER_HASH && !o->reuseport)
		refuse("--steering other than hash needs --reuseport");
	if (o->nbinds * o->ncores * o->per_core > MAX_WORKERS)
		refuse("%u addresses, %u cores and %u workers on each are more than %d sockets", o->nbinds, o->ncores,
		       o->per_core, MAX_WORKERS);
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{ "role", required_argument, NULL, 'r' },     { "bind", required_argument, NULL, 'b' },
		{ "cores", required_argument, NULL, 'c' },    { "reuseport", no_argument, NULL, 'p' },
		{ "steering", required_argument, NULL, 's' }, { "mode", required_argument, NULL, 'm' },
		{ "batch", required_argument, NULL, 'n' },    { "busy-poll-us", required_argument, NULL, 'u' },
		{ "rcvbuf", required_argument, NULL, 'f' },   { "payload", required_argument, NULL, 'l' },
		{ "per-core", required_argument, NULL, 'w' }, { NULL, 0, NULL, 0 },
	};
	static const char *const roles[] = { "echo", "drop" };
	static const char *const steering[] = { "hash", "cpu", "ebpf", "incoming-cpu" };
	bool role_given = false;
	int c;

	*o = (struct options){ .batch = 32, .per_core = 1 };
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'r': o->role = choice("--role", optarg, roles, 2); role_given = true; break;
		case 'b': add_bind(o, optarg); break;
		case 'c': o->ncores = core_list("--cores", optarg, o->cores, MAX_WORKERS); break;
		case 'p': o->reuseport = true; break;
		case 's': o->steering = choice("--steering", optarg, steering, 4); break;
		case 'm': o->mode = choice("--mode", optarg, mode_names, 3); break;
		case 'n': o->batch = number("--batch", optarg, 1, MAX_BATCH); break;
		case 'u': o->busy_poll_us = number("--busy-poll-us", optarg, 0, 1000000); break;
		case 'f': o->rcvbuf = number("--rcvbuf", optarg, 0, 1 << 30); break;
		case 'l': add_payloads(o, optarg); break;
		case 'w': o->per_core = number("--per-core", optarg, 1, 64); break;
		default: refuse("unknown or incomplete option");
		}
	}
	if (optind != argc)
		refuse("unexpected argument %s", argv[optind]);
	if (!role_given)
		refuse("--role is needed");
	check_together(o);
	repeat_cores(o);
}
