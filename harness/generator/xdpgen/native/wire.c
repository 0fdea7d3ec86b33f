/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's own counts of frames sent, of frames refused by ndo_xdp_xmit, and of frames lost while receiving. */
#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dp.h"

static int ethtool(int fd, const char *ifname, void *command)
{
	struct ifreq request = {0};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", ifname);
	request.ifr_data = command;
	return ioctl(fd, SIOCETHTOOL, &request) ? -errno : 0;
}

static int count_of(int fd, const char *ifname)
{
	struct {
		struct ethtool_sset_info info;
		__u32 length;
	} set = {.info = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ull << ETH_SS_STATS}};
	int err = ethtool(fd, ifname, &set);

	if (err)
		return err;
	return set.info.sset_mask ? (int)set.info.data[0] : 0;
}

/* veth names them tx_queue_N_xdp_xmit, tx_queue_N_xdp_xmit_errors and rx_queue_N_drops, which leaves out what a
 * program dropped (other drivers' counters of that name do not, so they are not asked). Returns how many were found.
 */
static int add_up(const struct ethtool_gstrings *names, const struct ethtool_stats *values, int count,
		  struct wire *wire)
{
	int found = 0;

	for (int i = 0; i < count; i++) {
		char name[ETH_GSTRING_LEN + 1] = "", tail[ETH_GSTRING_LEN + 1] = "";
		unsigned int queue;

		memcpy(name, names->data + i * ETH_GSTRING_LEN, ETH_GSTRING_LEN);
		if (sscanf(name, "rx_queue_%u_%32s", &queue, tail) == 2 && !strcmp(tail, "drops"))
			wire->dropped += values->data[i];
		if (sscanf(name, "tx_queue_%u_%32s", &queue, tail) != 2)
			continue;
		if (!strcmp(tail, "xdp_xmit"))
			wire->sent += values->data[i];
		else if (!strcmp(tail, "xdp_xmit_errors"))
			wire->refused += values->data[i];
		else
			continue;
		found++;
	}
	return found;
}

static int read_counters(int fd, const char *ifname, struct wire *wire)
{
	struct ethtool_gstrings *names;
	struct ethtool_stats *values;
	int count = count_of(fd, ifname), err;

	if (count <= 0)
		return count ? count : -EOPNOTSUPP;
	names = calloc(1, sizeof(*names) + (size_t)count * ETH_GSTRING_LEN);
	values = calloc(1, sizeof(*values) + (size_t)count * sizeof(__u64));
	err = names && values ? 0 : -ENOMEM;
	if (!err) {
		names->cmd = ETHTOOL_GSTRINGS;
		names->string_set = ETH_SS_STATS;
		names->len = count;
		values->cmd = ETHTOOL_GSTATS;
		values->n_stats = count;
		err = ethtool(fd, ifname, names);
	}
	if (!err)
		err = ethtool(fd, ifname, values);
	if (!err && add_up(names, values, count, wire) == 0)
		err = -EOPNOTSUPP;
	free(names);
	free(values);
	return err;
}

/* Sum over queues, since the device exists. -EOPNOTSUPP: this driver has no such counters. */
int wire_counters(const char *ifname, struct wire *wire)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	*wire = (struct wire){0};
	err = read_counters(fd, ifname, wire);
	close(fd);
	return err;
}

/* Frames that a NIC had no room for, since the device exists (32 bits wide); 0 where the driver does not count them. */
int wire_missed(const char *ifname, __u32 *missed)
{
	struct ifaddrs *all, *one;

	*missed = 0;
	if (getifaddrs(&all))
		return -errno;
	for (one = all; one; one = one->ifa_next)
		if (one->ifa_addr && one->ifa_addr->sa_family == AF_PACKET && one->ifa_data &&
		    !strcmp(one->ifa_name, ifname))
			*missed = ((const struct rtnl_link_stats *)one->ifa_data)->rx_missed_errors;
	freeifaddrs(all);
	return 0;
}
