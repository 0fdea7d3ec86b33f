# SPDX-License-Identifier: Apache-2.0
"""What carries a host's SSH or its default route is refused by name, under whatever name it is a test port."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import MeasurementError, StackError, TestbedError
from harness.host.contract import Completed
from harness.host.guard import check_ports
from harness.plan import DirectionPlan, FlowPlan, PointPlan, PortPlan, Role, WirePlan
from harness.runner import _Session
from harness.stack import Missing
from harness.stacks.ports import missing_for_ports

NET, PCI = "/sys/class/net", "/sys/bus/pci/devices/0000:03:00.0"
#: Once by name, once by its PCI address only.
NAMED, BY_PCI = (PortPlan(0, ifname, "02:00:00:00:00:02", "10.0.0.2", 24, pci)
                 for ifname, pci in (("eth1", ""), ("", "0000:03:00.0")))


class Host:
    """``files`` of sysfs and answers of commands, in memory; nothing can be changed."""

    name, virtual = "sut", False

    def __init__(self) -> None:
        self.files = {f"{NET}/eth0/ifindex", f"{NET}/eth1/ifindex", f"{PCI}/net/eth1", "/proc/net/if_inet6"}
        self.answers: dict[str, object] = {}

    def exists(self, path: str) -> bool:
        return any(name == path or name.startswith(path + "/") for name in self.files)

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}"

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        if argv[0] == "ls":
            below = {name[len(argv[1]) + 1:].split("/")[0] for name in self.files if name.startswith(argv[1] + "/")}
            return Completed(tuple(argv), 0, "\n".join(sorted(below)), "")
        answer = self.answers.get(" ".join(argv), [] if argv[0] == "ip" else "")
        return Completed(tuple(argv), 0, answer if isinstance(answer, str) else json.dumps(answer), "")


def multipath(host: Host) -> str:
    host.answers["ip -j -6 route show default"] = [{"dst": "default", "nexthops": [{"dev": "x"}, {"dev": "eth1"}]}]
    return "eth0"


def stacked(host: Host) -> str:
    host.files |= {f"{NET}/br0.7/lower_bond0", f"{NET}/bond0/lower_eth1", f"{NET}/bond0/lower_eth5"}
    return "br0.7"


def below_default_route(host: Host) -> str:
    host.answers["ip -j -4 route show default"] = [{"dst": "default", "dev": "bond0"}]
    host.files.add(f"{NET}/bond0/lower_eth1")
    return "eth0"


def session(host: Host) -> str:
    host.answers |= {"printenv SSH_CONNECTION": "192.0.2.9 51234 192.0.2.1 22\n",
                     "ip -j addr show": [{"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}]},
                                         {"ifname": "eth1", "addr_info": [{"local": "192.0.2.1"}]}]}
    return "eth0"


def alternative_name(host: Host) -> str:
    host.answers["ip -j link show"] = [{"ifname": "eth1", "altnames": ["enp3s0"]}, {"ifname": "eth0"}]
    return "enp3s0"


@pytest.mark.parametrize("port", [NAMED, BY_PCI], ids=["by name", "by PCI address"])
@pytest.mark.parametrize(("arrange", "says"), [
    (lambda host: "eth1", "the management interface"), (multipath, "an interface with a default route"),
    (stacked, "what br0.7 is stacked on, the management interface"),
    (below_default_route, "what bond0 is stacked on, an interface with a default route"),
    (session, "the interface that this SSH connection uses"), (alternative_name, "the management interface"),
])
def test_a_port_on_the_way_to_the_host_is_refused(port: PortPlan, arrange: Callable[[Host], str], says: str) -> None:
    host = Host()
    check_ports(host, "eth0", [port])  # type: ignore[arg-type]
    management = arrange(host)
    with pytest.raises(TestbedError, match=rf"^port 0 of sut: eth1 .*is {says}; nothing has been touched"):
        check_ports(host, management, [port])  # type: ignore[arg-type]
    missing = missing_for_ports(host, point(port, management))  # type: ignore[arg-type]
    assert [m.what for m in missing if says in m.what and "eth1" in m.what]


def point(port: PortPlan, management: str = "eth0") -> PointPlan:
    tg = PortPlan(0, "", "02:00:00:00:00:01", "10.0.0.1", 24)
    flows = FlowPlan(16, "16.0.1.0", 16, 1024, 1, "10.0.0.2", 9000)
    return PointPlan("p", "p", "linux-udp", {}, Role.ECHO, "sut", 64, (2,),
                     (WirePlan(0, "sut", tg, port, 10.0, "16.0.0.0/16", False),),
                     (DirectionPlan(0, 0, tg.mac, port.mac, flows),), 14.88e6, management=management)


class Machines:
    """Machines of a run that may be looked at, and not changed."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.plan = SimpleNamespace(points=[point(NAMED)])

    def dut_names(self) -> list[str]:
        return ["sut"]

    def connect_dut(self, name: str, owned: object) -> object:
        return SimpleNamespace(facts=dict)

    def guard_ports(self, name: str) -> None:
        check_ports(self.host, "eth1", [NAMED])  # type: ignore[arg-type]

    def dut(self, name: str) -> Host:
        return self.host

    def generator_alive(self) -> bool:
        return True


def test_the_runner_refuses_right_after_connecting() -> None:
    """What comes after connecting is not even there in these machines, so that asking for it fails otherwise."""
    made: Any = _Session(Machines(Host()), Machines(Host()).plan, None, None)  # type: ignore[arg-type]
    with pytest.raises(TestbedError, match=r"eth1 is the management interface") as caught:
        made.connect(None)
    assert caught.value.exit_code == 3


def test_the_ceilings_responder_is_asked_what_it_needs_before_it_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = _Session(Machines(Host()), Machines(Host()).plan, None, None)  # type: ignore[arg-type]
    needy = SimpleNamespace(requirements=lambda dut, point: [Missing("a thing", "get it")])
    monkeypatch.setattr("harness.runner.stacks.create", lambda name, params: needy)
    with pytest.raises(MeasurementError, match=r"^a thing \(get it\)$") as caught:
        made._ceiling_trials(point(NAMED))
    assert isinstance(caught.value, StackError)
