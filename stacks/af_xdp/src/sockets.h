/* SPDX-License-Identifier: Apache-2.0 */
/* AF_XDP sockets and the memory (UMEM) that all sockets of one worker share, so that a frame received on one port is
 * sent on another without a copy in user space. One thread alone uses them. */
#pragma once

#include <xdp/xsk.h>

#include "options.h"

#define FRAME_BYTES 2048u

struct sock {
	struct xsk_ring_cons rx, completed;
	struct xsk_ring_prod tx, fill;
	struct xsk_socket *xsk;
	int fd;
	const struct port_options *port;
	unsigned int queue;
	struct sock *egress;	/* where its frames leave */
	bool receives;
	bool zero_copy;		/* what came, whatever was asked */
	unsigned int napi_id;	/* 0: the kernel cannot busy poll for it */
	unsigned int queued;	/* frames in the tx ring that are not submitted yet */
	unsigned int in_flight;	/* frames submitted and not completed */
};

/* Frames are free, in a ring, or in the hands of the worker. */
struct memory {
	unsigned char *area;
	struct xsk_umem *umem;
	__u64 *free;
	unsigned int nfree;
};

/* Opens and binds the sockets of one worker (port, queue and receives are set); ends the process when it cannot. */
void sockets_open(const struct options *o, struct memory *m, struct sock *socks, unsigned int count);

/* Hands free frames to the kernel for receiving, as many as there are and the ring takes. */
void socket_refill(struct memory *m, struct sock *s);

/* Takes back the frames that the kernel has sent. */
void socket_reclaim(struct memory *m, struct sock *s);

/* Statistics of the kernel on one socket. */
struct xdp_statistics socket_statistics(const struct sock *s);
