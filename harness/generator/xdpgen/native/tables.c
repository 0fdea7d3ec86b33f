/* SPDX-License-Identifier: Apache-2.0 */
/* Room in the map of header cells: first fit over what the active streams occupy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dp.h"

struct extent {
	__u32 first, cells;
};

static struct extent extents[MAX_CORES * MAX_SLOTS]; /* sorted by first */
static size_t extent_count;

int table_take(struct dataplane *dp, __u32 cells, __u32 *first)
{
	__u32 start = 0;
	size_t i;

	for (i = 0; i < extent_count; i++) {
		if (extents[i].first - start >= cells)
			break;
		start = extents[i].first + extents[i].cells;
	}
	if (dp->cell_count - start < cells)
		return fail(dp, -ENOSPC,
			    "the header tables are full: %u more cells of %u bytes are needed, all streams share %u; "
			    "use fewer flows or create the dataplane with more table_cells",
			    cells, CELL, dp->cell_count);
	memmove(&extents[i + 1], &extents[i], (extent_count - i) * sizeof(*extents));
	extents[i] = (struct extent){.first = start, .cells = cells};
	extent_count++;
	*first = start;
	return 0;
}

void table_give(struct dataplane *dp, __u32 first, __u32 cells)
{
	(void)dp;
	for (size_t i = 0; i < extent_count; i++) {
		if (extents[i].first != first || extents[i].cells != cells)
			continue;
		extent_count--;
		memmove(&extents[i], &extents[i + 1], (extent_count - i) * sizeof(*extents));
		return;
	}
}
