/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF object, its maps in this process, and the receiving program on the ports. */
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <stdio.h>
#include <unistd.h>

#include "dp.h"
#include "schedule.h"

static int check_kernel(struct dataplane *dp)
{
	struct utsname name;
	int major = 0, minor = 0;

	if (uname(&name) || sscanf(name.release, "%d.%d", &major, &minor) != 2)
		return 0;
	if (major > 5 || (major == 5 && minor >= 18))
		return 0;
	return fail(dp, -EOPNOTSUPP, "Linux %s has no XDP live frames: 5.18 or newer is needed", name.release);
}

static int resize(struct dataplane *dp, const char *name, __u32 entries)
{
	struct bpf_map *map = bpf_object__find_map_by_name(dp->object, name);
	int err = map ? bpf_map__set_max_entries(map, entries) : -ENOENT;

	return err ? fail(dp, err, "BPF object: map %s: %s", name, strerror(-err)) : 0;
}

static int load_object(struct dataplane *dp, const char *path)
{
	int err;

	dp->object = bpf_object__open_file(path, NULL);
	if (!dp->object)
		return fail(dp, -errno, "cannot open %s: %s", path, strerror(errno));
	err = resize(dp, "cells", dp->cell_count);
	if (!err)
		err = resize(dp, "payloads", dp->cores_used * MAX_SLOTS);
	if (!err)
		err = resize(dp, "group_counters", dp->ports_used * GROUP_SLOTS);
	if (err)
		return err;
	err = bpf_object__load(dp->object);
	if (err == -EPERM)
		return fail(dp, err, "loading BPF programs is not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN "
				     "and CAP_PERFMON (CAP_SYS_ADMIN in containers)");
	return err ? fail(dp, err, "cannot load the BPF programs: %s", strerror(-err)) : 0;
}

static void *map_memory(struct dataplane *dp, const char *name, size_t size, int *fd)
{
	void *memory;

	*fd = bpf_object__find_map_fd_by_name(dp->object, name);
	if (*fd < 0)
		return NULL;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

static int find_maps(struct dataplane *dp)
{
	struct bpf_map *bss = bpf_object__find_map_by_name(dp->object, ".bss");
	struct bpf_program *send = bpf_object__find_program_by_name(dp->object, "send");
	int fd;

	if (!bss || !send || bpf_map__value_size(bss) != sizeof(struct shared_state))
		return fail(dp, -EPROTO, "the BPF object and xdpgen-dp do not belong together: delete the cache directory");
	dp->send_fd = bpf_program__fd(send);
	dp->shared = map_memory(dp, ".bss", sizeof(struct shared_state), &fd);
	dp->cells = map_memory(dp, "cells", (size_t)dp->cell_count * CELL, &dp->cells_fd);
	dp->payloads = map_memory(dp, "payloads", (size_t)dp->cores_used * MAX_SLOTS * MAX_FRAME, &dp->payloads_fd);
	dp->histograms = map_memory(dp, "histograms", sizeof(__u64) * LATENCY_GROUPS * HIST_BUCKETS,
				    &dp->histograms_fd);
	dp->latency_fd = bpf_object__find_map_fd_by_name(dp->object, "latency_states");
	dp->port_fd = bpf_object__find_map_fd_by_name(dp->object, "port_counters");
	dp->group_fd = bpf_object__find_map_fd_by_name(dp->object, "group_counters");
	if (!dp->shared || !dp->cells || !dp->payloads || !dp->histograms)
		return fail(dp, -ENOMEM, "cannot map the BPF maps: %s", strerror(errno));
	return 0;
}

static void reset_cores(struct dataplane *dp)
{
	for (__u32 i = 0; i < dp->cores_used; i++) {
		struct core *core = &dp->shared->cores[i];

		dp->shared->core_of_cpu[dp->senders[i].cpu] = i;
		core->hold_next = HOLD_NEXT_NS;
		schedule_nothing(core);
	}
}

static int attach(struct dataplane *dp, __u32 index)
{
	struct bpf_program *receive = bpf_object__find_program_by_name(dp->object, "receive");
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_DRV_MODE);
	struct port *port = &dp->ports[index];
	int fd = bpf_object__find_map_fd_by_name(dp->object, "ports");

	if (bpf_map_update_elem(fd, &index, &port->ifindex, BPF_ANY))
		return fail(dp, -errno, "%s cannot be a target of XDP_REDIRECT: %s", port->name, strerror(errno));
	port->link_fd = bpf_link_create(bpf_program__fd(receive), port->ifindex, BPF_XDP, &options);
	if (port->link_fd == -EBUSY || port->link_fd == -EEXIST)
		return fail(dp, port->link_fd, "%s already has an XDP program: ip link set dev %s xdp off", port->name,
			    port->name);
	if (port->link_fd == -EOPNOTSUPP)
		return fail(dp, port->link_fd, "the driver of %s has no native XDP", port->name);
	if (port->link_fd < 0)
		return fail(dp, port->link_fd, "cannot attach the receiving program to %s: %s", port->name,
			    strerror(-port->link_fd));
	return 0;
}

static int open_port(struct dataplane *dp, __u32 index)
{
	struct port *port = &dp->ports[index];
	int err;

	port->ifindex = if_nametoindex(port->name);
	if (!port->ifindex)
		return fail(dp, -ENODEV, "there is no interface %s in this network namespace", port->name);
	dp->shared->rx.ifindex[index] = port->ifindex;
	err = attach(dp, index);
	if (err)
		return err;
	port->exact = !wire_counters(port->name, &port->base);
	err = wire_missed(port->name, &port->base_missed);
	return err ? fail(dp, err, "cannot read the counters of %s: %s", port->name, strerror(-err)) : 0;
}

int load(struct dataplane *dp, const char *object)
{
	int err = check_kernel(dp);

	if (!err)
		err = load_object(dp, object);
	if (!err)
		err = find_maps(dp);
	if (err)
		return err;
	reset_cores(dp);
	dp->shared->rx.ports = dp->ports_used;
	if (getrandom(&dp->shared->rx.nonce, 1, 0) != 1)
		return fail(dp, -errno, "no random numbers: %s", strerror(errno));
	for (__u32 i = 0; i < dp->ports_used && !err; i++)
		err = open_port(dp, i);
	return err;
}

void unload(struct dataplane *dp)
{
	for (__u32 i = 0; i < dp->ports_used; i++)
		if (dp->ports[i].link_fd > 0)
			close(dp->ports[i].link_fd);
	bpf_object__close(dp->object);
}
