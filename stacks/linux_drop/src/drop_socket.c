/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Discards UDP datagrams at a socket, in one of three places:
 *
 *   drop_socket unread   ADDRESS:PORT RULES CORES   a socket that nobody reads: its buffer is filled before "ready"
 *   drop_socket filter   ADDRESS:PORT RULES CORES   a socket whose filter (SO_ATTACH_FILTER) takes nothing
 *   drop_socket recvmmsg ADDRESS:PORT RULES CORES   one thread and socket per core that reads and forgets
 *
 * RULES: addresses that the filter compares the sender with first (only with "filter"). CORES: N[,N...].
 * "stats ID" on standard input is answered with one JSON line.
 */
#define _GNU_SOURCE
#include "address.h"
#include "arguments.h"
#include "control.h"
#include "sockopt.h"
#include "threads.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CORES 1024
#define MAX_RULES 2000
#define BATCH 64
/* A jumbo frame's payload, and an odd number of cache lines so that successive buffers use different cache sets. */
#define BUFFER_BYTES (145 * 64)
#define RECEIVE_BUFFER (4 << 20)
/* The first of the addresses that rules name, of which nobody sends: of class E, and 100::f000:1 (RFC 6666). They differ
 * in the last word. */
#define FIRST_RULE 0xf0000001u
#define RULE_PREFIX 0x01000000u
/* Datagrams of one byte that fill the smallest buffer: a handful; and how long the kernel may take over each. */
#define MAX_FILL 4096
#define FILL_NS 1000000000

const char usage[] = "usage: drop_socket unread|filter|recvmmsg ADDRESS:PORT RULES CORES\n";

enum place { UNREAD, FILTER, RECVMMSG };

struct sink {
	int fd;
	int core;		/* -1: no thread reads it */
	struct drops drops;	/* the total since "ready" */
	_Alignas(64) counter received;
};

static enum place place;
static union address address;
static struct sink sinks[MAX_CORES];
static unsigned int count;

/*
 * Takes what comes from one of the rules' addresses, and nothing else. Two instructions a rule: over IPv6 the sender's
 * last word is compared in each, its other words after the only rule that can match.
 */
static void attach_filter(int fd, unsigned int rules)
{
	static struct sock_filter code[2 * MAX_RULES + 10];
	struct sock_fprog program = { .filter = code };
	bool v6 = address.any.sa_family == AF_INET6;
	uint32_t source = (uint32_t)SKF_NET_OFF + (v6 ? 8 : 12);
	unsigned int n = 0, take = 2 * rules + 2;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, source + (v6 ? 12 : 0));
	for (unsigned int i = 0; i < rules; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FIRST_RULE + i, 0, 1);
		code[n] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, take - n - 1);
		n++;
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	for (unsigned int word = 0; v6 && word < 3; word++) {
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, source + 4 * word);
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, word ? 0 : RULE_PREFIX, 0, 5 - 2 * word);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	program.len = (unsigned short)n;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		die("SO_ATTACH_FILTER");
}

static int open_socket(unsigned int rules, bool group)
{
	int fd = socket(address.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (group)
		set_int(fd, SO_REUSEPORT, 1, "SO_REUSEPORT");
	if (place == RECVMMSG)
		set_int(fd, SO_RCVBUFFORCE, RECEIVE_BUFFER, "SO_RCVBUFFORCE");
	else
		set_int(fd, SO_RCVBUF, 0, "SO_RCVBUF"); /* the least that the kernel allows */
	if (place == FILTER)
		attach_filter(fd, rules);
	if (bind(fd, &address.any, address_length(&address)))
		die("bind");
	return fd;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Fills the buffer from this host until the first drop, one datagram after the other, so that none is on its way. */
static void fill(struct sink *s)
{
	int fd = socket(address.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint32_t queued = drops_read(&s->drops, s->fd), before;
	bool arrives = true;

	if (fd < 0)
		die("socket");
	for (unsigned int i = 0; i < MAX_FILL && arrives && !s->drops.total; i++) {
		uint64_t deadline = now_ns() + FILL_NS;

		before = queued;
		if (sendto(fd, "", 1, 0, &address.any, address_length(&address)) != 1)
			die("sendto itself");
		while ((queued = drops_read(&s->drops, s->fd)) == before && !s->drops.total && now_ns() < deadline)
			sched_yield();
		arrives = queued != before;
	}
	close(fd);
	if (!s->drops.total) {
		errno = ETIMEDOUT;
		die("fill the socket's buffer (is lo up?)");
	}
	s->drops.total = 0;
}

static void *reader(void *argument)
{
	struct sink *s = argument;
	unsigned char *buffers = aligned_alloc(64, (size_t)BATCH * BUFFER_BYTES);
	struct mmsghdr messages[BATCH] = { 0 };
	struct iovec vectors[BATCH];

	if (!buffers)
		die("aligned_alloc");
	memset(buffers, 0, (size_t)BATCH * BUFFER_BYTES);
	for (unsigned int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){ buffers + (size_t)i * BUFFER_BYTES, BUFFER_BYTES };
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		int n = recvmmsg(s->fd, messages, BATCH, MSG_WAITFORONE, NULL);

		if (n > 0)
			atomic_fetch_add_explicit(&s->received, (uint64_t)n, memory_order_relaxed);
		else if (errno != EINTR)
			die("recvmmsg");
	}
	return NULL;
}

static void print_stats(void *unused)
{
	(void)unused;
	printf("{\"sockets\":[");
	for (unsigned int i = 0; i < count; i++) {
		uint32_t queued = drops_read(&sinks[i].drops, sinks[i].fd);
		uint64_t received = get(&sinks[i].received);

		printf("%s{\"core\":%d,\"received\":%" PRIu64 ",\"drops\":%" PRIu64 ",\"queued_bytes\":%" PRIu32 "}",
		       i ? "," : "", sinks[i].core, received, sinks[i].drops.total, queued);
	}
	printf("]}");
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "unread", "filter", "recvmmsg" };
	static int cores[MAX_CORES];
	unsigned int rules, ncores;
	int signals;

	if (argc != 5)
		refuse("four arguments are needed");
	place = choice("place", argv[1], names, 3);
	address = address_of("address", argv[2]);
	rules = number("rules", argv[3], 0, place == FILTER ? MAX_RULES : 0);
	ncores = core_list("cores", argv[4], cores, MAX_CORES);
	signals = control_signals();
	count = place == RECVMMSG ? ncores : 1;
	for (unsigned int i = 0; i < count; i++)
		sinks[i] = (struct sink){ .fd = open_socket(rules, count > 1),
					  .core = place == RECVMMSG ? cores[i] : -1 };
	if (place == UNREAD)
		fill(&sinks[0]);
	for (unsigned int i = 0; place == RECVMMSG && i < count; i++)
		thread_start(sinks[i].core, "drop-worker", reader, &sinks[i]);
	control_ready(" sockets=%u", count);
	control_loop(signals, print_stats, NULL);
	return 0;
}
