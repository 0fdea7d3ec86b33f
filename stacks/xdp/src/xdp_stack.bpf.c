// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* One port of the xdp stack: handles the test's UDP frames as the role says and leaves all others to the kernel. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "xdp_stack.h"

const volatile struct xdp_stack_config config = {};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct xdp_stack_counters);
	__uint(max_entries, XDP_STACK_QUEUES);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} egress SEC(".maps");

/* Frames wait in the ring of a CPU for its kernel thread, which runs xdp_stack_on_cpu on them. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
	__uint(max_entries, 1); /* the loader: as many as the machine may have */
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct xdp_stack_cpu_counters);
	__uint(max_entries, 1);
} cpu_counters SEC(".maps");

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

/* Of a frame; with IP options, extension headers or as a fragment it is not one of the test's, so the offsets are fixed.
 * The tag is null without config.vlan; of ip and ip6 only that of config.version is used.
 */
struct headers {
	struct ethhdr *eth;
	struct vlan_tag *tag;
	union {
		struct iphdr *ip;
		struct ipv6hdr *ip6;
	};
	struct udphdr *udp;
};

/* MAC addresses as three 16-bit words: they are only 2-byte aligned in a frame. */
static __always_inline void copy_mac(__u8 *to, const volatile __u8 *from)
{
	for (int i = 0; i < 3; i++)
		((__u16 *)to)[i] = ((const volatile __u16 *)from)[i];
}

static __always_inline void swap_macs(struct ethhdr *eth)
{
	__u16 *dst = (__u16 *)eth->h_dest, *src = (__u16 *)eth->h_source;

	for (int i = 0; i < 3; i++) {
		__u16 word = dst[i];

		dst[i] = src[i];
		src[i] = word;
	}
}

static __always_inline bool tagged(void)
{
	return config.vlan != NO_VLAN;
}

/* Where the headers of a test frame lie; false when the frame ends before. The offsets are constants to the verifier. */
static __always_inline bool find_headers(struct headers *h, void *data, void *data_end)
{
	__u32 ip = sizeof(*h->eth) + (tagged() ? sizeof(*h->tag) : 0);
	__u32 udp = ip + (config.version == 6 ? sizeof(*h->ip6) : sizeof(*h->ip));

	h->eth = data;
	h->tag = tagged() ? data + sizeof(*h->eth) : 0;
	h->ip = data + ip;
	h->udp = data + udp;
	return data + udp + sizeof(*h->udp) <= data_end;
}

static __always_inline bool is_test_ip(const struct headers *h)
{
	const __be32 *to;

	if (config.version == 4)
		return h->ip->version == 4 && h->ip->ihl == 5 && h->ip->protocol == IPPROTO_UDP &&
		       !(h->ip->frag_off & bpf_htons(0x3fff)) && h->ip->daddr == config.dst_ip[0];
	to = h->ip6->daddr.in6_u.u6_addr32;
	return h->ip6->version == 6 && h->ip6->nexthdr == IPPROTO_UDP && to[0] == config.dst_ip[0] &&
	       to[1] == config.dst_ip[1] && to[2] == config.dst_ip[2] && to[3] == config.dst_ip[3];
}

static __always_inline bool is_test_frame(const struct headers *h)
{
	__be16 ip = config.version == 6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

	if (tagged() && (h->eth->h_proto != bpf_htons(ETH_P_8021Q) ||
			 (h->tag->tci & bpf_htons(0x0fff)) != bpf_htons(config.vlan)))
		return false;
	return (tagged() ? h->tag->protocol : h->eth->h_proto) == ip && is_test_ip(h) &&
	       h->udp->dest == config.dst_port;
}

/* Exchanging source and destination changes no sum of 16-bit words: all checksums stay right. */
static __always_inline void swap_addresses(struct headers *h)
{
	__be16 port = h->udp->dest;

	if (config.version == 6) {
		struct in6_addr ip6 = h->ip6->daddr;

		h->ip6->daddr = h->ip6->saddr;
		h->ip6->saddr = ip6;
	} else {
		__be32 ip = h->ip->daddr;

		h->ip->daddr = h->ip->saddr;
		h->ip->saddr = ip;
	}
	h->udp->dest = h->udp->source;
	h->udp->source = port;
}

/* RFC 1141: TTL is the high byte of its word, one less of it is 0x0100 more in the checksum. */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 sum = ip->check;

	sum += bpf_htons(0x0100);
	ip->check = (__u16)(sum + (sum >= 0xffff));
	ip->ttl--;
}

static __always_inline int forward(struct headers *h, __u64 *redirected, __u64 *refused)
{
	__u8 hops = config.version == 6 ? h->ip6->hop_limit : h->ip->ttl;

	if (hops <= 1 || bpf_redirect_map(&egress, 0, XDP_ABORTED) != XDP_REDIRECT) {
		++*refused;
		return XDP_DROP;
	}
	if (config.version == 6)
		h->ip6->hop_limit--; /* in no checksum */
	else
		decrement_ttl(h->ip);
	copy_mac(h->eth->h_dest, config.new_dst_mac);
	copy_mac(h->eth->h_source, config.new_src_mac);
	++*redirected;
	return XDP_REDIRECT;
}

/* All frames of a flow go to one core: they stay in order. */
static __always_inline int hand_over(struct headers *h, struct xdp_stack_counters *count)
{
	__u32 from = config.version == 6 ? h->ip6->saddr.in6_u.u6_addr32[3] : h->ip->saddr;
	__u32 hash = from * 0x9e3779b1 ^ h->udp->source * 0x85ebca6b;
	__u32 nth = ((hash >> 16) * config.cpus) >> 16;

	if (nth >= XDP_STACK_CPUS || bpf_redirect_map(&cpus, config.cpu[nth], XDP_ABORTED) != XDP_REDIRECT) {
		count->refused++;
		return XDP_DROP;
	}
	count->handed++;
	return XDP_REDIRECT;
}

SEC("xdp")
int xdp_stack(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	__u32 queue = ctx->rx_queue_index;
	struct xdp_stack_counters *count;
	struct headers h;

	if (queue >= XDP_STACK_QUEUES)
		queue = XDP_STACK_QUEUES - 1;
	count = bpf_map_lookup_elem(&counters, &queue);
	if (!count)
		return XDP_PASS;
	if (config.role == ROLE_PASS || !find_headers(&h, data, data_end) || !is_test_frame(&h)) {
		count->passed++;
		return XDP_PASS;
	}
	count->received++;
	switch (config.role) {
	case ROLE_DROP:
		count->dropped++;
		return XDP_DROP;
	case ROLE_FORWARD:
		return config.cpus ? hand_over(&h, count) : forward(&h, &count->redirected, &count->refused);
	case ROLE_ECHO:
		swap_addresses(&h);
		break;
	}
	swap_macs(h.eth);
	count->sent++;
	return XDP_TX;
}

/* On another core, behind the cpumap: frames that xdp_stack has recognised. */
SEC("xdp/cpumap")
int xdp_stack_on_cpu(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct xdp_stack_cpu_counters *count;
	struct headers h;
	__u32 key = 0;

	count = bpf_map_lookup_elem(&cpu_counters, &key);
	if (!count || !find_headers(&h, data, data_end))
		return XDP_ABORTED;
	count->taken++;
	return forward(&h, &count->redirected, &count->refused);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
