/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "loader.h"

/* More is refused by the kernel. */
#define MAX_RING 16384

static int parse_number(const char *text, unsigned long most, __u32 *number)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end || end == text || *text == '-' || value > most)
		return complain("cpumap: '%s' is not a number up to %lu", text, most);
	*number = (__u32)value;
	return 0;
}

int cpumap_parse(char *text, struct cpumap *cpumap)
{
	char *word = strsep(&text, ",");

	if (parse_number(word, MAX_RING, &cpumap->ring))
		return -1;
	while ((word = strsep(&text, ","))) {
		if (cpumap->cpus == XDP_STACK_CPUS)
			return complain("cpumap: more than %d cores", XDP_STACK_CPUS);
		if (parse_number(word, XDP_STACK_CPU_IDS - 1, &cpumap->cpu[cpumap->cpus++]))
			return -1;
	}
	if (!cpumap->ring || !cpumap->cpus)
		return complain("cpumap: a ring of at least 1 frame and a core are needed");
	return 0;
}

int cpumap_configure(const struct cpumap *cpumap, struct port *port)
{
	int possible = libbpf_num_possible_cpus();
	struct bpf_map *map = bpf_object__find_map_by_name(port->object, "cpus");

	if (possible < 1 || bpf_map__set_max_entries(map, (__u32)possible))
		return complain("port %s: size of the cpumap", port->ifname);
	if (port->config.role == ROLE_FORWARD) {
		port->config.cpus = cpumap->cpus;
		memcpy(port->config.cpu, cpumap->cpu, sizeof(port->config.cpu));
	}
	return bpf_program__set_autoload(bpf_object__find_program_by_name(port->object, "xdp_stack_on_cpu"),
					 port->config.cpus > 0);
}

int cpumap_fill(const struct cpumap *cpumap, const struct port *port)
{
	struct bpf_cpumap_val value = { .qsize = cpumap->ring };
	int map = bpf_object__find_map_fd_by_name(port->object, "cpus");

	if (!port->config.cpus)
		return 0;
	value.bpf_prog.fd = bpf_program__fd(bpf_object__find_program_by_name(port->object, "xdp_stack_on_cpu"));
	for (__u32 i = 0; i < cpumap->cpus; i++)
		if (bpf_map_update_elem(map, &cpumap->cpu[i], &value, BPF_ANY))
			return complain("port %s: cpumap entry of core %u: %s", port->ifname, cpumap->cpu[i], strerror(errno));
	return 0;
}

int cpumap_print(const struct port *port, int possible)
{
	struct xdp_stack_cpu_counters value[possible];
	int map = bpf_object__find_map_fd_by_name(port->object, "cpu_counters");
	__u32 key = 0;

	if (bpf_map_lookup_elem(map, &key, value))
		return complain("port %s: read the cores' counters: %s", port->ifname, strerror(errno));
	fputs("\"cpus\":[", stdout);
	for (__u32 i = 0; i < port->config.cpus; i++) {
		__u32 cpu = port->config.cpu[i];

		if (cpu >= (__u32)possible)
			return complain("port %s: there is no core %u", port->ifname, cpu);
		printf("%s{\"cpu\":%u,\"taken\":%llu,\"redirected\":%llu,\"refused\":%llu}", i ? "," : "", cpu,
		       value[cpu].taken, value[cpu].redirected, value[cpu].refused);
	}
	putchar(']');
	return 0;
}
