/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of the server, checked and bounded before any socket is opened. */
#pragma once

#include "group.h"

#define MAX_BATCH 64
#define MAX_PAYLOADS 16

enum role { ROLE_ECHO, ROLE_DROP };

/*
 * How a SO_REUSEPORT group picks the socket: the kernel's flow hash; the CPU that received the packet, by a classic BPF
 * program; the sender's address and port, by an eBPF program; or the CPU again, by SO_INCOMING_CPU of each socket.
 */
enum steering { STEER_HASH, STEER_CPU, STEER_EBPF, STEER_INCOMING_CPU };

/* How a worker waits: in recvmmsg(), in epoll_wait(), or not at all. */
enum mode { MODE_BLOCK, MODE_EPOLL, MODE_BUSY };

struct options {
	enum role role;
	enum mode mode;
	struct group group;
	enum steering steering;
	unsigned int batch;
	unsigned int busy_poll_us;
	unsigned int rcvbuf;        /* bytes asked for; 0 leaves the kernel's default */
	int payloads[MAX_PAYLOADS]; /* role drop: lengths of a test datagram */
	unsigned int npayloads;     /* 0 counts any */
};

/* Fills *o; prints what is wrong to stderr and exits with status 2 on a bad command line. */
void options_parse(struct options *o, int argc, char **argv);

const char *mode_name(enum mode mode);
