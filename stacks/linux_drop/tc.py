# SPDX-License-Identifier: Apache-2.0
"""The places of tc: on clsact's ingress, by a BPF program (direct action) or by matchall and ``action drop``."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import HostError
from harness.host.contract import Dut
from harness.stack import Missing, RunningStack, StackContext
from harness.stacks.probes import missing_programs, refusal
from harness.stacks.servers import build, missing_bpf_compiler, missing_compiler, serving

from .place import Place, RunningRule
from .programs import RunningProgram, shot
from .target import Target

#: Filters in the order in which the kernel asks them: rules that match nothing, a gate, the match.
_RULES, _GATE, _MATCH = 1, 2, 3
_OK, _SHOT, _UNSPEC = 0, 2, 0xFFFFFFFF
#: By IP version: where the sender's address lies in a frame, and the protocol as tc names it.
_SOURCE, _PROTOCOL = {4: 26, 6: 22}, {4: "ip", 6: "ipv6"}
# Classic BPF: code of an instruction (linux/filter.h).
_LD_W, _LD_H, _LD_B, _LDX_HEADER, _LD_H_IND, _JEQ, _RET = 0x20, 0x28, 0x30, 0xB1, 0x48, 0x15, 0x06


def _bytecode(*instructions: tuple[int, int, int, int]) -> str:
    """As tc takes it: the number of instructions, then each as ``code jt jf k``."""
    return ",".join([str(len(instructions)), *(" ".join(map(str, one)) for one in instructions)])


def _is_address(offset: int, address: str, after: int) -> list[tuple[int, int, int, int]]:
    """Compares the address in the frame at ``offset``: an equal one goes on behind these instructions, any other
    ``after`` instructions later. The word that tells the rules' addresses apart comes first."""
    packed = ipaddress.ip_address(address).packed
    words = [(offset + at, int.from_bytes(packed[at:at + 4])) for at in reversed(range(0, len(packed), 4))]
    return [one for n, (at, word) in enumerate(words)
            for one in ((_LD_W, 0, 0, at), (_JEQ, 0, after + 2 * (len(words) - n - 1), word))]


def rule_bytecode(sender: str) -> str:
    """Drops what comes from this address, has no opinion of anything else."""
    source = _SOURCE[ipaddress.ip_address(sender).version]
    return _bytecode(*_is_address(source, sender, 1), (_RET, 0, 0, _SHOT), (_RET, 0, 0, _UNSPEC))


def gate_bytecode(target: Target) -> str:
    """Lets through to the next filter what is of the test, and takes everything else out of tc, to the IP layer."""
    if target.version == 6:
        address = _is_address(38, target.ip, 2)
        return _bytecode(
            (_LD_H, 0, 0, 12), (_JEQ, 0, len(address) + 4, 0x86DD), (_LD_B, 0, 0, 20), (_JEQ, 0, len(address) + 2, 17),
            *address, (_LD_H, 0, 0, 56), (_JEQ, 1, 0, target.udp_port), (_RET, 0, 0, _OK), (_RET, 0, 0, _UNSPEC))
    return _bytecode(
        (_LD_H, 0, 0, 12), (_JEQ, 0, 7, 0x0800), (_LD_B, 0, 0, 23), (_JEQ, 0, 5, 17), *_is_address(30, target.ip, 3),
        (_LDX_HEADER, 0, 0, 14), (_LD_H_IND, 0, 0, 16), (_JEQ, 1, 0, target.udp_port),
        (_RET, 0, 0, _OK), (_RET, 0, 0, _UNSPEC))


def _filter(ifname: str, pref: int, *words: str) -> str:
    return " ".join(["filter add dev", ifname, "ingress pref", str(pref), *words]) + "\n"


def _rules(target: Target) -> str:
    protocol = f"protocol {_PROTOCOL[target.version]} bpf da bytecode"
    return "".join(_filter(target.ifname, _RULES, protocol, f'"{rule_bytecode(sender)}"')
                   for sender in target.senders())


def _matchall(target: Target) -> str:
    return (_filter(target.ifname, _GATE, "protocol all bpf da bytecode", f'"{gate_bytecode(target)}"') +
            _filter(target.ifname, _MATCH, "protocol all matchall action drop"))


class TcPlace(Place):
    """On a clsact qdisc that is added for it."""

    def missing(self, dut: Dut, target: Target) -> list[Missing]:
        missing = missing_programs(dut, ("tc", "iproute2"), ("unshare", "util-linux"))
        if missing:
            return missing
        taken = [row.get("kind") for row in _rows(dut, "qdisc", "show", "dev", target.ifname)
                 if row.get("kind") in ("clsact", "ingress")]
        if taken:
            missing.append(Missing(f"port {target.ifname} without a qdisc for ingress (it has {taken[0]})",
                                   f"tc qdisc del dev {target.ifname} {taken[0]}"))
        return missing

    def _add_clsact(self, dut: Dut, target: Target) -> None:
        clsact = ["dev", target.ifname, "clsact"]
        dut.apply(["tc", "qdisc", "add", *clsact], ["tc", "qdisc", "del", *clsact],
                  made=["tc", "qdisc", "change", *clsact])  # changes nothing, and fails where there is none
        if target.rules:
            dut.run(["tc", "-batch", "-"], stdin=_rules(target))


def _refused(dut: Dut, filters: str) -> str:
    return refusal(dut, ["tc", "-batch", "-"], stdin="qdisc add dev lo clsact\n" + filters)


class TcBpf(TcPlace):
    """By a BPF program of our own."""

    semantics = "dropped by a BPF program on tc clsact ingress (direct action)"

    def missing(self, dut: Dut, target: Target) -> list[Missing]:
        missing = super().missing(dut, target)
        missing += dict.fromkeys(missing_compiler(dut) + missing_bpf_compiler(dut))
        refused = "" if missing else _refused(dut, _rules(Target("lo", target.ip, target.udp_port, 1)))
        if refused:
            missing.append(Missing(f"clsact and BPF filters of tc in the kernel ({refused})",
                                   "boot a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF"))
        return missing

    @contextmanager
    def deploy(self, context: StackContext, target: Target) -> Iterator[RunningStack]:
        dut = context.dut
        program = build(context, "tc_drop")
        self._add_clsact(dut, target)
        argv = [program, target.ifname, str(_MATCH), target.ip, str(target.udp_port)]
        with serving(dut, argv, "tc_drop") as process:
            yield RunningProgram(dut, process, "tc_drop", shot)


class TcMatchall(TcPlace):
    """By ``matchall action drop``, behind a gate that keeps everything else away from it."""

    semantics = "dropped by tc clsact ingress, matchall and action drop"

    def missing(self, dut: Dut, target: Target) -> list[Missing]:
        missing = super().missing(dut, target)
        refused = "" if missing else _refused(dut, _matchall(Target("lo", target.ip, target.udp_port, 0)))
        if refused:
            missing.append(Missing(f"tc's matchall and action drop in the kernel ({refused})",
                                   "boot a kernel with CONFIG_NET_CLS_MATCHALL, CONFIG_NET_ACT_GACT and "
                                   "CONFIG_NET_CLS_BPF, or use at: tc-clsact"))
        return missing

    @contextmanager
    def deploy(self, context: StackContext, target: Target) -> Iterator[RunningStack]:
        dut = context.dut
        self._add_clsact(dut, target)
        dut.run(["tc", "-batch", "-"], stdin=_matchall(target))
        yield RunningRule(dut, f"tc's filter on {target.ifname}", lambda: _action_packets(dut, target.ifname))


def _rows(dut: Dut, *words: str) -> list[dict[str, object]]:
    done = dut.run(["tc", "-j", "-s", *words])
    try:
        rows = json.loads(done.stdout or "[]")
    except (ValueError, RecursionError) as error:
        raise HostError(f"{dut.name}: 'tc -j -s {' '.join(words)}' did not answer in JSON: {error}") from error
    return [row for row in rows if isinstance(row, dict)]


def _action_packets(dut: Dut, ifname: str) -> int:
    return action_packets(_rows(dut, "filter", "show", "dev", ifname, "ingress", "pref", str(_MATCH)))


def action_packets(rows: list[dict[str, object]]) -> int:
    """Packets that the first action of the first filter with one has counted. Raises LookupError when none has."""
    for row in rows:
        options = row.get("options")
        if isinstance(options, dict) and options.get("actions"):
            return int(options["actions"][0]["stats"]["packets"])
    raise LookupError("no filter with an action")
