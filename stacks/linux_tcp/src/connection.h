/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: a request is read up to its empty line, one reply is sent, the connection is closed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MAX_REQUEST 2048

/* A connection that waits for the rest of its request; in order of acceptance in a list of its worker. */
struct connection {
	int fd;
	uint32_t used;
	int64_t accepted_ns; /* CLOCK_MONOTONIC */
	struct connection *older, *newer;
	char request[MAX_REQUEST];
};

enum progress { WAITING, COMPLETED, FAILED };

/*
 * Reads what there is and answers a complete request; closes the connection unless it is WAITING. FAILED: the client
 * closed or reset it, sent more than MAX_REQUEST bytes, or the reply was not taken.
 */
enum progress connection_serve(struct connection *c);
