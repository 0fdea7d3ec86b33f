/* SPDX-License-Identifier: Apache-2.0 */
/* What the scheduler did with a thread, since its start. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct sched {
	uint64_t voluntary_switches;   /* it waited for something */
	uint64_t involuntary_switches; /* another was given its core */
	bool has_wait;                 /* the kernel has CONFIG_SCHED_INFO */
	uint64_t wait_ns;              /* ready to run, waiting for its core */
};

/* Reads /proc/self/task/TID/status and schedstat; exits on failure. */
void sched_read(pid_t tid, struct sched *s);
