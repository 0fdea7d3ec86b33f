# SPDX-License-Identifier: Apache-2.0
"""IPv4 forwarding by the Linux kernel between two ports, with static neighbours and routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from pydantic import Field

from harness.errors import HostError, StackError
from harness.host.contract import Dut
from harness.plan import PointPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackCounters, StackParams
from harness.stacks.ports import interrupts_on_cores, missing_for_ports, set_up_ports, undone

#: Entries of /proc/net/snmp that say what the IP layer did with a packet it was to forward.
_FORWARDED = "ip.ForwDatagrams"
_REFUSED = ("ip.InHdrErrors", "ip.InAddrErrors", "ip.InDiscards", "ip.OutDiscards", "ip.OutNoRoutes")
_CONF = "/proc/sys/net/ipv4/conf"


class LinuxForwardParams(StackParams):
    """Parameters of ``linux-forward``."""

    gro: bool | None = Field(None, description="Generic receive offload of both ports on or off; left as it is when "
                                               "not given. A veth port needs it on: its NAPI depends on it.")


class RunningLinuxForward(RunningStack):
    """Two ports that forward; the kernel keeps the counts."""

    def __init__(self, dut: Dut, ports: Sequence[str]) -> None:
        self._dut = dut
        self._ports = tuple(ports)
        self._ip_before = self._ip()
        self._ports_before = self._statistics()

    def check_alive(self) -> None:
        for port in self._ports:
            try:
                forwards = self._dut.read(f"{_CONF}/{port}/forwarding").strip() == "1"
                up = int(self._dut.read(f"/sys/class/net/{port}/flags"), 16) & 1
            except HostError as error:
                raise StackError(f"port {port} of {self._dut.name} is gone: {error}") from error
            if not (forwards and up):
                raise StackError(f"port {port} of {self._dut.name} was taken down or no longer forwards")

    def counters(self) -> StackCounters:
        ip = {name: value - self._ip_before[name] for name, value in self._ip().items()}
        per_port = tuple({name: value - before[name] for name, value in now.items()}
                         for now, before in zip(self._statistics(), self._ports_before, strict=True))
        totals = {"forwarded": ip[_FORWARDED], **{f"snmp.{name}": ip[name] for name in _REFUSED}}
        return StackCounters(totals, per_port, {"ip layer": sum(ip[name] for name in _REFUSED)})

    def _ip(self) -> Mapping[str, int]:
        now = self._dut.system_counters()
        return {name: now.get(name, 0) for name in (_FORWARDED, *_REFUSED)}

    def _statistics(self) -> list[Mapping[str, int]]:
        """rx/tx packets, drops and errors of each port, in the order of the wires."""
        now = self._dut.interface_counters(self._ports)
        wanted = ("rx_packets", "tx_packets", "rx_dropped", "tx_dropped", "rx_errors", "tx_errors")
        return [{name: now[port].get(name, 0) for name in wanted} for port in self._ports]


class LinuxForward(Stack):
    """The kernel's own router between the DUT ports of two wires."""

    name = "linux-forward"
    summary = "Linux kernel routing between two ports, static neighbours and routes"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {Role.FORWARD: RoleInfo("L3, TTL - 1", layer="l3")}
    Params = LinuxForwardParams

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, LinuxForwardParams):
            raise TypeError(f"linux-forward needs LinuxForwardParams, not {type(params).__name__}")
        super().__init__(params)
        self.gro = params.gro

    def in_softirq(self) -> bool:
        return True

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = missing_for_ports(dut, point)
        if len(point.wires) != 2:
            missing.append(Missing(f"two wires to forward between (the point has {len(point.wires)})",
                                   "give the testbed two wires to this host"))
        if self.gro is not None and dut.which("ethtool") is None:
            missing.append(Missing("the program ethtool", "apt-get install ethtool"))
        if self.gro is False and dut.virtual:
            missing.append(Missing("a port that receives without GRO: a veth port has NAPI only while GRO is on",
                                   "leave gro out, or measure gro: off on a real NIC"))
        return missing

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point = context.dut, context.point
        ports = [wire.dut.ifname for wire in point.wires]
        with undone(dut):
            set_up_ports(dut, point)
            interrupts_on_cores(dut, point)
            for port in ports:
                self._route_between(dut, port)
            running = RunningLinuxForward(dut, ports)
            running.check_alive()
            yield running

    def _route_between(self, dut: Dut, port: str) -> None:
        """Forwarding is turned on for the two ports alone: net.ipv4.ip_forward would make a router of every interface
        of the host, its management interface too, and reset other settings as it changes."""
        if self.gro is not None:
            _set_gro(dut, port, self.gro)
        for setting, value in (("forwarding", "1"), ("rp_filter", "0"), ("send_redirects", "0")):
            path = f"{_CONF}/{port}/{setting}"
            if dut.read(path).strip() != value:
                dut.set_file(path, value)


def _set_gro(dut: Dut, port: str, on: bool) -> None:
    features = dut.run(["ethtool", "-k", port]).stdout.splitlines()
    state = next((line.split(":", 1)[1].split()[0] for line in features
                  if line.startswith("generic-receive-offload:")), None)
    wanted = "on" if on else "off"
    if state is None:
        raise StackError(f"ethtool -k {port} on {dut.name} does not show generic-receive-offload")
    if state != wanted:
        dut.apply(["ethtool", "-K", port, "gro", wanted], ["ethtool", "-K", port, "gro", state])
