/* SPDX-License-Identifier: Apache-2.0 */
#include "address.h"

#include "arguments.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

union address address_of(const char *what, const char *text)
{
	const char *colon = strrchr(text, ':');
	bool v6 = *text == '[' && colon && colon[-1] == ']';
	size_t length = colon ? (size_t)(colon - text) - 2 * v6 : INET6_ADDRSTRLEN;
	char host[INET6_ADDRSTRLEN];
	union address address;
	in_port_t port;

	if (length >= sizeof(host))
		refuse("%s %s: expected ADDRESS:PORT or [ADDRESS]:PORT", what, text);
	memcpy(host, text + v6, length);
	host[length] = '\0';
	port = htons((in_port_t)number(what, colon + 1, 1, 65535));
	if (v6)
		address.v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = port };
	else
		address.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port };
	if (inet_pton(v6 ? AF_INET6 : AF_INET, host, v6 ? (void *)&address.v6.sin6_addr : &address.v4.sin_addr) != 1)
		refuse("%s %s: %s is not an %s address", what, text, host, v6 ? "IPv6" : "IPv4");
	return address;
}

socklen_t address_length(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

const char *address_text(const union address *address, char to[INET6_ADDRSTRLEN])
{
	bool v6 = address->any.sa_family == AF_INET6;

	return inet_ntop(address->any.sa_family, v6 ? (const void *)&address->v6.sin6_addr : &address->v4.sin_addr, to,
			 INET6_ADDRSTRLEN);
}
