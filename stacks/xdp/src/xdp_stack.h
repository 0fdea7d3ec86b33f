/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the BPF program and its loader share: the settings of one port, and the counters of one receive queue. */
#ifndef XDP_STACK_H
#define XDP_STACK_H

/* Queues beyond the last are counted in the last. */
#define XDP_STACK_QUEUES 128

/* Cores to which a cpumap may spread the frames of a port. */
#define XDP_STACK_CPUS 64
/* CPU ids that a cpumap can name. */
#define XDP_STACK_CPU_IDS 4096

enum xdp_stack_role {
	ROLE_PASS = 0,		/* an egress port: nothing is handled here */
	ROLE_DROP = 1,
	ROLE_REFLECT = 2,
	ROLE_ECHO = 3,
	ROLE_FORWARD = 4,
};

#define NO_VLAN 0xffff		/* no id: they have 12 bits */

/* Settings of one port, constants to the verifier. Addresses and ports are in network byte order. */
struct xdp_stack_config {
	__u32 role;
	__u32 version;		/* of IP: 4 or 6 */
	__u32 dst_ip[4];	/* of IPv4 the first */
	__u16 dst_port;
	__u16 vlan;		/* id of the tag on every test frame; NO_VLAN: untagged */
	__u8 new_src_mac[6];	/* ROLE_FORWARD: the egress port's own */
	__u8 new_dst_mac[6];	/* ROLE_FORWARD: the next hop's */
	__u32 cpus;		/* ROLE_FORWARD: cores that forward in place of the receiving one; 0: that one itself */
	__u32 cpu[XDP_STACK_CPUS];
};

/* Counters of one receive queue on one CPU. received = dropped + sent + redirected + refused + handed. */
struct xdp_stack_counters {
	__u64 received;		/* test frames */
	__u64 dropped;		/* test frames discarded as the role says */
	__u64 sent;		/* test frames given to XDP_TX */
	__u64 redirected;	/* test frames given to the egress port */
	__u64 refused;		/* test frames that could not be forwarded (TTL, no egress port) */
	__u64 passed;		/* everything else, left to the kernel */
	__u64 handed;		/* test frames given to another core's cpumap ring, whether or not it had room */
};

/* Counters of the forwarding half on one CPU behind a cpumap. taken = redirected + refused. */
struct xdp_stack_cpu_counters {
	__u64 taken;		/* test frames that came through the ring */
	__u64 redirected;
	__u64 refused;
};

#endif
