/* SPDX-License-Identifier: Apache-2.0 */
#include "sockopt.h"

#include <linux/sock_diag.h>
#include <sys/socket.h>

#include "control.h"

void set_int(int fd, int option, int value, const char *name)
{
	if (setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)))
		die("%s", name);
}

uint32_t drops_read(struct drops *d, int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t length = sizeof(info);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length))
		die("SO_MEMINFO");
	d->total += (uint32_t)(info[SK_MEMINFO_DROPS] - d->last);
	d->last = info[SK_MEMINFO_DROPS];
	return info[SK_MEMINFO_RMEM_ALLOC];
}
