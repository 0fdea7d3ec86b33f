# SPDX-License-Identifier: Apache-2.0
"""A Linux bridge over the two ports, with a static table: nothing is learned, flooded or snooped."""

from __future__ import annotations

import json

from harness.errors import HostError
from harness.host.contract import Dut
from harness.plan import PointPlan
from harness.stack import Missing
from harness.stacks.ports import bring_up, need_links
from harness.stacks.probes import missing_programs, refusal

NAME = "nsh-br0"
#: Whether bridged IPv4 packets also pass iptables; it holds for every bridge of the network namespace.
NETFILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables"


def missing_bridge(dut: Dut, point: PointPlan) -> list[Missing]:
    """What keeps the ports from being bridged; changes nothing."""
    missing = missing_programs(dut, ("bridge", "iproute2"), ("unshare", "util-linux"))
    if missing:
        return missing
    refused = refusal(dut, ["ip", "link", "add", NAME, "type", "bridge"])
    if refused:
        missing.append(Missing(f"bridges in the kernel ({refused})", "modprobe bridge, or a kernel with CONFIG_BRIDGE"))
    if dut.exists(f"/sys/class/net/{NAME}"):
        missing.append(Missing(f"the name {NAME} for a bridge (there is an interface of that name)",
                               f"ip link del dev {NAME}"))
    for wire in point.wires:
        port = wire.dut.ifname
        if dut.exists(f"/sys/class/net/{port}/master"):
            missing.append(Missing(f"port {port} for a bridge of its own (it has a master)",
                                   f"ip link set dev {port} nomaster"))
    return missing


def bridge_ports(dut: Dut, point: PointPlan, netfilter: bool | None) -> str:
    """Bridge the ports of the point; journalled. Returns what slows the bridge down unasked, "" when nothing does."""
    slowed = _pass_netfilter(dut, netfilter)
    dut.apply(["ip", "link", "add", "name", NAME, "type", "bridge", "stp_state", "0", "mcast_snooping", "0"],
              ["ip", "link", "del", "dev", NAME], made=["ip", "link", "show", "dev", NAME])
    # No link-local address: neighbour discovery would leave on the test's ports.
    dut.run(["ip", "link", "set", "dev", NAME, "addrgenmode", "none"])
    for wire in point.wires:
        port = wire.dut.ifname
        bring_up(dut, port)
        dut.apply(["ip", "link", "set", "dev", port, "master", NAME], ["ip", "link", "set", "dev", port, "nomaster"])
        dut.run(["bridge", "link", "set", "dev", port, "learning", "off", "flood", "off", "mcast_flood", "off"])
        dut.run(["bridge", "fdb", "replace", wire.tg.mac, "dev", port, "master", "static"])
    dut.run(["ip", "link", "set", "dev", NAME, "up"])
    # A port without its link is disabled in the bridge.
    need_links(dut, [wire.dut.ifname for wire in point.wires])
    return slowed


def _pass_netfilter(dut: Dut, wanted: bool | None) -> str:
    now = dut.read(NETFILTER, "").strip()  # there is no such file where br_netfilter is not loaded
    if wanted is None:
        return f"bridged packets also pass iptables ({NETFILTER} is 1)" if now == "1" else ""
    if now and now != str(int(wanted)):
        dut.set_file(NETFILTER, str(int(wanted)))
    return ""


def is_forwarding(dut: Dut, port: str) -> bool:
    """Whether a port belongs to the bridge and forwards. Raises HostError when the port is gone."""
    done = dut.run(["bridge", "-j", "link", "show", "dev", port])
    try:
        rows = json.loads(done.stdout or "[]")
    except (ValueError, RecursionError) as error:
        raise HostError(f"{dut.name}: 'bridge -j link show' did not answer in JSON: {error}") from error
    return any(row.get("master") == NAME and row.get("state") == "forwarding" for row in rows if isinstance(row, dict))
