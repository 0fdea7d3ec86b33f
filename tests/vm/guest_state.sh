# The state of a host, as text, a section each: what a TRex that was started there and ended must leave as it was.
# Arguments: PCI addresses of its ports.
export LC_ALL=C
section() { printf '=== %s\n' "$1"; }
section drivers
for pci in "$@"; do
    printf '%s %s %s\n' "$pci" "$(basename "$(readlink "/sys/bus/pci/devices/$pci/driver" || echo none)")" \
        "$(cat "/sys/bus/pci/devices/$pci/driver_override")"
done
section modules
lsmod | awk 'NR > 1 {print $1}' | sort
section hugepages
grep -H '' /sys/devices/system/node/node*/hugepages/*/nr_hugepages /proc/sys/vm/nr_overcommit_hugepages
section mounts
cut -d' ' -f4- /proc/self/mountinfo | sort
section files
find /mnt /dev/hugepages /var/run/dpdk /tmp /run /var/lib/netstack-harness* /etc -xdev \( -name "systemd*" -o -name "netstack-harness-agent*" -o -path \
    '/run/udev/*' -o -path '/run/user/*' -o -path '/run/log/*' \) -prune -o -printf '%p %y %m\n' 2>/dev/null | sort
section links
ip -j -d addr | python3 -c '
import json, sys
for link in sorted(json.load(sys.stdin), key=lambda one: one["ifname"]):
    # A link that was up once keeps the qdisc that it was given then; a new one that is down has none yet.
    for key in ("ifindex", "link_index", *(["qdisc"] if "UP" not in link["flags"] else [])):
        link.pop(key, None)
    for entry in link["addr_info"]:
        entry.pop("valid_life_time", None)
        entry.pop("preferred_life_time", None)
    print(json.dumps(link, sort_keys=True))'
section routes
ip route show table all | sort
section neighbours
ip neigh show nud permanent | sort
section ports
for pci in "$@"; do
    for folder in "/sys/bus/pci/devices/$pci"/net/* "/sys/bus/pci/devices/$pci"/virtio*/net/*; do
        [ -e "$folder" ] || continue
        port=$(basename "$folder")
        for what in -k -a -c -g; do ethtool "$what" "$port" 2>&1; done
        (cd "$folder" && grep -H '' flags mtu tx_queue_len gro_flush_timeout napi_defer_hard_irqs queues/*/[rx]ps_*cpus)
        grep -rs '' "/proc/sys/net/ipv4/conf/$port" "/proc/sys/net/ipv6/conf/$port" | sort
    done
done
section sysctls
grep -rs '' /proc/sys/net/core /proc/sys/vm | grep -v 'flow_limit\|stat_refresh' | sort
section interrupts
for file in /proc/irq/[0-9]*/smp_affinity_list; do printf '%s\n' "$(cat "$file")"; done | sort | uniq -c
section processes
ps -eo comm= | grep -v '^kworker\|^sshd\|^sftp\|^bash$\|^ps$\|^grep$\|^sort$\|^uniq$\|^(sd-pam)\|^systemd\|^dbus\|^(udev-worker)' | sort | uniq -c
