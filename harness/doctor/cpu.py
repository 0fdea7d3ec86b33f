# SPDX-License-Identifier: Apache-2.0
"""Clock, idle states, SMT and isolation of the cores; how the kernel was started."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.doctor.contract import Finding, HostView, judged, listed, unknown
from harness.host.facts import expand, facts_of, topology, turbo
from harness.host.inventory import whole_of
from harness.host.topology import Topology

_CPU = "/sys/devices/system/cpu"
#: Microseconds within which a core may wake up: what the tuned profile allows.
_WAKE_US = 10
#: Kernel parameters that cost on every frame or make clocks slow.
_COSTLY = re.compile(r"(debug|slub_debug|page_poison|page_owner|kmemleak|kasan|init_on_alloc|init_on_free|audit|"
                     r"lockdown|maxcpus|nr_cpus|notsc|nohpet|tsc|clocksource|idle)(=.*)?")
_HARMLESS = re.compile(r"(kmemleak=off|init_on_(alloc|free)=0|audit=(0|off)|tsc=(reliable|nowatchdog)|clocksource=tsc|"
                       r"page_poison=0|page_owner=off|debug=.*)")


def governor(host: HostView) -> Iterable[Finding]:
    """A fixed clock on the cores."""
    found = host.survey.below(f"{_CPU}/cpu", r"(\d+)/cpufreq/scaling_governor")
    mine = {found[str(core)] for core in host.cores if str(core) in found}
    if not mine:
        yield unknown("", "performance", "the host does not scale its clock, or hides it (virtual machine)")
        return
    cores = ",".join(map(str, host.cores))
    yield judged("", ", ".join(sorted(mine)), "performance", mine == {"performance"},
                 f"cpupower -c {cores} frequency-set -g performance, or tuning: tuned")


def turbo_off(host: HostView) -> Iterable[Finding]:
    """No clock above the nominal one."""
    on = turbo(host.survey)
    if on is None:
        yield unknown("", "off", "the host has no switch for it, or hides it (virtual machine)")
        return
    yield judged("", "on" if on else "off", "off", not on, "tuning: tuned, or turbo off in the firmware's set-up")


def idle_states(host: HostView) -> Iterable[Finding]:
    """Only states that are left quickly."""
    deep: dict[str, int] = {}
    seen = False
    for core in host.cores:
        for place, name in host.survey.below(f"{_CPU}/cpu{core}/cpuidle/", r"(state\d+)/name").items():
            seen = True
            folder = f"{_CPU}/cpu{core}/cpuidle/{place}"
            latency = host.survey.whole(f"{folder}/latency") or 0
            if host.survey.line(f"{folder}/disable") != "1" and latency > _WAKE_US:
                deep[name] = max(latency, deep.get(name, 0))
    expected = f"none that takes longer than {_WAKE_US} us to leave"
    if not seen:
        yield unknown("", expected, "the host has no idle states to choose from, or hides them (virtual machine)")
        return
    value = listed([f"{name} ({latency} us)" for name, latency in deep.items()]) or "none deep"
    yield judged("", value, expected, not deep, "tuning: tuned, or cpupower idle-set -D 10")


def smt(host: HostView) -> Iterable[Finding]:
    """One thread a physical core."""
    active = host.survey.line(f"{_CPU}/smt/active")
    if active is None:
        yield unknown("", "off", "the kernel does not say whether siblings are active")
        return
    if active == "0":
        yield judged("", "off", "off", True, "")
        return
    try:
        cores = Topology.parse(topology(host.survey) or "")
        mates = sorted({mate for core in host.cores for mate in cores.siblings(core)})
    except ValueError:
        mates = []
    value = f"on; siblings of these cores: {listed([str(mate) for mate in mates])}" if mates else "on"
    yield judged("", value, "off", False, "echo off > /sys/devices/system/cpu/smt/control, or keep programs off the "
                                          "siblings")


def isolated_cores(host: HostView) -> Iterable[Finding]:
    """Nothing else is scheduled on the cores."""
    told, wanted = host.survey.line(f"{_CPU}/isolated"), ",".join(map(str, host.cores))
    if host.survey.at("files", f"{_CPU}/isolated") is None:
        yield unknown("", f"cores {wanted}", "the kernel does not say which cores are isolated")
        return
    try:
        isolated = set(expand(told)) if told else set()
    except ValueError:
        isolated = set()
    yield judged("", told or "none", f"cores {wanted}", isolated >= set(host.cores),
                 f"start the kernel with isolcpus=managed_irq,domain,{wanted} nohz_full={wanted}")


def irqbalance(host: HostView) -> Iterable[Finding]:
    """Nobody moves interrupts."""
    if not isinstance(host.survey.at("programs"), list):
        yield unknown("", "not running", "the running programs cannot be listed")
        return
    running = "irqbalance" in host.survey.rows("programs")
    yield judged("", "running" if running else "not running", "not running", not running,
                 "systemctl stop irqbalance, or tuning: tuned")


def command_line(host: HostView) -> Iterable[Finding]:
    """No parameters that cost on every frame."""
    line = host.survey.line("/proc/cmdline")
    if line is None:
        yield unknown("", "no debugging options", "/proc/cmdline cannot be read")
        return
    words = line.split(" -- ")[0].split()
    costly = [word[:60] for word in words if _COSTLY.fullmatch(word) and not _HARMLESS.fullmatch(word)]
    yield judged("", listed(costly) or "nothing unusual", "no debugging options", not costly,
                 "start the kernel without them")


def mitigations(host: HostView) -> Iterable[Finding]:
    """As the kernel would have them."""
    facts = facts_of(host.survey)["mitigations"]
    line = host.survey.line("/proc/cmdline") or ""
    off = [word for word in line.split() if re.fullmatch(r"mitigations=off.*|nopti|nospectre_v\d|spectre_v2=off|"
                                                         r"mds=off|tsx_async_abort=off|retbleed=off", word)]
    if not facts and not off:
        yield unknown("", "the kernel's default", "the kernel does not list vulnerabilities")
        return
    open_ = sorted(name for name, text in facts.items() if text.startswith("Vulnerable"))
    value = listed(off) if off else "on" + (f"; vulnerable: {listed(open_)}" if open_ else "")
    yield judged("", value, "the kernel's default", not off, "start the kernel without these; or say that it is meant: "
                                                             "checks: {mitigations: ignore}")


def hugepages(host: HostView) -> Iterable[Finding]:
    """Large pages that are free, or can be made."""
    expected = "256 MiB in pages of 2 MiB, free or to be made"
    free = host.survey.whole("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if free is None:
        yield unknown("", expected, "the kernel has no pages of 2 MiB")
        return
    possible = 0
    for row in host.survey.text("/proc/buddyinfo").splitlines():
        counts = [whole_of(field) or 0 for field in row.split()[4:]]
        possible += sum(count << order for order, count in enumerate(counts[9:20]))
    yield judged("", f"{free} free, {possible} can be made", expected, free + possible >= 128,
                 "reserve them at boot: hugepages=256 on the kernel's command line")
