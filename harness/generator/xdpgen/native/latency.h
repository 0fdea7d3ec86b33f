/* SPDX-License-Identifier: Apache-2.0 */
/* Latency of one index on the wire: what the receiving program keeps and xdpgen-dp reads. */
#ifndef LATENCY_H
#define LATENCY_H

/* The lock is user space's business only by its size. */
struct latency_state {
	struct bpf_spin_lock lock;
	__u32 expected; /* sequence number */
	__u8 open;
	__u8 generation; /* that the sender writes now */
	__u16 pad;
	__u32 pad2;
	__u64 received, dropped, out_of_order, duplicate, too_high, too_low;
	__u64 min, max, sum; /* ns */
	__u64 transit;	     /* of the previous frame */
	__u64 jitter16;	     /* RFC 3550 A.8: jitter * 16, ns */
	__u64 period_start, period_count, period_sum, period_max;
	__u64 average, last_max; /* of finished periods */
	__u64 periods;
};

#endif
