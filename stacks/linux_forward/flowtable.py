# SPDX-License-Identifier: Apache-2.0
"""netfilter's flowtable: packets of a flow that is known skip the IP layer, from ingress of one port to the other."""

from __future__ import annotations

from collections.abc import Sequence

from harness.host.contract import Dut
from harness.plan import PointPlan
from harness.stack import Missing
from harness.stacks.probes import missing_conntrack_room, missing_programs, refusal

TABLE = "nsh_forward"


def ruleset(ports: Sequence[str], udp_port: int) -> str:
    """The table: every flow of the test is offloaded with its second packet, once connection tracking knows it."""
    return (f"add table ip {TABLE}; "
            f"add flowtable ip {TABLE} fast {{ hook ingress priority 0; devices = {{ {', '.join(ports)} }}; }}; "
            f"add chain ip {TABLE} forward {{ type filter hook forward priority 0; policy accept; }}; "
            f"add rule ip {TABLE} forward udp dport {udp_port} flow add @fast")


def missing_flowtable(dut: Dut, point: PointPlan) -> list[Missing]:
    """What keeps flows from being offloaded; changes nothing."""
    missing = missing_programs(dut, ("nft", "nftables"), ("unshare", "util-linux"))
    if missing:
        return missing
    refused = refusal(dut, ["nft", ruleset(["lo"], point.udp_port)])
    if refused:
        missing.append(Missing(f"netfilter flowtables in the kernel ({refused})",
                               "boot a kernel with CONFIG_NF_FLOW_TABLE, CONFIG_NF_FLOW_TABLE_INET and "
                               "CONFIG_NFT_FLOW_OFFLOAD; Debian's and Ubuntu's have them"))
    return missing + missing_conntrack_room(dut, point)


def offload(dut: Dut, point: PointPlan) -> None:
    """Put the table in place; journalled."""
    ports = [wire.dut.ifname for wire in point.wires]
    dut.apply(["nft", ruleset(ports, point.udp_port)], ["nft", f"add table ip {TABLE}; delete table ip {TABLE}"])
