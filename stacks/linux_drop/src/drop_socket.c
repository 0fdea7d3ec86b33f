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
#include "control.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
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
/* The first of the addresses that rules name: of class E, so nobody sends from there. */
#define FIRST_RULE 0xf0000001u
/* Datagrams of one byte that fill the smallest buffer: a handful; and how long the kernel may take over each. */
#define MAX_FILL 4096
#define FILL_NS 1000000000

enum place { UNREAD, FILTER, RECVMMSG };

struct sink {
	int fd;
	int core;		/* -1: no thread reads it */
	uint32_t last_drops;	/* as last read: 32 bits wide, so it wraps */
	uint64_t drops;		/* since "ready" */
	pthread_t thread;
	_Alignas(64) _Atomic uint64_t received;
};

static enum place place;
static struct sockaddr_in address = { .sin_family = AF_INET };
static struct sink sinks[MAX_CORES];
static unsigned int count;

static void set_int(int fd, int option, int value, const char *name)
{
	if (setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)))
		die(name);
}

/* Adds new drops to s->drops and returns the bytes that wait in the socket's buffer. */
static uint32_t read_drops(struct sink *s)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, info, &length))
		die("SO_MEMINFO");
	s->drops += (uint32_t)(info[SK_MEMINFO_DROPS] - s->last_drops);
	s->last_drops = info[SK_MEMINFO_DROPS];
	return info[SK_MEMINFO_RMEM_ALLOC];
}

static void attach_filter(int fd, unsigned int rules)
{
	static struct sock_filter code[2 * MAX_RULES + 2];
	struct sock_fprog program = { .filter = code };
	unsigned int n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_NET_OFF + 12);
	for (unsigned int i = 0; i < rules; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FIRST_RULE + i, 0, 1);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	program.len = (unsigned short)n;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		die("SO_ATTACH_FILTER");
}

static int open_socket(unsigned int rules, bool group)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

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
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
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
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint32_t queued = read_drops(s), before;

	if (fd < 0)
		die("socket");
	for (unsigned int i = 0; i < MAX_FILL && !s->drops; i++) {
		uint64_t deadline = now_ns() + FILL_NS;

		before = queued;
		if (sendto(fd, "", 1, 0, (struct sockaddr *)&address, sizeof(address)) != 1)
			die("sendto itself");
		while ((queued = read_drops(s)) == before && !s->drops && now_ns() < deadline)
			sched_yield();
	}
	close(fd);
	if (!s->drops) {
		errno = ETIMEDOUT;
		die("fill the socket's buffer (is lo up?)");
	}
	s->drops = 0;
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

static void start_reader(struct sink *s)
{
	pthread_attr_t attributes;
	cpu_set_t cores;
	char name[16];

	CPU_ZERO(&cores);
	CPU_SET(s->core, &cores);
	pthread_attr_init(&attributes);
	errno = pthread_attr_setaffinity_np(&attributes, sizeof(cores), &cores);
	if (!errno)
		errno = pthread_create(&s->thread, &attributes, reader, s);
	if (errno)
		die("reader on a core");
	pthread_attr_destroy(&attributes);
	snprintf(name, sizeof(name), "drop-worker/%d", s->core);
	pthread_setname_np(s->thread, name);
}

static void print_stats(unsigned long id)
{
	printf("{\"id\":%lu,\"sockets\":[", id);
	for (unsigned int i = 0; i < count; i++) {
		uint32_t queued = read_drops(&sinks[i]);
		uint64_t received = atomic_load_explicit(&sinks[i].received, memory_order_relaxed);

		printf("%s{\"core\":%d,\"received\":%" PRIu64 ",\"drops\":%" PRIu64 ",\"queued_bytes\":%" PRIu32 "}",
		       i ? "," : "", sinks[i].core, received, sinks[i].drops, queued);
	}
	printf("]}\n");
}

static void parse_address(char *text)
{
	char *colon = strrchr(text, ':');

	if (!colon)
		refuse("%s: expected ADDRESS:PORT", text);
	*colon = '\0';
	address.sin_port = htons((in_port_t)number("port", colon + 1, 1, 65535));
	if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
		refuse("%s is not an IPv4 address", text);
}

static unsigned int parse_cores(char *list, int *cores)
{
	unsigned int n = 0;
	char *rest = list;

	for (char *word = strsep(&rest, ","); word; word = strsep(&rest, ",")) {
		if (n == MAX_CORES)
			refuse("more than %d cores", MAX_CORES);
		cores[n++] = (int)number("core", word, 0, CPU_SETSIZE - 1);
	}
	return n;
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "unread", "filter", "recvmmsg" };
	static int cores[MAX_CORES];
	unsigned int rules, ncores;
	int signals;

	if (argc != 5)
		refuse("usage: drop_socket unread|filter|recvmmsg ADDRESS:PORT RULES CORES");
	for (place = UNREAD; strcmp(argv[1], names[place]); place++)
		if (place == RECVMMSG)
			refuse("%s: not unread, filter or recvmmsg", argv[1]);
	parse_address(argv[2]);
	rules = (unsigned int)number("rules", argv[3], 0, place == FILTER ? MAX_RULES : 0);
	ncores = parse_cores(argv[4], cores);
	signals = control_signals();
	count = place == RECVMMSG ? ncores : 1;
	for (unsigned int i = 0; i < count; i++)
		sinks[i] = (struct sink){ .fd = open_socket(rules, count > 1),
					  .core = place == RECVMMSG ? cores[i] : -1 };
	if (place == UNREAD)
		fill(&sinks[0]);
	for (unsigned int i = 0; place == RECVMMSG && i < count; i++)
		start_reader(&sinks[i]);
	control_serve(signals, print_stats);
	return 0;
}
