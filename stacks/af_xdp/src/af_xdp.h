/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the BPF program and user space share: the settings of one port, and the counters of one receive queue. */
#ifndef AF_XDP_H
#define AF_XDP_H

#include <linux/types.h>

/* Receive queues of a port, and so sockets of a port, at most. */
#define MAX_QUEUES 64

enum bypass {
	BYPASS_NONE = 0,	/* an egress port: everything is left to the kernel */
	BYPASS_PARTIAL = 1,	/* the test's UDP port goes to the sockets, everything else to the kernel */
	BYPASS_WHOLE = 2,	/* everything goes to the sockets */
};

/* Destination of the test's frames; in network byte order. */
struct test_flow {
	__u32 address[4];	/* IPv4: the first word */
	__u16 udp_port;
	__u16 is_ipv6;
};

/* Settings of one port, constants to the verifier. */
struct port_settings {
	struct test_flow flow;
	__u32 bypass;
};

/* Frames of one receive queue on one CPU. */
struct queue_counters {
	__u64 redirected;	/* handed to the queue's socket, whether or not it had room */
	__u64 passed;		/* left to the kernel */
};

#endif
