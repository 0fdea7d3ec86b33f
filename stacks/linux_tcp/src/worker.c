/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker.h"

#include "connection.h"
#include "control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_EVENTS 64
/* Connections taken at one wake-up, so that those already open are not kept waiting. */
#define ACCEPT_BATCH 64
/* A connection without a complete request is given up after this long. */
#define PATIENCE_NS 10000000000
#define LOOK_MS 1000

/* What one worker in mode epoll works with. Connections in order of acceptance; spare ones are kept for the next. */
struct loop {
	struct worker *worker;
	int epoll;
	struct connection *oldest, *newest, *spare;
};

static inline void add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static void count_end(struct worker *w, enum progress how)
{
	add(how == COMPLETED ? &w->counters.completed : &w->counters.failed, 1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool passing(int error)
{
	return error == EAGAIN || error == EINTR;
}

/* Errors that accept(2) tells a server to live with: the connection's own, or a lack that passes. */
static void check_accept(struct worker *w, int error)
{
	switch (error) {
	case EBADF: case EFAULT: case EINVAL: case ENOTSOCK: case EOPNOTSUPP:
		die("accept4");
	default:
		add(&w->counters.accept_errors, 1);
	}
}

static struct connection *connection_new(struct loop *l)
{
	struct connection *c = l->spare;

	if (c)
		l->spare = c->newer;
	else if (!(c = malloc(sizeof(*c))))
		die("malloc");
	c->used = 0;
	return c;
}

static void connection_spare(struct loop *l, struct connection *c)
{
	c->newer = l->spare;
	l->spare = c;
}

static void await_request(struct loop *l, struct connection *c)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &event))
		die("epoll_ctl");
	c->accepted_ns = now_ns();
	c->older = l->newest;
	c->newer = NULL;
	*(l->newest ? &l->newest->newer : &l->oldest) = c;
	l->newest = c;
}

static void forget(struct loop *l, struct connection *c)
{
	*(c->older ? &c->older->newer : &l->oldest) = c->newer;
	*(c->newer ? &c->newer->older : &l->newest) = c->older;
	connection_spare(l, c);
}

static void give_up_old(struct loop *l)
{
	int64_t limit = now_ns() - PATIENCE_NS;

	while (l->oldest && l->oldest->accepted_ns < limit) {
		close(l->oldest->fd);
		count_end(l->worker, FAILED);
		forget(l, l->oldest);
	}
}

/* Most requests come with the ACK of the handshake or right after it: the first look saves the way through epoll. */
static void accept_some(struct loop *l, const struct listener *from)
{
	for (unsigned int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(from->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct connection *c;
		enum progress how;

		if (fd < 0) {
			if (!passing(errno))
				check_accept(l->worker, errno);
			else if (!i)
				add(&l->worker->counters.empty_accepts, 1);
			return;
		}
		add(&l->worker->counters.accepted, 1);
		c = connection_new(l);
		c->fd = fd;
		how = connection_serve(c);
		if (how == WAITING) {
			await_request(l, c);
			continue;
		}
		count_end(l->worker, how);
		connection_spare(l, c);
	}
}

static void serve_event(struct loop *l, void *what)
{
	struct worker *w = l->worker;
	struct connection *c = what;
	enum progress how;

	for (unsigned int i = 0; i < w->nlisteners; i++)
		if (what == w->listeners[i]) {
			accept_some(l, w->listeners[i]);
			return;
		}
	how = connection_serve(c);
	if (how == WAITING)
		return;
	count_end(w, how);
	forget(l, c);
}

static void loop_open(struct loop *l, struct worker *w)
{
	*l = (struct loop){ .worker = w, .epoll = epoll_create1(EPOLL_CLOEXEC) };
	if (l->epoll < 0)
		die("epoll_create1");
	for (unsigned int i = 0; i < w->nlisteners; i++) {
		/* A shared socket wakes one worker, not all of them. */
		struct epoll_event event = {
			.events = EPOLLIN | (w->listeners[i]->worker < 0 ? EPOLLEXCLUSIVE : 0),
			.data.ptr = w->listeners[i],
		};

		if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, w->listeners[i]->fd, &event))
			die("epoll_ctl");
	}
}

static void __attribute__((noreturn)) run_epoll(struct loop *l)
{
	struct epoll_event events[MAX_EVENTS];

	for (;;) {
		int ready = epoll_wait(l->epoll, events, MAX_EVENTS, l->oldest ? LOOK_MS : -1);

		if (ready < 0 && errno != EINTR)
			die("epoll_wait");
		add(&l->worker->counters.wakeups, 1);
		for (int i = 0; i < ready; i++)
			serve_event(l, events[i].data.ptr);
		if (l->oldest)
			give_up_old(l);
	}
}

static void __attribute__((noreturn)) run_block(struct worker *w)
{
	struct connection c;

	for (;;) {
		c.fd = accept4(w->listeners[0]->fd, NULL, NULL, SOCK_CLOEXEC);
		if (c.fd < 0) {
			if (!passing(errno))
				check_accept(w, errno);
			continue;
		}
		add(&w->counters.wakeups, 1);
		add(&w->counters.accepted, 1);
		c.used = 0;
		enum progress how = connection_serve(&c);
		if (how == WAITING) /* SO_RCVTIMEO is over */
			close(c.fd);
		count_end(w, how);
	}
}

static void *worker_main(void *argument)
{
	struct worker *w = argument;
	struct loop loop;

	w->tid = gettid();
	if (w->options->mode == MODE_EPOLL)
		loop_open(&loop, w);
	pthread_barrier_wait(w->serving);
	if (w->options->mode == MODE_EPOLL)
		run_epoll(&loop);
	run_block(w);
}

struct worker *workers_start(const struct options *o, struct listener *listeners, unsigned int *count)
{
	unsigned int n = options_workers(o), group = group_workers(&o->group);
	unsigned int addresses = o->mode == MODE_BLOCK ? 1 : o->group.nbinds;
	struct worker *workers = aligned_alloc(_Alignof(struct worker), n * sizeof(*workers));
	struct listener **served = calloc((size_t)n * addresses, sizeof(*served));
	static pthread_barrier_t serving;

	if (!workers || !served)
		die("memory for the workers");
	memset(workers, 0, n * sizeof(*workers));
	pthread_barrier_init(&serving, NULL, n + 1);
	for (unsigned int i = 0; i < n; i++) {
		unsigned int number = i % group, first = i / group;
		struct worker *w = &workers[i];

		*w = (struct worker){ .options = o, .core = group_core(&o->group, number), .number = number,
				      .nlisteners = addresses, .listeners = &served[(size_t)i * addresses],
				      .serving = &serving };
		for (unsigned int a = 0; a < addresses; a++)
			w->listeners[a] = &listeners[o->group.reuseport ? (first + a) * group + number : first + a];
		w->thread = thread_start(w->core, "accept-wrk", worker_main, w);
	}
	pthread_barrier_wait(&serving);
	*count = n;
	return workers;
}
