// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The receiving program: what arrived, whose it is, how old it is. */

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

/* What classify() finds in a frame. */
struct frame_info {
	__u16 ip_id; /* IPv4 identification or the flow label's low 16 bits; 0 if neither */
	__u8 for_kernel; /* ARP, neighbour discovery, TCP over IPv4: the namespace has to answer it, or asked for it */
};

/* Trailer as 16 little-endian bytes. */
struct trailer {
	__u8 magic;
	__u8 generation;
	__u16 index;
	__u32 seq;
	__u64 time;
};

static __always_inline void classify(void *data, void *end, struct frame_info *info)
{
	struct ethhdr *eth = data;
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	__be16 protocol;
	__u8 *type;

	if ((void *)(eth + 1) > end)
		return;
	protocol = eth->h_proto;
	data = eth + 1;
#pragma unroll
	for (int tag = 0; tag < 2; tag++) {
		struct vlan_tag *vlan = data;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(vlan + 1) > end)
			return;
		protocol = vlan->protocol;
		data = vlan + 1;
	}
	if (protocol == bpf_htons(ETH_P_IP)) {
		ip = data;
		if ((void *)(ip + 1) > end)
			return;
		info->ip_id = bpf_ntohs(ip->id);
		info->for_kernel = ip->protocol == IPPROTO_TCP;
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		ip6 = data;
		type = (__u8 *)(ip6 + 1);
		if ((void *)(type + 1) > end)
			return;
		info->ip_id = (__u16)ip6->flow_lbl[1] << 8 | ip6->flow_lbl[2];
		info->for_kernel = ip6->nexthdr == IPPROTO_ICMPV6 && *type >= 133 && *type <= 137;
	} else {
		info->for_kernel = protocol == bpf_htons(ETH_P_ARP);
	}
}

static __always_inline int port_of(__u32 ifindex)
{
	for (__u32 port = 0; port < MAX_PORTS; port++) {
		if (port >= shared.rx.ports)
			break;
		if (shared.rx.ifindex[port] == ifindex)
			return port;
	}
	return -1;
}

static __always_inline void count_group(__u32 port, __u32 slot, __u32 bytes)
{
	__u32 key = port * GROUP_SLOTS + slot;
	struct group_rx *group = bpf_map_lookup_elem(&group_counters, &key);

	if (!group)
		return;
	group->packets++;
	group->bytes += bytes;
}

/* Sequence accounting of trex-stl-rpc.md 4.2; the state's lock is held. */
static __always_inline void account_sequence(struct latency_state *state, __u32 seq)
{
	__s32 ahead = (__s32)(seq - state->expected);

	if (ahead >= 0) {
		if (ahead > 0) {
			state->dropped += ahead;
			state->too_high++;
		}
		state->expected = seq + 1;
		return;
	}
	state->too_low++;
	if (ahead == -1) {
		state->duplicate++;
	} else {
		state->out_of_order++;
		if (state->dropped)
			state->dropped--;
	}
}

/* Close the 0.5 s period when its time is over; the state's lock is held. */
static __always_inline void rotate_period(struct latency_state *state, __u64 now)
{
	__u64 mean;

	if (now - state->period_start < PERIOD_NS)
		return;
	if (state->period_count) {
		mean = state->period_sum / state->period_count;
		state->average = state->periods ? (state->average + mean) / 2 : mean;
		state->last_max = state->period_max;
		state->periods++;
	}
	state->period_start = now;
	state->period_count = 0;
	state->period_sum = 0;
	state->period_max = 0;
}

static __always_inline void account_time(struct latency_state *state, __u64 age, __u64 now)
{
	__u64 change = age > state->transit ? age - state->transit : state->transit - age;

	rotate_period(state, now);
	if (state->received)
		state->jitter16 += change - ((state->jitter16 + 8) >> 4);
	state->transit = age;
	if (!state->received || age < state->min)
		state->min = age;
	if (age > state->max)
		state->max = age;
	state->sum += age;
	state->period_count++;
	state->period_sum += age;
	if (age > state->period_max)
		state->period_max = age;
	state->received++;
}

/* Bucket of the histogram: HIST_SUB_BITS bits behind the leading one. */
static __always_inline __u32 latency_bucket(__u64 age)
{
	__u32 shift = 0, value;

	if (age >= 1ull << HIST_TOP_BITS)
		return HIST_BUCKETS - 1;
	value = age >> (HIST_SUB_BITS + 1);
#pragma unroll
	for (__u32 step = 16; step; step >>= 1) {
		if (value >> step) {
			shift += step;
			value >>= step;
		}
	}
	if (value)
		shift++;
	return (shift << HIST_SUB_BITS) + (__u32)(age >> shift);
}

/* Returns 1 if the frame is one of ours. */
static __always_inline int receive_latency(__u32 port, struct port_rx *counters, struct trailer *trailer, __u64 now,
					   __u32 bytes)
{
	__u32 index = trailer->index, key, group;
	struct latency_state *state;
	__u64 *bucket, age = now - trailer->time;
	int state_of_header = 0;

	state = bpf_map_lookup_elem(&latency_states, &index);
	if (!state || !state->open) {
		counters->bad_header++;
		return 0;
	}
	bpf_spin_lock(&state->lock);
	if (trailer->generation == state->generation) {
		account_sequence(state, trailer->seq);
		account_time(state, age, now);
	} else {
		state_of_header = trailer->generation == (__u8)(state->generation - 1) ? 1 : 2;
	}
	bpf_spin_unlock(&state->lock);
	if (state_of_header) {
		if (state_of_header == 1)
			counters->old_flow++;
		else
			counters->bad_header++;
		return 0;
	}
	group = index & (LATENCY_GROUPS - 1);
	key = group * HIST_BUCKETS + latency_bucket(age);
	bucket = bpf_map_lookup_elem(&histograms, &key);
	if (bucket)
		__sync_fetch_and_add(bucket, 1);
	count_group(port, group, bytes);
	return 1;
}

/* Returns 1 if the frame ends in a trailer of this generator. */
static __always_inline int receive_trailer(__u32 port, struct port_rx *counters, struct trailer *trailer, __u64 now,
					   __u32 bytes)
{
	if (trailer->magic != MAGIC_LATENCY && trailer->magic != MAGIC_MARK)
		return 0;
	if (now - trailer->time > STALE_NS)
		return 0;
	if (trailer->magic == MAGIC_LATENCY)
		return receive_latency(port, counters, trailer, now, bytes);
	if (trailer->generation != shared.rx.nonce)
		return 0;
	if (trailer->index < GROUP_SLOTS)
		count_group(port, trailer->index, bytes);
	return 1;
}

static __noinline int capture(struct xdp_md *ctx, struct port_rx *counters, __u32 port)
{
	__u32 length = ctx->data_end - ctx->data;
	struct capture_record *record;

	if (!counters || length < 1 || length > CAPTURE_LARGE)
		return 0;
	if (__sync_fetch_and_add(&shared.rx.capture_left[port & (MAX_PORTS - 1)], -1) <= 0) {
		shared.rx.capture[port & (MAX_PORTS - 1)] = 0;
		return 0;
	}
	if (length <= CAPTURE_SMALL)
		record = bpf_ringbuf_reserve(&captures, sizeof(*record) + CAPTURE_SMALL, 0);
	else
		record = bpf_ringbuf_reserve(&captures, sizeof(*record) + CAPTURE_LARGE, 0);
	if (!record) {
		counters->capture_lost++;
		return 0;
	}
	record->time = bpf_ktime_get_ns();
	record->port = port;
	record->length = length;
	if (length <= CAPTURE_SMALL)
		bpf_xdp_load_bytes(ctx, 0, record->data, length);
	else
		bpf_xdp_load_bytes(ctx, 0, record->data, length);
	bpf_ringbuf_submit(record, 0);
	return 0;
}

/* Count by IP id or flow label; returns 1 if it is one of ours. */
static __always_inline int receive_stats(__u32 port, __u16 ip_id, __u32 bytes)
{
	__u32 slot;

	if (!shared.rx.stats_open || ip_id < IP_ID_BASE)
		return 0;
	slot = shared.rx.slot_of_ip_id[ip_id & (0xFFFF - IP_ID_BASE)];
	if (!slot)
		return 0;
	count_group(port, slot - 1, bytes);
	return 1;
}

/* What this core spends here is time that the generator itself takes from its sending. */
static __always_inline void account_core(__u64 now)
{
	struct receive_time *core = &shared.receiving[bpf_get_smp_processor_id() & (MAX_CPUS - 1)];

	if (now - core->last < RECEIVE_GAP_NS)
		core->busy += now - core->last;
	core->last = now;
}

SEC("xdp")
int receive(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 length = end - data, offset, key;
	struct frame_info info = {};
	struct port_rx *counters;
	__u32 marked = 0, passed = 0;
	__u64 now;
	int port;

	port = port_of(ctx->ingress_ifindex);
	if (port < 0)
		return XDP_PASS;
	key = port;
	counters = bpf_map_lookup_elem(&port_counters, &key);
	if (!counters)
		return XDP_PASS;
	now = bpf_ktime_get_ns();
	account_core(now);
	counters->packets++;
	counters->bytes += length + 4;
	offset = length - TRAILER;
	barrier_var(offset); /* the verifier has to see the comparison on the register that is added */
	if (length >= MIN_FRAME && offset <= MAX_FRAME && data + offset + TRAILER <= end)
		marked = receive_trailer(key, counters, data + offset, now, length + 4);
	if (marked) {
		counters->marked++;
	} else {
		classify(data, end, &info);
		passed = !receive_stats(key, info.ip_id, length + 4) && info.for_kernel;
	}
	if (shared.rx.capture[key & (MAX_PORTS - 1)] > marked)
		capture(ctx, counters, key);
	if (!passed)
		return XDP_DROP;
	counters->passed++;
	return XDP_PASS;
}
