/* SPDX-License-Identifier: Apache-2.0 */
/* One thread per sending core. While any stream of its core is active it stands in one BPF_PROG_TEST_RUN call, in
 * which the kernel calls the sending program frame after frame; a signal ends the call.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "dp.h"

#define WAKE_DEADLINE_NS (10 * NS)

struct sender_argument {
	struct dataplane *dp;
	__u32 core;
};
static struct sender_argument arguments[MAX_CORES];

static void on_signal(int number)
{
	(void)number; /* its only purpose is that the system call returns EINTR */
}

/* A call's batches begin where its count of calls is a multiple of the batch. */
static void align_calls(struct core *core)
{
	core->calls = (core->calls + 255) & ~255ull;
	core->pending = 0;
	core->hurry = 0;
	core->drain = 0;
}

/* One system call; returns errno. */
static int run_once(struct dataplane *dp, struct sender *sender, struct core *core)
{
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = sender->frame, .data_size_in = core->base_length,
		    .repeat = INT_MAX, .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = core->batch_mask + 1);
	int err;

	align_calls(core);
	err = -bpf_prog_test_run_opts(dp->send_fd, &options);
	align_calls(core);
	return err;
}

static void prepare_thread(struct sender *sender)
{
	cpu_set_t cpus;
	char name[16];

	CPU_ZERO(&cpus);
	CPU_SET(sender->cpu, &cpus);
	snprintf(name, sizeof(name), "xdpgen/%d", sender->cpu);
	pthread_setname_np(pthread_self(), name);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) || setpriority(PRIO_PROCESS, gettid(), -20))
		sender->error = errno;
}

static bool wait_for_work(struct sender *sender)
{
	pthread_mutex_lock(&sender->lock);
	while (!sender->wanted && !sender->quit) {
		sender->parked = true;
		pthread_cond_broadcast(&sender->change);
		pthread_cond_wait(&sender->change, &sender->lock);
	}
	sender->parked = false;
	pthread_mutex_unlock(&sender->lock);
	return !sender->quit;
}

static void *send_forever(void *pointer)
{
	struct sender_argument *argument = pointer;
	struct sender *sender = &argument->dp->senders[argument->core];
	struct core *core = &argument->dp->shared->cores[argument->core];

	prepare_thread(sender);
	while (wait_for_work(sender)) {
		int err = run_once(argument->dp, sender, core);

		if (!err || err == EINTR)
			continue;
		pthread_mutex_lock(&sender->lock);
		sender->error = err;
		sender->wanted = false;
		pthread_mutex_unlock(&sender->lock);
	}
	return NULL;
}

int sender_create(struct dataplane *dp, __u32 core)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct sender *sender = &dp->senders[core];
	pthread_condattr_t attributes;
	int err;

	sigaction(SIGUSR1, &action, NULL);
	pthread_mutex_init(&sender->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* the wall clock may be set back an hour */
	pthread_cond_init(&sender->change, &attributes);
	pthread_condattr_destroy(&attributes);
	arguments[core] = (struct sender_argument){dp, core};
	err = pthread_create(&sender->thread, NULL, send_forever, &arguments[core]);
	if (err)
		return fail(dp, -err, "cannot create a thread: %s", strerror(err));
	sender->created = true;
	pthread_mutex_lock(&sender->lock);
	while (!sender->parked)
		pthread_cond_wait(&sender->change, &sender->lock);
	err = sender->error;
	pthread_mutex_unlock(&sender->lock);
	if (err)
		return fail(dp, -err, "cannot use core %d for sending: %s", sender->cpu, strerror(err));
	return 0;
}

bool sender_running(struct sender *sender)
{
	bool running;

	pthread_mutex_lock(&sender->lock);
	running = !sender->parked || sender->wanted;
	pthread_mutex_unlock(&sender->lock);
	return running;
}

static int sender_error(struct sender *sender)
{
	int err;

	pthread_mutex_lock(&sender->lock);
	err = sender->error;
	pthread_mutex_unlock(&sender->lock);
	return err;
}

/* Begin calling the program, and return when the kernel calls it. */
int sender_wake(struct dataplane *dp, __u32 index, __u32 batch, bool resume)
{
	struct sender *sender = &dp->senders[index];
	struct core *core = &dp->shared->cores[index];
	__u64 deadline = now_ns() + WAKE_DEADLINE_NS, calls;

	if (!resume)
		core->last = 0; /* otherwise the time away is a pause */
	core->batch_mask = batch - 1;
	calls = (core->calls + 255) & ~255ull;
	pthread_mutex_lock(&sender->lock);
	sender->error = 0;
	sender->wanted = true;
	pthread_cond_broadcast(&sender->change);
	pthread_mutex_unlock(&sender->lock);
	while (__atomic_load_n(&core->calls, __ATOMIC_ACQUIRE) <= calls) {
		int err = sender_error(sender);

		if (err == EINVAL || err == EOPNOTSUPP)
			return fail(dp, -err, "the kernel refuses XDP live frames (%s): Linux 5.18 or newer is needed",
				    strerror(err));
		if (err)
			return fail(dp, -err, "sending failed: %s", strerror(err));
		if (now_ns() > deadline)
			return fail(dp, -ETIMEDOUT, "core %d does not begin to send", sender->cpu);
		nap();
	}
	return 0;
}

/* Return when the thread is out of the kernel and everything it handed over has been flushed. */
void sender_park(struct dataplane *dp, __u32 index)
{
	struct sender *sender = &dp->senders[index];

	pthread_mutex_lock(&sender->lock);
	sender->wanted = false;
	while (!sender->parked) {
		struct timespec until;

		pthread_kill(sender->thread, SIGUSR1); /* again: one that comes just before the call is lost */
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 1000000;
		if (until.tv_nsec >= (long)NS) {
			until.tv_sec++;
			until.tv_nsec -= NS;
		}
		pthread_cond_timedwait(&sender->change, &sender->lock, &until);
	}
	pthread_mutex_unlock(&sender->lock);
}

void sender_destroy(struct sender *sender)
{
	if (!sender->created)
		return;
	pthread_mutex_lock(&sender->lock);
	sender->quit = true;
	pthread_cond_broadcast(&sender->change);
	pthread_mutex_unlock(&sender->lock);
	pthread_join(sender->thread, NULL);
	sender->created = false;
}
