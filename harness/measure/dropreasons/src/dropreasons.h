/* SPDX-License-Identifier: Apache-2.0 */
/* What the BPF program and its loader share. */
#ifndef DROPREASONS_H
#define DROPREASONS_H

#include <linux/types.h>

#define MAX_PORTS 8
#define MAX_REASONS 512

/* Whose drops are counted: packets of these interfaces (0: unused entry) of one network namespace. */
struct dropreasons_config {
	__u32 netns;
	__u32 ifindex[MAX_PORTS];
};

#endif
