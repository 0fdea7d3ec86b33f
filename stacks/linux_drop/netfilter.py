# SPDX-License-Identifier: Apache-2.0
"""The places of netfilter: iptables' INPUT and raw PREROUTING, nftables' ingress; and connection tracking.

Over IPv6 the same hooks have tables of their own, ip6tables' and nftables' family ip6.

iptables is the nftables-based one (``iptables-nft``): the legacy one also works where the kernel has it, but a table
that it has once used stays in the network namespace, hooks and all, and costs every packet from then on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.errors import StackError
from harness.host.contract import Dut
from harness.plan import PointPlan
from harness.stack import Missing, RunningStack, StackContext
from harness.stacks.probes import missing_conntrack_room, missing_programs, refusal

from .place import Place, RunningRule
from .target import FIRST_RULE, Target

CHAIN = "NSH-DROP"
TABLE = "nsh_drop"
_NFT, _UNSHARE = ("nft", "nftables"), ("unshare", "util-linux")
_IPTABLES = {4: "iptables-nft", 6: "ip6tables-nft"}


def _deleting(family: str, table: str) -> list[str]:
    """Deletes a table, whether it is there or not."""
    return ["nft", f"add table {family} {table}; delete table {family} {table}"]


class IptablesPlace(Place):
    """A rule in a chain of its own, to which the first rule of the hook's chain jumps for packets of the port."""

    table: str
    hook: str

    def missing(self, dut: Dut, target: Target) -> list[Missing]:
        program = _IPTABLES[target.version]
        missing = missing_programs(dut, (program, "iptables"), _NFT, _UNSHARE)
        if missing:
            return missing
        rule = ["-p", "udp", "-d", target.ip, "--dport", str(target.udp_port), "-j", "DROP"]
        refused = refusal(dut, [program, "-w", "-t", self.table, "-A", self.hook, "-i", "lo", *rule])
        if refused:
            missing.append(Missing(f"{program} in the kernel ({refused})",
                                   f"boot a kernel with CONFIG_NF_TABLES_IPV{target.version} and CONFIG_NFT_COMPAT"))
        if self._there(dut, "list", "chain", target.family, self.table, CHAIN):
            missing.append(Missing(f"the name {CHAIN} for a chain of iptables' table {self.table} (there is one)",
                                   f"{program} -t {self.table} -F {CHAIN}, its jumps away, then -X {CHAIN}"))
        return missing

    @contextmanager
    def deploy(self, context: StackContext, target: Target) -> Iterator[RunningStack]:
        dut = context.dut
        program = _IPTABLES[target.version]
        iptables = [program, "-w", "-t", self.table]
        self._journal(dut, iptables, target.family)
        dut.run([f"{program}-restore", "-w", "--noflush"], stdin=self._rules(target))
        jump = [self.hook, "-i", target.ifname, "-j", CHAIN]
        dut.apply([*iptables, "-I", *jump], [*iptables, "-D", *jump], made=[*iptables, "-C", *jump])
        last = [*iptables, "-v", "-x", "-n", "-L", CHAIN, str(target.rules + 1)]
        yield RunningRule(dut, f"the rule in {self.hook} of iptables' table {self.table}",
                          lambda: int(dut.run(last).stdout.split()[0]))

    def _journal(self, dut: Dut, iptables: Sequence[str], family: str) -> None:
        """The undoing of what the restore is going to make, and of what iptables makes around it. A table or chain of
        iptables that was there stays: it belongs to the host's own rules."""
        if not self._there(dut, "list", "table", family, self.table):
            dut.apply(["true"], _deleting(family, self.table))
        elif not self._there(dut, "list", "chain", family, self.table, self.hook):
            chain = ["chain", family, self.table, self.hook]
            dut.apply(["true"], ["nft", "delete", *chain], made=["nft", "list", *chain])
        there = ["nft", "list", "chain", family, self.table, CHAIN]
        dut.apply(["true"], [*iptables, "-X", CHAIN], made=there)
        dut.apply(["true"], [*iptables, "-F", CHAIN], made=there)

    @staticmethod
    def _there(dut: Dut, *words: str) -> bool:
        return dut.run(["nft", *words], check=False).returncode == 0

    def _rules(self, target: Target) -> str:
        lines = [f"*{self.table}", f":{CHAIN} - [0:0]"]
        lines += [f"-A {CHAIN} -s {sender} -j DROP" for sender in target.senders()]
        lines += [f"-A {CHAIN} -d {target.ip} -p udp -m udp --dport {target.udp_port} -j DROP", "COMMIT", ""]
        return "\n".join(lines)


class IptablesInput(IptablesPlace):
    """filter INPUT: after routing, before the socket."""

    semantics = "dropped by iptables (nft backend) in filter INPUT"
    after_conntrack = True
    table, hook = "filter", "INPUT"


class IptablesRaw(IptablesPlace):
    """raw PREROUTING: the first that the IP layer does."""

    semantics = "dropped by iptables (nft backend) in raw PREROUTING"
    table, hook = "raw", "PREROUTING"


class NftIngress(Place):
    """A netdev table: before the IP layer, after taps and tc."""

    semantics = "dropped by nftables in a netdev ingress chain"

    def missing(self, dut: Dut, target: Target) -> list[Missing]:
        missing = missing_programs(dut, _NFT, _UNSHARE)
        if missing:
            return missing
        refused = refusal(dut, ["nft", "-f", "-"],
                          stdin=_ingress(Target("lo", target.ip, target.udp_port, min(target.rules, 1))))
        if refused:
            missing.append(Missing(f"nftables at netdev ingress in the kernel ({refused})",
                                   "boot a kernel with CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_INGRESS"))
        return missing

    @contextmanager
    def deploy(self, context: StackContext, target: Target) -> Iterator[RunningStack]:
        dut = context.dut
        dut.apply(["true"], _deleting("netdev", TABLE))
        dut.run(["nft", "-f", "-"], stdin=_ingress(target))
        yield RunningRule(dut, f"the rule of nftables at ingress of {target.ifname}", lambda: _counted(dut))


def _ingress(target: Target) -> str:
    rules = [f"{target.family} saddr {sender} drop" for sender in target.senders()]
    rules.append(f"{target.family} daddr {target.ip} udp dport {target.udp_port} counter name discarded drop")
    chain = [f'type filter hook ingress device "{target.ifname}" priority 0; policy accept;', *rules]
    body = "\n".join(["counter discarded { }", "chain ingress {", *chain, "}"])
    return f"table netdev {TABLE} {{\n{body}\n}}\n"


def _counted(dut: Dut) -> int:
    shown = dut.run(["nft", "-j", "list", "counter", "netdev", TABLE, "discarded"]).stdout
    try:
        return next(int(entry["counter"]["packets"]) for entry in json.loads(shown)["nftables"] if "counter" in entry)
    except (ValueError, LookupError, TypeError, StopIteration, RecursionError) as error:
        raise StackError(f"linux-drop: nft's counter cannot be read: {error!r}", shown[-500:]) from error


# ------------------------------------------------------------------------------------------------ connection tracking

#: For either setting, a table whose only rule brings it about.
_CONNTRACK = "nsh_conntrack"


def missing_conntrack(dut: Dut, point: PointPlan, target: Target, on: bool) -> list[Missing]:
    """What the host lacks for connection tracking of the test's packets to be on, or off."""
    missing = missing_programs(dut, _NFT, _UNSHARE)
    if missing:
        return missing
    refused = refusal(dut, ["nft", _conntrack_rules(target, on)])
    if refused:
        missing.append(Missing(f"connection tracking in the kernel ({refused})",
                               "boot a kernel with CONFIG_NF_CONNTRACK and CONFIG_NFT_CT"))
    return missing + (missing_conntrack_room(dut, point) if on else [])


def set_conntrack(dut: Dut, target: Target, on: bool) -> None:
    """Track the test's packets, or take them out of tracking; journalled. Entries of flows end by themselves."""
    dut.apply(["nft", _conntrack_rules(target, on)], _deleting(target.family, _CONNTRACK))


def _conntrack_rules(target: Target, on: bool) -> str:
    """On: the kernel tracks as long as any rule asks for a connection's state; this one never sees a test packet, so
    that tracking is all that they pay for. Off: as iptables' NOTRACK."""
    nobody, table = FIRST_RULE[target.version], f"{target.family} {_CONNTRACK}"
    hook, priority, rule = (
        ("output", 0, f"{target.family} daddr {nobody} ct state new") if on else
        ("prerouting", -300, f"{target.family} daddr {target.ip} udp dport {target.udp_port} notrack"))
    return (f"add table {table}; add chain {table} rules "
            f"{{ type filter hook {hook} priority {priority}; policy accept; }}; add rule {table} rules {rule}")
