# SPDX-License-Identifier: Apache-2.0
"""Where the kernel does a port's work: RPS, RFS, XPS, NAPI threads, and irqbalance out of the way."""

from __future__ import annotations

from collections.abc import Iterator

from harness.errors import HostError
from harness.host.contract import Dut
from harness.host.tuning.change import Change, Target, file_change, made, unsupported

_FLOW_TABLE = "/proc/sys/net/core/rps_sock_flow_entries"


def mask(cores: tuple[int, ...]) -> str:
    """Cores as the kernel writes a CPU mask: hexadecimal, a comma every 32 bits."""
    digits = f"{sum(1 << core for core in cores):x}"
    words = [digits[max(0, end - 8):end] for end in range(len(digits), 0, -8)]
    return ",".join(reversed(words))


def _queues(dut: Dut, ifname: str, kind: str) -> list[str]:
    """Folders of a port's receive ("rx") or transmit ("tx") queues, in order."""
    folder = f"/sys/class/net/{ifname}/queues"
    names = [name for name in dut.run(["ls", folder]).stdout.split() if name.startswith(f"{kind}-")]
    return [f"{folder}/{name}" for name in sorted(names, key=lambda name: int(name[3:]))]


def rps(target: Target, wanted: str) -> Iterator[Change]:
    """Software steering of received frames to the cores, or none."""
    value = mask(target.cores) if wanted == "cores" else "0"
    for ifname in target.ports:
        for queue in _queues(target.dut, ifname, "rx"):
            yield file_change("rps", target.dut, f"{queue}/rps_cpus", value)


def table_size(entries: int) -> int:
    """The size of a flow table as the kernel makes it: a power of two, or none."""
    return 1 << (entries - 1).bit_length() if entries > 0 else 0


def rfs(target: Target, wanted: int) -> Iterator[Change]:
    """Steering to the core where the application runs: one table for the host, a share of it for each queue."""
    yield file_change("rfs", target.dut, _FLOW_TABLE, str(table_size(wanted)))
    for ifname in target.ports:
        queues = _queues(target.dut, ifname, "rx")
        for queue in queues:
            yield file_change("rfs", target.dut, f"{queue}/rps_flow_cnt", str(table_size(-(-wanted // len(queues)))))


def xps(target: Target, wanted: str) -> Iterator[Change]:
    """Transmit queue i for core i of the point, the others unused; or no steering."""
    for ifname in target.ports:
        for number, queue in enumerate(_queues(target.dut, ifname, "tx")):
            used = wanted == "cores" and number < len(target.cores)
            yield file_change("xps", target.dut, f"{queue}/xps_cpus", mask(target.cores[number:number + 1])
                              if used else "0")


def threaded_napi(target: Target, wanted: bool) -> Iterator[Change]:
    """NAPI polls in kernel threads; the runner pins them to the point's cores."""
    for ifname in target.ports:
        yield file_change("threaded_napi", target.dut, f"/sys/class/net/{ifname}/threaded", str(int(wanted)))


def irqbalance(target: Target, wanted: str) -> Iterator[Change]:
    """Stop the daemon that moves interrupts about, and start it again afterwards."""
    dut = target.dut
    if dut.which("systemctl") is None:
        yield unsupported("irqbalance", dut.name, "the host has no systemctl to stop it with")
        return

    try:
        irqbalance_state(dut)
    except HostError as error:
        yield unsupported("irqbalance", dut.name, str(error))
        return
    yield made("irqbalance", dut.name, wanted, lambda: irqbalance_state(dut), lambda: dut.apply(
        ["systemctl", "stop", "irqbalance"], ["systemctl", "start", "irqbalance"]))


def irqbalance_state(dut: Dut) -> str:
    """"running" or "stopped". Raises HostError where systemd does not tell."""
    state = dut.run(["systemctl", "is-active", "irqbalance"], check=False).stdout.strip()
    if state not in ("active", "inactive", "failed", "unknown"):
        raise HostError(f"{dut.name}: `systemctl is-active irqbalance` says {state[:100]!r}")
    return "running" if state == "active" else "stopped"
