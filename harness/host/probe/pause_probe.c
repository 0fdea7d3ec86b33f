/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pause_probe CORE PERIOD_NS: wake up on one core at fixed times and measure how late that was.
 *
 * Speaks as the agent's own probe does (agent.py, class Watch, which says what it sees and what not), at a third of the
 * cost: one JSON line to greet, and for every "go" line one at once and one when SIGUSR1 ends the watch.
 * PERIOD_NS 0: the shortest of 1, 2 and 4 ms that takes at most 0.4 % of the core while that core is busy.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAUSE_NS 250000
#define MAX_PAUSES 20000
#define PRIORITY 98
#define BUDGET 0.004

struct watch {
	uint64_t wakes;
	uint64_t unlisted;
	double cost_s;
	int count;
	struct { int64_t start, length; } pauses[MAX_PAUSES];
};

static volatile sig_atomic_t stopped;
static struct watch result;
static int delay_fd;
static int priority;

static void on_stop(int number)
{
	(void)number;
	stopped = 1;
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double used_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Time this thread was ready to run and something else ran: not a pause. */
static int64_t run_delay(void)
{
	char text[128];
	unsigned long long ran, waited = 0;
	ssize_t length = pread(delay_fd, text, sizeof(text) - 1, 0);

	if (length <= 0)
		return 0;
	text[length] = 0;
	if (sscanf(text, "%llu %llu", &ran, &waited) != 2)
		return 0;
	return (int64_t)waited;
}

static void note(int64_t due, int64_t length)
{
	if (result.count == MAX_PAUSES) {
		result.unlisted++;
		return;
	}
	result.pauses[result.count].start = due;
	result.pauses[result.count++].length = length;
}

static void watch(int64_t period, uint64_t most)
{
	/* At SCHED_FIFO the delay hardly grows from wake to wake, so its base may age. */
	uint64_t often = priority ? 256 : 1;
	double before = used_s();
	int64_t base = run_delay(), due = now_ns();

	memset(&result, 0, offsetof(struct watch, pauses));
	while (!stopped && (!most || result.wakes < most)) {
		struct timespec t;
		int64_t late, delay;

		due += period;
		t.tv_sec = due / 1000000000;
		t.tv_nsec = due % 1000000000;
		if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
			break;
		late = now_ns() - due;
		result.wakes++;
		if (late >= PAUSE_NS) {
			delay = run_delay();
			if (late - (delay - base) >= PAUSE_NS)
				note(due, late - (delay - base));
			base = delay;
			due += late / period * period;
		} else if (result.wakes % often == 0) {
			base = run_delay();
		}
	}
	stopped = 0;
	result.cost_s = used_s() - before;
}

/* The cost of a wake on a core that somebody uses, which is where it matters. */
static int64_t affordable(void)
{
	static const int64_t periods[] = { 1000000, 2000000, 4000000 };
	pid_t spinner = fork();
	double each = 1;
	int i;

	if (spinner == 0) {
		struct sched_param plain = { 0 };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sched_setscheduler(0, SCHED_OTHER, &plain);
		for (;;)
			;
	}
	for (i = 0; i < 5; i++) { /* the best of a few: what others do to this core now is not the probe's cost */
		watch(periods[0], 24);
		if (result.wakes && result.cost_s / result.wakes < each)
			each = result.cost_s / result.wakes;
	}
	if (spinner > 0) {
		kill(spinner, SIGKILL);
		waitpid(spinner, NULL, 0);
	}
	for (i = 0; i < 2 && each > BUDGET * periods[i] * 1e-9; i++)
		;
	return periods[i];
}

static void report(int core, int64_t period)
{
	int i;

	printf("{\"core\": %d, \"period_ns\": %lld, \"priority\": %d, \"wakes\": %llu, \"unlisted\": %llu, "
	       "\"cost_s\": %.6f, \"pauses\": [", core, (long long)period, priority,
	       (unsigned long long)result.wakes, (unsigned long long)result.unlisted, result.cost_s);
	for (i = 0; i < result.count; i++)
		printf("%s[%lld, %lld]", i ? ", " : "", (long long)result.pauses[i].start,
		       (long long)result.pauses[i].length);
	puts("]}");
	fflush(stdout);
}

static int fail(const char *what)
{
	printf("{\"error\": \"%s: %s\"}\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	struct sched_param param = { .sched_priority = PRIORITY };
	struct sigaction action = { .sa_handler = on_stop };
	char line[16];
	cpu_set_t set;
	int64_t period;
	int core;

	if (argc != 3)
		return 2;
	core = atoi(argv[1]);
	period = atoll(argv[2]);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	CPU_ZERO(&set);
	if (core < 0 || core >= CPU_SETSIZE)
		return errno = EINVAL, fail("core");
	CPU_SET(core, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return fail("sched_setaffinity");
	priority = sched_setscheduler(0, SCHED_FIFO, &param) ? 0 : PRIORITY;
	prctl(PR_SET_TIMERSLACK, 1);
	delay_fd = open("/proc/self/schedstat", O_RDONLY | O_CLOEXEC);
	if (delay_fd < 0)
		return fail("/proc/self/schedstat");
	memset(&result, 1, sizeof(result)); /* no page fault later */
	mlockall(MCL_CURRENT);
	sigaction(SIGUSR1, &action, NULL); /* no SA_RESTART: it ends the sleep */
	if (period <= 0)
		period = affordable();
	printf("{\"core\": %d, \"period_ns\": %lld, \"priority\": %d}\n", core, (long long)period, priority);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) && !strcmp(line, "go\n")) {
		stopped = 0;
		puts("{\"watching\": true}");
		fflush(stdout);
		watch(period, 0);
		report(core, period);
	}
	return 0;
}
