/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>

#include "arguments.h"
#include "control.h"
#include "loader.h"

/* More is refused by the kernel. */
#define MAX_RING 16384

void cpumap_parse(char *text, struct cpumap *cpumap)
{
	const char *ring = strsep(&text, ",");

	cpumap->ring = number("cpumap's ring", ring, 1, MAX_RING);
	if (!text)
		refuse("cpumap: a core is needed");
	cpumap->cpus = number_list("cpumap's cores", text, cpumap->cpu, 0, XDP_STACK_CPUS, XDP_STACK_CPU_IDS - 1);
}

void cpumap_configure(const struct cpumap *cpumap, struct port *port)
{
	int possible = libbpf_num_possible_cpus();
	struct bpf_map *map = bpf_object__find_map_by_name(port->object, "cpus");

	if (possible < 1 || bpf_map__set_max_entries(map, (__u32)possible))
		die("port %s: size of the cpumap", port->ifname);
	if (port->config.role == ROLE_FORWARD) {
		port->config.cpus = cpumap->cpus;
		for (__u32 i = 0; i < cpumap->cpus; i++)
			port->config.cpu[i] = (__u32)cpumap->cpu[i];
	}
	if (bpf_program__set_autoload(bpf_object__find_program_by_name(port->object, "xdp_stack_on_cpu"),
				      port->config.cpus > 0))
		die("port %s: choose the cpumap's program", port->ifname);
}

void cpumap_fill(const struct cpumap *cpumap, const struct port *port)
{
	struct bpf_cpumap_val value = { .qsize = cpumap->ring };
	int map = bpf_object__find_map_fd_by_name(port->object, "cpus");

	if (!port->config.cpus)
		return;
	value.bpf_prog.fd = bpf_program__fd(bpf_object__find_program_by_name(port->object, "xdp_stack_on_cpu"));
	for (__u32 i = 0; i < cpumap->cpus; i++)
		if (bpf_map_update_elem(map, &port->config.cpu[i], &value, BPF_ANY))
			die("port %s: cpumap entry of core %u", port->ifname, port->config.cpu[i]);
}

void cpumap_print(const struct port *port, int possible)
{
	struct xdp_stack_cpu_counters value[possible];
	int map = bpf_object__find_map_fd_by_name(port->object, "cpu_counters");
	__u32 key = 0;

	if (bpf_map_lookup_elem(map, &key, value))
		die("port %s: read the cores' counters", port->ifname);
	fputs("\"cpus\":[", stdout);
	for (__u32 i = 0; i < port->config.cpus; i++) {
		__u32 cpu = port->config.cpu[i];

		if (cpu >= (__u32)possible)
			die("port %s: there is no core %u", port->ifname, cpu);
		printf("%s{\"cpu\":%u,\"taken\":%llu,\"redirected\":%llu,\"refused\":%llu}", i ? "," : "", cpu,
		       value[cpu].taken, value[cpu].redirected, value[cpu].refused);
	}
	putchar(']');
}
