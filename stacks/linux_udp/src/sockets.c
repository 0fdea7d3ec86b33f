/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "sockets.h"

#include "control.h"
#include "sockopt.h"
#include "steering.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

/* SO_RCVBUFFORCE goes beyond net.core.rmem_max and needs CAP_NET_ADMIN. The kernel doubles what it is given. */
static void set_receive_buffer(int fd, unsigned int bytes)
{
	int got;
	socklen_t length = sizeof(got);

	if (!bytes)
		return;
	set_int(fd, SO_RCVBUFFORCE, (int)bytes, "SO_RCVBUFFORCE");
	if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &length))
		die("SO_RCVBUF");
	if ((unsigned int)got / 2 < bytes) {
		errno = 0;
		die("asked for a receive buffer of %u bytes, got %d", bytes, got / 2);
	}
}

static int open_one(const struct options *o, const union address *address)
{
	int fd = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (o->group.reuseport)
		set_int(fd, SO_REUSEPORT, 1, "SO_REUSEPORT");
	set_receive_buffer(fd, o->rcvbuf);
	if (o->busy_poll_us)
		set_int(fd, SO_BUSY_POLL, (int)o->busy_poll_us, "SO_BUSY_POLL");
	if (bind(fd, &address->any, address_length(address)))
		die("bind");
	return fd;
}

struct sock *sockets_open(const struct options *o, unsigned int *count)
{
	unsigned int per_address = group_sockets(&o->group);
	struct sock *all = calloc((size_t)o->group.nbinds * per_address, sizeof(*all));

	if (!all)
		die("calloc");
	for (unsigned int a = 0; a < o->group.nbinds; a++) {
		struct sock *group = &all[(size_t)a * per_address];

		for (unsigned int i = 0; i < per_address; i++) {
			group[i].fd = open_one(o, &o->group.binds[a]);
			group[i].bind = &o->group.binds[a];
			group[i].core = o->group.reuseport ? group_core(&o->group, i) : -1;
		}
		steer(o, group, per_address);
	}
	*count = o->group.nbinds * per_address;
	return all;
}
