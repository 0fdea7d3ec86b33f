/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a socket, and what the kernel dropped at it. Each of these ends the process when it fails. */
#pragma once

#include <stdint.h>

/* Sets an option of SOL_SOCKET; ``name`` is for what is said when that fails. */
void set_int(int fd, int option, int value, const char *name);

/* Datagrams that found no room in a socket's buffer. */
struct drops {
	uint32_t last; /* SK_MEMINFO_DROPS as last read: 32 bits wide, so it wraps */
	uint64_t total;
};

/* Adds what has been dropped since the last call, and returns the bytes that wait in the socket's buffer. */
uint32_t drops_read(struct drops *d, int fd);
