// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The sending program: schedule, frame, departure. */

/* Bucket of a departure error or flush delay. */
static __always_inline __u32 error_bucket(__u64 ns)
{
	__u32 bucket = 64;

	if (ns < (64 << ERROR_FINE_BITS))
		return ns >> ERROR_FINE_BITS;
	for (int octave = 0; octave < ERROR_BUCKETS - 65; octave++) {
		if (ns < (64ull << (ERROR_FINE_BITS + 1 + octave)))
			break;
		bucket++;
	}
	return bucket;
}

static __always_inline void count_error(__u64 *histogram, __u64 ns, __u64 frames)
{
	__u32 bucket = error_bucket(ns);

	if (bucket < ERROR_BUCKETS)
		histogram[bucket] += frames;
}

static __always_inline void finish(struct core *core, struct slot *slot, __u32 i)
{
	slot->done_call = core->calls;
	schedule(core, i, NEVER);
}

/* Departures of [next, end), at most so many. */
static __always_inline __u64 departures_before(struct slot *slot, __u64 step, __u64 end, __u64 most)
{
	__u64 count;

	if (end <= slot->next)
		return 0;
	count = ((end - slot->next) << 12) / step + 1;
	return count < most ? count : most;
}

/* Count the departures of [next, end) as skipped and move the schedule behind them. Those up to the end of a pause
 * fell into it, those up to the end of this core's own receiving into that, and for the others there was no time.
 */
static __always_inline void count_missed(struct core *core, struct slot *slot, __u64 end)
{
	__u64 step = ((slot->interval << 12) | (slot->interval_frac >> 20)) + 1, missed, stalled, taken, frac;

	if (end > slot->until)
		end = slot->until;
	if (end <= slot->next)
		return;
	missed = ((end - 1 - slot->next) << 12) / step + 1;
	stalled = departures_before(slot, step, core->pause_end, missed);
	taken = departures_before(slot, step, core->receive_end, missed);
	if (taken < stalled)
		taken = stalled;
	slot->skipped_stall += stalled;
	slot->skipped_receive += taken - stalled;
	slot->skipped_saturated += missed - taken;
	slot->started = 1;
	frac = slot->next_frac + missed * slot->interval_frac;
	slot->next += missed * slot->interval + (frac >> 32);
	slot->next_frac = frac;
}

/* A new rate holds from the last departure on. */
static __always_inline void change_rate(struct core *core, struct slot *slot, __u32 i, struct command_entry *command,
					__u64 now)
{
	__u64 next;

	if (slot->next != NEVER && !slot->limited)
		count_missed(core, slot, now);
	next = slot->next;
	if (slot->started && next != NEVER)
		next = next - slot->interval + command->interval;
	if (next == NEVER || (slot->started && next < now))
		next = now;
	if (!command->interval)
		next = NEVER;
	slot->interval = command->interval;
	slot->interval_frac = command->interval_frac;
	slot->slack = slack_of(command->interval);
	slot->next = next;
	if (next != NEVER && next >= slot->until)
		finish(core, slot, i);
	else
		schedule(core, i, next);
}

/* Put a slot on the schedule. One that comes too late starts now and lasts as long as it should. */
static __always_inline void add(struct core *core, struct slot *slot, __u32 i, __u64 now)
{
	if (slot->next < now) {
		if (slot->until != NEVER)
			slot->until += now - slot->next;
		slot->next = now;
	}
	schedule(core, i, slot->next);
}

static __always_inline void stop(struct core *core, struct slot *slot, __u32 i, __u64 now)
{
	if (slot->next != NEVER && !slot->limited)
		count_missed(core, slot, now);
	finish(core, slot, i);
}

static __noinline int apply_command(struct core *core, __u64 now)
{
	struct command_entry *command;
	struct slot *slot;
	__u32 i;

	if (!core)
		return 0;
	/* A full barrier: what ctl wrote before it posted the command is seen after it. */
	__sync_fetch_and_add(&core->tail, 0);
	command = &core->commands[core->tail & (COMMANDS - 1)];
	i = command->slot & (MAX_SLOTS - 1);
	slot = &core->slots[i];
	if (command->op == CMD_ADD)
		add(core, slot, i, now);
	else if (slot->done_call)
		; /* it ended by itself first */
	else if (command->op == CMD_STOP)
		stop(core, slot, i, now);
	else if (command->op == CMD_RATE)
		change_rate(core, slot, i, command, now);
	__sync_fetch_and_add(&core->tail, 1);
	return 0;
}

/* The figures that are not sums begin anew with each report. */
static __always_inline void report_begins(struct core *core)
{
	if (core->epoch == core->report_epoch)
		return;
	core->epoch = core->report_epoch;
	core->longest_pause_ns = 0;
	core->first_departure = 0;
	core->last_departure = 0;
}

/* The core was somewhere else for so long. */
static __noinline int record_pause(struct core *core, __u64 start, __u64 end)
{
	struct pause *pause;

	if (!core)
		return 0;
	report_begins(core);
	pause = &core->pause_log[core->pauses & (PAUSE_LOG - 1)];
	pause->start = start;
	pause->length = end - start;
	core->pauses++;
	core->paused_ns += end - start;
	if (end - start > core->longest_pause_ns)
		core->longest_pause_ns = end - start;
	core->pause_end = end;
	return 0;
}

/* A gap between two calls. What of it the receiving program took is the generator's own doing and no pause; where in
 * the gap it was is not known, and it is put at the end.
 */
static __noinline int record_gap(struct core *core, __u64 start, __u64 end, __u64 receiving)
{
	if (!core)
		return 0;
	if (receiving > end - start)
		receiving = end - start;
	if (receiving) {
		core->receives++;
		core->receive_ns += receiving;
		core->receive_end = end;
	}
	if (end - start - receiving >= PAUSE_NS)
		record_pause(core, start, end - receiving);
	return 0;
}

/* Leave out the departures whose time has passed; a stream that counts its frames starts again from now instead. */
static __noinline int skip(struct core *core, __u32 i, __u64 now)
{
	struct slot *slot;

	if (!core)
		return 0;
	i &= MAX_SLOTS - 1;
	slot = &core->slots[i];
	if (slot->limited)
		slot->next = now;
	else
		count_missed(core, slot, now + 1);
	if (slot->next >= slot->until)
		finish(core, slot, i);
	else
		schedule(core, i, slot->next);
	return 0;
}

/* Write what the first cell does not hold: further header cells and, if frames of other streams pass here, payload.
 * Invalidates packet pointers.
 */
static __always_inline int write_rest(struct xdp_md *ctx, struct slot *slot, __u32 cell, __u32 length, __u32 payload)
{
	__u32 offset = FIRST_CELL, size;
	struct payload *rest;
	struct cell *more;

	for (__u32 k = 1; k < MAX_CELLS && k < slot->cells; k++) {
		if (offset >= length)
			return 0;
		__u32 key = cell + k;
		more = bpf_map_lookup_elem(&cells, &key);
		if (!more)
			return -1;
		size = length - offset;
		if (size > CELL)
			size = CELL;
		if (size < 1 || bpf_xdp_store_bytes(ctx, offset, more, size))
			return -1;
		offset += CELL;
	}
	if (payload == NO_PAYLOAD || length <= slot->header)
		return 0;
	rest = bpf_map_lookup_elem(&payloads, &payload);
	if (!rest)
		return -1;
	offset = slot->header;
	size = length - offset;
	if (size < 1 || size > MAX_FRAME)
		return -1;
	return bpf_xdp_store_bytes(ctx, offset, rest, size);
}

/* Add the trailer to the L4 checksum (RFC 1624), which was prepared over zeros in its place. 16-bit words are summed as
 * they lie in memory, counted from the L4 header, whose offset is even: of a frame of odd length the trailer's words lie
 * across them, and their sum has its bytes exchanged (RFC 1071).
 */
static __always_inline int add_to_checksum(void *data, void *end, __u32 at, __u32 length, const __u32 *trailer)
{
	__u32 sum = 0;
	__u16 *checksum;

	barrier_var(at);
	if (at > MAX_CHECKSUM)
		return -1;
	checksum = data + at;
	if ((void *)(checksum + 1) > end)
		return -1;
#pragma unroll
	for (int i = 0; i < TRAILER / 4; i++)
		sum += (trailer[i] & 0xffff) + (trailer[i] >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	if (length & 1)
		sum = (sum >> 8 | sum << 8) & 0xffff;
	sum += (__u16)~*checksum;
	sum = (sum & 0xffff) + (sum >> 16);
	*checksum = (__u16)~sum ? (__u16)~sum : 0xffff;
	return 0;
}

static __always_inline int write_trailer(struct xdp_md *ctx, struct slot *slot, __u32 length, __u64 now)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 *trailer;
	__u32 offset = length - TRAILER;

	barrier_var(offset); /* the verifier has to see the comparison on the register that is added */
	if (offset > MAX_FRAME)
		return -1;
	trailer = data + offset;
	if ((void *)(trailer + 4) > end)
		return -1;
	trailer[0] = slot->trailer_magic | (__u32)slot->trailer_generation << 8 | (__u32)slot->trailer_index << 16;
	trailer[1] = slot->seq++;
	*(__u64 *)(trailer + 2) = now;
	if (slot->checksum)
		return add_to_checksum(data, end, slot->checksum, length, trailer);
	return 0;
}

/* Build the next frame of a slot. Returns its length, or a negative number. */
static __always_inline int build(struct xdp_md *ctx, struct core *core, struct slot *slot, __u32 i, __u64 now)
{
	__u32 key = slot->table + slot->index * slot->cells, payload;
	__u32 base = core->base_length, length;
	struct cell *cell;
	void *data, *end;

	cell = bpf_map_lookup_elem(&cells, &key);
	if (!cell)
		return -1;
	length = *(__u32 *)(cell->bytes + FIRST_CELL);
	if (length < MIN_FRAME || length > MAX_FRAME)
		return -1;
	if (length != base && bpf_xdp_adjust_tail(ctx, (int)length - (int)base))
		return -1;
	payload = core->uniform ? NO_PAYLOAD : (core - shared.cores) * MAX_SLOTS + i;
	if (slot->cells > 1 || (payload != NO_PAYLOAD && length > slot->header))
		if (write_rest(ctx, slot, key, length, payload))
			return -1;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + FIRST_CELL > end)
		return -1;
	__builtin_memcpy(data, cell->bytes, FIRST_CELL);
	if (slot->trailer_magic && write_trailer(ctx, slot, length, now))
		return -1;
	return length;
}

/* Count a departure and put the next one on the schedule. */
static __always_inline void advance(struct core *core, struct slot *slot, __u32 i, __u32 length)
{
	__u64 frac = (__u64)slot->next_frac + slot->interval_frac;

	slot->next += slot->interval + (frac >> 32);
	slot->next_frac = frac;
	slot->sent++;
	slot->sent_bytes += length + 4;
	slot->started = 1;
	if (++slot->index >= slot->entries)
		slot->index = 0;
	if (--slot->remaining == 0 || slot->next >= slot->until)
		finish(core, slot, i);
	else
		schedule(core, i, slot->next);
}

/* The core was taken away while it only waited. */
static __always_inline void interrupted(struct core *core, __u64 start, __u64 end)
{
	if (end - start >= PAUSE_NS) {
		record_pause(core, start, end);
		return;
	}
	core->interruptions++;
	core->interrupted_ns += end - start;
	core->interruption_end = end;
}

/* Only what was due in a pause is left out of the errors. */
static __always_inline void count_departure(struct core *core, __u64 now)
{
	if (core->due < core->interruption_end)
		core->interrupted_frames++;
	if (core->due < core->pause_end)
		core->paused_frames++;
	else
		count_error(core->departure_error, now - core->due, 1);
}

/* Wait for the next departure, so that few frames are recycled for nothing. Where each call sends a frame the kernel
 * always takes frames back just after a departure (a microsecond or two, for as many as a batch) and is done before the
 * next; calls that only pass the time would move that to anywhere. The core can be taken away here as well as between
 * two calls.
 */
static __always_inline __u64 wait(struct core *core, __u64 now)
{
	__u64 before, end = now + core->spin;

	for (__u32 i = 0; i < SPIN_READS; i++) {
		if (now >= core->due || now >= end || core->head != core->tail)
			break;
		before = now;
		now = bpf_ktime_get_ns();
		if (now - before >= INTERRUPTION_NS) {
			interrupted(core, before, now);
			break;
		}
	}
	return now;
}

/* With frames to flush, waiting is for flushing them together with the next ones: each flush may have to wake the
 * receiver, for which microseconds pass in which nothing departs.
 */
static __always_inline bool may_wait(struct core *core, __u64 now)
{
	if (!core->pending)
		return true;
	return !core->hurry && core->due - now <= core->hold_next && now - core->pending_since <= core->hold_most;
}

/* A batch has more calls than frames are sent while they may wait for its flush. Those others pass after each departure
 * as many as belong to the time by then: all of them at the end would take longer than there is until the next one.
 */
static __always_inline bool batch_behind(struct core *core, __u64 now)
{
	__u64 calls = core->calls & core->batch_mask;

	return core->spread && core->pending && calls * core->hold_most < (now - core->pending_since) * (core->batch_mask + 1);
}

/* The first call of a batch: what the previous one redirected is on the wire now. */
static __always_inline void batch_begins(struct core *core, __u64 now)
{
	if (!core->pending)
		return;
	if (core->pause_end < core->pending_since) {
		count_error(core->flush_delay, now - core->pending_since, core->pending);
		if (core->pause_end <= core->pending_due)
			count_error(core->wire_error, now - core->pending_due, core->pending);
	}
	core->flushes++;
	core->pending = 0;
	core->hurry = 0;
}

/* Frames wait to be flushed and nothing is due: let the rest of the batch pass quickly, up to the next departure. */
static __always_inline void drain(struct core *core, __u64 now)
{
	__u64 calls = (core->due - now) >> DRAIN_SHIFT;
	__u32 left = (core->batch_mask + 1 - core->calls) & core->batch_mask;

	if (!core->pending)
		return;
	if (calls > DRAIN_MOST)
		calls = DRAIN_MOST;
	core->drain = calls < left ? calls : left;
}

static __always_inline __u64 enter(struct core *core, __u32 cpu)
{
	__u64 now = bpf_ktime_get_ns(), busy = shared.receiving[cpu & (MAX_CPUS - 1)].busy;

	if (core->last && now - core->last >= PAUSE_NS)
		record_gap(core, core->last, now, busy - core->receive_seen);
	core->receive_seen = busy;
	if (!(core->calls & core->batch_mask))
		batch_begins(core, now);
	core->calls++;
	return now;
}

SEC("xdp")
int send(struct xdp_md *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id(), i;
	struct core *core;
	struct slot *slot;
	__u64 now;
	int length;

	core = &shared.cores[shared.core_of_cpu[cpu & (MAX_CPUS - 1)] & (MAX_CORES - 1)];
	if (core->drain) {
		core->drain--;
		core->calls++;
		return XDP_DROP;
	}
	now = enter(core, cpu);
	if (core->head != core->tail)
		apply_command(core, now);
	if (now < core->due && may_wait(core, now)) {
		if (batch_behind(core, now)) {
			core->last = now;
			return XDP_DROP;
		}
		now = wait(core, now);
	}
	core->last = now;
	if (now < core->due) {
		drain(core, now);
		return XDP_DROP;
	}
	i = core->best & (MAX_SLOTS - 1);
	slot = &core->slots[i];
	if (now - core->due > slot->slack) {
		skip(core, i, now);
		return XDP_DROP;
	}
	length = build(ctx, core, slot, i, now);
	if (length < 0) {
		slot->failed = 1;
		finish(core, slot, i);
		return XDP_DROP;
	}
	report_begins(core);
	if (!core->first_departure)
		core->first_departure = now;
	core->last_departure = now;
	count_departure(core, now);
	if (!core->pending++) {
		core->pending_since = now;
		core->pending_due = core->due;
	}
	core->hurry |= slot->trailer_magic == MAGIC_LATENCY;
	core->busy_calls++;
	advance(core, slot, i, length);
	return bpf_redirect_map(&ports, slot->port, 0);
}
