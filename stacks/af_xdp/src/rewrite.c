/* SPDX-License-Identifier: Apache-2.0 */
#include "rewrite.h"

#include <string.h>

static void swap(void *a, void *b, size_t bytes)
{
	unsigned char kept[16];

	memcpy(kept, a, bytes);
	memcpy(a, b, bytes);
	memcpy(b, kept, bytes);
}

/* Exchanging source and destination changes no sum of 16-bit words: the checksums stay right. */
static void swap_addresses(const struct headers *h)
{
	if (h->ip4)
		swap(&h->ip4->saddr, &h->ip4->daddr, sizeof(h->ip4->saddr));
	else
		swap(&h->ip6->saddr, &h->ip6->daddr, sizeof(h->ip6->saddr));
	swap(&h->udp->source, &h->udp->dest, sizeof(h->udp->source));
}

/* RFC 1141: TTL is the high byte of its word, one less of it is 0x0100 more in the checksum. IPv6 has none. */
static bool lower_ttl(const struct headers *h)
{
	unsigned int sum;

	if (h->ip6) {
		if (h->ip6->hop_limit <= 1)
			return false;
		h->ip6->hop_limit--;
		return true;
	}
	if (h->ip4->ttl <= 1)
		return false;
	sum = h->ip4->check + (unsigned int)bpf_htons(0x0100);
	h->ip4->check = (__u16)(sum + (sum >= 0xffff));
	h->ip4->ttl--;
	return true;
}

bool rewrite(enum role role, const struct port_options *port, const struct headers *h)
{
	if (role == ROLE_FORWARD) {
		if (!lower_ttl(h))
			return false;
		memcpy(h->eth->h_dest, port->new_dst_mac, ETH_ALEN);
		memcpy(h->eth->h_source, port->new_src_mac, ETH_ALEN);
		return true;
	}
	swap(h->eth->h_dest, h->eth->h_source, ETH_ALEN);
	if (role == ROLE_ECHO)
		swap_addresses(h);
	return true;
}
