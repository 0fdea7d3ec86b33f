// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Direct action on clsact's ingress: drops and counts the test's UDP frames and has no opinion of all others. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
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

/* With IP options, extension headers or as a fragment it is not one of the test's frames, so the offsets are fixed. */
static __always_inline struct udphdr *udp_of_ipv4(void *data, void *data_end)
{
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > data_end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
	    (ip->frag_off & bpf_htons(0x3fff)) || ip->daddr != config.dst_ip[0])
		return 0;
	return udp;
}

static __always_inline struct udphdr *udp_of_ipv6(void *data, void *data_end)
{
	struct ipv6hdr *ip = data + sizeof(struct ethhdr);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > data_end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
		return 0;
	for (int i = 0; i < 4; i++)
		if (ip->daddr.in6_u.u6_addr32[i] != config.dst_ip[i])
			return 0;
	return udp;
}

SEC("tc")
int tc_drop(struct __sk_buff *skb)
{
	__u32 ip = config.version == 6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	__u32 headers = sizeof(struct ethhdr) + ip + sizeof(struct udphdr);
	__u16 protocol = config.version == 6 ? ETH_P_IPV6 : ETH_P_IP;
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct udphdr *udp;
	__u32 key = 0;
	__u64 *count;

	if (skb->protocol != bpf_htons(protocol))
		return TC_ACT_UNSPEC;
	/* A driver, and whoever sends by AF_PACKET's ring over a veth, may leave the headers in a page of the frame. */
	if (data + headers > data_end) {
		if (bpf_skb_pull_data(skb, headers))
			return TC_ACT_UNSPEC;
		data = (void *)(long)skb->data;
		data_end = (void *)(long)skb->data_end;
	}
	udp = config.version == 6 ? udp_of_ipv6(data, data_end) : udp_of_ipv4(data, data_end);
	if (!udp || udp->dest != config.dst_port)
		return TC_ACT_UNSPEC;
	count = bpf_map_lookup_elem(&discarded, &key);
	if (!count)
		return TC_ACT_UNSPEC;
	++*count;
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
