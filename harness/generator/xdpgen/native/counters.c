/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what the two programs count, and opening and closing receive groups. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dp.h"

/* Sum of one per-CPU element that consists of `words` 64-bit numbers. */
static int sum_cpus(struct dataplane *dp, int fd, __u32 key, __u64 *sum, size_t words)
{
	__u64 *values = calloc(dp->cpus * words, sizeof(__u64));
	int err;

	if (!values)
		return fail(dp, -ENOMEM, "out of memory");
	err = bpf_map_lookup_elem(fd, &key, values) ? -errno : 0;
	memset(sum, 0, words * sizeof(*sum));
	for (size_t i = 0; !err && i < dp->cpus * words; i++)
		sum[i % words] += values[i];
	free(values);
	return err ? fail(dp, err, "cannot read counters: %s", strerror(-err)) : 0;
}

static int zero_cpus(struct dataplane *dp, int fd, __u32 key, size_t words)
{
	__u64 *values = calloc(dp->cpus * words, sizeof(__u64));
	int err;

	if (!values)
		return fail(dp, -ENOMEM, "out of memory");
	err = bpf_map_update_elem(fd, &key, values, BPF_ANY) ? -errno : 0;
	free(values);
	return err ? fail(dp, err, "cannot reset counters: %s", strerror(-err)) : 0;
}

/* Add what the active streams of a port have done so far. Returns whether there are any. */
static bool add_active(struct dataplane *dp, __u32 port, struct port_reply *reply)
{
	bool any = false;

	for (__u32 core = 0; core < dp->cores_used; core++) {
		for (__u32 i = 0; i < MAX_SLOTS; i++) {
			const struct slot *slot = &dp->shared->cores[core].slots[i];

			if (!dp->senders[core].shares[i].used || slot->port != port)
				continue;
			any = true;
			reply->handed_packets += slot->sent;
			reply->handed_bytes += slot->sent_bytes;
			reply->skipped_stall += slot->skipped_stall;
			reply->skipped_receive += slot->skipped_receive;
			reply->skipped_saturated += slot->skipped_saturated;
		}
	}
	return any;
}

/* The driver's own counts since the start. */
static int read_wire(struct port *port, struct port_reply *reply)
{
	struct wire wire;
	__u32 missed;
	int err = wire_missed(port->name, &missed);

	if (err)
		return err;
	reply->rx_dropped = missed - port->base_missed;
	if (!port->exact)
		return 0;
	err = wire_counters(port->name, &wire);
	if (err)
		return err;
	reply->wire_packets = wire.sent - port->base.sent;
	reply->wire_refused = wire.refused - port->base.refused;
	reply->rx_dropped += wire.dropped - port->base.dropped;
	return 0;
}

int port_read(struct dataplane *dp, __u32 index, struct port_reply *reply)
{
	struct port *port = &dp->ports[index];
	struct port_rx rx;
	int err;

	streams_reap(dp);
	*reply = (struct port_reply){.handed_packets = port->handed_packets, .handed_bytes = port->handed_bytes,
				     .skipped_stall = port->skipped_stall, .skipped_receive = port->skipped_receive,
				     .skipped_saturated = port->skipped_saturated, .exact = port->exact};
	reply->idle = !add_active(dp, index, reply);
	err = read_wire(port, reply);
	if (err)
		return fail(dp, err, "cannot read the counters of %s: %s", port->name, strerror(-err));
	err = sum_cpus(dp, dp->port_fd, index, (__u64 *)&rx, sizeof(rx) / sizeof(__u64));
	if (err)
		return err;
	reply->rx_packets = rx.packets;
	reply->rx_bytes = rx.bytes;
	reply->rx_marked = rx.marked;
	reply->rx_passed = rx.passed;
	reply->rx_bad_header = rx.bad_header;
	reply->rx_old_flow = rx.old_flow;
	reply->rx_capture_lost = rx.capture_lost;
	return 0;
}

/* Open or close every index on the wire that belongs to a latency group. */
static int set_latency(struct dataplane *dp, __u32 group, bool open)
{
	for (__u32 core = 0; core < dp->cores_used; core++) {
		__u32 index = group + LATENCY_GROUPS * core;
		struct latency_state old, fresh = {.open = open, .expected = FIRST_SEQ};

		if (bpf_map_lookup_elem_flags(dp->latency_fd, &index, &old, BPF_F_LOCK))
			return fail(dp, -errno, "cannot read a latency group: %s", strerror(errno));
		fresh.generation = old.generation + 1;
		if (bpf_map_update_elem(dp->latency_fd, &index, &fresh, BPF_F_LOCK))
			return fail(dp, -errno, "cannot open a latency group: %s", strerror(errno));
	}
	memset(dp->histograms + (size_t)group * HIST_BUCKETS, 0, HIST_BUCKETS * sizeof(__u64));
	return 0;
}

static void set_ip_id(struct dataplane *dp, __u32 slot, __u32 ip_id, bool open)
{
	struct rx_config *rx = &dp->shared->rx;

	for (__u32 i = 0; i < 1024; i++)
		if (rx->slot_of_ip_id[i] == slot + 1)
			rx->slot_of_ip_id[i] = 0;
	if (open && ip_id >= IP_ID_BASE && ip_id < IP_ID_LATENCY)
		rx->slot_of_ip_id[ip_id - IP_ID_BASE] = slot + 1;
	rx->stats_open = 0;
	for (__u32 i = 0; i < 1024; i++)
		rx->stats_open += rx->slot_of_ip_id[i] != 0;
}

int group_open(struct dataplane *dp, __u32 slot, __u32 ip_id)
{
	int err;

	if (slot >= GROUP_SLOTS)
		return fail(dp, -EINVAL, "group slot %u out of range", slot);
	for (__u32 port = 0; port < dp->ports_used; port++) {
		err = zero_cpus(dp, dp->group_fd, port * GROUP_SLOTS + slot, sizeof(struct group_rx) / sizeof(__u64));
		if (err)
			return err;
		dp->group_tx[port][slot] = (struct group_tx){0};
	}
	set_ip_id(dp, slot, ip_id, true);
	return slot < LATENCY_GROUPS ? set_latency(dp, slot, true) : 0;
}

int group_close(struct dataplane *dp, __u32 slot)
{
	if (slot >= GROUP_SLOTS)
		return fail(dp, -EINVAL, "group slot %u out of range", slot);
	set_ip_id(dp, slot, 0, false);
	return slot < LATENCY_GROUPS ? set_latency(dp, slot, false) : 0;
}

static void add_active_group(struct dataplane *dp, __u32 group_slot, struct group_reply *reply)
{
	for (__u32 core = 0; core < dp->cores_used; core++) {
		for (__u32 i = 0; i < MAX_SLOTS; i++) {
			const struct share *share = &dp->senders[core].shares[i];
			const struct slot *slot = &dp->shared->cores[core].slots[i];

			if (!share->used || share->group_slot != group_slot)
				continue;
			reply[slot->port].tx_packets += slot->sent;
			reply[slot->port].tx_bytes += slot->sent_bytes;
		}
	}
}

int group_read(struct dataplane *dp, __u32 slot, struct group_reply *reply)
{
	struct group_rx rx;
	int err;

	if (slot >= GROUP_SLOTS)
		return fail(dp, -EINVAL, "group slot %u out of range", slot);
	streams_reap(dp);
	for (__u32 port = 0; port < dp->ports_used; port++) {
		err = sum_cpus(dp, dp->group_fd, port * GROUP_SLOTS + slot, (__u64 *)&rx, sizeof(rx) / sizeof(__u64));
		if (err)
			return err;
		reply[port] = (struct group_reply){.tx_packets = dp->group_tx[port][slot].packets,
						   .tx_bytes = dp->group_tx[port][slot].bytes,
						   .rx_packets = rx.packets, .rx_bytes = rx.bytes};
	}
	add_active_group(dp, slot, reply);
	return 0;
}

/* States of a group's indices, one for each sending core. */
int latency_read(struct dataplane *dp, __u32 group, struct latency_state *reply)
{
	if (group >= LATENCY_GROUPS)
		return fail(dp, -EINVAL, "latency group %u out of range", group);
	for (__u32 core = 0; core < dp->cores_used; core++) {
		__u32 index = group + LATENCY_GROUPS * core;

		if (bpf_map_lookup_elem_flags(dp->latency_fd, &index, &reply[core], BPF_F_LOCK))
			return fail(dp, -errno, "cannot read a latency group: %s", strerror(errno));
	}
	return 0;
}

void report_read(struct dataplane *dp, __u32 index, struct report_reply *reply)
{
	const struct core *core = &dp->shared->cores[index];
	int current = core->epoch == core->report_epoch; /* else nothing has happened since the report began */

	*reply = (struct report_reply){
		.calls = core->calls, .busy_calls = core->busy_calls, .flushes = core->flushes, .pauses = core->pauses,
		.paused_ns = core->paused_ns,
		.longest_pause_ns = current ? core->longest_pause_ns : 0,
		.first_departure = current ? core->first_departure : 0,
		.last_departure = current ? core->last_departure : 0,
		.interruptions = core->interruptions, .interrupted_ns = core->interrupted_ns,
		.interrupted_frames = core->interrupted_frames, .receives = core->receives,
		.receive_ns = core->receive_ns, .paused_frames = core->paused_frames};
	memcpy(reply->departure_error, core->departure_error, sizeof(reply->departure_error));
	memcpy(reply->flush_delay, core->flush_delay, sizeof(reply->flush_delay));
	memcpy(reply->wire_error, core->wire_error, sizeof(reply->wire_error));
}
