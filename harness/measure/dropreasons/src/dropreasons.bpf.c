// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Counts packets that the kernel drops (tracepoint skb:kfree_skb), by its own reason. GPL: only such programs may
 * read the kernel's memory.
 *
 * A packet counts when it came in by, or is about to leave through, one of the configured ports. skb->dev tells, with
 * its network namespace: interface numbers are unique only within one. A packet that a UDP socket has begun to take in
 * has no device any more (the field holds lengths then, which no read survives): skb_iif still says where it came in.
 */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "dropreasons.h"

/* The fields that are read; where they lie is found in the running kernel's BTF when the program is loaded. */
struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

struct sk_buff {
	struct net_device *dev;
	int skb_iif;
} __attribute__((preserve_access_index));

const volatile struct dropreasons_config config;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_REASONS);
	__type(key, __u32);
	__type(value, __u64);
} reasons SEC(".maps");

static __always_inline int is_port(int ifindex)
{
	if (ifindex <= 0)
		return 0;
	for (int i = 0; i < MAX_PORTS; i++)
		if (config.ifindex[i] == (__u32)ifindex)
			return 1;
	return 0;
}

static __always_inline int is_ours(struct sk_buff *skb)
{
	struct net_device *dev = 0;
	struct net *net = 0;
	unsigned int netns = 0;
	int ifindex = 0, iif = 0;

	BPF_CORE_READ_INTO(&iif, skb, skb_iif);
	if (BPF_CORE_READ_INTO(&dev, skb, dev) || !dev || BPF_CORE_READ_INTO(&ifindex, dev, ifindex) ||
	    BPF_CORE_READ_INTO(&net, dev, nd_net.net) || BPF_CORE_READ_INTO(&netns, net, ns.inum))
		return is_port(iif);
	return netns == config.netns && (is_port(ifindex) || is_port(iif));
}

SEC("raw_tp/kfree_skb")
int count_drop(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 reason = (__u32)ctx->args[2];
	__u64 zero = 0, *count;

	if (!is_ours((struct sk_buff *)ctx->args[0]))
		return 0;
	count = bpf_map_lookup_elem(&reasons, &reason);
	if (!count) {
		bpf_map_update_elem(&reasons, &reason, &zero, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&reasons, &reason);
	}
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
