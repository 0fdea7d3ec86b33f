/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loader of the tc places: attaches the program to the clsact qdisc that is on the port already, prints "ready" and
 * answers "stats ID" on standard input with one JSON line. It detaches at its end; what SIGKILL leaves goes with the
 * qdisc.
 *
 *   tc_drop IFNAME PREF DST_IP UDP_PORT
 */
#define _GNU_SOURCE
#include "arguments.h"
#include "control.h"
#include "embedded.h"

#include <arpa/inet.h>
#include <linux/types.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "tc_drop.h"

const char usage[] = "usage: tc_drop IFNAME PREF DST_IP UDP_PORT\n";

static struct bpf_object *object;

static void print_stats(void *unused)
{
	int cpus = libbpf_num_possible_cpus(), map = bpf_object__find_map_fd_by_name(object, "discarded");
	__u64 value[cpus > 0 ? cpus : 1];
	__u32 key = 0;

	(void)unused;
	if (cpus < 1)
		die("number of CPUs");
	if (bpf_map_lookup_elem(map, &key, value))
		die("read counters");
	printf("{\"discarded\":[");
	for (int cpu = 0; cpu < cpus; cpu++)
		printf("%s%llu", cpu ? "," : "", value[cpu]);
	printf("]}");
}

int main(int argc, char **argv)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, attached, .handle = 1);
	LIBBPF_OPTS(bpf_tc_opts, place, .handle = 1);
	struct tc_drop_config config = { 0 };
	int signals, error;

	if (argc != 5)
		refuse("four arguments are needed");
	hook.ifindex = (int)if_nametoindex(argv[1]);
	if (!hook.ifindex)
		refuse("no interface '%s' here", argv[1]);
	attached.priority = place.priority = number("pref", argv[2], 1, 65535);
	config.version = strchr(argv[3], ':') ? 6 : 4;
	if (inet_pton(config.version == 6 ? AF_INET6 : AF_INET, argv[3], config.dst_ip) != 1)
		refuse("'%s' is not an IP address", argv[3]);
	config.dst_port = htons((unsigned short)number("port", argv[4], 1, 65535));
	signals = control_signals();
	object = embedded_open("tc_drop");
	embedded_load(object, "tc_drop", &config, sizeof(config));
	attached.prog_fd = bpf_program__fd(bpf_object__find_program_by_name(object, "tc_drop"));
	error = bpf_tc_attach(&hook, &attached);
	if (error)
		die("attach to clsact");
	control_ready("%s", "");
	control_loop(signals, print_stats, NULL);
	error = bpf_tc_detach(&hook, &place);
	if (error)
		die("detach from clsact");
	bpf_object__close(object);
	return 0;
}
