// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The sending and the receiving program of xdpgen.
 *
 * "send" runs over live frames (BPF_PROG_TEST_RUN, BPF_F_TEST_XDP_LIVE_FRAMES): the kernel calls it once per recycled
 * frame, in batches; after each batch it flushes what was redirected. It decides when a frame departs and what is in
 * it. "receive" is attached to every generator port and counts there.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/icmpv6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "xdpgen.h"
#include "latency.h"
#include "schedule.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* One variable: separate globals are not laid out in the order written, and user space maps this. */
struct shared_state shared;

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

struct cell {
	__u8 bytes[CELL];
};

/* Header tables of all streams; ctl sets its size before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cell);
} cells SEC(".maps");

struct payload {
	__u8 bytes[MAX_FRAME];
};

/* Template of each slot of each core: index = core * MAX_SLOTS + slot; ctl sets its size. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct payload);
} payloads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_PORTS);
	__type(key, __u32);
	__type(value, struct port_rx);
} port_counters SEC(".maps");

/* Index = port * GROUP_SLOTS + group slot; ctl sets its size. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GROUP_SLOTS);
	__type(key, __u32);
	__type(value, struct group_rx);
} group_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LATENCY_INDICES);
	__type(key, __u32);
	__type(value, struct latency_state);
} latency_states SEC(".maps");

/* Index = latency group * HIST_BUCKETS + bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LATENCY_GROUPS * HIST_BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
} histograms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} captures SEC(".maps");

#include "send.bpf.h"
#include "receive.bpf.h"
