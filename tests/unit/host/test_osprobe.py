# SPDX-License-Identifier: Apache-2.0
"""Hosts without an agent, by samples of what their commands print (tests/data/osprobe/README.md says from where)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HostError, TestbedError
from harness.host.contract import Completed
from harness.host.osprobe import bsd, command_probe, illumos

DATA = Path(__file__).parents[2] / "data" / "osprobe"
SYSCTL, KSTAT = (DATA / "freebsd-sysctl.txt").read_text(), (DATA / "illumos-kstat-cpu.txt").read_text()


class Host:
    """A host of outputs by command line; what it lacks ends with status 1, as the commands do."""

    def __init__(self, outputs: Mapping[str, str]) -> None:
        self.outputs = dict(outputs)

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, check: bool = True) -> Completed:
        line = shlex.join(argv)
        if line not in self.outputs and check:
            raise HostError(f"{line} ended with status 1")
        return Completed(tuple(argv), int(line not in self.outputs), self.outputs.get(line, ""), "")


def test_freebsd_over_a_trial() -> None:
    netstat = "netstat -I ix0 -b -n -W"
    host = Host({"uname -s": "FreeBSD\n", "sysctl kern.clockrate kern.cp_times": SYSCTL,
                 netstat: (DATA / "freebsd-netstat.txt").read_text()})
    probe = command_probe(host, "sut2")
    assert "sut2 (BSD) has no agent" in probe.warning
    assert "no lease" in probe.warning
    probe.start(0.5, [1])
    # Two seconds later: core 1 worked in system for 1.5 s and in interrupts for 0.5 s, core 0 and 3 idled or spun.
    host.outputs["sysctl kern.clockrate kern.cp_times"] = SYSCTL.partition("cp_times")[0] + (
        "cp_times: 12700 0 2540 127 111887 254 127 6540 12764 107569 0 0 0 0 0 127254 0 0 0 0\n")
    first, last = probe.stop().samples
    assert set(first.ticks) == {0, 1, 3}, "core 2 is absent"
    assert last.ns - first.ns == pytest.approx(2e9, rel=1e-6)
    assert last.ticks[1]["system"] - first.ticks[1]["system"] == pytest.approx(1.5, abs=0.01)
    assert last.ticks[1]["irq"] - first.ticks[1]["irq"] == pytest.approx(0.5, abs=0.01)
    assert first.ticks[0] == {"user": 100.0, "nice": 0.0, "system": 20.0, "irq": 1.0, "idle": 879.0}
    assert probe.interface_counters(["ix0"]) == {"ix0": {
        "rx_packets": 18446744, "rx_errors": 3, "rx_dropped": 17, "rx_bytes": 1180591616, "tx_packets": 18446001,
        "tx_errors": 2, "tx_bytes": 1180544064, "collisions": 0}}
    with pytest.raises(HostError, match="stop without start"):
        probe.stop()


def test_dragonfly_has_neither_idrop_nor_wide_output() -> None:
    host = Host({"uname -s": "DragonFly\n", "netstat -I ix0 -b -n": (DATA / "dragonfly-netstat.txt").read_text(),
                 "netstat -I vtnet10 -b -n": (DATA / "dragonfly-netstat-no-address.txt").read_text()})
    counters = command_probe(host, "sut3").interface_counters(["ix0", "vtnet10"])
    assert counters["ix0"] == {"rx_packets": 91827364, "rx_errors": 5, "rx_bytes": 5876951296, "tx_packets": 91827001,
                               "tx_errors": 0, "tx_bytes": 5876928064, "collisions": 0}
    assert (counters["vtnet10"]["rx_packets"], counters["vtnet10"]["tx_bytes"]) == (7, 600)


def test_illumos_over_a_trial() -> None:
    cpu, link = "kstat -p -m cpu -n sys", "kstat -p -m link -n ixgbe0"
    host = Host({"uname -s": "SunOS\n", cpu: KSTAT, link: (DATA / "illumos-kstat-link.txt").read_text(),
                 "mpstat -p": (DATA / "illumos-mpstat.txt").read_text()})
    probe = command_probe(host, "sut4")
    probe.start(0.5, [1])
    later = KSTAT.replace("cpu_nsec_kernel\t900000000000", "cpu_nsec_kernel\t901500000000")
    host.outputs[cpu] = later.replace("snaptime\t1041.2", "snaptime\t1043.2")
    first, last = probe.stop().samples
    assert last.ns - first.ns == 2_000_000_000
    assert last.ticks[1]["system"] - first.ticks[1]["system"] == pytest.approx(1.5)
    assert first.ticks[0] == {"user": 1.5, "system": 250.0, "idle": 748.5}, "cpu_nsec_intr is no sum and not taken"
    assert probe.interface_counters(["ixgbe0"]) == {"ixgbe0": {
        "rx_packets": 4295009123, "tx_packets": 4295008296, "rx_bytes": 274880583872, "tx_bytes": 274880000000,
        "rx_errors": 5, "tx_errors": 2, "rx_dropped": 9, "tx_dropped": 1}}
    assert illumos.Illumos().processor_sets(host) == {1: 1}
    row = illumos.mpstat(host.outputs["mpstat -p"])[1]
    assert (row.user, row.system, row.idle) == (0.0, 0.87, 0.13)


def test_a_system_nobody_has_taught_it_is_refused_with_a_remedy() -> None:
    with pytest.raises(TestbedError, match=r"calls itself 'Linux'; without an agent FreeBSD, DragonFly, SunOS can be"):
        command_probe(Host({"uname -s": "Linux\n"}), "sut1")


def test_an_interface_that_is_not_there_is_an_error() -> None:
    header = (DATA / "freebsd-netstat.txt").read_text().splitlines()[0]
    host = Host({"uname -s": "FreeBSD\n", "netstat -I em9 -b -n -W": header})
    with pytest.raises(HostError, match="sut2: counters of em9 cannot be read: netstat has no row of the link em9"):
        command_probe(host, "sut2").interface_counters(["em9"])
    with pytest.raises(HostError, match="kstat has no link net9; `dladm show-link` names them"):
        command_probe(Host({"uname -s": "SunOS\n"}), "sut4").interface_counters(["net9"])


@pytest.mark.parametrize("text", [
    "", "kern.cp_times: 1 2 3 4 5", "kern.clockrate: { stathz = 0 }\nkern.cp_times: 1 2 3 4 5",
    "kern.clockrate: { stathz = 127 }\nkern.cp_times: 1 2 3 4", "kern.clockrate: { stathz = 127 }\nkern.cp_times:",
    "kern.clockrate: { stathz = 127 }\nkern.cp_times: 1 2 3 4 -5",
    "kern.clockrate: { stathz = 127 }\nkern.cp_times: 0 0 0 0 0",
])
def test_times_of_another_shape_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="kern"):
        bsd.cp_times(text)
    with pytest.raises(ValueError, match="kstat told"):
        illumos.cpu_times(text)


@given(st.text(max_size=300) | st.sampled_from([SYSCTL, KSTAT]).flatmap(
    lambda text: st.tuples(st.integers(0, len(text)), st.text(max_size=5)).map(
        lambda cut: text[:cut[0]] + cut[1] + text[cut[0] + 1:])))
def test_no_output_of_a_host_is_more_than_a_value_error(text: str) -> None:
    """Parsers either read all of it as finite, non-negative numbers or refuse it."""
    for parse in (bsd.cp_times, lambda text: illumos.cpu_times(text).ticks):
        try:
            cores = parse(text)
        except ValueError:
            continue
        assert all(0 <= value < 1e20 for states in cores.values() for value in states.values())
    for read in (lambda text: bsd.netstat(text, "ix0"), lambda text: illumos.link(text, "ix0"), illumos.mpstat):
        try:
            read(text)
        except ValueError:
            continue
