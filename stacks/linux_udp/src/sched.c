/* SPDX-License-Identifier: Apache-2.0 */
#include "sched.h"
#include "sockets.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static FILE *open_file(pid_t tid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", (int)tid, name);
	return fopen(path, "r");
}

void sched_read(pid_t tid, struct sched *s)
{
	FILE *file = open_file(tid, "status");
	unsigned int found = 0;
	char line[256];

	*s = (struct sched){ 0 };
	if (!file)
		die("status of a worker");
	while (fgets(line, sizeof(line), file)) {
		found += sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &s->voluntary_switches) == 1;
		found += sscanf(line, "nonvoluntary_ctxt_switches: %" SCNu64, &s->involuntary_switches) == 1;
	}
	fclose(file);
	if (found != 2) {
		errno = EPROTO;
		die("context switches of a worker");
	}
	file = open_file(tid, "schedstat");
	if (!file)
		return;
	s->has_wait = fscanf(file, "%*u %" SCNu64, &s->wait_ns) == 1;
	fclose(file);
}
