/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "group.h"

#include <linux/filter.h>
#include <stdint.h>
#include <sys/socket.h>

#include "arguments.h"
#include "control.h"

bool group_option(struct group *g, int option, char *argument)
{
	switch (option) {
	case 'b':
		if (g->nbinds == MAX_BINDS)
			refuse("--bind: more than %d addresses", MAX_BINDS);
		g->binds[g->nbinds++] = address_of("--bind", argument);
		return true;
	case 'c': g->ncores = core_list("--cores", argument, g->cores, MAX_WORKERS); return true;
	case 'w': g->per_core = number("--per-core", argument, 1, 64); return true;
	case 'p': g->reuseport = true; return true;
	default: return false;
	}
}

void group_check(const struct group *g)
{
	if (!g->nbinds || !g->ncores)
		refuse("--bind and --cores are both needed");
	if (g->nbinds * group_workers(g) > MAX_WORKERS)
		refuse("%u addresses, %u cores and %u workers on each are more than %d sockets", g->nbinds, g->ncores,
		       g->per_core, MAX_WORKERS);
}

/* Each core is looked up by its number, because the cores given need not be 0..n-1. */
void group_by_cpu(const struct group *g, int fd)
{
	struct sock_filter code[3 * MAX_WORKERS + 6];
	struct sock_fprog program = { .filter = code };
	unsigned int n = 0, end = 3 * g->ncores + 2;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned int)(SKF_AD_OFF + SKF_AD_CPU));
	for (unsigned int i = 0; i < g->ncores; i++) {
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)g->cores[i], 0, 2);
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LDX | BPF_IMM, i * g->per_core);
		code[n] = (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, end - n - 1);
		n++;
	}
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned int)(SKF_AD_OFF + SKF_AD_RANDOM));
	code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, g->per_core);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_A, 0);
	program.len = (unsigned short)n;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)))
		die("SO_ATTACH_REUSEPORT_CBPF");
}
