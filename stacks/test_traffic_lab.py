# SPDX-License-Identifier: Apache-2.0
"""Every stack with every kind of traffic that it claims, in the lab with real frames: IPv6, VLAN, both, IMIX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness import stacks
from harness.host.contract import Dut
from harness.lab.lab import Lab
from harness.measure.rolecheck import check_role
from harness.plan import FrameMix, PointPlan, Role
from harness.scenario import minimum_frame
from harness.stack import StackContext

pytestmark = pytest.mark.lab
MakePoint = Callable[..., PointPlan]

#: Stacks that the lab cannot deploy as they are.
ELSEWHERE = {"command": "its program is the scenario's", "linux-tcp": "connections, no frames of a size",
             "netmap": "its module is not in every kernel", "vpp": "not in Debian"}
#: IPv6, VLAN id, frames. Every mix holds an odd size, on which checksums are easily got wrong.
KINDS: dict[str, tuple[int, int | None, FrameMix]] = {
    "ipv4 imix": (4, None, FrameMix(((64, 7), (595, 4), (1518, 1)))),
    "ipv6": (6, None, FrameMix(((minimum_frame("ipv6"), 1), (595, 1), (1518, 1)))),
    "vlan": (4, 7, FrameMix(((minimum_frame(vlan=True), 1), (595, 1), (1522, 1)))),
    "ipv6 vlan": (6, 4094, FrameMix(((minimum_frame("ipv6", vlan=True), 1), (595, 1), (1522, 1)))),
}


#: Parameters, of role forward, with which a stack takes other traffic than with the default ones, or by other code.
OTHERWISE = {"linux-forward": {"mode": "bridge"}, "xdp": {"redirect": "cpumap"}}


def claimed() -> list[tuple[str, Role, dict[str, Any], str]]:
    wanted: list[tuple[str, Role, dict[str, Any], str]] = []
    for name, stack in stacks.available().items():
        for params in ({}, OTHERWISE.get(name)):
            if params is None or name in ELSEWHERE:
                continue
            takes = stacks.create(name, params).takes()
            roles = [Role.FORWARD] if params else [role for role in stack.roles if role is not Role.ACCEPT]
            wanted += [(name, role, params, kind) for role in roles for kind in KINDS
                       if set(kind.split()) - {"ipv4", "imix"} <= takes]
    return wanted


def test_nothing_is_claimed_that_is_not_tested() -> None:
    """VPP's cross-connect is, where there is one, in vpp/tests/test_vpp_lab.py."""
    tested = {name for name, *_ in claimed()} | {"vpp"}
    assert {name for name, stack in stacks.available().items() if stack.features} <= tested


def state(lab: Lab, dut: Dut) -> dict[str, str]:
    """Of every port: addresses, routes, neighbours, IPv6's settings, and the driver's."""
    shown = {}
    for name in lab.ifnames("dut"):
        for what in (["addr", "show", "dev", name], ["route", "show", "dev", name], ["neigh", "show", "dev", name]):
            for version in ("-4", "-6"):
                shown[f"{version} {what[0]} {name}"] = dut.run(["ip", version, *what]).stdout
        shown[f"features {name}"] = dut.run(["ethtool", "-k", name]).stdout
        shown[f"ipv6 {name}"] = dut.run(["grep", "-rs", ".", f"/proc/sys/net/ipv6/conf/{name}"], check=False).stdout
    return shown


@pytest.mark.parametrize(("name", "role", "params", "kind"), claimed(),
                         ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else str(value))
def test_fills_its_role_with_the_traffic_it_claims(lab: Lab, dut: Dut, wires: Any, receiving: None,
                                                   make_point: MakePoint, name: str, role: Role,
                                                   params: dict[str, Any], kind: str) -> None:
    version, vlan, frames = KINDS[kind]
    point = make_point(name, role, params, frame=frames, version=version, vlan=vlan, bidirectional=role is Role.FORWARD)
    stack = stacks.create(name, point.params)
    if missing := stack.requirements(dut, point):
        # The lab has this machine's kernel. tests/vm has one with VLAN devices and sends the frames.
        assert [one.what for one in missing] == ["VLAN devices in the kernel (module 8021q)"]
        assert vlan is not None
        assert not dut.exists("/proc/net/vlan")
        return
    before = state(lab, dut)
    info = stack.role_info(role)
    with stack.deploy(StackContext(dut, point, stacks.source(name))) as running:
        check_role(wires, point, info, lambda: running.counters().totals[info.discard_counter])
        assert sum(running.counters().losses.values()) == 0
    assert state(lab, dut) == before
