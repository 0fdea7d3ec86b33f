/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and replies between native_dataplane.py and xdpgen-dp: one message each way on a SOCK_SEQPACKET socket.
 *
 * All members are in host byte order and naturally aligned; native_dataplane.py repeats these layouts as struct
 * formats, and PROTOCOL_VERSION must change with any of them.
 */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <linux/types.h>

#define PROTOCOL_VERSION 3
#define MESSAGE_MAX 65536

enum op {
	OP_HELLO = 1,
	OP_START, /* start_record[], one memfd holding tables and templates */
	OP_RATE,  /* rate_record[] */
	OP_STOP,  /* u32 keys[] */
	OP_ACTIVE, /* u32 keys[] -> u32 */
	OP_PORT,   /* arg = port -> port_reply */
	OP_GROUP_OPEN, /* arg = slot, value = IP id (0: none) */
	OP_GROUP_CLOSE, /* arg = slot */
	OP_GROUP,	/* arg = slot -> group_reply[ports] */
	OP_LATENCY,	/* arg = group -> latency_reply[cores] */
	OP_REPORT,	/* arg = core index -> report_reply */
	OP_RESET_REPORTS,
	OP_CAPTURE,  /* arg = port, value = 0 off, 1 without our trailer, 2 everything; limit */
	OP_CAPTURED, /* -> capture_record (xdpgen.h) and frame, repeated; empty: no more for now */
	OP_QUIT,
};

struct request {
	__u32 op, arg, value, limit;
};

struct reply {
	__s32 status; /* 0, or -errno and the text of the error follows */
	__u32 length;
};

struct hello_reply {
	__u32 version, ports, cores, cpus, nonce, cells;
};

struct start_record {
	__u64 at, until, total; /* ns CLOCK_MONOTONIC; NEVER: no end, no limit */
	__u64 table_offset;	/* in the memfd: entries * cells * CELL bytes */
	__u64 payload_offset;	/* in the memfd: template, length bytes */
	double pps;		/* of the whole stream */
	__u32 key, entries, all_entries; /* on this core, and of the whole stream */
	__u16 core, port, cells, length, header, trailer_index, group_slot;
	__u8 trailer_magic, uniform; /* uniform: all frames are length bytes long */
	__u16 checksum; /* offset of the L4 checksum that stays right under the trailer; 0: none */
	__u16 reserved;
};

struct rate_record {
	double pps;
	__u32 key, reserved;
};

struct port_reply {
	__u64 handed_packets, handed_bytes; /* given to the driver */
	__u64 wire_packets, wire_refused;   /* the driver's own counts since the start */
	__u64 skipped_stall, skipped_receive, skipped_saturated;
	__u64 rx_packets, rx_bytes, rx_marked, rx_passed, rx_bad_header, rx_old_flow, rx_capture_lost;
	__u64 rx_dropped; /* by the driver, before the receiving program saw them */
	__u32 exact, idle; /* the driver counts refusals; nothing is being sent on this port */
};

struct group_reply {
	__u64 tx_packets, tx_bytes, rx_packets, rx_bytes;
};

struct report_reply {
	__u64 calls, busy_calls, flushes, pauses, paused_ns, longest_pause_ns, first_departure, last_departure;
	__u64 interruptions, interrupted_ns, interrupted_frames;
	__u64 receives, receive_ns, paused_frames;
	__u64 departure_error[96], flush_delay[96], wire_error[96];
};

#endif
