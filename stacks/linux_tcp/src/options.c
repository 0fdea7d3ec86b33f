/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "options.h"

#include "arguments.h"

#include <stddef.h>

const char usage[] =
	"usage: accept-server --bind ADDRESS:PORT [--bind ...] --cores N[,N...] [--per-core 1..64]\n"
	"                     [--reuseport] [--steering hash|cpu] [--mode block|epoll] [--backlog N]\n";

static const char *const mode_names[] = { "block", "epoll" };

const char *mode_name(enum mode mode)
{
	return mode_names[mode];
}

unsigned int options_workers(const struct options *o)
{
	return group_workers(&o->group) * (o->mode == MODE_BLOCK ? o->group.nbinds : 1);
}

static void check_together(const struct options *o)
{
	group_check(&o->group);
	if (o->steer_by_cpu && !o->group.reuseport)
		refuse("--steering cpu needs --reuseport");
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		GROUP_OPTIONS,
		{ "steering", required_argument, NULL, 's' }, { "mode", required_argument, NULL, 'm' },
		{ "backlog", required_argument, NULL, 'l' },  { NULL, 0, NULL, 0 },
	};
	static const char *const steering[] = { "hash", "cpu" };
	int c;

	*o = (struct options){ .mode = MODE_EPOLL, .group.per_core = 1, .backlog = 4096 };
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 's': o->steer_by_cpu = choice("--steering", optarg, steering, 2); break;
		case 'm': o->mode = choice("--mode", optarg, mode_names, 2); break;
		case 'l': o->backlog = number("--backlog", optarg, 1, MAX_BACKLOG); break;
		default:
			if (!group_option(&o->group, c, optarg))
				refuse("unknown or incomplete option");
		}
	}
	if (optind != argc)
		refuse("unexpected argument %s", argv[optind]);
	check_together(o);
}
