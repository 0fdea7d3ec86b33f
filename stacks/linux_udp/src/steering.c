/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "steering.h"

#include "control.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define LOG_BYTES 4096

/* Loads a program of type socket filter, which is one of the two that a group takes; returns its descriptor. */
static int load(const struct bpf_insn *code, unsigned int count)
{
	static char log[LOG_BYTES];
	union bpf_attr attributes;
	int fd;

	memset(&attributes, 0, sizeof(attributes));
	attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
	attributes.insns = (uint64_t)(uintptr_t)code;
	attributes.insn_cnt = count;
	attributes.license = (uint64_t)(uintptr_t)"Dual BSD/GPL";
	attributes.log_buf = (uint64_t)(uintptr_t)log;
	attributes.log_size = sizeof(log);
	attributes.log_level = 1;
	fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof(attributes));
	if (fd < 0) {
		fprintf(stderr, "%s\n", log);
		die("load the eBPF program of the group");
	}
	return fd;
}

/*
 * Flows are spread over the sockets in turn: (source address + source port) mod sockets, so that flows with successive
 * addresses or ports come out even, which no hash promises. Offsets are from the IP header (of 20 bytes: with options
 * the choice differs, but is one of the sockets still).
 */
static void by_sender(int fd, unsigned int count)
{
	const struct bpf_insn code[] = {
		/* r6 = the packet, where loads by absolute offset look for it */
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_6, .src_reg = BPF_REG_1 },
		{ .code = BPF_LD | BPF_ABS | BPF_W, .imm = SKF_NET_OFF + 12 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_7, .src_reg = BPF_REG_0 },
		{ .code = BPF_LD | BPF_ABS | BPF_H, .imm = SKF_NET_OFF + 20 },
		{ .code = BPF_ALU | BPF_ADD | BPF_X, .dst_reg = BPF_REG_0, .src_reg = BPF_REG_7 },
		{ .code = BPF_ALU | BPF_MOD | BPF_K, .dst_reg = BPF_REG_0, .imm = (int)count },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int program = load(code, sizeof(code) / sizeof(code[0]));

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &program, sizeof(program)))
		die("SO_ATTACH_REUSEPORT_EBPF");
	close(program); /* the group keeps it */
}

/* Each socket says which CPU's packets it wants; the kernel heeds that in a group from 6.2 on. */
static void by_incoming_cpu(const struct sock *group, unsigned int count)
{
	unsigned int major = 0, minor = 0;
	struct utsname host;

	for (unsigned int i = 0; i < count; i++)
		if (setsockopt(group[i].fd, SOL_SOCKET, SO_INCOMING_CPU, &group[i].core, sizeof(group[i].core)))
			die("SO_INCOMING_CPU");
	if (uname(&host) || sscanf(host.release, "%u.%u", &major, &minor) != 2)
		die("the kernel's version");
	if (major < 6 || (major == 6 && minor < 2)) {
		fprintf(stderr, "notice: SO_INCOMING_CPU need not count in a SO_REUSEPORT group before kernel 6.2\n");
		fflush(stderr);
	}
}

void steer(const struct options *o, struct sock *group, unsigned int count)
{
	switch (o->steering) {
	case STEER_HASH: break;
	case STEER_CPU: group_by_cpu(&o->group, group[0].fd); break;
	case STEER_EBPF: by_sender(group[0].fd, count); break;
	case STEER_INCOMING_CPU: by_incoming_cpu(group, count); break;
	}
}
