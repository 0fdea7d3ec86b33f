/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "threads.h"

#include "control.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

pthread_t thread_start(int core, const char *name, void *(*body)(void *), void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;
	cpu_set_t cores;
	char full[16];

	CPU_ZERO(&cores);
	CPU_SET(core, &cores);
	pthread_attr_init(&attributes);
	errno = pthread_attr_setaffinity_np(&attributes, sizeof(cores), &cores);
	if (!errno)
		errno = pthread_create(&thread, &attributes, body, argument);
	if (errno)
		die("worker on core %d", core);
	pthread_attr_destroy(&attributes);
	snprintf(full, sizeof(full), "%s/%d", name, core);
	pthread_setname_np(thread, full);
	return thread;
}

uint64_t thread_cpu_ns(pthread_t thread)
{
	struct timespec spent;
	clockid_t clock;

	errno = pthread_getcpuclockid(thread, &clock);
	if (errno || clock_gettime(clock, &spent))
		die("CPU clock of a worker");
	return (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
}

static FILE *open_file(pid_t tid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", (int)tid, name);
	return fopen(path, "re");
}

struct sched thread_sched(pid_t tid)
{
	FILE *file = open_file(tid, "status");
	struct sched s = { 0 };
	unsigned int found = 0;
	char line[256];

	if (!file)
		die("status of a worker");
	while (fgets(line, sizeof(line), file)) {
		found += sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &s.voluntary_switches) == 1;
		found += sscanf(line, "nonvoluntary_ctxt_switches: %" SCNu64, &s.involuntary_switches) == 1;
	}
	fclose(file);
	if (found != 2) {
		errno = EPROTO;
		die("context switches of a worker");
	}
	file = open_file(tid, "schedstat");
	if (!file)
		return s;
	s.has_wait = fscanf(file, "%*u %" SCNu64 " %" SCNu64, &s.wait_ns, &s.slices) == 2;
	fclose(file);
	return s;
}
