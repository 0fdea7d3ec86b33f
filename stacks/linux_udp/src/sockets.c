/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "sockets.h"

#include "control.h"
#include "steering.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <sys/socket.h>

static void set_int(int fd, int option, int value, const char *name)
{
	if (setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)))
		die("%s", name);
}

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
	if (o->reuseport)
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
	unsigned int per_address = o->reuseport ? o->ncores : 1;
	struct sock *all = calloc((size_t)o->nbinds * per_address, sizeof(*all));

	if (!all)
		die("calloc");
	for (unsigned int a = 0; a < o->nbinds; a++) {
		struct sock *group = &all[(size_t)a * per_address];

		for (unsigned int i = 0; i < per_address; i++) {
			group[i].fd = open_one(o, &o->binds[a]);
			group[i].bind = &o->binds[a];
			group[i].core = o->reuseport ? o->cores[i] : -1;
		}
		steer(o, group, per_address);
	}
	*count = o->nbinds * per_address;
	return all;
}

uint32_t socket_read_meminfo(struct sock *s)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, info, &length))
		die("SO_MEMINFO");
	s->drops += (uint32_t)(info[SK_MEMINFO_DROPS] - s->last_drops);
	s->last_drops = info[SK_MEMINFO_DROPS];
	return info[SK_MEMINFO_RMEM_ALLOC];
}
