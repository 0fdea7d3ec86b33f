/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "sockets.h"

#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* Kernel 5.11; older C libraries lack them. */
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#endif
#ifndef SO_BUSY_POLL_BUDGET
#define SO_BUSY_POLL_BUDGET 70
#endif
#define BUSY_POLL_US 20

static void set_option(const struct sock *s, int option, int value, const char *name)
{
	if (setsockopt(s->fd, SOL_SOCKET, option, &value, sizeof(value)))
		die("port %s, queue %u: %s", s->port->ifname, s->queue, name);
}

static void busy_poll(struct sock *s, unsigned int budget)
{
	socklen_t length = sizeof(s->napi_id);

	if (budget) {
		set_option(s, SO_PREFER_BUSY_POLL, 1, "SO_PREFER_BUSY_POLL");
		set_option(s, SO_BUSY_POLL, BUSY_POLL_US, "SO_BUSY_POLL");
		set_option(s, SO_BUSY_POLL_BUDGET, (int)budget, "SO_BUSY_POLL_BUDGET");
	}
	if (getsockopt(s->fd, SOL_SOCKET, SO_INCOMING_NAPI_ID, &s->napi_id, &length))
		die("port %s, queue %u: SO_INCOMING_NAPI_ID", s->port->ifname, s->queue);
}

static void memory_open(const struct options *o, struct memory *m, struct sock *first, unsigned int sockets)
{
	const struct xsk_umem_config config = { .fill_size = o->ring, .comp_size = o->ring, .frame_size = FRAME_BYTES };
	unsigned int frames = 2 * o->ring * sockets;
	size_t bytes = (size_t)frames * FRAME_BYTES;

	m->free = calloc(frames, sizeof(*m->free));
	m->area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (!m->free || m->area == MAP_FAILED)
		die("%zu bytes for frames", bytes);
	for (m->nfree = 0; m->nfree < frames; m->nfree++)
		m->free[m->nfree] = (__u64)m->nfree * FRAME_BYTES;
	errno = -xsk_umem__create(&m->umem, m->area, bytes, &first->fill, &first->completed, &config);
	if (errno)
		die("register %zu bytes for frames (UMEM)", bytes);
}

static void open_one(const struct options *o, struct memory *m, struct sock *s)
{
	/* Without XDP_COPY the kernel takes zero-copy where the driver has it. */
	const struct xsk_socket_config config = {
		.rx_size = o->ring,
		.tx_size = o->ring,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = (__u16)((o->zero_copy ? 0 : XDP_COPY) | (o->need_wakeup ? XDP_USE_NEED_WAKEUP : 0)),
	};
	struct xdp_options options = { 0 };
	socklen_t length = sizeof(options);

	errno = -xsk_socket__create_shared(&s->xsk, s->port->ifname, s->queue, m->umem, &s->rx, &s->tx, &s->fill,
					   &s->completed, &config);
	if (errno)
		die("port %s, queue %u: AF_XDP socket", s->port->ifname, s->queue);
	s->fd = xsk_socket__fd(s->xsk);
	if (getsockopt(s->fd, SOL_XDP, XDP_OPTIONS, &options, &length))
		die("port %s, queue %u: XDP_OPTIONS", s->port->ifname, s->queue);
	s->zero_copy = options.flags & XDP_OPTIONS_ZEROCOPY;
	busy_poll(s, o->busy_budget);
}

void sockets_open(const struct options *o, struct memory *m, struct sock *socks, unsigned int count)
{
	memory_open(o, m, &socks[0], count);
	for (unsigned int i = 0; i < count; i++)
		open_one(o, m, &socks[i]);
	for (unsigned int i = 0; i < count; i++)
		socket_refill(m, &socks[i]);
}

void socket_refill(struct memory *m, struct sock *s)
{
	unsigned int room, first;

	if (!s->receives)
		return;
	room = xsk_prod_nb_free(&s->fill, s->fill.size);
	if (room > m->nfree)
		room = m->nfree;
	if (!room || xsk_ring_prod__reserve(&s->fill, room, &first) != room)
		return;
	for (unsigned int i = 0; i < room; i++)
		*xsk_ring_prod__fill_addr(&s->fill, first + i) = m->free[--m->nfree];
	xsk_ring_prod__submit(&s->fill, room);
}

void socket_reclaim(struct memory *m, struct sock *s)
{
	unsigned int first, done = s->in_flight ? xsk_ring_cons__peek(&s->completed, s->in_flight, &first) : 0;

	if (!done)
		return;
	for (unsigned int i = 0; i < done; i++)
		m->free[m->nfree++] = *xsk_ring_cons__comp_addr(&s->completed, first + i) & ~(__u64)(FRAME_BYTES - 1);
	xsk_ring_cons__release(&s->completed, done);
	s->in_flight -= done;
}

struct xdp_statistics socket_statistics(const struct sock *s)
{
	struct xdp_statistics statistics = { 0 };
	socklen_t length = sizeof(statistics);

	if (getsockopt(s->fd, SOL_XDP, XDP_STATISTICS, &statistics, &length))
		die("port %s, queue %u: XDP_STATISTICS", s->port->ifname, s->queue);
	return statistics;
}
