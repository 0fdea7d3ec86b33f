/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "options.h"

#include "arguments.h"

#include <getopt.h>
#include <stddef.h>

const char usage[] =
	"usage: accept-server --bind ADDRESS:PORT [--bind ...] --cores N[,N...] [--per-core 1..64]\n"
	"                     [--reuseport] [--steering hash|cpu] [--mode block|epoll] [--backlog N]\n";

static const char *const mode_names[] = { "block", "epoll" };

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
		case 'c': o->ncores = core_list("--cores", optarg, o->cores, MAX_WORKERS); break;
		case 'p': o->reuseport = true; break;
		case 's': o->steer_by_cpu = choice("--steering", optarg, steering, 2); break;
		case 'm': o->mode = choice("--mode", optarg, mode_names, 2); break;
		case 'l': o->backlog = number("--backlog", optarg, 1, MAX_BACKLOG); break;
		case 'n': o->per_core = number("--per-core", optarg, 1, 64); break;
		default: refuse("unknown or incomplete option");
		}
	}
	if (optind != argc)
		refuse("unexpected argument %s", argv[optind]);
	check_together(o);
}
