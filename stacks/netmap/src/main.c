/* SPDX-License-Identifier: Apache-2.0 */
/* netmap-worker [-c] ROLE UDP_PORT CORE=PORT[,PORT]...
 *
 * Serves ROLE (drop, reflect, echo, forward) for UDP datagrams to UDP_PORT, one worker for each argument CORE=PORT. A
 * PORT is netmap's name of one ("netmap:eth1-0/x"); with host rings bound ("netmap:eth1*" and "/x") every other frame
 * is handed to the kernel and the kernel's own are sent. -c: frames are copied from ring to ring instead of exchanging
 * buffers. Prints "ready", then answers "stats N" on its standard input
 * with one line; ends with its input. */
#define _GNU_SOURCE
#include "worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct worker workers[MAX_WORKERS];
static unsigned int nworkers;

static void __attribute__((noreturn)) usage(const char *problem)
{
	fprintf(stderr, "netmap-worker: %s\nusage: netmap-worker [-c] drop|reflect|echo|forward UDP_PORT CORE=PORT[,PORT]...\n",
		problem);
	exit(2);
}

static enum role parse_role(const char *word)
{
	static const char *const names[] = {"drop", "reflect", "echo", "forward"};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(word, names[i]))
			return (enum role)i;
	usage("no such role");
}

static unsigned long parse_number(const char *word, const char *end, unsigned long most)
{
	char *stop;
	unsigned long value = strtoul(word, &stop, 10);

	if (*word < '0' || *word > '9' || stop != end || value > most)
		usage("a number is malformed or out of range");
	return value;
}

static void parse_worker(struct worker *w, char *word, enum role role, uint16_t udp_port, bool copies)
{
	char *ports = strchr(word, '=');

	if (!ports)
		usage("a worker is CORE=PORT");
	w->role = role;
	w->copies = copies;
	w->udp_port = udp_port;
	w->core = (int)parse_number(word, ports, 4095);
	for (char *name = strtok(ports + 1, ","); name; name = strtok(NULL, ",")) {
		if (w->nports == MAX_PORTS)
			usage("a worker has at most two ports");
		w->ports[w->nports++].name = name;
	}
	if (w->nports != (role == FORWARD ? 2 : 1))
		usage("forward takes two ports, every other role one");
}

static uint64_t get(counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static void print_stats(const char *id)
{
	printf("stats %s {\"workers\":[", id);
	for (unsigned int i = 0; i < nworkers; i++) {
		struct counters *c = &workers[i].counters;

		printf("%s{\"core\":%d,\"received\":%" PRIu64 ",\"discarded\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"other\":%" PRIu64
		       ",\"up\":%" PRIu64 ",\"down\":%" PRIu64 ",\"useful\":%" PRIu64 ",\"empty\":%" PRIu64 ",\"stuck\":%" PRIu64 "}",
		       i ? "," : "", workers[i].core, get(&c->received), get(&c->discarded), get(&c->sent), get(&c->other),
		       get(&c->up), get(&c->down), get(&c->useful), get(&c->empty), get(&c->stuck));
	}
	printf("]}\n");
}

static void obey(const char *line)
{
	const char *id = line + strlen("stats ");

	if (!strncmp(line, "stats ", strlen("stats ")) && *id && strlen(id) <= 20 &&
	    strspn(id, "0123456789") == strlen(id))
		print_stats(id);
	else
		printf("error unknown command\n");
}

int main(int argc, char **argv)
{
	enum role role;
	uint16_t udp_port;
	char line[64];
	bool copies = argc > 1 && !strcmp(argv[1], "-c");

	setvbuf(stdout, NULL, _IOLBF, 0);
	argc -= copies;
	argv += copies;
	if (argc < 4 || argc - 3 > MAX_WORKERS)
		usage("arguments are missing");
	role = parse_role(argv[1]);
	udp_port = (uint16_t)parse_number(argv[2], argv[2] + strlen(argv[2]), 65535);
	for (int i = 3; i < argc; i++)
		parse_worker(&workers[nworkers++], argv[i], role, udp_port, copies);
	for (unsigned int i = 0; i < nworkers; i++)
		if (!worker_open(&workers[i], i ? workers[0].ports[0].netmap : NULL))
			return 1;
	for (unsigned int i = 0; i < nworkers; i++)
		if (!copies && !worker_shares_memory(&workers[i])) {
			printf("notice: frames are copied between two ports that have memory of their own\n");
			break;
		}
	for (unsigned int i = 0; i < nworkers; i++)
		worker_start(&workers[i]);
	printf("ready\n");
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		obey(line);
	}
	return 0;
}
