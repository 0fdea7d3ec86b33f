# SPDX-License-Identifier: Apache-2.0
"""Forwarding by the Linux kernel between two ports: routing, a bridge, or routing with flows offloaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from harness.errors import HostError, StackError
from harness.host.contract import Dut
from harness.host.undo import undone
from harness.plan import PointPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackCounters, StackParams
from harness.stacks.ports import interrupts_on_cores, keep_lro, missing_for_ports, set_up_ports
from harness.stacks.vlan import missing_vlan, over_vlan

from .bridge import bridge_ports, is_forwarding, missing_bridge
from .fib import add_routes, missing_for_routes
from .flowtable import missing_flowtable, offload

#: Entries of /proc/net/snmp (snmp6) that say what the IP layer did with a packet it was to forward.
_FORWARDED = {4: "ip.ForwDatagrams", 6: "ip6.OutForwDatagrams"}
_REFUSED = {4: ("ip.InHdrErrors", "ip.InAddrErrors", "ip.InDiscards", "ip.OutDiscards", "ip.OutNoRoutes"),
            6: ("ip6.InHdrErrors", "ip6.InTooBigErrors", "ip6.InNoRoutes", "ip6.InAddrErrors", "ip6.InDiscards",
                "ip6.OutDiscards")}
_CONF = {4: "/proc/sys/net/ipv4/conf", 6: "/proc/sys/net/ipv6/conf"}
#: What is written on each port; of IPv6 only ``force_forwarding`` makes a router of a port alone.
_SETTINGS = {4: (("forwarding", "1"), ("rp_filter", "0"), ("send_redirects", "0")), 6: (("force_forwarding", "1"),)}
_MODES = {
    "route": RoleInfo("L3, TTL - 1", layer="l3"),
    "bridge": RoleInfo("L2 bridge with a static table; the frame is unchanged", layer="l2"),
    "flowtable": RoleInfo("L3, TTL - 1, through netfilter's flowtable", layer="l3"),
}


class LinuxForwardParams(StackParams):
    """Parameters of ``linux-forward``."""

    mode: Literal["route", "bridge", "flowtable"] = Field(
        "route", description="route: the IP layer; bridge: a Linux bridge with a static table (L2); flowtable: the IP "
                             "layer for the first packets of a flow, netfilter's flowtable for the others.")
    routes: int = Field(0, ge=0, le=1_000_000, description="Host routes added to the main routing table, outside the "
                                                           "test's prefixes; not with mode: bridge.")
    bridge_netfilter: bool | None = Field(
        None, description="Whether bridged packets also pass iptables (bridge-nf-call-iptables, for all bridges of the "
                          "host while the stack is deployed); left as it is when not given. Only with mode: bridge.")
    gro: bool | None = Field(None, description="Generic receive offload of both ports on or off; left as it is when "
                                               "not given. A veth port needs it on: its NAPI depends on it.")

    @model_validator(mode="after")
    def _fits_the_mode(self) -> LinuxForwardParams:
        if self.routes and self.mode == "bridge":
            raise ValueError("routes: a bridge looks up no route; leave routes out, or use mode: route")
        if self.bridge_netfilter is not None and self.mode != "bridge":
            raise ValueError("bridge_netfilter is a setting of bridges; leave it out, or use mode: bridge")
        return self


class RunningLinuxForward(RunningStack):
    """Two ports that forward; the kernel keeps the counts."""

    def __init__(self, dut: Dut, ports: Sequence[str], routers: Sequence[str], mode: str, version: int) -> None:
        """``routers``: the interfaces that forward, of each port in turn; the port itself, or a VLAN device over it."""
        self._dut = dut
        self._ports = tuple(ports)
        self._routers = tuple(routers)
        self._mode = mode
        self._version = version
        self._ip_before = self._ip()
        self._ports_before = self._statistics()

    def check_alive(self) -> None:
        for port, router in zip(self._ports, self._routers, strict=True):
            try:
                forwards = (is_forwarding(self._dut, port) if self._mode == "bridge"
                            else _routes(self._dut, router, self._version))
                up = int(self._dut.read(f"/sys/class/net/{router}/flags"), 16) & 1
            except HostError as error:
                raise StackError(f"port {router} of {self._dut.name} is gone: {error}") from error
            if not (forwards and up):
                raise StackError(f"port {router} of {self._dut.name} was taken down or no longer forwards")

    def counters(self) -> StackCounters:
        """``forwarded`` is what the layer counts that forwards; neither a bridge nor a flowtable does, there it is what
        left the ports."""
        ip = {name: value - self._ip_before[name] for name, value in self._ip().items()}
        per_port = tuple({name: value - before[name] for name, value in now.items()}
                         for now, before in zip(self._statistics(), self._ports_before, strict=True))
        forwarded, refused = ip[_FORWARDED[self._version]], _REFUSED[self._version]
        totals = {"forwarded": forwarded, **{f"snmp.{name}": ip[name] for name in refused}}
        if self._mode != "route":
            totals |= {"forwarded": sum(port["tx_packets"] for port in per_port), "ip_forwarded": forwarded}
        return StackCounters(totals, per_port, {"ip layer": sum(ip[name] for name in refused)})

    def _ip(self) -> Mapping[str, int]:
        now = self._dut.system_counters()
        return {name: now.get(name, 0) for name in (_FORWARDED[self._version], *_REFUSED[self._version])}

    def _statistics(self) -> list[Mapping[str, int]]:
        """rx/tx packets, drops and errors of each port, in the order of the wires."""
        now = self._dut.interface_counters(self._ports)
        wanted = ("rx_packets", "tx_packets", "rx_dropped", "tx_dropped", "rx_errors", "tx_errors")
        return [{name: now[port].get(name, 0) for name in wanted} for port in self._ports]


def _routes(dut: Dut, port: str, version: int) -> bool:
    """Whether the kernel forwards what this port receives."""
    if version == 4:
        return dut.read(f"{_CONF[4]}/{port}/forwarding").strip() == "1"
    return (dut.read(f"{_CONF[6]}/{port}/force_forwarding", "0").strip() == "1"
            or dut.read(f"{_CONF[6]}/all/forwarding").strip() == "1")


def _set_routing(dut: Dut, port: str, version: int) -> None:
    if version == 6 and _routes(dut, port, version):
        return
    for setting, value in _SETTINGS[version]:
        path = f"{_CONF[version]}/{port}/{setting}"
        if dut.read(path).strip() != value:
            dut.set_file(path, value)


class LinuxForward(Stack):
    """The kernel's own router or bridge between the DUT ports of two wires."""

    name = "linux-forward"
    summary = "Linux kernel forwarding between two ports: routing, bridge, or netfilter's flowtable"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {Role.FORWARD: _MODES["route"]}
    Params = LinuxForwardParams
    features: ClassVar[frozenset[str]] = frozenset({"ipv6", "vlan"})

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, LinuxForwardParams):
            raise TypeError(f"linux-forward needs LinuxForwardParams, not {type(params).__name__}")
        super().__init__(params)
        self.settings = params

    def takes(self) -> frozenset[str]:
        """A bridge takes frames as they come, a router tagged ones through VLAN devices. The flowtable's rules are
        IPv4's, and its ports the NICs themselves."""
        return frozenset() if self.settings.mode == "flowtable" else self.features

    def role_info(self, role: Role) -> RoleInfo:
        return _MODES[self.settings.mode]

    def in_softirq(self) -> bool:
        return True

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = missing_for_ports(dut, point)
        if point.ip_version == 6 and self.settings.mode != "bridge" and not missing:
            missing += _missing_for_ipv6(dut, [wire.dut.ifname for wire in point.wires])
        if self.settings.mode == "route":
            missing += missing_vlan(dut, point)
        if self.settings.routes:
            missing += missing_for_routes(dut)
        if len(point.wires) != 2:
            missing.append(Missing(f"two wires to forward between (the point has {len(point.wires)})",
                                   "give the testbed two wires to this host"))
        if self.settings.gro is not None and dut.which("ethtool") is None:
            missing.append(Missing("the program ethtool", "apt-get install ethtool"))
        if self.settings.gro is False and dut.virtual:
            missing.append(Missing("a port that receives without GRO: a veth port has NAPI only while GRO is on",
                                   "leave gro out, or measure gro: off on a real NIC"))
        if not missing and self.settings.mode == "bridge":
            missing += missing_bridge(dut, point)
        if not missing and self.settings.mode == "flowtable":
            missing += missing_flowtable(dut, point)
        return missing

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point = context.dut, context.point
        ports = [wire.dut.ifname for wire in point.wires]
        with undone(dut):
            keep_lro(dut, ports)
            if self.settings.gro is not None:
                for port in ports:
                    _set_gro(dut, port, self.settings.gro)
            slowed = ""
            if self.settings.mode == "bridge":
                slowed = bridge_ports(dut, point, self.settings.bridge_netfilter)
                routers = ports
            else:
                routers = self._route_between(dut, point)
            # Once the ports are up: a driver asks for its interrupts then, and they forget where they were put before.
            interrupts_on_cores(dut, point)
            running = RunningLinuxForward(dut, ports, routers, self.settings.mode, point.ip_version)
            running.degraded = slowed
            running.check_alive()
            yield running

    def _route_between(self, dut: Dut, point: PointPlan) -> list[str]:
        """Returns the interfaces that route: the ports, or VLAN devices over them. Forwarding is turned on for these
        two alone: net.ipv4.ip_forward would make a router of every interface of the host, its management interface
        too, and reset other settings as it changes; net.ipv6.conf.all.forwarding would have them ignore router
        advertisements, so that a host may lose its own route."""
        point = over_vlan(dut, point)
        set_up_ports(dut, point)
        routers = [wire.dut.ifname for wire in point.wires]
        for router in routers:
            _set_routing(dut, router, point.ip_version)
        add_routes(dut, point, self.settings.routes)
        if self.settings.mode == "flowtable":
            offload(dut, point)
        return routers


def _missing_for_ipv6(dut: Dut, ports: Sequence[str]) -> list[Missing]:
    if all(_routes(dut, port, 6) or dut.exists(f"{_CONF[6]}/{port}/force_forwarding") for port in ports):
        return []
    return [Missing("IPv6 forwarding of two ports alone (net.ipv6.conf.PORT.force_forwarding, kernel 6.17)",
                    "boot a newer kernel, or make a router of the whole host: sysctl -w net.ipv6.conf.all.forwarding=1 "
                    "(with accept_ra=2 on interfaces that learn their route from router advertisements)")]


def _set_gro(dut: Dut, port: str, on: bool) -> None:
    features = dut.run(["ethtool", "-k", port]).stdout.splitlines()
    state = next((line.split(":", 1)[1].split()[0] for line in features
                  if line.startswith("generic-receive-offload:")), None)
    wanted = "on" if on else "off"
    if state is None:
        raise StackError(f"ethtool -k {port} on {dut.name} does not show generic-receive-offload")
    if state != wanted:
        dut.apply(["ethtool", "-K", port, "gro", wanted], ["ethtool", "-K", port, "gro", state])
