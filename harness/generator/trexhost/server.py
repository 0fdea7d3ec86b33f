# SPDX-License-Identifier: Apache-2.0
"""TRex's server for a run: the one that already serves, or one that is started and is stopped again.

Whatever is changed on the host for it is on the journal of the agent there: a controller that dies leaves no TRex
behind, no configuration file, no port without its driver. A server that somebody else started is used as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from harness.errors import HostError, TestbedError
from harness.generator.trexhost import config
from harness.generator.trexhost.complaints import explain
from harness.generator.trexhost.config import TrexPort
from harness.generator.trexhost.release import Release
from harness.host.contract import Dut, RemoteProcess
from harness.host.dut import RUN_DIR

#: A server with many ports and hugepages to clear takes long.
READY_S = 120.0
_POLL_S = 0.2
_STOP_S = 20.0
_KEEP = 1 << 20
FLAGS = {"stl": (), "astf": ("--astf",)}
_HUGETLBFS = "/mnt/huge"


class Host(Dut, Protocol):
    """The generator's host."""

    def create_file(self, path: str, text: str) -> None:
        """Make a file that undo removes."""


@dataclass(frozen=True)
class Wanted:
    """The server that a run needs. ``mode``: "stl" or "astf"; ``start``: whether one may be started; ``software``:
    TRex's software mode."""

    release: Release
    mode: str
    ports: tuple[TrexPort, ...]
    cores: tuple[int, ...]
    sync_port: int
    async_port: int
    start: bool
    software: bool

    def argv(self, file: str) -> list[str]:
        """Start it with this configuration. Its screen, repainted twice a second, and its Scapy server are not used."""
        options = [*FLAGS[self.mode], *(["--software"] if self.software else []), "--no-scapy-server", "--iom", "0"]
        return ["env", "-C", self.release.directory, "./t-rex-64", "-i", "--cfg", file, *options]


@contextmanager
def serving(host: Host, wanted: Wanted, look: Callable[[], Mapping[str, Any]],
            keep: Callable[[str], None]) -> Iterator[bool]:
    """A server that suits for the time of the block; yields whether it was started for it. ``look``: who serves there,
    as the generator's agent sees it; ``keep``: takes the log of a server that was started. Raises TestbedError."""
    found = look()
    if found["serving"]:
        _check(host, wanted, found)
        yield False
        return
    if not wanted.start:
        raise TestbedError(f"no TRex serves on port {wanted.sync_port} of {host.name}; start it there (cd "
                           f"{wanted.release.directory}; {' '.join(('./t-rex-64 -i', *FLAGS[wanted.mode]))}), or leave "
                           "generator.trex.start out")
    with _started(host, wanted, look, keep):
        yield True


def _check(host: Host, wanted: Wanted, found: Mapping[str, Any]) -> None:
    mode, version = str(found.get("mode", "")).lower()[:20], str(found.get("version", ""))[:40]
    if mode != wanted.mode:
        raise TestbedError(f"the TRex that runs on {host.name} is in mode {mode.upper() or 'unknown'}, and this "
                           f"scenario needs {wanted.mode.upper()}; stop it, and the harness starts one as it needs it")
    if version != wanted.release.version:
        raise TestbedError(f"the TRex that runs on {host.name} is {version}, and {wanted.release.directory} holds "
                           f"{wanted.release.version}: its client would not suit. Stop that server, or name its own "
                           "directory under generator.trex.dir")


@contextmanager
def _started(host: Host, wanted: Wanted, look: Callable[[], Mapping[str, Any]],
             keep: Callable[[str], None]) -> Iterator[None]:
    mark = host.undo_mark()
    try:
        if not wanted.software:
            _leave_memory_as_it_is(host)
        file = f"{RUN_DIR}/trex_cfg-{wanted.sync_port}.yaml"
        host.create_file(file, config.text(wanted.ports, wanted.cores, wanted.sync_port, wanted.async_port))
        process = host.spawn(wanted.argv(file), name="t-rex-64")
        try:
            _await(host, process, look)
            yield
        finally:
            process.stop(_STOP_S)
            keep(process.output(_KEEP))
    finally:
        host.undo_to(mark)


def _await(host: Host, process: RemoteProcess, look: Callable[[], Mapping[str, Any]]) -> None:
    deadline = time.monotonic() + READY_S
    while not look()["serving"]:
        if not process.alive():
            raise TestbedError(f"TRex does not start on {host.name}: {explain(process.output(_KEEP))}")
        if time.monotonic() > deadline:
            raise TestbedError(f"TRex did not serve on {host.name} within {READY_S:.0f} s: "
                               f"{explain(process.output(_KEEP))}")
        time.sleep(_POLL_S)


def _leave_memory_as_it_is(host: Host) -> None:
    """TRex's start script reserves hugepages on two NUMA nodes and mounts a file system for them, and leaves both. The
    pages that there are now go onto the journal, and the mount if it is not there yet."""
    nodes = "/sys/devices/system/node"
    for path in _hugepage_files(host, nodes):
        host.set_file(path, host.read(path).strip())
    if f" {_HUGETLBFS} " not in host.read("/proc/mounts"):
        host.apply(["true"], ["sh", "-c", f"! mountpoint -q {_HUGETLBFS} || umount {_HUGETLBFS}"])


def _hugepage_files(host: Host, nodes: str) -> Sequence[str]:
    found: list[str] = []
    for node in (0, 1):
        for size in ("2048kB", "1048576kB"):
            path = f"{nodes}/node{node}/hugepages/hugepages-{size}/nr_hugepages"
            if host.exists(path):
                found.append(path)
    return found


def numa_node(host: Dut, pci: str) -> int:
    """NUMA node of a PCI device, -1 where the host tells none."""
    try:
        return int(host.read(f"/sys/bus/pci/devices/{pci}/numa_node", "-1"))
    except (HostError, ValueError):
        return -1
