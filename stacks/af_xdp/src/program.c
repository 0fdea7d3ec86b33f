/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "program.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control.h"

/* The compiled BPF program, part of this file: one program to deploy. */
__asm__(".section .rodata\n"
	".balign 16\n"
	"bpf_object_start:\n"
	".incbin \"" BPF_OBJECT "\"\n"
	"bpf_object_end:\n"
	".previous\n");
extern const char bpf_object_start[], bpf_object_end[];

static void set_constants(struct bpf_object *object, const struct port_options *port)
{
	struct bpf_map *map;
	size_t size = 0;

	bpf_object__for_each_map(map, object)
		if (bpf_map__is_internal(map) && bpf_map__initial_value(map, &size) && size == sizeof(port->settings))
			break;
	if (!map)
		die("port %s: the BPF object has no settings of %zu bytes", port->ifname, sizeof(port->settings));
	errno = -bpf_map__set_initial_value(map, &port->settings, sizeof(port->settings));
	if (errno)
		die("port %s: settings of the BPF program", port->ifname);
}

struct program *programs_load(const struct options *o)
{
	struct program *programs = calloc(o->nports, sizeof(*programs));

	if (!programs)
		die("memory for the programs");
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	for (unsigned int i = 0; i < o->nports; i++) {
		struct program *p = &programs[i];

		p->port = &o->ports[i];
		p->link = -1;
		p->object = bpf_object__open_mem(bpf_object_start, (size_t)(bpf_object_end - bpf_object_start), NULL);
		if (!p->object)
			die("port %s: open the BPF object", p->port->ifname);
		set_constants(p->object, p->port);
		errno = -bpf_object__load(p->object);
		if (errno)
			die("port %s: load the BPF program", p->port->ifname);
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
