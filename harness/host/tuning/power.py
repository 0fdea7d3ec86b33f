# SPDX-License-Identifier: Apache-2.0
"""Clock and idle states of the cores a stack is given."""

from __future__ import annotations

from collections.abc import Iterator

from harness.host.tuning.change import Change, Target, file_change, unsupported

_CPU = "/sys/devices/system/cpu"
_NO_TURBO, _BOOST = f"{_CPU}/intel_pstate/no_turbo", f"{_CPU}/cpufreq/boost"


def governor(target: Target, wanted: str) -> Iterator[Change]:
    """The frequency governor of each core."""
    for core in target.cores:
        path = f"{_CPU}/cpu{core}/cpufreq/scaling_governor"
        if not target.dut.exists(path):
            yield unsupported("governor", f"core {core}", "the host does not scale its clock, or hides it")
            continue
        yield file_change("governor", target.dut, path, wanted)


def turbo(target: Target, wanted: bool) -> Iterator[Change]:
    """Clocks above the nominal one; a switch of the whole host."""
    if target.dut.exists(_NO_TURBO):
        yield file_change("turbo", target.dut, _NO_TURBO, str(int(not wanted)))
    elif target.dut.exists(_BOOST):
        yield file_change("turbo", target.dut, _BOOST, str(int(wanted)))
    else:
        yield unsupported("turbo", target.dut.name, "the host has no switch for it")


def idle_latency(target: Target, wanted: int) -> Iterator[Change]:
    """Disable the idle states of each core that take longer than ``wanted`` microseconds to leave."""
    for core in target.cores:
        folder = f"{_CPU}/cpu{core}/cpuidle"
        listing = target.dut.run(["ls", folder], check=False)
        states = sorted(name for name in listing.stdout.split() if name.startswith("state") and name[5:].isdigit())
        if listing.returncode or not states:
            yield unsupported("idle_latency_us", f"core {core}", "the host has no idle states to choose from")
            continue
        for state in states:
            slow = int(target.dut.read(f"{folder}/{state}/latency")) > wanted
            yield file_change("idle_latency_us", target.dut, f"{folder}/{state}/disable", str(int(slow)))
