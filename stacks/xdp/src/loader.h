/* SPDX-License-Identifier: Apache-2.0 */
/* The loader's ports, and the cpumap through which other cores forward for them. */
#ifndef LOADER_H
#define LOADER_H

#include <linux/types.h>
#include <net/if.h>

#include <bpf/libbpf.h>

#include "xdp_stack.h"

struct port {
	char ifname[IF_NAMESIZE];
	unsigned int ifindex, queues;
	unsigned int egress;	/* ifindex, 0: none */
	struct xdp_stack_config config;
	struct bpf_object *object;
	int link;		/* file descriptor, -1: not attached */
};

/* Cores that forward, and how many frames wait for each; no cores: the receiving core forwards. */
struct cpumap {
	__u32 ring;
	__u32 cpus;
	__u32 cpu[XDP_STACK_CPUS];
};

/* Says what is wrong on standard error; returns -1 to be handed on. */
int complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reads "RING,CPU[,CPU...]" (text is cut up). Each of these returns -1, having complained, when it fails. */
int cpumap_parse(char *text, struct cpumap *cpumap);

/* Puts the cores into a forwarding port's settings and sizes its map for this machine, before its program is loaded. */
int cpumap_configure(const struct cpumap *cpumap, struct port *port);

/* Starts the kernel threads of the cores that a loaded port hands its frames to. They end with the map. */
int cpumap_fill(const struct cpumap *cpumap, const struct port *port);

/* Prints what each core forwarded: "cpus":[...]; empty without a cpumap. */
int cpumap_print(const struct port *port, int possible);

#endif
