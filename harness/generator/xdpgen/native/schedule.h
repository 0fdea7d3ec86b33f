/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which slot of a core departs next: by the sending program, and for a test of it alone. */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include "xdpgen.h"

/* Nothing scheduled: every departure is never, every subtree's winner its first leaf. */
static inline void schedule_nothing(struct core *core)
{
	core->best = 0;
	core->due = NEVER;
	core->second = NEVER;
	for (__u32 slot = 0; slot < MAX_SLOTS; slot++)
		core->next[slot] = NEVER;
	for (__u32 level = 1; level <= MAX_SLOTS / 2; level *= 2)
		for (__u32 node = 0; node < level; node++)
			core->winner[level + node] = node * (MAX_SLOTS / level);
}

/* Set slot i's departure time and find the earliest of all: 8 levels of a tournament tree, unless the slot that departed
 * last is due again before all others. That is every time with one stream, and the tree would be a third of what a
 * frame costs.
 */
static inline __attribute__((always_inline)) void schedule(struct core *core, __u32 i, __u64 next)
{
	__u32 best = i & (MAX_SLOTS - 1), rival, node;
	__u64 due = next, second, time;

	core->next[best] = next;
	if (best == core->best && next <= core->second) {
		core->due = next; /* it wins at every inner node on its path, as before */
		return;
	}
	rival = best ^ 1;
	node = (best + MAX_SLOTS) >> 1;
	second = time = core->next[rival & (MAX_SLOTS - 1)];
	if (time < due) {
		due = time;
		best = rival;
	}
	core->winner[node & (MAX_SLOTS - 1)] = best;
#pragma GCC unroll 7
	for (int level = 0; level < 7; level++) {
		rival = core->winner[(node ^ 1) & (MAX_SLOTS - 1)];
		time = core->next[rival & (MAX_SLOTS - 1)];
		if (time < second)
			second = time;
		if (time < due) {
			due = time;
			best = rival;
		}
		node >>= 1;
		core->winner[node & (MAX_SLOTS - 1)] = best;
	}
	core->best = best;
	core->due = due;
	/* If i departs next, its rivals were the best of all others; if another does, this is that one's own time. */
	core->second = second;
}

#endif
