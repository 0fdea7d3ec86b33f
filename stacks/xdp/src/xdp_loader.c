/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loader of the xdp stack. Attaches the program to every port named on its command line, prints "ready" and stays in
 * the foreground (control.h). The attachments are BPF links: they end with this process, however it ends.
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
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "arguments.h"
#include "control.h"
#include "embedded.h"
#include "loader.h"

#define MAX_PORTS 8

const char usage[] = "usage: xdp_loader native|generic [cpumap,RING,CPU...] PORT... (at most 8 ports)\n";

static struct port ports[MAX_PORTS];
static unsigned int port_count;

static void parse_mac(const char *text, __u8 mac[6])
{
	int used = 0;

	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
		   &used) != 6 || text[used])
		refuse("'%s' is not a MAC address", text);
}

static unsigned int parse_ifname(const char *text)
{
	unsigned int ifindex = if_nametoindex(text);

	if (!ifindex)
		refuse("no interface '%s' here", text);
	return ifindex;
}

static void parse_destination(const char *ip, const char *udp_port, const char *vlan, struct xdp_stack_config *config)
{
	config->version = strchr(ip, ':') ? 6 : 4;
	if (inet_pton(config->version == 6 ? AF_INET6 : AF_INET, ip, config->dst_ip) != 1)
		refuse("'%s' is not an IP address", ip);
	config->dst_port = htons((__u16)number("UDP port", udp_port, 1, 65535));
	config->vlan = strcmp(vlan, "-") ? (__u16)number("VLAN id", vlan, 1, 4094) : NO_VLAN;
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
static void parse_port(char *text, struct port *port)
{
	static const char *const roles[] = { "pass", "drop", "reflect", "echo", "forward" };
	char *field[8] = { 0 }, *rest = text;
	size_t count = 0, wanted;

	while (count < 8 && (field[count] = strsep(&rest, ",")))
		count++;
	if (rest || count < 2 || strlen(field[0]) >= IF_NAMESIZE)
		refuse("wrong PORT argument beginning with '%s'", text);
	strcpy(port->ifname, field[0]);
	port->ifindex = parse_ifname(field[0]);
	port->config.role = choice("role", field[1], roles, 5);
	wanted = port->config.role == ROLE_PASS ? 2 : port->config.role == ROLE_FORWARD ? 8 : 5;
	if (count != wanted)
		refuse("port %s: role %s takes %zu fields, not %zu", field[0], field[1], wanted, count);
	port->queues = count_queues(port->ifname);
	if (wanted >= 5)
		parse_destination(field[2], field[3], field[4], &port->config);
	if (wanted == 8) {
		port->egress = parse_ifname(field[5]);
		parse_mac(field[6], port->config.new_src_mac);
		parse_mac(field[7], port->config.new_dst_mac);
	}
}

/* Loads the program with the port's settings as its constants. */
static void load_port(struct port *port, const struct cpumap *cpumap)
{
	char whose[IF_NAMESIZE + 5];

	snprintf(whose, sizeof(whose), "port %s", port->ifname);
	port->object = embedded_open(whose);
	cpumap_configure(cpumap, port);
	embedded_load(port->object, whose, &port->config, sizeof(port->config));
	cpumap_fill(cpumap, port);
}

static void attach_port(struct port *port, __u32 mode)
{
	LIBBPF_OPTS(bpf_link_create_opts, options, .flags = mode);
	struct bpf_program *program = bpf_object__find_program_by_name(port->object, "xdp_stack");
	int egress = bpf_object__find_map_fd_by_name(port->object, "egress");
	__u32 key = 0;

	if (port->egress && bpf_map_update_elem(egress, &key, &port->egress, BPF_ANY))
		die("port %s: egress port", port->ifname);
	if (bpf_link_create(bpf_program__fd(program), (int)port->ifindex, BPF_XDP, &options) >= 0)
		return;
	if (errno == EBUSY || errno == EEXIST)
		die("port %s: another XDP program is attached (remove it: ip link set dev %s xdp off)", port->ifname,
		    port->ifname);
	die("port %s: attach in %s mode", port->ifname, mode == XDP_FLAGS_DRV_MODE ? "native" : "generic");
}

static void print_queue(const struct xdp_stack_counters *sum, unsigned int queue)
{
	printf("%s{\"queue\":%u,\"received\":%llu,\"dropped\":%llu,\"sent\":%llu,\"redirected\":%llu,\"refused\":%llu,"
	       "\"passed\":%llu,\"handed\":%llu}", queue ? "," : "", queue, sum->received, sum->dropped, sum->sent,
	       sum->redirected, sum->refused, sum->passed, sum->handed);
}

/* One queue's counters, summed over the CPUs. */
static struct xdp_stack_counters read_queue(const struct port *port, __u32 queue, int cpus)
{
	struct xdp_stack_counters value[cpus], sum = { 0 };
	int map = bpf_object__find_map_fd_by_name(port->object, "counters");

	if (bpf_map_lookup_elem(map, &queue, value))
		die("port %s: read counters", port->ifname);
	for (int cpu = 0; cpu < cpus; cpu++) {
		sum.received += value[cpu].received;
		sum.dropped += value[cpu].dropped;
		sum.sent += value[cpu].sent;
		sum.redirected += value[cpu].redirected;
		sum.refused += value[cpu].refused;
		sum.passed += value[cpu].passed;
		sum.handed += value[cpu].handed;
	}
	return sum;
}

static void print_port(const struct port *port, int cpus)
{
	struct xdp_stack_counters sum;
	unsigned int last = port->queues;

	for (__u32 queue = last; queue < XDP_STACK_QUEUES; queue++) {
		sum = read_queue(port, queue, cpus);
		if (sum.received || sum.passed)
			last = queue + 1;
	}
	printf("{\"ifname\":\"%s\",\"queues\":[", port->ifname);
	for (__u32 queue = 0; queue < last && queue < XDP_STACK_QUEUES; queue++) {
		sum = read_queue(port, queue, cpus);
		print_queue(&sum, queue);
	}
	fputs("],", stdout);
	cpumap_print(port, cpus);
	putchar('}');
}

static void print_stats(void *unused)
{
	int cpus = libbpf_num_possible_cpus();

	(void)unused;
	if (cpus < 1)
		die("number of CPUs");
	printf("{\"ports\":[");
	for (unsigned int i = 0; i < port_count; i++) {
		if (i)
			putchar(',');
		print_port(&ports[i], cpus);
	}
	printf("]}");
}

int main(int argc, char **argv)
{
	static const char *const modes[] = { "native", "generic" };
	struct cpumap cpumap = { 0 };
	int signals, first = 2;
	__u32 mode;

	if (argc > 2 && !strncmp(argv[2], "cpumap,", strlen("cpumap,"))) {
		cpumap_parse(argv[2] + strlen("cpumap,"), &cpumap);
		first = 3;
	}
	if (argc <= first || argc - first > MAX_PORTS)
		refuse("1 to %d ports are needed", MAX_PORTS);
	mode = choice("mode", argv[1], modes, 2) ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE;
	signals = control_signals();
	for (int i = first; i < argc; i++, port_count++) {
		parse_port(argv[i], &ports[port_count]);
		load_port(&ports[port_count], &cpumap);
	}
	for (unsigned int i = 0; i < port_count; i++)
		attach_port(&ports[i], mode);
	control_ready("%s", "");
	control_loop(signals, print_stats, NULL);
	return 0;
}
