/* SPDX-License-Identifier: Apache-2.0 */
/* The command line, checked. */
#pragma once

#include <net/if.h>
#include <stdbool.h>

#include "af_xdp.h"

#define MAX_PORTS 8
#define MAX_WORKERS 64
#define MAX_BATCH 256

enum role { ROLE_DROP, ROLE_REFLECT, ROLE_ECHO, ROLE_FORWARD };

/* One port of the DUT. ``egress``: index of the port by which its frames leave (role forward), its own otherwise. */
struct port_options {
	char ifname[IF_NAMESIZE];
	unsigned int ifindex;
	unsigned int queues;
	struct port_settings settings;
	char egress_name[IF_NAMESIZE];
	unsigned int egress;
	__u8 new_src_mac[6];
	__u8 new_dst_mac[6];
};

struct options {
	enum role role;
	enum bypass bypass;
	bool zero_copy;		/* asked for: what the driver cannot do becomes copy mode */
	bool generic;		/* attach the program after the driver, not in it */
	bool need_wakeup;
	bool spin;		/* ask for frames again at once; otherwise sleep in poll() */
	unsigned int busy_budget;
	unsigned int batch;
	unsigned int ring;	/* entries of each of a socket's four rings, a power of two */
	int cores[MAX_WORKERS];
	unsigned int ncores;
	struct port_options ports[MAX_PORTS];
	unsigned int nports;
};

/* Ends the process with a message and the usage (status 2) when something is wrong. */
void options_parse(struct options *o, int argc, char **argv);
