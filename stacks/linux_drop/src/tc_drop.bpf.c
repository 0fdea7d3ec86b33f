// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Direct action on clsact's ingress: drops and counts the test's UDP frames and has no opinion of all others. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tc_drop.h"

const volatile struct tc_drop_config config = {};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} discarded SEC(".maps");

SEC("tc")
int tc_drop(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 key = 0;
	__u64 *count;

	/* With IP options or as a fragment it is not one of the test's frames, so the offsets are fixed. */
	if ((void *)(udp + 1) > data_end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->version != 4 || ip->ihl != 5 ||
	    ip->protocol != IPPROTO_UDP || (ip->frag_off & bpf_htons(0x3fff)) || ip->daddr != config.dst_ip ||
	    udp->dest != config.dst_port)
		return TC_ACT_UNSPEC;
	count = bpf_map_lookup_elem(&discarded, &key);
	if (!count)
		return TC_ACT_UNSPEC;
	++*count;
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
