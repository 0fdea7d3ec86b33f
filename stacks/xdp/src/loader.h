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
};

/* Cores that forward, and how many frames wait for each; no cores: the receiving core forwards. */
struct cpumap {
	__u32 ring;
	__u32 cpus;
	int cpu[XDP_STACK_CPUS];
};

/* Reads "RING,CPU[,CPU...]" (text is cut up). Each of these ends the process, having said why, when it fails. */
void cpumap_parse(char *text, struct cpumap *cpumap);

/* Puts the cores into a forwarding port's settings and sizes its map for this machine, before its program is loaded. */
void cpumap_configure(const struct cpumap *cpumap, struct port *port);

/* Starts the kernel threads of the cores that a loaded port hands its frames to. They end with the map. */
void cpumap_fill(const struct cpumap *cpumap, const struct port *port);

/* Prints what each core forwarded: "cpus":[...]; empty without a cpumap. */
void cpumap_print(const struct port *port, int possible);

#endif
