/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "options.h"

#include "arguments.h"

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

static void add_payloads(struct options *o, char *list)
{
	o->npayloads = number_list("--payload", list, o->payloads, o->npayloads, MAX_PAYLOADS, 65507);
}

static void check_together(const struct options *o)
{
	group_check(&o->group);
	if (o->steering != STEER_HASH && !o->group.reuseport)
		refuse("--steering other than hash needs --reuseport");
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		GROUP_OPTIONS,
		{ "role", required_argument, NULL, 'r' },    { "steering", required_argument, NULL, 's' },
		{ "mode", required_argument, NULL, 'm' },    { "batch", required_argument, NULL, 'n' },
		{ "rcvbuf", required_argument, NULL, 'f' },  { "busy-poll-us", required_argument, NULL, 'u' },
		{ "payload", required_argument, NULL, 'l' }, { NULL, 0, NULL, 0 },
	};
	static const char *const roles[] = { "echo", "drop" };
	static const char *const steering[] = { "hash", "cpu", "ebpf", "incoming-cpu" };
	bool role_given = false;
	int c;

	*o = (struct options){ .batch = 32, .group.per_core = 1 };
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'r': o->role = choice("--role", optarg, roles, 2); role_given = true; break;
		case 's': o->steering = choice("--steering", optarg, steering, 4); break;
		case 'm': o->mode = choice("--mode", optarg, mode_names, 3); break;
		case 'n': o->batch = number("--batch", optarg, 1, MAX_BATCH); break;
		case 'u': o->busy_poll_us = number("--busy-poll-us", optarg, 0, 1000000); break;
		case 'f': o->rcvbuf = number("--rcvbuf", optarg, 0, 1 << 30); break;
		case 'l': add_payloads(o, optarg); break;
		default:
			if (!group_option(&o->group, c, optarg))
				refuse("unknown or incomplete option");
		}
	}
	if (optind != argc)
		refuse("unexpected argument %s", argv[optind]);
	if (!role_given)
		refuse("--role is needed");
	check_together(o);
}
