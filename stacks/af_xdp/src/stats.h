/* SPDX-License-Identifier: Apache-2.0 */
/* The server's answer to "stats". */
#pragma once

#include "worker.h"

struct server {
	const struct options *options;
	const struct program *programs;
	struct worker *workers;
};

/* Prints the counters of a struct server as one JSON object. */
void stats_print(void *server);
