/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker.h"

#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A jumbo frame's payload, and an odd number of cache lines so that successive buffers use different cache sets. */
#define BUFFER_BYTES (145 * 64)

/* Kernel 6.9: busy polling of an epoll instance; older headers lack it. */
struct epoll_busy_poll {
	uint32_t usecs;
	uint16_t budget;
	uint8_t prefer;
	uint8_t pad;
};
#define EPOLL_SET_BUSY_POLL _IOW(0x8A, 0x01, struct epoll_busy_poll)

/* All memory of a worker's inner loop, allocated and touched by the worker itself so that it is local to its core. */
struct batch {
	struct mmsghdr messages[MAX_BATCH];
	struct iovec vectors[MAX_BATCH];
	union address peers[MAX_BATCH];
	_Alignas(64) unsigned char buffers[MAX_BATCH][BUFFER_BYTES];
};

static inline void add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static struct batch *batch_new(const struct options *o)
{
	struct batch *b = aligned_alloc(64, sizeof(*b));

	if (!b)
		die("aligned_alloc");
	memset(b, 0, sizeof(*b));
	for (unsigned int i = 0; i < MAX_BATCH; i++) {
		b->vectors[i] = (struct iovec){ b->buffers[i], BUFFER_BYTES };
		b->messages[i].msg_hdr.msg_iov = &b->vectors[i];
		b->messages[i].msg_hdr.msg_iovlen = 1;
		if (o->role == ROLE_ECHO) {
			b->messages[i].msg_hdr.msg_name = &b->peers[i];
			b->messages[i].msg_hdr.msg_namelen = sizeof(b->peers[i]);
		}
	}
	return b;
}

/* Each datagram goes back to its sender, unchanged. One that the kernel refuses is counted and passed over. */
static void echo(struct worker *w, int fd, struct batch *b, unsigned int n)
{
	unsigned int done = 0;

	for (unsigned int i = 0; i < n; i++)
		b->vectors[i].iov_len = b->messages[i].msg_len;
	while (done < n) {
		int sent = sendmmsg(fd, &b->messages[done], n - done, 0);

		if (sent > 0) {
			add(&w->counters.sent, (uint64_t)sent);
			done += (unsigned int)sent;
		} else if (errno != EINTR) {
			add(&w->counters.send_errors, 1);
			done++;
		}
	}
	for (unsigned int i = 0; i < n; i++) {
		b->vectors[i].iov_len = BUFFER_BYTES;
		b->messages[i].msg_hdr.msg_namelen = sizeof(b->peers[i]);
	}
}

static inline bool is_test(const struct options *o, unsigned int length)
{
	for (unsigned int i = 0; i < o->npayloads; i++)
		if (length == (unsigned int)o->payloads[i])
			return true;
	return !o->npayloads;
}

static void discard(struct worker *w, const struct batch *b, unsigned int n)
{
	unsigned int test = 0;

	for (unsigned int i = 0; i < n; i++)
		test += is_test(w->options, b->messages[i].msg_len);
	add(&w->counters.discarded, test);
	add(&w->counters.other, n - test);
}

/* One receive call and what follows from it; returns the number of datagrams, 0 when there was none. */
static unsigned int serve(struct worker *w, int fd, struct batch *b, int flags)
{
	int n = recvmmsg(fd, b->messages, w->options->batch, flags, NULL);

	if (n <= 0) {
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			die("recvmmsg");
		add(&w->counters.empty_polls, 1);
		return 0;
	}
	add(&w->counters.received, (uint64_t)n);
	add(&w->counters.batches, 1);
	if (w->options->role == ROLE_ECHO)
		echo(w, fd, b, (unsigned int)n);
	else
		discard(w, b, (unsigned int)n);
	return (unsigned int)n;
}

static int epoll_open(const struct worker *w)
{
	struct epoll_busy_poll poll = { .usecs = w->options->busy_poll_us, .budget = 64 };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (ep < 0)
		die("epoll_create1");
	if (poll.usecs && ioctl(ep, EPOLL_SET_BUSY_POLL, &poll)) {
		fprintf(stderr, "notice: epoll_wait does not busy poll on this kernel (6.9 or later does)\n");
		fflush(stderr);
	}
	for (unsigned int i = 0; i < w->nsocks; i++) {
		/* A shared socket wakes one worker, not all of them. */
		struct epoll_event event = {
			.events = EPOLLIN | (w->socks[i]->core < 0 ? EPOLLEXCLUSIVE : 0),
			.data.u32 = i,
		};

		if (epoll_ctl(ep, EPOLL_CTL_ADD, w->socks[i]->fd, &event))
			die("epoll_ctl");
	}
	return ep;
}

static void __attribute__((noreturn)) run_epoll(struct worker *w, struct batch *b, int ep)
{
	struct epoll_event events[MAX_BINDS];

	for (;;) {
		int ready = epoll_wait(ep, events, MAX_BINDS, -1);

		if (ready < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < ready; i++)
			serve(w, w->socks[events[i].data.u32]->fd, b, MSG_DONTWAIT);
	}
}

static void __attribute__((noreturn)) run_busy(struct worker *w, struct batch *b)
{
	for (;;)
		for (unsigned int i = 0; i < w->nsocks; i++)
			serve(w, w->socks[i]->fd, b, MSG_DONTWAIT);
}

static void __attribute__((noreturn)) run_block(struct worker *w, struct batch *b)
{
	for (;;)
		serve(w, w->socks[0]->fd, b, MSG_WAITFORONE);
}

static void *worker_main(void *argument)
{
	struct worker *w = argument;
	struct batch *b = batch_new(w->options);
	int ep = w->options->mode == MODE_EPOLL ? epoll_open(w) : -1;

	w->tid = gettid();
	pthread_barrier_wait(w->serving);
	switch (w->options->mode) {
	case MODE_EPOLL: run_epoll(w, b, ep);
	case MODE_BUSY: run_busy(w, b);
	case MODE_BLOCK: run_block(w, b);
	}
	return NULL;
}

struct worker *workers_start(const struct options *o, struct sock *socks, unsigned int *count)
{
	unsigned int threads = o->mode == MODE_BLOCK ? o->group.nbinds : 1; /* of a worker */
	unsigned int group = group_workers(&o->group), n = group * threads, addresses = o->group.nbinds / threads;
	struct worker *workers = aligned_alloc(_Alignof(struct worker), n * sizeof(*workers));
	struct sock **served = calloc((size_t)n * addresses, sizeof(*served));
	static pthread_barrier_t serving;

	if (!workers || !served)
		die("memory for the workers");
	memset(workers, 0, n * sizeof(*workers));
	pthread_barrier_init(&serving, NULL, n + 1);
	for (unsigned int i = 0; i < n; i++) {
		unsigned int number = i / threads, first = i % threads;
		struct worker *w = &workers[i];

		*w = (struct worker){ .options = o, .core = group_core(&o->group, number), .nsocks = addresses,
				      .socks = &served[(size_t)i * addresses], .serving = &serving };
		for (unsigned int a = 0; a < addresses; a++)
			w->socks[a] = &socks[o->group.reuseport ? (first + a) * group + number : first + a];
		w->thread = thread_start(w->core, "udp-worker", worker_main, w);
	}
	pthread_barrier_wait(&serving);
	*count = n;
	return workers;
}
