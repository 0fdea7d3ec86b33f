# SPDX-License-Identifier: Apache-2.0
"""Asks hosts and wires, and weighs what is found by the policies: records for run.json, a refusal, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.doctor import cpu, links, machine, network, nic
from harness.doctor.contract import CheckFunction, Finding, HostView, PortView, judged, unknown
from harness.doctor.items import ITEMS, Policy, Setting
from harness.doctor.wires import Answering, generator_links, probe_wires
from harness.errors import TestbedError
from harness.generator.contract import Generator
from harness.host.inventory import Survey
from harness.plan import Plan, PortPlan, Role, WirePlan
from harness.records import Check

#: Frames that a testbed is tried with where no scenario says which.
FULL_SIZE = 1518
_WIRE_CHECKS = ("wires", "frame-size")
#: What a survey answers; wires and frame sizes take a generator.
CHECKS: Mapping[str, CheckFunction] = {
    "link": links.link, "link-speed": links.link_speed, "mtu": links.mtu,
    "duplicate-addresses": network.duplicate_addresses, "firewall": network.firewall,
    "packet-sockets": network.packet_sockets, "xdp-programs": network.xdp_programs,
    "governor": cpu.governor, "turbo": cpu.turbo_off, "idle-states": cpu.idle_states, "smt": cpu.smt,
    "isolated-cores": cpu.isolated_cores, "irqbalance": cpu.irqbalance, "hugepages": cpu.hugepages, "numa": nic.numa,
    "pause-frames": nic.pause_frames, "offloads": nic.offloads, "rings": nic.rings, "pcie": nic.pcie,
    "firmware": nic.firmware, "command-line": cpu.command_line, "mitigations": cpu.mitigations, "load": machine.load,
    "clock": machine.clock,
}


def view_of(plan: Plan, name: str, side: str, survey: Survey, cores: Sequence[int], ahead_s: float | None) -> HostView:
    """A host of the plan as the checks see it. ``side`` "generator": all of its ports."""
    if side == "generator":
        # A port once, whatever is behind it; of several hosts at a switch the first wire's speed is the port's.
        ends = list({wire.tg.index: (wire, wire.tg) for wire in reversed(plan.wires)}.values())[::-1]
    else:
        ends = [(wire, wire.dut) for wire in plan.wires if wire.host == name]
    points = [point for point in plan.points if side == "dut" and point.host == name]
    always = [dict(point.tuning) for point in points]
    tuning = {item: value for item, value in always[0].items() if all(item in one for one in always)} if always else {}
    sizes = [size for point in plan.points for size in point.frames.sizes if size]
    return HostView(name, side, survey, tuple(_port(survey, wire, end) for wire, end in ends), tuple(cores),
                    plan.lab, tuple(plan.wires), max(sizes, default=0),
                    vlan=any(point.directions and point.vlan is not None for point in plan.points), tuning=tuning,
                    ahead_s=ahead_s)


def _port(survey: Survey, wire: WirePlan, end: PortPlan) -> PortView:
    ifname = survey.port(end.ifname, end.mac, end.pci)
    if ifname is not None:
        return PortView(end, wire, ifname)
    driver = survey.at("pci", end.pci, "driver") if end.pci else None
    gone = f"the kernel does not have this port: {driver or 'no driver'} has it" if end.pci else \
        "the host has no such interface"
    return PortView(end, wire, "", gone)


def check_host(host: HostView, settings: Mapping[str, Setting], *, machine_too: bool = True) -> list[Check]:
    """Every check that a survey answers. ``machine_too`` false: the machine is looked at as the other side already."""
    return [record for name, check in CHECKS.items() if machine_too or not ITEMS[name].machine
            for record in _records(name, host, check(host), settings)]


def check_wires(host: HostView, dut: Answering, generator: Generator, settings: Mapping[str, Setting],
                role: Role | None) -> list[Check]:
    """Probe frames on every wire to a DUT."""
    if role is Role.ACCEPT:
        reason = "the client of role accept opens connections and sends no frames"
        found = [(name, unknown("", "an answer to every probe frame", reason)) for name in _WIRE_CHECKS]
    else:
        found = list(probe_wires(host, dut, generator))
    return _sorted_records(host, found, settings)


def no_generator(host: HostView, why: str, settings: Mapping[str, Setting]) -> list[Check]:
    """The wires of a testbed whose generator does not serve."""
    found = [(name, judged("", "not tried: the generator does not serve", "an answer to every probe frame", False, why))
             for name in _WIRE_CHECKS]
    return _sorted_records(host, found, settings)


def check_generator_links(host: HostView, generator: Generator, settings: Mapping[str, Setting]) -> list[Check]:
    """Links that only the generator sees."""
    return _sorted_records(host, list(generator_links(generator, host)), settings)


def not_surveyed(name: str, side: str, lab: bool, why: str, settings: Mapping[str, Setting]) -> list[Check]:
    """A host that could not be looked at: nothing about it is known."""
    host = HostView(name, side, Survey({}), (), (), lab, (), 0)
    return [record for check in CHECKS for record in _records(check, host, [unknown("", "", why)], settings)]


def _sorted_records(host: HostView, found: Sequence[tuple[str, Finding]], settings: Mapping[str, Setting],
                    ) -> list[Check]:
    return [record for name in dict.fromkeys(name for name, _ in found)
            for record in _records(name, host, [finding for other, finding in found if other == name], settings)]


def _records(name: str, host: HostView, findings: Iterable[Finding], settings: Mapping[str, Setting]) -> list[Check]:
    """Findings weighed; those of several ports that say the same become one."""
    records: list[Check] = []
    for finding in findings:
        record = _weighed(name, host, finding, settings.get(name, Setting()))
        same = next((one for one in records if one.model_copy(update={"target": "", "remedy": ""}) ==
                     record.model_copy(update={"target": "", "remedy": ""})), None)
        if same is None:
            records.append(record)
        else:
            same.target = f"{same.target}, {record.target}"
            same.remedy = "; ".join(filter(None, dict.fromkeys((same.remedy, record.remedy))))
    return records


def _weighed(name: str, host: HostView, finding: Finding, setting: Setting) -> Check:
    item = ITEMS[name]
    policy = setting.policy or (item.lab if host.lab else item.policy)
    if finding.good is not None and setting.expect is not None:
        good = finding.value.casefold() == setting.expect.casefold()
        finding = replace(finding, expected=f"{setting.expect} (testbed file)", good=good,
                          remedy=finding.remedy or "bring it to that value, or correct `checks` in the testbed file")
    elif finding.good is False and item.tuning in host.tuning:
        finding = replace(finding, value=f"{finding.value}; tuned to {host.tuning[item.tuning]} for every point",
                          good=True, remedy="")
    status = {True: "ok", None: "unknown" if finding.applies else "n/a",
              False: "ignored" if policy is Policy.IGNORE else str(policy)}[finding.good]
    return Check(name=name, host=host.name, target=_plain(finding.target), value=_plain(finding.value),
                 expected=_plain(finding.expected), why=item.why, remedy=_plain(finding.remedy), status=status,
                 policy=str(policy), reason=_plain(finding.reason))


def _plain(text: str) -> str:
    """What a host told, bounded and without control characters: it is printed, in errors too."""
    return "".join(c if c.isprintable() else "?" for c in text[:500])


def refuse(checks: Iterable[Check]) -> None:
    """Raises TestbedError when a check with policy fail failed."""
    failed = [check for check in checks if check.status == "fail"]
    if failed:
        lines = [f"  {check.name} ({' '.join(filter(None, (check.host, check.target)))}): {check.value}, expected "
                 f"{check.expected}: {check.why}. {check.remedy}" for check in failed]
        raise TestbedError("the testbed is not fit:\n" + "\n".join(lines) + "\n`harness doctor` shows every check; "
                           "`checks: {NAME: warn}` in the testbed file measures all the same")
