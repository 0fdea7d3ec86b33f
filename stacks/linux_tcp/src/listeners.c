/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "listeners.h"

#include "control.h"

#include <linux/filter.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

/* A worker that blocks on one connection must not do so for ever: a client that sends nothing is given up. */
#define BLOCKED_S 1

static void set_int(int fd, int option, int value, const char *name)
{
	if (setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)))
		die("%s", name);
}

/* SO_REUSEADDR: connections of an earlier server may still be in TIME-WAIT on this port. */
static int open_one(const struct options *o, const union address *address)
{
	int nonblocking = o->mode == MODE_EPOLL ? SOCK_NONBLOCK : 0;
	int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | nonblocking, 0);
	struct timeval patience = { .tv_sec = BLOCKED_S };

	if (fd < 0)
		die("socket");
	set_int(fd, SO_REUSEADDR, 1, "SO_REUSEADDR");
	if (o->reuseport)
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

/*
 * The program returns an index into the group in the order of listen(): the first worker of the core that received the
 * SYN, plus a random one of that core's workers. A SYN received on any other core falls back to the flow hash.
 */
static void steer_by_cpu(int fd, const struct options *o)
{
	struct sock_filter code[3 * MAX_WORKERS + 6];
	struct sock_fprog program = { .filter = code };
	unsigned int n = 0, end = 3 * o->ncores + 2;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned int)(SKF_AD_OFF + SKF_AD_CPU));
	for (unsigned int i = 0; i < o->ncores; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)o->cores[i], 0, 2);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LDX | BPF_IMM, i * o->per_core);
		code[n] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, end - n - 1);
		n++;
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned int)(SKF_AD_OFF + SKF_AD_RANDOM));
	code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, o->per_core);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_A, 0);
	program.len = (unsigned short)n;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)))
		die("SO_ATTACH_REUSEPORT_CBPF");
}

struct listener *listeners_open(const struct options *o, unsigned int *count)
{
	unsigned int per_address = o->reuseport ? o->ncores * o->per_core : 1;
	struct listener *all = calloc((size_t)o->nbinds * per_address, sizeof(*all));

	if (!all)
		die("calloc");
	for (unsigned int a = 0; a < o->nbinds; a++) {
		struct listener *group = &all[(size_t)a * per_address];

		for (unsigned int i = 0; i < per_address; i++) {
			group[i].fd = open_one(o, &o->binds[a]);
			group[i].bind = &o->binds[a];
			group[i].worker = o->reuseport ? (int)i : -1;
		}
		if (o->steer_by_cpu)
			steer_by_cpu(group[0].fd, o);
	}
	*count = o->nbinds * per_address;
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
