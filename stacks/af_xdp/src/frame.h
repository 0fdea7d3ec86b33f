/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What a test frame is, to the BPF program and to user space alike: UDP over IPv4 without options or fragments, or over
 * IPv6 without extension headers, to the test's address and port, with at most one VLAN tag. */
#ifndef FRAME_H
#define FRAME_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>

#include "af_xdp.h"

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

/* Of a test frame; one of ip4 and ip6 is set. */
struct headers {
	struct ethhdr *eth;
	struct iphdr *ip4;
	struct ipv6hdr *ip6;
	struct udphdr *udp;
};

static inline __attribute__((always_inline)) int is_test_ipv4(const struct iphdr *ip,
							       const volatile struct test_flow *flow)
{
	return ip->version == 4 && ip->ihl == 5 && ip->protocol == IPPROTO_UDP &&
	       !(ip->frag_off & bpf_htons(0x3fff)) && ip->daddr == flow->address[0];
}

static inline __attribute__((always_inline)) int is_test_ipv6(const struct ipv6hdr *ip,
							       const volatile struct test_flow *flow)
{
	const __u32 *to = ip->daddr.in6_u.u6_addr32;

	return ip->version == 6 && ip->nexthdr == IPPROTO_UDP && to[0] == flow->address[0] &&
	       to[1] == flow->address[1] && to[2] == flow->address[2] && to[3] == flow->address[3];
}

/* Whether [data, end) is a frame of the flow; fills in where its headers are. */
static inline __attribute__((always_inline)) int find_headers(void *data, void *end,
							       const volatile struct test_flow *flow,
							       struct headers *h)
{
	struct ethhdr *eth = data;
	void *next = eth + 1;
	__be16 protocol;

	if (next > end)
		return 0;
	protocol = eth->h_proto;
	if (protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD)) {
		struct vlan_tag *tag = next;

		next = tag + 1;
		if (next > end)
			return 0;
		protocol = tag->protocol;
	}
	*h = (struct headers){ .eth = eth };
	if (protocol == bpf_htons(ETH_P_IP) && !flow->is_ipv6) {
		h->ip4 = next;
		h->udp = (void *)(h->ip4 + 1);
		if ((void *)(h->udp + 1) > end || !is_test_ipv4(h->ip4, flow))
			return 0;
	} else if (protocol == bpf_htons(ETH_P_IPV6) && flow->is_ipv6) {
		h->ip6 = next;
		h->udp = (void *)(h->ip6 + 1);
		if ((void *)(h->udp + 1) > end || !is_test_ipv6(h->ip6, flow))
			return 0;
	} else {
		return 0;
	}
	return h->udp->dest == flow->udp_port;
}

#endif
