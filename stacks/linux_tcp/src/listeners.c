/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "listeners.h"

#include "control.h"
#include "sockopt.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

/* A worker that blocks on one connection must not do so for ever: a client that sends nothing is given up. */
#define BLOCKED_S 1

/* SO_REUSEADDR: connections of an earlier server may still be in TIME-WAIT on this port. */
static int open_one(const struct options *o, const union address *address)
{
	int nonblocking = o->mode == MODE_EPOLL ? SOCK_NONBLOCK : 0;
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | nonblocking, 0);
	struct timeval patience = { .tv_sec = BLOCKED_S };

	if (fd < 0)
		die("socket");
	set_int(fd, SO_REUSEADDR, 1, "SO_REUSEADDR");
	if (o->group.reuseport)
		set_int(fd, SO_REUSEPORT, 1, "SO_REUSEPORT");
	/* Inherited by every connection, which saves a system call on each; accept4() wakes up for it too. */
	if (!nonblocking && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		die("SO_RCVTIMEO");
	if (bind(fd, &address->any, address_length(address)))
		die("bind");
	if (listen(fd, (int)o->backlog))
		die("listen");
	return fd;
}

struct listener *listeners_open(const struct options *o, unsigned int *count)
{
	unsigned int per_address = group_sockets(&o->group);
	struct listener *all = calloc((size_t)o->group.nbinds * per_address, sizeof(*all));

	if (!all)
		die("calloc");
	for (unsigned int a = 0; a < o->group.nbinds; a++) {
		struct listener *group = &all[(size_t)a * per_address];

		for (unsigned int i = 0; i < per_address; i++) {
			group[i].fd = open_one(o, &o->group.binds[a]);
			group[i].bind = &o->group.binds[a];
			group[i].worker = o->group.reuseport ? (int)i : -1;
		}
		if (o->steer_by_cpu)
			group_by_cpu(&o->group, group[0].fd);
	}
	*count = o->group.nbinds * per_address;
	return all;
}

/* Of a listening socket the kernel tells both in fields of tcp_info that mean something else for a connection. */
void listener_queue(const struct listener *l, uint32_t *waiting, uint32_t *backlog)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &info, &length))
		die("TCP_INFO");
	*waiting = info.tcpi_unacked;
	*backlog = info.tcpi_sacked;
}
