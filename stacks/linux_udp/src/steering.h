/* SPDX-License-Identifier: Apache-2.0 */
/* Which socket of a SO_REUSEPORT group gets a datagram. */
#pragma once

#include "sockets.h"

/* Sets up o->steering for the sockets of one address, bound in the order of o->cores. Exits on failure. */
void steer(const struct options *o, struct sock *group, unsigned int count);
