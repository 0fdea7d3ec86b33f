/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the BPF program and its loader share: which frames are of the test. Address and port are in network byte order. */
#ifndef TC_DROP_H
#define TC_DROP_H

struct tc_drop_config {
	__u32 dst_ip[4];	/* of IPv4 the first */
	__u16 dst_port;
	__u16 version;		/* of IP: 4 or 6 */
};

#endif
