/* SPDX-License-Identifier: Apache-2.0 */
/* xdpgen-dp's parts and what they share. */
#ifndef DP_H
#define DP_H

#include <linux/types.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* User space reads latency_state through BPF_F_LOCK and never touches its lock. */
struct bpf_spin_lock;
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "latency.h"
#include "protocol.h"
#include "xdpgen.h"

#define NS 1000000000ull
#define HOLD_NEXT_NS 8000
#define HOLD_MOST_NS 28000
#define SPIN_NS 1500

/* What a driver counts. */
struct wire {
	__u64 sent, refused, dropped; /* dropped: while receiving, before the program saw them */
};

struct port {
	char name[16];
	unsigned int ifindex;
	int link_fd; /* closing it detaches the receiving program */
	bool exact; /* its driver counts what ndo_xdp_xmit refused */
	struct wire base;
	__u32 base_missed;
	__u64 handed_packets, handed_bytes; /* of streams that ended; likewise below */
	__u64 skipped_stall, skipped_receive, skipped_saturated;
};

struct group_tx {
	__u64 packets, bytes;
};

/* ctl's side of one slot. */
struct share {
	bool used;
	__u32 key, entries, all_entries, table_cells;
	__u16 group_slot;
	bool uniform;
	double pps;
};

struct sender {
	int cpu;
	pthread_t thread;
	bool created;
	pthread_mutex_t lock;
	pthread_cond_t change;
	bool wanted, quit, parked; /* under lock */
	int error;		   /* under lock: errno that ended the last activity */
	__u8 frame[MAX_FRAME];	   /* what a frame holds before the program writes it */
	struct share shares[MAX_SLOTS];
	__u32 uniform_count; /* shares of this activity, to know whether payloads differ */
};

struct dataplane {
	int socket;
	struct bpf_object *object;
	int send_fd, latency_fd, port_fd, group_fd, cells_fd, payloads_fd, histograms_fd;
	struct ring_buffer *captures;
	struct shared_state *shared;
	__u8 *cells, *payloads;
	__u64 *histograms;
	__u32 cell_count, ports_used, cores_used;
	int cpus;
	struct port ports[MAX_PORTS];
	struct sender senders[MAX_CORES];
	struct group_tx group_tx[MAX_PORTS][GROUP_SLOTS];
	__s64 failed_stream; /* key of one whose frames the sending program could not build; -1: none */
	char error[4096]; /* text of the last failure */
};

/* dp.c */
int fail(struct dataplane *dp, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
__u64 now_ns(void);
void nap(void);

/* load.c: BPF object, maps, ports. */
int load(struct dataplane *dp, const char *object);
void unload(struct dataplane *dp);

/* sender.c: one thread per sending core. */
int sender_create(struct dataplane *dp, __u32 core);
int sender_wake(struct dataplane *dp, __u32 core, __u32 batch, bool resume);
void sender_park(struct dataplane *dp, __u32 core);
bool sender_running(struct sender *sender);
void sender_destroy(struct sender *sender);

/* streams.c */
int streams_start(struct dataplane *dp, const struct start_record *records, size_t count, int memory);
int streams_rate(struct dataplane *dp, const struct rate_record *records, size_t count);
int streams_stop(struct dataplane *dp, const __u32 *keys, size_t count);
bool streams_active(struct dataplane *dp, const __u32 *keys, size_t count);
void streams_reap(struct dataplane *dp);
void streams_renew_marks(struct dataplane *dp);
int streams_next_event_ms(struct dataplane *dp);

/* tables.c: room in the map of header cells. */
int table_take(struct dataplane *dp, __u32 cells, __u32 *first);
void table_give(struct dataplane *dp, __u32 first, __u32 cells);

/* wire.c */
int wire_counters(const char *ifname, struct wire *wire);
int wire_missed(const char *ifname, __u32 *missed);

/* counters.c */
int port_read(struct dataplane *dp, __u32 port, struct port_reply *reply);
int group_open(struct dataplane *dp, __u32 slot, __u32 ip_id);
int group_close(struct dataplane *dp, __u32 slot);
int group_read(struct dataplane *dp, __u32 slot, struct group_reply *reply);
int latency_read(struct dataplane *dp, __u32 group, struct latency_state *reply);
void report_read(struct dataplane *dp, __u32 core, struct report_reply *reply);

/* captures.c: copies of received frames. */
int captures_open(struct dataplane *dp);
size_t captures_take(struct dataplane *dp, void *to, size_t room);
void captures_close(struct dataplane *dp);

#endif
