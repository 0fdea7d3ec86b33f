/* SPDX-License-Identifier: Apache-2.0 */
/* Which frames are the test's, and what a reply to one looks like. All offsets are of untagged IPv4 over Ethernet. */
#ifndef FRAME_H
#define FRAME_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { ETHER = 14, ETHER_TYPE = 12, MAC = 6, IP_MIN = 20, IP_SRC = 12, IP_DST = 16, UDP = 8, ADDRESS = 4 };

static inline uint16_t frame_u16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* Bytes of the IP header of a UDP datagram (no fragment) to the port; 0 for every other frame. */
static inline unsigned int frame_test_header(const uint8_t *frame, unsigned int len, uint16_t udp_port)
{
	const uint8_t *ip = frame + ETHER;
	unsigned int header;

	if (len < ETHER + IP_MIN + UDP || frame_u16(frame + ETHER_TYPE) != 0x0800 || ip[0] >> 4 != 4 || ip[9] != 17)
		return 0;
	header = (ip[0] & 15u) * 4;
	if (header < IP_MIN || len < ETHER + header + UDP || (frame_u16(ip + 6) & 0x3fff))
		return 0;
	return frame_u16(ip + header + 2) == udp_port ? header : 0;
}

static inline void frame_swap(uint8_t *left, uint8_t *right, size_t size)
{
	uint8_t kept[MAC];

	memcpy(kept, left, size);
	memcpy(left, right, size);
	memcpy(right, kept, size);
}

static inline void frame_swap_macs(uint8_t *frame)
{
	frame_swap(frame, frame + MAC, MAC);
}

/* Both checksums are sums over the same words as before, so they stay right, 0 included. */
static inline void frame_swap_addresses(uint8_t *frame, unsigned int header)
{
	uint8_t *ip = frame + ETHER;

	frame_swap(ip + IP_SRC, ip + IP_DST, ADDRESS);
	frame_swap(ip + header, ip + header + 2, 2);
}

#endif
