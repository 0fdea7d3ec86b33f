/* SPDX-License-Identifier: Apache-2.0 */
/* The server's answer to "stats". */
#pragma once

#include "worker.h"

struct server {
	struct worker *workers;
	unsigned int nworkers;
	struct listener *listeners;
	unsigned int nlisteners;
};

/* Prints the counters of a struct server as one JSON object. */
void stats_print(void *server);
