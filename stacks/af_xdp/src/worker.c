/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "control.h"
#include "rewrite.h"

static inline void add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static void put_back(struct memory *m, __u64 address)
{
	m->free[m->nfree++] = address & ~(__u64)(FRAME_BYTES - 1);
}

static bool unsent(const struct sock *s)
{
	return __atomic_load_n(s->tx.consumer, __ATOMIC_ACQUIRE) != *s->tx.producer;
}

/* Has the kernel send what is in the tx ring. In copy mode it does so within this call, 32 frames at most. */
static void kick(struct worker *w, struct sock *s)
{
	if (s->queued) {
		xsk_ring_prod__submit(&s->tx, s->queued);
		s->in_flight += s->queued;
		s->queued = 0;
	}
	if (!unsent(s) || (w->options->need_wakeup && !xsk_ring_prod__needs_wakeup(&s->tx)))
		return;
	add(&w->counters.wakeups, 1);
	if (sendto(s->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0)
		return;
	if (errno != EAGAIN && errno != EBUSY && errno != ENOBUFS && errno != EINTR && errno != ENETDOWN)
		die("port %s, queue %u: send", s->port->ifname, s->queue);
	add(&w->counters.tx_busy, 1);
}

/* A slot of the tx ring, or NULL when there is none even after the kernel was given the chance to empty it. */
static struct xdp_desc *slot(struct worker *w, struct sock *s)
{
	unsigned int index;

	if (xsk_ring_prod__reserve(&s->tx, 1, &index) != 1) {
		kick(w, s);
		socket_reclaim(&w->memory, s);
		if (xsk_ring_prod__reserve(&s->tx, 1, &index) != 1)
			return NULL;
	}
	s->queued++;
	return xsk_ring_prod__tx_desc(&s->tx, index);
}

/* One received frame: thrown away, or rewritten and put into the egress socket's tx ring. */
static void handle(struct worker *w, struct sock *s, const struct xdp_desc *got)
{
	unsigned char *data = xsk_umem__get_data(w->memory.area, got->addr);
	struct headers headers;
	struct xdp_desc *out;
	counter *outcome;

	if (!find_headers(data, data + got->len, &s->port->settings.flow, &headers)) {
		outcome = &w->counters.other;
	} else if (w->options->role == ROLE_DROP) {
		outcome = &w->counters.discarded;
	} else if (!rewrite(w->options->role, s->port, &headers)) {
		outcome = &w->counters.refused;
	} else if (!(out = slot(w, s->egress))) {
		outcome = &w->counters.tx_full;
	} else {
		*out = (struct xdp_desc){ .addr = got->addr, .len = got->len };
		add(&w->counters.sent, 1);
		return;
	}
	add(outcome, 1);
	put_back(&w->memory, got->addr);
}

/* Takes up to a batch of frames from a socket; returns how many. */
static unsigned int serve(struct worker *w, struct sock *s)
{
	unsigned int first, n = xsk_ring_cons__peek(&s->rx, w->options->batch, &first);

	if (n) {
		add(&w->counters.useful_polls, 1);
		add(&w->counters.received, n);
		for (unsigned int i = 0; i < n; i++)
			handle(w, s, xsk_ring_cons__rx_desc(&s->rx, first + i));
		xsk_ring_cons__release(&s->rx, n);
	} else {
		add(&w->counters.empty_polls, 1);
	}
	return n;
}

/* Busy polling drives the device from here; otherwise the kernel is woken when it asks for that. */
static void wake_receiver(struct worker *w, struct sock *s, bool found)
{
	bool asks = w->options->need_wakeup && xsk_ring_prod__needs_wakeup(&s->fill);

	if (!asks && (found || !w->options->busy_budget))
		return;
	add(&w->counters.wakeups, 1);
	if (recvfrom(s->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0 && errno != EAGAIN && errno != ENOBUFS &&
	    errno != EINTR && errno != EBUSY && errno != ENETDOWN && errno != EOPNOTSUPP)
		die("port %s, queue %u: receive", s->port->ifname, s->queue);
}

/* One look at every socket; true when there is more to do at once. */
static bool serve_all(struct worker *w)
{
	bool busy = false;

	for (unsigned int i = 0; i < w->nsocks; i++) {
		struct sock *s = &w->socks[i];
		bool found = s->receives && serve(w, s) > 0;

		kick(w, s->egress);
		socket_reclaim(&w->memory, s->egress);
		socket_refill(&w->memory, s);
		if (s->receives)
			wake_receiver(w, s, found);
		busy |= found || unsent(s);
	}
	return busy;
}

static void *worker_main(void *argument)
{
	struct worker *w = argument;
	struct pollfd *waits = calloc(w->nsocks, sizeof(*waits));
	nfds_t count = 0;

	if (!waits)
		die("memory of a worker");
	for (unsigned int i = 0; i < w->nsocks; i++)
		if (w->socks[i].receives)
			waits[count++] = (struct pollfd){ .fd = w->socks[i].fd, .events = POLLIN };
	for (;;)
		if (!serve_all(w) && !w->options->spin && poll(waits, count, -1) < 0 && errno != EINTR)
			die("poll");
	return NULL;
}

static bool receives_of(const struct port_options *port)
{
	return port->settings.bypass != BYPASS_NONE;
}

/* The worker's own sockets on the egress port take turns by queue; on its own port a frame leaves where it came. */
static void set_egress(struct worker *w, const struct options *o)
{
	for (unsigned int i = 0; i < w->nsocks; i++) {
		struct sock *s = &w->socks[i];
		const struct port_options *out = &o->ports[s->port->egress];
		unsigned int nth = s->queue / o->ncores, passes = 0;

		for (unsigned int k = 0; !s->egress; k = (k + 1) % w->nsocks)
			if (w->socks[k].port == out && passes++ == nth)
				s->egress = &w->socks[k];
	}
}

/* Queue q of every port belongs to worker q mod workers. */
static void open_worker(struct worker *w, unsigned int index, const struct options *o, const struct program *programs)
{
	unsigned int most = 0;

	for (unsigned int p = 0; p < o->nports; p++)
		most += o->ports[p].queues;
	w->options = o;
	w->core = o->cores[index];
	w->socks = calloc(most, sizeof(*w->socks));
	if (!w->socks)
		die("memory of a worker");
	for (unsigned int p = 0; p < o->nports; p++)
		for (unsigned int q = index; q < o->ports[p].queues; q += o->ncores)
			w->socks[w->nsocks++] = (struct sock){ .port = &o->ports[p], .queue = q,
							       .receives = receives_of(&o->ports[p]) };
	sockets_open(o, &w->memory, w->socks, w->nsocks);
	set_egress(w, o);
	for (unsigned int i = 0; i < w->nsocks; i++)
		if (w->socks[i].receives)
			program_set_socket(&programs[w->socks[i].port - o->ports], w->socks[i].queue, w->socks[i].fd);
}

struct worker *workers_open(const struct options *o, const struct program *programs)
{
	struct worker *workers = calloc(o->ncores, sizeof(*workers));

	if (!workers)
		die("memory for the workers");
	for (unsigned int i = 0; i < o->ncores; i++)
		open_worker(&workers[i], i, o, programs);
	return workers;
}

void workers_start(struct worker *workers)
{
	for (unsigned int i = 0; i < workers[0].options->ncores; i++) {
		struct worker *w = &workers[i];

		w->thread = thread_start(w->core, "af-xdp", worker_main, w);
	}
}
