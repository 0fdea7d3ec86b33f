/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts the packets of some ports that the kernel drops, by its own reason (dropreasons.bpf.c). Prints "ready" once it
 * counts and stays in the foreground (control.h); the attachment is a BPF link, which ends with this process.
 *
 *   dropreasons IFNAME...
 */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "arguments.h"
#include "control.h"
#include "dropreasons.h"
#include "embedded.h"

const char usage[] = "usage: dropreasons IFNAME... (at most 8 interfaces)\n";

#define PREFIX "SKB_DROP_REASON_"

static struct bpf_object *object;
static struct btf *kernel;
static const struct btf_type *names;

static void find_names(void)
{
	__s32 id;

	kernel = btf__load_vmlinux_btf();
	if (!kernel)
		die("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)");
	id = btf__find_by_name_kind(kernel, "skb_drop_reason", BTF_KIND_ENUM);
	errno = 0;
	if (id < 0)
		die("this kernel knows no drop reasons (they came with Linux 5.17)");
	names = btf__type_by_id(kernel, (__u32)id);
}

/* The kernel's name of a reason, without its prefix; NULL: one of a subsystem's own. */
static const char *name_of(__u32 reason)
{
	const struct btf_enum *each = btf_enum(names);
	const char *name;

	for (__u32 i = 0; i < btf_vlen(names); i++)
		if ((__u32)each[i].val == reason) {
			name = btf__name_by_offset(kernel, each[i].name_off);
			return strncmp(name, PREFIX, strlen(PREFIX)) ? name : name + strlen(PREFIX);
		}
	return NULL;
}

static void parse_ports(int count, char **ifnames, struct dropreasons_config *config)
{
	struct stat here;

	if (stat("/proc/self/ns/net", &here))
		die("/proc/self/ns/net");
	config->netns = (__u32)here.st_ino;
	if (count < 1 || count > MAX_PORTS)
		refuse("1 to %d interfaces are needed", MAX_PORTS);
	for (int i = 0; i < count; i++) {
		config->ifindex[i] = if_nametoindex(ifnames[i]);
		if (!config->ifindex[i])
			refuse("no interface '%s' here", ifnames[i]);
	}
}

static void print_reason(__u32 reason, unsigned long long count, int first)
{
	const char *name = name_of(reason);

	printf("%s{\"reason\":\"", first ? "" : ",");
	if (name)
		printf("%s", name);
	else
		printf("subsystem %u reason %u", reason >> 16, reason & 0xffff);
	printf("\",\"count\":%llu}", count);
}

/* Drops not seen because they happened inside the counting of another one on the same core. */
static unsigned long long missed(void)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, "count_drop");
	struct bpf_prog_info info = { 0 };
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size))
		die("read the BPF program's misses");
	return info.recursion_misses;
}

static void print_stats(void *unused)
{
	int map = bpf_object__find_map_fd_by_name(object, "reasons"), cpus = libbpf_num_possible_cpus(), first = 1;
	__u32 reason, *last = NULL, previous;

	(void)unused;
	if (cpus < 1)
		die("number of CPUs");
	printf("{\"reasons\":[");
	while (!bpf_map_get_next_key(map, last, &reason)) {
		__u64 value[cpus], sum = 0;

		if (!bpf_map_lookup_elem(map, &reason, value)) {
			for (int cpu = 0; cpu < cpus; cpu++)
				sum += value[cpu];
			print_reason(reason, sum, first);
			first = 0;
		}
		previous = reason;
		last = &previous;
	}
	printf("],\"missed\":%llu}", missed());
}

int main(int argc, char **argv)
{
	struct dropreasons_config config = { 0 };
	int signals;

	parse_ports(argc - 1, argv + 1, &config);
	signals = control_signals();
	find_names();
	object = embedded_open("dropreasons");
	embedded_load(object, "dropreasons", &config, sizeof(config));
	if (!bpf_program__attach(bpf_object__find_program_by_name(object, "count_drop")))
		die("attach to the tracepoint skb:kfree_skb");
	control_ready("%s", "");
	control_loop(signals, print_stats, NULL);
	return 0;
}
