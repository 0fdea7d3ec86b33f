# SPDX-License-Identifier: Apache-2.0
"""The lab's namespaces and the wires between them: what is set on each device, and why.

A wire is a veth pair with one queue per core. GRO on makes the receiving end a NAPI of its own, and ``threaded`` moves
that into kernel threads that can be pinned; otherwise the sender's core would do the receiver's work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from harness.lab import netns
from harness.lab.addresses import device_name, link_prefix, netns_name
from harness.lab.errors import LabError
from harness.plan import WirePlan

SIDES = ("tg", "dut")
_COMMAND_S = 20.0
_LINK_S = 5.0
_POLL_S = 0.005
#: ip_forward first: writing it resets others. A stack that forwards sets it.
_SYSCTLS = (
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
)
#: tx-checksumming off: the frame is complete when it leaves, as behind a NIC that fills it in (over veth nobody would).
#: txvlan off: so is a VLAN tag, which a program in the receiving driver would not see beside the frame.
#: TSO off: with any TSO flag set on the sender, GRO's NAPI is bypassed. Both ends, since either may send ordinary skbs.
_FEATURES = ("tx", "off", "txvlan", "off", "tso", "off", "gso", "off")


def tool(name: str) -> str:
    """Absolute path of a system program. Raises LabError when it is not installed (preflight names the package)."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        raise LabError(f"{name} is not installed")
    return path


def run_tool(argv: Sequence[str], stdin: str = "") -> str:
    """Run a system program to its end and return its output; LabError with its own words when it fails. In a session
    of its own: Ctrl-C at the terminal must not end it halfway through a removal."""
    done = subprocess.run([tool(argv[0]), *argv[1:]], input=stdin, capture_output=True, text=True, timeout=_COMMAND_S,
                          check=False, start_new_session=True)
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)} failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done.stdout


def make_namespaces(lab: str, sides: Iterable[str] = SIDES) -> None:
    """Make and name the namespaces and set what a device inherits when it is made."""
    netns.prepare_directory()
    for side in sides:
        netns.create(netns_name(lab, side))
        netns.in_netns(netns_name(lab, side), _set_sysctls)


def _set_sysctls() -> None:
    for key, value in _SYSCTLS:
        path = Path("/proc/sys") / key
        if path.exists():  # a kernel without IPv6 has none of its keys
            path.write_text(value, encoding="ascii")


def make_wires(lab: str, wires: Sequence[WirePlan], queues: int) -> None:
    """Make the devices inside their namespaces (never in the machine's own), set them up and bring them up."""
    batch = "".join(_link_line(lab, wire, queues) for wire in wires)
    netns.in_netns(netns_name(lab, "tg"), lambda: run_tool(["ip", "-batch", "-"], batch))
    for side in SIDES:
        devices = [device_name(lab, side, wire.index) for wire in wires]
        lines = "".join(_up_lines(devices)) + ("".join(map(_dut_address_lines, wires)) if side == "dut" else "")
        netns.in_netns(netns_name(lab, side), partial(_configure, devices, lines))
    for side in SIDES:
        devices = [device_name(lab, side, wire.index) for wire in wires]
        netns.in_netns(netns_name(lab, side), partial(_receive_by_napi, devices))


def _link_line(lab: str, wire: WirePlan, queues: int) -> str:
    many = f"numtxqueues {queues} numrxqueues {queues}"
    return (f"link add name {wire.tg.ifname} address {wire.tg.mac} {many} type veth "
            f"peer name {wire.dut.ifname} address {wire.dut.mac} {many} netns {netns_name(lab, 'dut')}\n")


def _up_lines(devices: Iterable[str]) -> Iterable[str]:
    yield "link set dev lo up\n"
    for device in devices:
        yield f"link set dev {device} up\n"


def _dut_address_lines(wire: WirePlan) -> str:
    """The generator's end has no address of its own: its kernel must not answer test traffic."""
    network = link_prefix(wire.index)
    return (f"address add {wire.dut.ip}/{network.rpartition('/')[2]} dev {wire.dut.ifname}\n"
            f"neighbour replace {wire.tg.ip} lladdr {wire.tg.mac} dev {wire.dut.ifname} nud permanent\n"
            f"route add {wire.flow_prefix} via {wire.tg.ip} dev {wire.dut.ifname}\n")


def _configure(devices: Sequence[str], ip_lines: str) -> None:
    for device in devices:
        run_tool(["ethtool", "-K", device, *_FEATURES])
    run_tool(["ip", "-batch", "-"], ip_lines)


def _receive_by_napi(devices: Sequence[str]) -> None:
    """GRO on, once both ends are up: veth then tells its peer that frames may be redirected to it (NDO_XMIT in
    xdp-features). On a device that is down it says nothing, and every live frame would be refused."""
    for device in devices:
        run_tool(["ethtool", "-K", device, "gro", "on"])
    with netns.sysfs() as root:
        for device in devices:
            _write_below(root, f"class/net/{device}/threaded", "1")


def _write_below(root: int, path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=root)
    try:
        os.write(fd, value.encode("ascii"))
    finally:
        os.close(fd)


def await_links(lab: str, wires: Sequence[WirePlan]) -> None:
    """Wait until every port is operationally up: before that the kernel may still drop what it is asked to send (the
    notice of a peer that came up later is up to a second late). Raises LabError after five seconds."""
    for side in SIDES:
        devices = [device_name(lab, side, wire.index) for wire in wires]
        netns.in_netns(netns_name(lab, side), partial(_await_operstate, devices))


def _await_operstate(devices: Sequence[str]) -> None:
    deadline = time.monotonic() + _LINK_S
    with netns.sysfs() as root:
        for device in devices:
            while (state := _read_below(root, f"class/net/{device}/operstate")) != "up":
                if time.monotonic() > deadline:
                    raise LabError(f"{device} is still {state!r} after {_LINK_S:g} s; look at dmesg")
                time.sleep(_POLL_S)


def _read_below(root: int, path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    try:
        return os.read(fd, 4096).decode("ascii").strip()
    finally:
        os.close(fd)


def remove_wires(lab: str, devices: Sequence[str]) -> None:
    """Delete the generator's ends that exist (their peers go with them), at once and waited for."""
    name = netns_name(lab, "tg")
    if netns.key_of(name) is None:
        return

    def delete() -> None:
        with netns.sysfs() as root:
            present = [device for device in devices if _exists_below(root, f"class/net/{device}")]
        run_tool(["ip", "-batch", "-"], "".join(f"link delete dev {device}\n" for device in present))

    netns.in_netns(name, delete)


def _exists_below(root: int, path: str) -> bool:
    try:
        os.stat(path, dir_fd=root)
    except FileNotFoundError:
        return False
    return True
