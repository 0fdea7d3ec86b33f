/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loader of the xdp stack. Attaches the program to every port named on its command line, prints "ready" and stays in
 * the foreground. A line "stats ID" on standard input is answered with one JSON line. INT, TERM or the end of standard
 * input detach and end it; the attachments are BPF links, so that even SIGKILL leaves no program on a port.
 *
 *   xdp_loader MODE [CPUMAP] PORT...
 *   MODE  native | generic
 *   CPUMAP  cpumap,RING,CPU[,CPU...]: forward on these cores, each with a ring of so many frames
 *   PORT  IFNAME,ROLE[,DST_IP,UDP_PORT,VLAN[,EGRESS_IFNAME,NEW_SRC_MAC,NEW_DST_MAC]]
 *   ROLE  pass | drop | reflect | echo | forward
 *   VLAN  id of the tag on every test frame, or - for untagged ones
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/types.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "loader.h"

#define MAX_PORTS 8
#define LINE_BYTES 256

/* The compiled BPF program, part of this file: one program to deploy. */
__asm__(".section .rodata\n"
	".balign 16\n"
	"bpf_object_start:\n"
	".incbin \"" BPF_OBJECT "\"\n"
	"bpf_object_end:\n"
	".previous\n");
extern const char bpf_object_start[], bpf_object_end[];

static struct port ports[MAX_PORTS];
static unsigned int port_count;

int complain(const char *format, ...)
{
	va_list arguments;

	fputs("xdp_loader: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	return -1;
}

static int parse_role(const char *text, __u32 *role)
{
	static const char *const names[] = { "pass", "drop", "reflect", "echo", "forward" };

	for (__u32 i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!strcmp(text, names[i])) {
			*role = i;
			return 0;
		}
	}
	return complain("unknown role '%s'", text);
}

static int parse_mac(const char *text, __u8 mac[6])
{
	int used = 0;

	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
		   &used) != 6 || text[used])
		return complain("'%s' is not a MAC address", text);
	return 0;
}

static int parse_ifname(const char *text, unsigned int *ifindex)
{
	*ifindex = if_nametoindex(text);
	return *ifindex ? 0 : complain("no interface '%s' here", text);
}

static int parse_number(const char *text, unsigned long low, unsigned long high, const char *what, __u16 *value)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (*end || end == text || number < low || number > high)
		return complain("'%s' is not a %s", text, what);
	*value = (__u16)number;
	return 0;
}

static int parse_destination(const char *ip, const char *udp_port, const char *vlan, struct xdp_stack_config *config)
{
	config->version = strchr(ip, ':') ? 6 : 4;
	if (inet_pton(config->version == 6 ? AF_INET6 : AF_INET, ip, config->dst_ip) != 1)
		return complain("'%s' is not an IP address", ip);
	if (parse_number(udp_port, 1, 65535, "UDP port", &config->dst_port))
		return -1;
	config->dst_port = htons(config->dst_port);
	config->vlan = NO_VLAN;
	return strcmp(vlan, "-") ? parse_number(vlan, 1, 4094, "VLAN id", &config->vlan) : 0;
}

/* Receive queues of an interface, as sysfs lists them; at least 1. */
static unsigned int count_queues(const char *ifname)
{
	char path[64 + IF_NAMESIZE];
	struct dirent *entry;
	unsigned int count = 0;
	DIR *directory;

	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", ifname);
	directory = opendir(path);
	if (!directory)
		return 1;	/* sysfs of another network namespace: rows are added as queues show traffic */
	while ((entry = readdir(directory)))
		count += !strncmp(entry->d_name, "rx-", 3);
	closedir(directory);
	return count ? count : 1;
}

/* Reads one PORT argument (text is cut up) into *port. */
static int parse_port(char *text, struct port *port)
{
	char *field[8] = { 0 }, *rest = text;
	size_t count = 0, wanted;

	while (count < 8 && (field[count] = strsep(&rest, ",")))
		count++;
	if (rest || count < 2 || strlen(field[0]) >= IF_NAMESIZE)
		return complain("wrong PORT argument beginning with '%s'", text);
	strcpy(port->ifname, field[0]);
	if (parse_ifname(field[0], &port->ifindex) || parse_role(field[1], &port->config.role))
		return -1;
	wanted = port->config.role == ROLE_PASS ? 2 : port->config.role == ROLE_FORWARD ? 8 : 5;
	if (count != wanted)
		return complain("port %s: role %s takes %zu fields, not %zu", field[0], field[1], wanted, count);
	port->queues = count_queues(port->ifname);
	if (wanted >= 5 && parse_destination(field[2], field[3], field[4], &port->config))
		return -1;
	if (wanted == 8)
		return parse_ifname(field[5], &port->egress) || parse_mac(field[6], port->config.new_src_mac) ||
		       parse_mac(field[7], port->config.new_dst_mac) ? -1 : 0;
	return 0;
}

/* Puts the port's settings in place as constants and loads the program. */
static int load_port(struct port *port, const struct cpumap *cpumap)
{
	struct bpf_map *constants;
	size_t size = 0;
	int error;

	port->object = bpf_object__open_mem(bpf_object_start, (size_t)(bpf_object_end - bpf_object_start), NULL);
	if (!port->object)
		return complain("port %s: open BPF object: %s", port->ifname, strerror(errno));
	bpf_object__for_each_map(constants, port->object)
		if (bpf_map__is_internal(constants) && bpf_map__initial_value(constants, &size) &&
		    size == sizeof(port->config))
			break;
	if (!constants)
		return complain("port %s: the BPF object has no settings of %zu bytes", port->ifname, sizeof(port->config));
	if (cpumap_configure(cpumap, port))
		return -1;
	error = bpf_map__set_initial_value(constants, &port->config, sizeof(port->config));
	if (!error)
		error = bpf_object__load(port->object);
	if (error)
		return complain("port %s: load BPF program: %s", port->ifname, strerror(-error));
	return cpumap_fill(cpumap, port);
}

static int attach_port(struct port *port, __u32 mode)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = mode);
	struct bpf_program *program = bpf_object__find_program_by_name(port->object, "xdp_stack");
	int egress = bpf_object__find_map_fd_by_name(port->object, "egress");
	__u32 key = 0;

	if (port->egress && bpf_map_update_elem(egress, &key, &port->egress, BPF_ANY))
		return complain("port %s: egress port: %s", port->ifname, strerror(errno));
	port->link = bpf_link_create(bpf_program__fd(program), (int)port->ifindex, BPF_XDP, &options);
	if (port->link >= 0)
		return 0;
	if (errno == EBUSY || errno == EEXIST)
		return complain("port %s: another XDP program is attached; remove it: ip link set dev %s xdp off",
				port->ifname, port->ifname);
	return complain("port %s: attach in %s mode: %s", port->ifname,
			mode == XDP_FLAGS_DRV_MODE ? "native" : "generic", strerror(errno));
}

static void print_queue(const struct xdp_stack_counters *sum, unsigned int queue)
{
	printf("%s{\"queue\":%u,\"received\":%llu,\"dropped\":%llu,\"sent\":%llu,\"redirected\":%llu,\"refused\":%llu,"
	       "\"passed\":%llu,\"handed\":%llu}", queue ? "," : "", queue, sum->received, sum->dropped, sum->sent,
	       sum->redirected, sum->refused, sum->passed, sum->handed);
}

/* Sums one queue's counters over the CPUs; returns -1 when the map cannot be read. */
static int read_queue(const struct port *port, __u32 queue, int cpus, struct xdp_stack_counters *sum)
{
	struct xdp_stack_counters value[cpus];
	int map = bpf_object__find_map_fd_by_name(port->object, "counters");

	if (bpf_map_lookup_elem(map, &queue, value))
		return complain("port %s: read counters: %s", port->ifname, strerror(errno));
	memset(sum, 0, sizeof(*sum));
	for (int cpu = 0; cpu < cpus; cpu++) {
		sum->received += value[cpu].received;
		sum->dropped += value[cpu].dropped;
		sum->sent += value[cpu].sent;
		sum->redirected += value[cpu].redirected;
		sum->refused += value[cpu].refused;
		sum->passed += value[cpu].passed;
		sum->handed += value[cpu].handed;
	}
	return 0;
}

static int print_port(const struct port *port, int cpus)
{
	struct xdp_stack_counters sum;
	unsigned int last = port->queues;

	for (__u32 queue = last; queue < XDP_STACK_QUEUES; queue++) {
		if (read_queue(port, queue, cpus, &sum))
			return -1;
		if (sum.received || sum.passed)
			last = queue + 1;
	}
	printf("{\"ifname\":\"%s\",\"queues\":[", port->ifname);
	for (__u32 queue = 0; queue < last && queue < XDP_STACK_QUEUES; queue++) {
		if (read_queue(port, queue, cpus, &sum))
			return -1;
		print_queue(&sum, queue);
	}
	fputs("],", stdout);
	if (cpumap_print(port, cpus))
		return -1;
	putchar('}');
	return 0;
}

static int print_stats(unsigned long id)
{
	int cpus = libbpf_num_possible_cpus();

	if (cpus < 1)
		return complain("number of CPUs: %s", strerror(-cpus));
	printf("{\"id\":%lu,\"ports\":[", id);
	for (unsigned int i = 0; i < port_count; i++) {
		if (i)
			putchar(',');
		if (print_port(&ports[i], cpus))
			return -1;
	}
	puts("]}");
	return fflush(stdout) ? complain("standard output: %s", strerror(errno)) : 0;
}

/* Answers one control line. */
static int answer(const char *line)
{
	unsigned long id = 0;

	if (!strcmp(line, "stats") || sscanf(line, "stats %lu", &id) == 1)
		return print_stats(id);
	complain("unknown control line; known: stats [ID]");
	return 0;
}

/* Reads what is there of standard input and answers whole lines. Returns 1 at its end, -1 on an error. */
static int serve_input(void)
{
	static char line[LINE_BYTES];
	static size_t used;
	ssize_t got = read(STDIN_FILENO, line + used, sizeof(line) - 1 - used);
	char *end;

	if (got <= 0)
		return got == 0 ? 1 : complain("standard input: %s", strerror(errno));
	used += (size_t)got;
	while ((end = memchr(line, '\n', used))) {
		*end = '\0';
		if (answer(line))
			return -1;
		used -= (size_t)(end + 1 - line);
		memmove(line, end + 1, used);
	}
	return used == sizeof(line) - 1 ? complain("control line too long") : 0;
}

/* Serves control lines until a signal or the end of standard input. */
static int serve(int signals)
{
	struct pollfd wait[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	int result;

	puts("ready");
	if (fflush(stdout))
		return complain("standard output: %s", strerror(errno));
	for (;;) {
		if (poll(wait, 2, -1) < 0)
			return complain("poll: %s", strerror(errno));
		if (wait[1].revents)
			return 0;
		if (wait[0].revents) {
			result = serve_input();
			if (result)
				return result > 0 ? 0 : -1;
		}
	}
}

static int block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return complain("sigprocmask: %s", strerror(errno));
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int run(int argc, char **argv)
{
	struct cpumap cpumap = { 0 };
	__u32 mode;
	int signals, first = 2;

	if (argc > 2 && !strncmp(argv[2], "cpumap,", strlen("cpumap,"))) {
		if (cpumap_parse(argv[2] + strlen("cpumap,"), &cpumap))
			return -1;
		first = 3;
	}
	if (argc <= first || argc - first > MAX_PORTS)
		return complain("usage: xdp_loader native|generic [cpumap,RING,CPU...] PORT... (at most %d ports)", MAX_PORTS);
	if (!strcmp(argv[1], "native"))
		mode = XDP_FLAGS_DRV_MODE;
	else if (!strcmp(argv[1], "generic"))
		mode = XDP_FLAGS_SKB_MODE;
	else
		return complain("unknown mode '%s'", argv[1]);
	signals = block_signals();
	if (signals < 0)
		return -1;
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	for (int i = first; i < argc; i++, port_count++) {
		ports[port_count].link = -1;
		if (parse_port(argv[i], &ports[port_count]) || load_port(&ports[port_count], &cpumap))
			return -1;
	}
	for (unsigned int i = 0; i < port_count; i++)
		if (attach_port(&ports[i], mode))
			return -1;
	return serve(signals);
}

int main(int argc, char **argv)
{
	int result = run(argc, argv);

	for (unsigned int i = 0; i < port_count; i++) {
		if (ports[i].link >= 0)
			close(ports[i].link);
		bpf_object__close(ports[i].object);
	}
	return result ? 1 : 0;
}
