/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of received frames, from the receiving program's ring to a reply. */
#include <errno.h>
#include <string.h>

#include "dp.h"

struct copy {
	struct dataplane *dp;
	__u8 *to;
	size_t room, used;
};

/* Ring buffer callback; an error ends the walk behind this record, when another may not fit into the reply. */
static int copy_record(void *context, void *data, size_t size)
{
	const struct capture_record *record = data;
	struct copy *copy = context;
	size_t length = sizeof(*record) + record->length;

	(void)size;
	memcpy(copy->to + copy->used, record, length);
	copy->used += (length + 7) & ~(size_t)7;
	return copy->room - copy->used < sizeof(*record) + MAX_FRAME + 8 ? -ENOSPC : 0;
}

static struct copy current;

int captures_open(struct dataplane *dp)
{
	int fd = bpf_object__find_map_fd_by_name(dp->object, "captures");

	dp->captures = ring_buffer__new(fd, copy_record, &current, NULL);
	return dp->captures ? 0 : fail(dp, -errno, "cannot open the capture ring: %s", strerror(errno));
}

/* Fill `to` with whole records; returns the bytes used, 0 when nothing is waiting. */
size_t captures_take(struct dataplane *dp, void *to, size_t room)
{
	current = (struct copy){.dp = dp, .to = to, .room = room};
	ring_buffer__consume(dp->captures);
	return current.used;
}

void captures_close(struct dataplane *dp)
{
	ring_buffer__free(dp->captures);
}
