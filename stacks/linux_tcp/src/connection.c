/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "connection.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char reply[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

static enum progress finish(struct connection *c, enum progress how)
{
	close(c->fd);
	return how;
}

/*
 * MSG_MORE holds the reply back until close() sends it with the FIN in one segment. So the client learns of the end
 * with its last byte and always closes second: TIME-WAIT stays here, and the client's ports are free at once.
 */
static enum progress answer(struct connection *c)
{
	ssize_t sent = send(c->fd, reply, sizeof(reply) - 1, MSG_MORE | MSG_NOSIGNAL);

	return finish(c, sent == (ssize_t)sizeof(reply) - 1 ? COMPLETED : FAILED);
}

enum progress connection_serve(struct connection *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, c->request + c->used, MAX_REQUEST - c->used, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return WAITING;
		if (n <= 0)
			return finish(c, FAILED);
		c->used += (uint32_t)n;
		if (memmem(c->request, c->used, "\r\n\r\n", 4))
			return answer(c);
		if (c->used == MAX_REQUEST)
			return finish(c, FAILED);
	}
}
