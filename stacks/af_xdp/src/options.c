/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "options.h"

#include "arguments.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

const char usage[] =
	"usage: af-xdp --role drop|reflect|echo|forward --port PORT [--port PORT ...] --cores N[,N...]\n"
	"              [--bypass partial|whole] [--mode copy|zero-copy] [--attach native|generic] [--need-wakeup]\n"
	"              [--wait poll|spin] [--busy-budget 0..1024] [--batch 1..256] [--ring 64..8192]\n"
	"PORT: IFNAME,QUEUES[,ADDRESS,UDP_PORT[,EGRESS_IFNAME,NEW_SRC_MAC,NEW_DST_MAC]]; without an address it only sends\n";

static void copy_name(char to[IF_NAMESIZE], const char *name)
{
	if (!*name || strlen(name) >= IF_NAMESIZE)
		refuse("--port: '%s' is not an interface's name", name);
	strcpy(to, name);
}

static void read_mac(const char *text, __u8 mac[6])
{
	int used = 0;

	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
		   &used) != 6 || text[used])
		refuse("--port: '%s' is not a MAC address", text);
}

static void read_flow(struct test_flow *flow, const char *address, const char *udp_port)
{
	flow->is_ipv6 = strchr(address, ':') != NULL;
	if (inet_pton(flow->is_ipv6 ? AF_INET6 : AF_INET, address, flow->address) != 1)
		refuse("--port: '%s' is not an address", address);
	flow->udp_port = htons((unsigned short)number("--port", udp_port, 1, 65535));
}

static void add_port(struct options *o, char *text)
{
	struct port_options *port = &o->ports[o->nports];
	char *field[7] = { 0 }, *rest = text;
	unsigned int count = 0;

	if (o->nports == MAX_PORTS)
		refuse("--port: more than %d", MAX_PORTS);
	while (count < 7 && (field[count] = strsep(&rest, ",")))
		count++;
	if (rest || (count != 2 && count != 4 && count != 7))
		refuse("--port %s: expected 2, 4 or 7 fields", text);
	copy_name(port->ifname, field[0]);
	port->queues = number("--port", field[1], 1, MAX_QUEUES);
	port->ifindex = if_nametoindex(port->ifname);
	if (!port->ifindex)
		refuse("--port: no interface '%s' here", port->ifname);
	if (count > 2)
		read_flow(&port->settings.flow, field[2], field[3]);
	if (count == 7) {
		copy_name(port->egress_name, field[4]);
		read_mac(field[5], port->new_src_mac);
		read_mac(field[6], port->new_dst_mac);
	}
	o->nports++;
}

static void set_egress(struct options *o, unsigned int index)
{
	struct port_options *port = &o->ports[index];
	bool serves = port->settings.flow.udp_port, leads = *port->egress_name;

	port->settings.bypass = serves ? o->bypass : BYPASS_NONE;
	port->egress = index;
	if (serves && leads != (o->role == ROLE_FORWARD))
		refuse("--port %s: role forward, and no other, needs an egress port", port->ifname);
	for (unsigned int i = 0; leads && i <= o->nports; i++) {
		if (i == o->nports)
			refuse("--port %s: its egress port %s is not given as a port", port->ifname, port->egress_name);
		if (!strcmp(o->ports[i].ifname, port->egress_name)) {
			port->egress = i;
			break;
		}
	}
	if (port->queues < o->ncores)
		refuse("--port %s: %u queues are fewer than %u cores", port->ifname, port->queues, o->ncores);
}

static void check_together(struct options *o)
{
	if (!o->nports || !o->ncores)
		refuse("--port and --cores are both needed");
	if (o->ring & (o->ring - 1))
		refuse("--ring %u: not a power of two", o->ring);
	if (o->zero_copy && o->generic)
		refuse("--mode zero-copy needs --attach native");
	for (unsigned int i = 0; i < o->nports; i++)
		set_egress(o, i);
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{ "role", required_argument, NULL, 'r' },   { "port", required_argument, NULL, 'p' },
		{ "cores", required_argument, NULL, 'c' },  { "bypass", required_argument, NULL, 'y' },
		{ "mode", required_argument, NULL, 'm' },   { "attach", required_argument, NULL, 'a' },
		{ "need-wakeup", no_argument, NULL, 'k' },  { "wait", required_argument, NULL, 'w' },
		{ "batch", required_argument, NULL, 'n' },  { "busy-budget", required_argument, NULL, 'b' },
		{ "ring", required_argument, NULL, 'g' },   { NULL, 0, NULL, 0 },
	};
	static const char *const roles[] = { "drop", "reflect", "echo", "forward" };
	static const char *const bypasses[] = { "partial", "whole" };
	static const char *const modes[] = { "copy", "zero-copy" }, *const waits[] = { "poll", "spin" };
	static const char *const attach[] = { "native", "generic" };
	bool role_given = false;
	int c;

	*o = (struct options){ .bypass = BYPASS_PARTIAL, .batch = 64, .ring = 2048 };
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'r': o->role = choice("--role", optarg, roles, 4); role_given = true; break;
		case 'p': add_port(o, optarg); break;
		case 'c': o->ncores = core_list("--cores", optarg, o->cores, MAX_WORKERS); break;
		case 'y': o->bypass = BYPASS_PARTIAL + choice("--bypass", optarg, bypasses, 2); break;
		case 'm': o->zero_copy = choice("--mode", optarg, modes, 2); break;
		case 'a': o->generic = choice("--attach", optarg, attach, 2); break;
		case 'k': o->need_wakeup = true; break;
		case 'w': o->spin = choice("--wait", optarg, waits, 2); break;
		case 'n': o->batch = number("--batch", optarg, 1, MAX_BATCH); break;
		case 'b': o->busy_budget = number("--busy-budget", optarg, 0, 1024); break;
		case 'g': o->ring = number("--ring", optarg, 64, 8192); break;
		default: refuse("unknown or incomplete option");
		}
	}
	if (optind != argc)
		refuse("unexpected argument %s", argv[optind]);
	if (!role_given)
		refuse("--role is needed");
	check_together(o);
}
