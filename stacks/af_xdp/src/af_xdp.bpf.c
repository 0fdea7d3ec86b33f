// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* One port of the af-xdp stack: frames of the test go to the socket of the queue that received them. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "frame.h"

const volatile struct port_settings settings = {};

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, MAX_QUEUES);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct queue_counters);
	__uint(max_entries, MAX_QUEUES);
} counters SEC(".maps");

SEC("xdp")
int af_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 queue = ctx->rx_queue_index;
	struct queue_counters *count = bpf_map_lookup_elem(&counters, &queue);
	struct headers headers;

	if (!count)
		return XDP_PASS;
	if (settings.bypass == BYPASS_WHOLE ||
	    (settings.bypass == BYPASS_PARTIAL && find_headers(data, end, &settings.flow, &headers))) {
		/* A queue without a socket: the kernel has the frame. */
		if (bpf_redirect_map(&sockets, queue, XDP_PASS) == XDP_REDIRECT) {
			count->redirected++;
			return XDP_REDIRECT;
		}
	}
	count->passed++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
