/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "program.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "control.h"
#include "embedded.h"

struct program *programs_load(const struct options *o)
{
	struct program *programs = calloc(o->nports, sizeof(*programs));
	char whose[IF_NAMESIZE + 5];

	if (!programs)
		die("memory for the programs");
	for (unsigned int i = 0; i < o->nports; i++) {
		struct program *p = &programs[i];

		p->port = &o->ports[i];
		p->link = -1;
		snprintf(whose, sizeof(whose), "port %s", p->port->ifname);
		p->object = embedded_open(whose);
		embedded_load(p->object, whose, &p->port->settings, sizeof(p->port->settings));
	}
	return programs;
}

void program_set_socket(const struct program *p, unsigned int queue, int fd)
{
	__u32 key = queue, value = (__u32)fd;

	if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(p->object, "sockets"), &key, &value, BPF_ANY))
		die("port %s, queue %u: the socket in the program's map", p->port->ifname, queue);
}

static void attach(struct program *p, bool generic)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
	struct bpf_program *program = bpf_object__find_program_by_name(p->object, "af_xdp");

	p->link = bpf_link_create(bpf_program__fd(program), (int)p->port->ifindex, BPF_XDP, &options);
	if (p->link >= 0)
		return;
	if (errno == EBUSY || errno == EEXIST)
		die("port %s: another XDP program is attached; remove it: ip link set dev %s xdp off", p->port->ifname,
		    p->port->ifname);
	die("port %s: attach in %s mode", p->port->ifname, generic ? "generic" : "native");
}

void programs_attach(struct program *programs, const struct options *o)
{
	for (unsigned int i = 0; i < o->nports; i++)
		attach(&programs[i], o->generic);
}

struct queue_counters program_counters(const struct program *p)
{
	int map = bpf_object__find_map_fd_by_name(p->object, "counters"), cpus = libbpf_num_possible_cpus();
	struct queue_counters sum = { 0 };

	if (cpus < 1)
		die("number of CPUs");
	for (__u32 queue = 0; queue < p->port->queues; queue++) {
		struct queue_counters value[cpus];

		if (bpf_map_lookup_elem(map, &queue, value))
			die("port %s: counters of queue %u", p->port->ifname, queue);
		for (int cpu = 0; cpu < cpus; cpu++) {
			sum.redirected += value[cpu].redirected;
			sum.passed += value[cpu].passed;
		}
	}
	return sum;
}

void programs_detach(struct program *programs, const struct options *o)
{
	for (unsigned int i = 0; i < o->nports; i++)
		if (programs[i].link >= 0)
			close(programs[i].link);
}
