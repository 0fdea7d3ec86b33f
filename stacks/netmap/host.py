# SPDX-License-Identifier: Apache-2.0
"""What netmap needs on a host, and where it is there: module, patched drivers, headers, programs. Changes nothing."""

from __future__ import annotations

from harness.host.contract import Dut
from harness.plan import PointPlan, PortPlan
from harness.stack import Missing

DEVICE = "/dev/netmap"
HEADERS = ("/usr/include/net/netmap_user.h", "/usr/local/include/net/netmap_user.h")
PKT_GEN = "pkt-gen"
#: What netmap's bridge says without arguments; iproute2 has a program of the same name.
_BRIDGE_SAYS = "netmap bridge program"
_SOURCES = "github.com/luigirizzo/netmap"


def missing_module(dut: Dut) -> list[Missing]:
    """The module: not installed, not loaded, or loaded without its device."""
    if dut.exists(DEVICE):
        return []
    release = dut.read("/proc/sys/kernel/osrelease").strip()
    if dut.exists("/sys/module/netmap"):
        return [Missing(f"{DEVICE}, though netmap's module is loaded",
                        "mknod it as `dmesg | grep netmap` says, or load the module again")]
    if dut.which("modinfo") is not None and dut.run(["modinfo", "-n", "netmap"], check=False).returncode == 0:
        return [Missing(f"{DEVICE}: netmap's module is installed and not loaded", "modprobe netmap")]
    return [Missing(f"netmap's kernel module for kernel {release}", f"build it for this kernel ({_SOURCES}), install "
                                                                    "it, then modprobe netmap")]


def driver_of(dut: Dut, ifname: str) -> str:
    """Name of the kernel module that drives an interface, "" when it has none (a virtual one)."""
    path = dut.run(["readlink", f"/sys/class/net/{ifname}/device/driver/module"], check=False).stdout.strip()
    return path.rpartition("/")[2]


def is_patched(dut: Dut, driver: str) -> bool:
    """Whether a loaded driver is one that netmap patched: it then holds netmap's module."""
    return bool(driver) and dut.exists(f"/sys/module/netmap/holders/{driver}")


def missing_driver(dut: Dut, port: PortPlan) -> list[Missing]:
    """A driver of the port's that knows netmap."""
    driver = driver_of(dut, port.ifname)
    if is_patched(dut, driver):
        return []
    found = f"the loaded {driver} is not" if driver else "the interface has no driver module"
    return [Missing(f"a driver of {port.ifname} patched for netmap ({found})",
                    f"load the {driver or 'driver'} that was built with netmap, or choose adapter: any for netmap's "
                    "generic adapter, slower")]


def missing_to_build(dut: Dut) -> list[Missing]:
    """What the stack's own program is built with."""
    missing = [Missing(f"the program {program}", f"apt-get install {package}")
               for program, package in (("make", "make"), ("cc", "gcc libc6-dev")) if dut.which(program) is None]
    if not any(dut.exists(header) for header in HEADERS):
        missing.append(Missing("netmap's headers (net/netmap_user.h)",
                               f"copy sys/net/netmap*.h of netmap's sources ({_SOURCES}) to /usr/local/include/net"))
    return missing


def find_bridge(dut: Dut) -> str | None:
    """Full path of netmap's own bridge, told apart from iproute2's by what it says."""
    for path in dict.fromkeys(["/usr/local/bin/bridge", "/usr/local/sbin/bridge", dut.which("bridge")]):
        if path is not None and dut.exists(path):
            said = dut.run([path], check=False, timeout_s=10.0)
            if _BRIDGE_SAYS in said.stdout + said.stderr:
                return path
    return None


def missing_program(name: str) -> Missing:
    """One of netmap's own programs."""
    return Missing(f"netmap's program {name}", f"build {name} from netmap's sources ({_SOURCES}, apps/{name}) and put "
                                               "it in /usr/local/bin")


def missing_rings(dut: Dut, point: PointPlan, ports: list[PortPlan]) -> list[Missing]:
    """With several cores each takes one ring pair of every port."""
    wanted = len(point.cores)
    if wanted == 1:
        return []
    return [Missing(f"{wanted} receive rings of {port.ifname}, one a core (it has {have})",
                    f"ethtool -L {port.ifname} combined {wanted}, or another number of cores")
            for port in ports if (have := rings_of(dut, port.ifname)) != wanted]


def rings_of(dut: Dut, ifname: str) -> int:
    """Receive rings an interface has at present."""
    listed = dut.run(["ls", f"/sys/class/net/{ifname}/queues"], check=False).stdout.split()
    return sum(name.startswith("rx-") for name in listed)
