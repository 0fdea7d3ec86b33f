/* SPDX-License-Identifier: Apache-2.0 */
/* An address of IPv4 or IPv6 with its port, as the command line and the kernel have it. */
#pragma once

#include <netinet/in.h>

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* Reads ADDRESS:PORT, an IPv6 address in brackets; refuses anything else in the name of ``what``. */
union address address_of(const char *what, const char *text);

/* Length of an address for the kernel. */
socklen_t address_length(const union address *address);

/* The address alone as text; returns to. */
const char *address_text(const union address *address, char to[INET6_ADDRSTRLEN]);
