/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: each is a share per core, each share a slot that the sending program schedules. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "dp.h"

#define APPLY_DEADLINE_NS (5 * NS)
#define START_LEAD_NS 200000

static struct slot *slot_of(struct dataplane *dp, __u32 core, __u32 i)
{
	return &dp->shared->cores[core].slots[i];
}

/* Interval of a share that sends `entries` of every `all_entries` frames; 0 = paused. */
static void interval_of(const struct share *share, double pps, __u64 *interval, __u32 *frac)
{
	long double ns, whole;

	*interval = 0;
	*frac = 0;
	if (pps <= 0)
		return;
	ns = (long double)NS * share->all_entries / ((long double)pps * share->entries);
	whole = floorl(ns);
	*interval = whole;
	*frac = fminl(ceill((ns - whole) * 4294967296.0L), 4294967295.0L); /* so that n of them are not less than n / pps */
}

/* How the program of a core is called, by the core's rate.
 *
 * batch: calls between two flushes. A short one leaves sooner, but it is also the kernel's pool of frames that can be
 * used again: with more of them under way than that, it allocates 64 new ones every so often, in which 10 us pass; and
 * what a longer one has more is calls that pass for nothing before each flush. 128 is half a veth's ring.
 *
 * hold: ns that frames may wait for being flushed with others.
 *
 * spin: ns that a call may wait for a departure. From 125 kpps on (HOLD_NEXT_NS) that is until it is due: a batch ends
 * with the hold. Below, nothing else bounds a batch, in which the core can do nothing else.
 *
 * spread: calls that send nothing pass between departures. Below 600 kpps they have the time all at once before a flush,
 * and frames that are back sooner are better for the small pool.
 */
static const struct call_class {
	double below_pps;
	__u32 batch, hold, spin, spread;
} classes[] = {{125e3, 8, HOLD_MOST_NS, SPIN_NS, 0},
	       {300e3, 16, HOLD_MOST_NS / 2, HOLD_NEXT_NS, 0},
	       {600e3, 32, HOLD_MOST_NS, HOLD_NEXT_NS, 0},
	       {3e6, 64, HOLD_MOST_NS, HOLD_NEXT_NS, 1},
	       {INFINITY, 128, HOLD_MOST_NS, HOLD_NEXT_NS, 1}};

static const struct call_class *class_of(struct dataplane *dp, __u32 core)
{
	const struct share *shares = dp->senders[core].shares;
	const struct call_class *class = classes;
	double pps = 0;

	for (__u32 i = 0; i < MAX_SLOTS; i++)
		if (shares[i].used)
			pps += shares[i].pps * shares[i].entries / shares[i].all_entries;
	while (pps >= class->below_pps)
		class++;
	return class;
}

/* Hand a command to the program of a running core. */
static int post(struct dataplane *dp, __u32 core_index, struct command_entry command)
{
	struct core *core = &dp->shared->cores[core_index];
	__u64 deadline = now_ns() + APPLY_DEADLINE_NS;

	while (core->head - __atomic_load_n(&core->tail, __ATOMIC_ACQUIRE) >= COMMANDS) {
		if (now_ns() > deadline)
			return fail(dp, -ETIMEDOUT, "core %d does not take commands", dp->senders[core_index].cpu);
		nap();
	}
	core->commands[core->head % COMMANDS] = command;
	__atomic_store_n(&core->head, core->head + 1, __ATOMIC_RELEASE);
	return 0;
}

/* True when a slot has ended and its last frames have been flushed. */
static bool finished(struct dataplane *dp, __u32 core_index, __u32 i)
{
	struct core *core = &dp->shared->cores[core_index];
	__u64 done = __atomic_load_n(&core->slots[i].done_call, __ATOMIC_ACQUIRE);
	__u64 calls = __atomic_load_n(&core->calls, __ATOMIC_ACQUIRE);

	if (!sender_running(&dp->senders[core_index]))
		return true; /* not called any more: parked, or ended by an error */
	return done && calls > ((done + core->batch_mask) & ~(__u64)core->batch_mask);
}

static void give_back(struct dataplane *dp, __u32 core, __u32 i)
{
	struct share *share = &dp->senders[core].shares[i];

	table_give(dp, slot_of(dp, core, i)->table, share->table_cells);
	share->used = false;
}

/* Keep what became of an ended slot and free it. */
static void retire(struct dataplane *dp, __u32 core, __u32 i)
{
	struct share *share = &dp->senders[core].shares[i];
	struct slot *slot = slot_of(dp, core, i);
	struct port *port = &dp->ports[slot->port];

	if (slot->failed)
		dp->failed_stream = (__s64)share->key;
	port->handed_packets += slot->sent;
	port->handed_bytes += slot->sent_bytes;
	port->skipped_stall += slot->skipped_stall;
	port->skipped_receive += slot->skipped_receive;
	port->skipped_saturated += slot->skipped_saturated;
	if (share->group_slot != NO_GROUP) {
		dp->group_tx[slot->port][share->group_slot].packets += slot->sent;
		dp->group_tx[slot->port][share->group_slot].bytes += slot->sent_bytes;
	}
	give_back(dp, core, i);
}

static bool any_used(const struct sender *sender)
{
	for (__u32 i = 0; i < MAX_SLOTS; i++)
		if (sender->shares[i].used)
			return true;
	return false;
}

/* Retire what has ended; a core without streams leaves the kernel. */
void streams_reap(struct dataplane *dp)
{
	for (__u32 core = 0; core < dp->cores_used; core++) {
		struct sender *sender = &dp->senders[core];

		for (__u32 i = 0; i < MAX_SLOTS; i++)
			if (sender->shares[i].used && finished(dp, core, i))
				retire(dp, core, i);
		if (!any_used(sender) && sender_running(sender))
			sender_park(dp, core);
	}
}

/* Late frames of what was sent so far are not taken for those of the next streams. Marked streams that are still
 * active keep theirs.
 */
void streams_renew_marks(struct dataplane *dp)
{
	streams_reap(dp);
	for (__u32 core = 0; core < dp->cores_used; core++)
		for (__u32 i = 0; i < MAX_SLOTS; i++)
			if (dp->senders[core].shares[i].used && slot_of(dp, core, i)->trailer_magic == MAGIC_MARK)
				return;
	dp->shared->rx.nonce++;
}

/* Whether this share's frames may leave the payload as it is from call to call, next to those of another. */
static bool may_share_payload(struct dataplane *dp, __u32 core, __u32 a, __u32 b)
{
	const struct slot *one = slot_of(dp, core, a), *other = slot_of(dp, core, b);
	const __u8 *payloads = dp->payloads + (size_t)core * MAX_SLOTS * MAX_FRAME;
	bool rest_one = one->length > one->header, rest_other = other->length > other->header;

	if (!rest_one && !rest_other)
		return true;
	if (rest_one != rest_other)
		return rest_one ? other->length <= one->header : one->length <= other->header;
	return one->length == other->length && one->header == other->header &&
	       !one->trailer_magic == !other->trailer_magic &&
	       !memcmp(payloads + (size_t)a * MAX_FRAME, payloads + (size_t)b * MAX_FRAME, one->length - one->header);
}

static bool is_uniform(struct dataplane *dp, __u32 core)
{
	const struct share *shares = dp->senders[core].shares;

	for (__u32 a = 0; a < MAX_SLOTS; a++) {
		const struct slot *slot = slot_of(dp, core, a);

		if (!shares[a].used)
			continue;
		if (slot->length > slot->header &&
		    (!shares[a].uniform || slot->length != dp->shared->cores[core].base_length))
			return false;
		for (__u32 b = 0; b < a; b++)
			if (shares[b].used && !may_share_payload(dp, core, a, b))
				return false;
	}
	return true;
}

/* The frame that the program is called with: the longest template of the core. */
static void choose_frame(struct dataplane *dp, __u32 core)
{
	struct sender *sender = &dp->senders[core];
	struct core *state = &dp->shared->cores[core];
	__u32 best = 0, length = 0;

	for (__u32 i = 0; i < MAX_SLOTS; i++) {
		if (sender->shares[i].used && slot_of(dp, core, i)->length > length) {
			best = i;
			length = slot_of(dp, core, i)->length;
		}
	}
	const struct slot *slot = slot_of(dp, core, best);

	memset(sender->frame, 0, sizeof(sender->frame));
	if (length > slot->header)
		memcpy(sender->frame + slot->header,
		       dp->payloads + ((size_t)core * MAX_SLOTS + best) * MAX_FRAME, length - slot->header);
	state->base_length = length;
}

/* Have a core's program called, in batches that suit its rate, before streams are added to its schedule. */
static int prepare_core(struct dataplane *dp, __u32 core)
{
	struct core *state = &dp->shared->cores[core];
	const struct call_class *class = class_of(dp, core);
	bool running = sender_running(&dp->senders[core]);

	state->hold_most = class->hold;
	state->spin = class->spin;
	state->spread = class->spread;
	if (running) {
		if (state->uniform && !is_uniform(dp, core))
			state->uniform = 0;
		if (class->batch <= state->batch_mask + 1)
			return 0;
		sender_park(dp, core);
		return sender_wake(dp, core, class->batch, true);
	}
	choose_frame(dp, core);
	state->uniform = is_uniform(dp, core);
	return sender_wake(dp, core, class->batch, false);
}

static int check_record(struct dataplane *dp, const struct start_record *record, size_t memory)
{
	size_t table = (size_t)record->entries * record->cells * CELL;

	if (record->core >= dp->cores_used || record->port >= dp->ports_used || !record->entries ||
	    record->all_entries < record->entries || !record->cells || record->cells > MAX_CELLS ||
	    record->checksum > MAX_CHECKSUM || record->checksum + 2 + TRAILER > record->length ||
	    record->length < MIN_FRAME || record->length > MAX_FRAME || record->header < MIN_FRAME ||
	    (record->group_slot != NO_GROUP && record->group_slot >= GROUP_SLOTS) || record->pps < 0 ||
	    record->table_offset > memory || memory - record->table_offset < table ||
	    record->payload_offset > memory || memory - record->payload_offset < record->length)
		return fail(dp, -EINVAL, "stream %u: record out of bounds", record->key);
	return 0;
}

/* A latency stream begins a new generation of its index: frames of the previous one are not taken for its own. */
static int renew_index(struct dataplane *dp, __u32 index, __u8 *generation)
{
	struct latency_state state;

	if (index >= LATENCY_INDICES)
		return fail(dp, -EINVAL, "latency index %u out of range", index);
	if (bpf_map_lookup_elem_flags(dp->latency_fd, &index, &state, BPF_F_LOCK))
		return fail(dp, -errno, "cannot read a latency index: %s", strerror(errno));
	state.generation++;
	state.expected = FIRST_SEQ;
	*generation = state.generation;
	if (bpf_map_update_elem(dp->latency_fd, &index, &state, BPF_F_LOCK))
		return fail(dp, -errno, "cannot renew a latency index: %s", strerror(errno));
	return 0;
}

static void fill_slot(struct dataplane *dp, const struct start_record *record, struct share *share, struct slot *slot,
		      __u32 table, __u8 generation)
{
	__u64 interval;
	__u32 frac;

	interval_of(share, record->pps, &interval, &frac);
	*slot = (struct slot){
		.next = interval ? record->at : NEVER,
		.interval = interval,
		.interval_frac = frac,
		.until = record->until,
		.remaining = record->total,
		.slack = slack_of(interval),
		.table = table,
		.entries = record->entries,
		.cells = record->cells,
		.port = record->port,
		.length = record->length,
		.header = record->header,
		.trailer_index = record->trailer_index,
		.trailer_magic = record->trailer_magic,
		.trailer_generation = record->trailer_magic == MAGIC_LATENCY ? generation : dp->shared->rx.nonce,
		.seq = FIRST_SEQ,
		.limited = record->total != NEVER,
		.checksum = record->checksum,
	};
}

/* Take a slot and table room for one record and fill them; not scheduled yet. */
static int take(struct dataplane *dp, const struct start_record *record, const __u8 *memory, __u32 *slot_index)
{
	struct sender *sender = &dp->senders[record->core];
	__u32 i = 0, table, cells = record->entries * record->cells;
	__u8 generation = 0;
	int err;

	while (i < MAX_SLOTS && sender->shares[i].used)
		i++;
	if (i == MAX_SLOTS)
		return fail(dp, -ENOSPC, "core %d already sends %d streams, its limit", sender->cpu, MAX_SLOTS);
	if (record->trailer_magic == MAGIC_LATENCY && (err = renew_index(dp, record->trailer_index, &generation)))
		return err;
	err = table_take(dp, cells, &table);
	if (err)
		return err;
	sender->shares[i] = (struct share){
		.used = true, .key = record->key, .entries = record->entries, .all_entries = record->all_entries,
		.table_cells = cells, .group_slot = record->group_slot, .uniform = record->uniform,
		.pps = record->pps};
	memcpy(dp->cells + (size_t)table * CELL, memory + record->table_offset, (size_t)cells * CELL);
	if (record->length > record->header)
		memcpy(dp->payloads + ((size_t)record->core * MAX_SLOTS + i) * MAX_FRAME,
		       memory + record->payload_offset + record->header, record->length - record->header);
	fill_slot(dp, record, &sender->shares[i], slot_of(dp, record->core, i), table, generation);
	*slot_index = i;
	return 0;
}

/* A start that has passed while the cores got ready moves, with all that belongs to it, to just after now. */
static void delay_past_starts(struct dataplane *dp, const struct start_record *records, const __u32 *slots,
			      size_t count)
{
	__u64 now = now_ns() + START_LEAD_NS + count * 1000, first = NEVER;

	for (size_t i = 0; i < count; i++)
		if (records[i].at < first)
			first = records[i].at;
	if (first >= now)
		return;
	for (size_t i = 0; i < count; i++) {
		struct slot *slot = slot_of(dp, records[i].core, slots[i]);

		if (slot->next != NEVER)
			slot->next += now - first;
		if (slot->until != NEVER)
			slot->until += now - first;
	}
}

/* Put filled slots on their cores' schedules, in order. `posted`: how many of them the programs got, less on error. */
static int schedule_all(struct dataplane *dp, const struct start_record *records, const __u32 *slots, size_t count,
			size_t *posted)
{
	bool ready[MAX_CORES] = {false};
	int err;

	for (size_t i = 0; i < count; i++) {
		if (ready[records[i].core])
			continue;
		err = prepare_core(dp, records[i].core);
		if (err)
			return err;
		ready[records[i].core] = true;
	}
	delay_past_starts(dp, records, slots, count);
	for (; *posted < count; ++*posted) {
		err = post(dp, records[*posted].core, (struct command_entry){.op = CMD_ADD, .slot = slots[*posted]});
		if (err)
			return err;
	}
	return 0;
}

/* Stop what a start that failed has put on schedules. Until its program has done so a slot keeps its cells, which the
 * program still reads; it is retired like any other that ends. A core that does not take commands is asked once.
 */
static void withdraw(struct dataplane *dp, const struct start_record *records, const __u32 *slots, size_t posted)
{
	bool deaf[MAX_CORES] = {false};

	for (size_t i = 0; i < posted; i++) {
		__u32 core = records[i].core;

		if (!deaf[core] && !finished(dp, core, slots[i]))
			deaf[core] = post(dp, core, (struct command_entry){.op = CMD_STOP, .slot = slots[i]}) != 0;
	}
}

static int start_mapped(struct dataplane *dp, const struct start_record *records, size_t count, const __u8 *memory,
			size_t size)
{
	__u32 slots[MESSAGE_MAX / sizeof(*records)];
	size_t taken = 0, posted = 0;
	int err = 0;

	streams_reap(dp);
	for (; taken < count && !err; taken++) {
		err = check_record(dp, &records[taken], size);
		if (!err)
			err = take(dp, &records[taken], memory, &slots[taken]);
		if (err)
			break;
	}
	if (!err)
		err = schedule_all(dp, records, slots, count, &posted);
	if (err)
		withdraw(dp, records, slots, posted);
	while (err && taken > posted)
		taken--, give_back(dp, records[taken].core, slots[taken]);
	return err;
}

int streams_start(struct dataplane *dp, const struct start_record *records, size_t count, int memory)
{
	struct stat status;
	__u8 *map;
	int err;

	if (memory < 0 || fstat(memory, &status) || status.st_size <= 0)
		return fail(dp, -EINVAL, "start needs a memory file with tables");
	map = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, memory, 0);
	if (map == MAP_FAILED)
		return fail(dp, -errno, "cannot map the tables: %s", strerror(errno));
	err = start_mapped(dp, records, count, map, status.st_size);
	munmap(map, status.st_size);
	return err;
}

static bool has_key(const struct share *share, const __u32 *keys, size_t count)
{
	for (size_t i = 0; share->used && i < count; i++)
		if (share->key == keys[i])
			return true;
	return false;
}

int streams_rate(struct dataplane *dp, const struct rate_record *records, size_t count)
{
	for (__u32 core = 0; core < dp->cores_used; core++) {
		for (__u32 i = 0; i < MAX_SLOTS * count; i++) {
			const struct rate_record *record = &records[i / MAX_SLOTS];
			struct share *share = &dp->senders[core].shares[i % MAX_SLOTS];
			struct command_entry command = {.op = CMD_RATE, .slot = i % MAX_SLOTS};
			int err;

			if (!has_key(share, &record->key, 1) || finished(dp, core, i % MAX_SLOTS))
				continue;
			share->pps = record->pps;
			interval_of(share, record->pps, &command.interval, &command.interval_frac);
			err = post(dp, core, command);
			if (err)
				return err;
		}
		if (any_used(&dp->senders[core]) && sender_running(&dp->senders[core])) {
			int err = prepare_core(dp, core);

			if (err)
				return err;
		}
	}
	return 0;
}

bool streams_active(struct dataplane *dp, const __u32 *keys, size_t count)
{
	streams_reap(dp);
	for (__u32 core = 0; core < dp->cores_used; core++)
		for (__u32 i = 0; i < MAX_SLOTS; i++)
			if (has_key(&dp->senders[core].shares[i], keys, count))
				return true;
	return false;
}

int streams_stop(struct dataplane *dp, const __u32 *keys, size_t count)
{
	__u64 deadline = now_ns() + APPLY_DEADLINE_NS;
	int err;

	for (__u32 core = 0; core < dp->cores_used; core++) {
		for (__u32 i = 0; i < MAX_SLOTS; i++) {
			if (!has_key(&dp->senders[core].shares[i], keys, count) || finished(dp, core, i))
				continue;
			err = post(dp, core, (struct command_entry){.op = CMD_STOP, .slot = i});
			if (err)
				return err;
		}
	}
	while (streams_active(dp, keys, count)) {
		if (now_ns() > deadline)
			return fail(dp, -ETIMEDOUT, "a stream does not stop");
		nap();
	}
	return 0;
}

/* When a slot is expected to end, or NEVER. */
static __u64 expected_end(const struct slot *slot)
{
	__u64 end = slot->until, left;

	if (slot->limited && slot->next != NEVER) {
		left = slot->next + slot->remaining * (slot->interval + 1);
		end = left < end ? left : end;
	}
	return end;
}

/* Milliseconds until a stream is expected to have ended by itself; -1: none will. */
int streams_next_event_ms(struct dataplane *dp)
{
	__u64 now = now_ns(), end = NEVER;

	for (__u32 core = 0; core < dp->cores_used; core++) {
		for (__u32 i = 0; i < MAX_SLOTS; i++) {
			__u64 expected;

			if (!dp->senders[core].shares[i].used)
				continue;
			expected = expected_end(slot_of(dp, core, i));
			if (expected < end)
				end = expected;
		}
	}
	if (end == NEVER)
		return -1;
	if (end <= now)
		return 1;
	return (end - now) / 1000000 > 60000 ? 60000 : (int)((end - now) / 1000000) + 1;
}
