/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#define NETMAP_WITH_LIBS
#include "worker.h"
#include "frame.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include <net/netmap_user.h>

enum where { NOWHERE, OUT_OF_IT, OUT_OF_THE_OTHER, TO_HOST };

static void add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

bool worker_open(struct worker *w, struct nm_desc *first)
{
	for (unsigned int i = 0; i < w->nports; i++) {
		struct port *p = &w->ports[i];

		p->netmap = nm_open(p->name, NULL, 0, first);
		if (!p->netmap) {
			fprintf(stderr, "%s: %s\n", strchr(p->name, ':') ? strchr(p->name, ':') + 1 : p->name, strerror(errno));
			return false;
		}
		p->host = (p->netmap->req.nr_flags & NR_REG_MASK) == NR_REG_NIC_SW;
		if (!first)
			first = p->netmap;
	}
	return true;
}

bool worker_shares_memory(const struct worker *w)
{
	return w->ports[0].netmap->mem == w->ports[w->nports - 1].netmap->mem;
}

/* The last hardware ring of the descriptor; with host rings bound, theirs comes after it. */
static unsigned int last_tx(const struct port *p)
{
	return p->netmap->last_tx_ring - p->host;
}

static unsigned int last_rx(const struct port *p)
{
	return p->netmap->last_rx_ring - p->host;
}

/* A transmit ring with room: of the hardware from "wished" on, so that a flow keeps to one ring; or the host's. */
static struct netmap_ring *room(const struct port *p, bool host, unsigned int wished)
{
	unsigned int first = p->netmap->first_tx_ring, count = last_tx(p) - first + 1;

	if (host) {
		struct netmap_ring *ring = NETMAP_TXRING(p->netmap->nifp, p->netmap->last_tx_ring);

		return nm_ring_space(ring) ? ring : NULL;
	}
	for (unsigned int i = 0; i < count; i++) {
		struct netmap_ring *ring = NETMAP_TXRING(p->netmap->nifp, first + (wished + i) % count);

		if (nm_ring_space(ring))
			return ring;
	}
	return NULL;
}

static void hand_over(struct netmap_ring *rx, struct netmap_slot *from, struct netmap_ring *tx, bool zero_copy)
{
	struct netmap_slot *to = &tx->slot[tx->head];

	to->len = from->len;
	if (zero_copy) {
		uint32_t buffer = to->buf_idx;

		to->buf_idx = from->buf_idx;
		from->buf_idx = buffer;
		to->flags |= NS_BUF_CHANGED;
		from->flags |= NS_BUF_CHANGED;
	} else {
		memcpy(NETMAP_BUF(tx, to->buf_idx), NETMAP_BUF(rx, from->buf_idx), from->len);
	}
	tx->head = tx->cur = nm_ring_next(tx, tx->head);
}

/* What becomes of a frame that came in from the wire. "header": 0 when it is not the test's. */
static enum where destination(const struct worker *w, const struct port *p, unsigned int header)
{
	if (!header)
		return p->host ? TO_HOST : NOWHERE;
	if (w->role == DROP)
		return NOWHERE;
	return w->role == FORWARD ? OUT_OF_THE_OTHER : OUT_OF_IT;
}

static void rewrite(const struct worker *w, uint8_t *frame, unsigned int header)
{
	if (!header || w->role == FORWARD)
		return;
	frame_swap_macs(frame);
	if (w->role == ECHO)
		frame_swap_addresses(frame, header);
}

static void count(struct worker *w, enum where where, bool test, bool from_host)
{
	struct counters *c = &w->counters;

	if (from_host)
		add(&c->down, 1);
	else if (!test)
		add(where == TO_HOST ? &c->up : &c->other, 1);
	else {
		add(&c->received, 1);
		add(where == NOWHERE ? &c->discarded : &c->sent, 1);
	}
}

/* Empties a receive ring as far as there is room for what it holds; returns how many frames it dealt with and leaves
 * the others where they are. "full" becomes the port without room. */
static unsigned int move(struct worker *w, unsigned int port, struct netmap_ring *rx, bool from_host, int *full)
{
	bool shared = worker_shares_memory(w);
	uint32_t head = rx->head;
	unsigned int done = 0;

	for (uint32_t left = nm_ring_space(rx); left; left--, done++) {
		struct netmap_slot *slot = &rx->slot[head];
		uint8_t *frame = (uint8_t *)NETMAP_BUF(rx, slot->buf_idx);
		unsigned int header = from_host ? 0 : frame_test_header(frame, slot->len, w->udp_port);
		enum where where = from_host ? OUT_OF_IT : destination(w, &w->ports[port], header);
		unsigned int out = where == OUT_OF_THE_OTHER ? (port + 1) % w->nports : port;

		if (where != NOWHERE) {
			struct netmap_ring *tx = room(&w->ports[out], where == TO_HOST, rx->ringid);

			if (!tx) {
				*full = (int)out;
				break;
			}
			rewrite(w, frame, header);
			hand_over(rx, slot, tx, !w->copies && (shared || out == port));
		}
		count(w, where, header != 0, from_host);
		head = nm_ring_next(rx, head);
	}
	rx->head = rx->cur = head;
	return done;
}

static unsigned int pass(struct worker *w, int *full)
{
	unsigned int done = 0;

	for (unsigned int i = 0; i < w->nports; i++) {
		struct nm_desc *d = w->ports[i].netmap;

		for (unsigned int r = d->first_rx_ring; r <= last_rx(&w->ports[i]); r++)
			done += move(w, i, NETMAP_RXRING(d->nifp, r), false, full);
		if (w->ports[i].host)
			done += move(w, i, NETMAP_RXRING(d->nifp, d->last_rx_ring), true, full);
	}
	return done;
}

/* poll() hands what was written to the transmit rings to the NIC before it sleeps. While one is full, it is waited for
 * alone: frames that cannot leave would otherwise wake us at once. */
static void *serve(void *argument)
{
	struct worker *w = argument;
	struct pollfd polled[MAX_PORTS];
	int full = -1;

	for (;;) {
		unsigned int done;

		for (unsigned int i = 0; i < w->nports; i++) {
			polled[i].fd = w->ports[i].netmap->fd;
			polled[i].events = full < 0 ? POLLIN : full == (int)i ? POLLOUT : 0;
			polled[i].revents = 0;
		}
		if (poll(polled, w->nports, -1) < 0 && errno != EINTR) {
			perror("poll");
			exit(1);
		}
		for (unsigned int i = 0; i < w->nports; i++)
			if (polled[i].revents & POLLERR) {
				fprintf(stderr, "%s: netmap reports an error; was the interface taken down?\n",
					w->ports[i].name);
				exit(1);
			}
		full = -1;
		done = pass(w, &full);
		add(done ? &w->counters.useful : &w->counters.empty, 1);
		if (full >= 0)
			add(&w->counters.stuck, 1);
	}
	return NULL;
}

void worker_start(struct worker *w)
{
	pthread_attr_t attributes;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(w->core, &set);
	pthread_attr_init(&attributes);
	pthread_attr_setaffinity_np(&attributes, sizeof(set), &set);
	errno = pthread_create(&w->thread, &attributes, serve, w);
	pthread_attr_destroy(&attributes);
	if (errno) {
		fprintf(stderr, "a worker on core %d cannot be started: %s\n", w->core, strerror(errno));
		exit(1);
	}
	pthread_setname_np(w->thread, "netmap-worker/");
}
