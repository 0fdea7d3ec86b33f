/* SPDX-License-Identifier: Apache-2.0 */
/* The XDP program of each port: loaded, told its sockets, attached by a BPF link that ends with this process. */
#pragma once

#include <bpf/libbpf.h>

#include "options.h"

struct program {
	const struct port_options *port;
	struct bpf_object *object;
	int link;	/* file descriptor, -1: not attached */
};

/* Each ends the process with a message (status 1) when the kernel refuses. */
struct program *programs_load(const struct options *o);
void program_set_socket(const struct program *p, unsigned int queue, int fd);
void programs_attach(struct program *programs, const struct options *o);

/* Frames of one port since it was attached, summed over queues and CPUs. */
struct queue_counters program_counters(const struct program *p);

/* Detaches, so that no frame goes to a socket that is about to close. */
void programs_detach(struct program *programs, const struct options *o);
