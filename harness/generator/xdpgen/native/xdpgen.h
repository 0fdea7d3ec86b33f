/* SPDX-License-Identifier: Apache-2.0 */
/* What the BPF programs and xdpgen-dp share: the layout of everything that both of them touch.
 *
 * One writer per field. "ctl" = xdpgen-dp's control thread, "tx" = the sending program on that core, "rx" = the
 * receiving program. ctl never changes what a running program schedules by: it posts commands, the program applies
 * them between two frames.
 */
#ifndef XDPGEN_H
#define XDPGEN_H

#define MAX_CORES 16	/* sending cores; power of two */
#define MAX_CPUS 1024	/* ids of cores; power of two */
#define MAX_SLOTS 256	/* streams at a time on one core; power of two */
#define MAX_PORTS 16	/* power of two */
#define FIRST_CELL 60	/* frame bytes in an entry's first cell; the last four hold its length */
#define CELL 64		/* bytes of one cell of a header table */
#define MAX_CELLS 64	/* cells of one entry: every byte of the longest frame can differ */
#define MIN_FRAME 60
#define MAX_CHECKSUM 128 /* offset of the L4 checksum, at most */
#define MAX_FRAME 3072	/* without FCS; a live frame and its bookkeeping share a page */
#define TRAILER 16

#define MAGIC_LATENCY 0xAB
#define MAGIC_MARK 0xAC
#define FIRST_SEQ 0xFFFFFFFEu

#define LATENCY_GROUPS 128			   /* group slots 0..127 are latency groups, the others are stats */
#define GROUP_SLOTS 1152			   /* 128 + 1024 */
#define NO_GROUP 0xFFFF
#define IP_ID_BASE 0xFC00
#define IP_ID_LATENCY 0xFFFF
#define LATENCY_INDICES (LATENCY_GROUPS * MAX_CORES) /* index on the wire = group + 128 * core */

/* Log-linear histogram: values below 1024 ns exactly, then 1024 buckets an octave, up to 2^34 ns = 17 s. */
#define HIST_SUB_BITS 10
#define HIST_TOP_BITS 34
#define HIST_BUCKETS ((HIST_TOP_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS)
#define PERIOD_NS 500000000ull
#define STALE_NS 10000000000ull /* an older time stamp is not ours */

#define NEVER (~0ull)
#define PAUSE_NS 50000ull /* a longer gap between two program calls is a pause */
#define RECEIVE_GAP_NS 10000 /* frames received on one core in such a time are one receiving */
#define INTERRUPTION_NS 2000 /* so much between two clock reads with nothing in between: the core was elsewhere */
#define SPIN_READS 512 /* clock reads a call may wait at most, about 30 ns each */
#define DRAIN_SHIFT 8 /* a call that does nothing takes at most about 256 ns, */
#define DRAIN_MOST 4  /* and after this many the clock is read again */
#define PAUSE_LOG 1024
#define ERROR_FINE_BITS 6 /* departure errors: 64 buckets of 64 ns, then one an octave */
#define ERROR_BUCKETS 96
#define COMMANDS 64
#define NO_PAYLOAD (~0u)
#define SLACK_FRAMES 64	     /* a late core may catch up this many frames, */
#define SLACK_MIN_NS 5000ull /* at least these ns, at most PAUSE_NS */

enum command { CMD_ADD = 1, CMD_STOP = 2, CMD_RATE = 3 };

struct command_entry {
	__u32 op;
	__u32 slot;
	__u64 interval;	     /* CMD_RATE: ns, 0 pauses */
	__u32 interval_frac; /* 2^-32 ns */
	__u32 pad;
};

/* One stream's share of one core. ctl fills it while it is not scheduled, then tx owns it until done. */
struct slot {
	__u64 next; /* departure time, ns CLOCK_MONOTONIC; NEVER while paused */
	__u64 interval;
	__u32 interval_frac, next_frac;
	__u64 until;	 /* departures are strictly before it */
	__u64 remaining; /* NEVER: no limit */
	__u64 slack;	 /* later than this and departures are skipped */
	__u32 table;	 /* first cell */
	__u32 entries;
	__u32 index; /* next entry */
	__u16 cells; /* of an entry */
	__u16 port;
	__u16 length;	    /* of the template, without FCS */
	__u16 header;	    /* bytes that come from the table; the rest comes from the payload store */
	__u16 trailer_index;
	__u8 trailer_magic; /* 0: no trailer */
	__u8 trailer_generation;
	__u32 seq;
	__u8 limited; /* remaining counts */
	__u8 started;
	__u8 failed; /* a frame could not be built: a bug, never seen */
	__u8 pad;
	__u16 checksum; /* offset of the L4 checksum that the trailer is added to; 0: none */
	__u16 pad2[3];
	/* What became of it; written by tx only. */
	__u64 sent, sent_bytes; /* bytes with FCS */
	__u64 skipped_stall, skipped_receive, skipped_saturated;
	__u64 done_call; /* value of core.calls when it ended; 0: not yet */
};

struct pause {
	__u64 start, length;
};

struct core {
	/* ctl */
	__u32 head; /* commands posted */
	__u32 batch_mask; /* frames of one flush - 1 */
	__u32 base_length; /* length that a frame has when the program is called */
	__u32 uniform;	   /* 1: payload and trailer place are the same in all frames of this call */
	__u32 report_epoch;
	__u32 spin; /* ns a call may wait for the next departure */
	__u32 hold_next; /* ns: frames that are not flushed yet wait for a next one that is due within it, */
	__u32 hold_most; /* ns: but no longer than this; frames that measure latency wait for none */
	__u32 spread; /* 1: calls of a batch that send nothing pass between its frames, not all before the flush */
	struct command_entry commands[COMMANDS];
	/* tx */
	__u32 tail __attribute__((aligned(64))); /* commands applied */
	__u32 best; /* slot that departs next */
	__u64 due;
	__u64 second; /* no slot but best departs before it */
	__u64 calls;
	__u64 last; /* clock at the end of the previous call; 0: first call of an activity */
	__u64 pause_end;
	__u64 receive_end; /* of the last time that the receiving program took this core */
	__u64 receive_seen; /* receive_time.busy at the previous call */
	__u32 pending; /* frames handed over, not flushed yet */
	__u32 hurry; /* one of them measures latency */
	__u32 drain; /* calls to let pass without a look at the clock, so that the batch ends and is flushed */
	__u32 epoch;
	__u64 pending_since;
	__u64 pending_due; /* of the first of them */
	__u64 busy_calls; /* calls that sent a frame */
	__u64 flushes;	  /* batches that held at least one frame */
	__u64 pauses, paused_ns, longest_pause_ns;
	__u64 interruptions, interrupted_ns, interrupted_frames; /* shorter than a pause; frames due meanwhile */
	__u64 paused_frames; /* sent after a pause in which they were due */
	__u64 interruption_end;
	__u64 receives, receive_ns; /* gaps as long as a pause in which this core received: count, the receiving alone */
	__u64 first_departure, last_departure; /* since the report began; 0: none */
	__u64 departure_error[ERROR_BUCKETS];
	__u64 flush_delay[ERROR_BUCKETS];
	__u64 wire_error[ERROR_BUCKETS]; /* from the departure time of a flush's first frame until the flush is over */
	__u64 next[MAX_SLOTS];
	__u16 winner[MAX_SLOTS]; /* of the subtree at each inner node of a tournament over next[] */
	struct slot slots[MAX_SLOTS];
	struct pause pause_log[PAUSE_LOG];
} __attribute__((aligned(64)));

static inline __u64 slack_of(__u64 interval)
{
	__u64 slack = interval * SLACK_FRAMES;

	if (slack < SLACK_MIN_NS)
		return SLACK_MIN_NS;
	return slack < PAUSE_NS ? slack : PAUSE_NS;
}

/* Time that one CPU has spent in receiving, from frame to frame; written by rx on that CPU. */
struct receive_time {
	__u64 last, busy;
} __attribute__((aligned(64)));

struct rx_config {
	__u32 ports;
	__u32 ifindex[MAX_PORTS];
	__u32 stats_open; /* number of open stats groups: 0 saves looking for the IP id */
	__u32 capture[MAX_PORTS];	    /* 0 off, 1 frames without our trailer, 2 all */
	__s32 capture_left[MAX_PORTS];	    /* frames until the capture is full */
	__u8 nonce;			    /* generation of marked frames: drawn at start, renewed with the reports */
	__u16 slot_of_ip_id[1024];	    /* group slot + 1 */
};

/* The BPF object's only global variable. */
struct shared_state {
	__u8 core_of_cpu[MAX_CPUS];
	struct rx_config rx;
	struct receive_time receiving[MAX_CPUS];
	struct core cores[MAX_CORES];
};

/* Per CPU and port. */
struct port_rx {
	__u64 packets, bytes, marked, passed, bad_header, old_flow, capture_lost;
};

/* Per CPU, port and group slot. */
struct group_rx {
	__u64 packets, bytes;
};

struct capture_record {
	__u64 time;
	__u32 port;
	__u32 length;
	__u8 data[];
};
#define CAPTURE_SMALL (256 - sizeof(struct capture_record))
#define CAPTURE_LARGE MAX_FRAME

#endif
