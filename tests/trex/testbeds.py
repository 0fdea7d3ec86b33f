# SPDX-License-Identifier: Apache-2.0
"""A rack as a testbed file with TRex describes it, and what TRex tests look at there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from harness.lab.lab import enter_argv
from tests.rackhosts import CHECKS, Rack, RackHost

SYNC_PORT, ASYNC_PORT = 4601, 4600
#: What an XDP program of the DUT sends goes into the ring of the veth's other end, and that end's NAPI is woken for it
#: only if it carries a program too. A NIC needs nothing of the kind.
_PASS = """
struct xdp_md;
__attribute__((section("xdp"), used)) int pass(struct xdp_md *frame) { return 2; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


@dataclass
class TrexRack:
    """A generator's host and one DUT."""

    made: Rack

    @classmethod
    def of(cls, made: Rack) -> Self:
        """The rack, made fit for stacks of XDP."""
        pass_on(made.folder, made.tg_netns, [port.ifname for port in made.generator.ports])
        return cls(made)

    @property
    def generator(self) -> RackHost:
        """The generator's host."""
        return self.made.generator

    @property
    def sut(self) -> RackHost:
        """The DUT."""
        return self.made.hosts["sut"]

    def document(self, **changes: Any) -> dict[str, Any]:
        """What the testbed file says; ``changes``: keys of generator.trex."""
        cores = sorted(os.sched_getaffinity(0))
        trex = {"dir": os.environ.get("TREX_DIR", "/nowhere"), "sync_port": SYNC_PORT, "async_port": ASYNC_PORT,
                "memory_mb": 512, **changes}
        seen = self.generator.entry(cores[:1])
        return {"name": "two-hosts", "wires": self.made.wires, "checks": CHECKS, "duts": [self.sut.entry(cores[1:2])],
                "generator": {"ssh": seen["ssh"], "cores": cores[:1], "ports": seen["ports"], "trex": trex}}

    def write(self, path: Path, **changes: Any) -> Path:
        """The testbed file."""
        path.write_text(yaml.safe_dump(self.document(**changes), sort_keys=False), encoding="utf-8")
        return path

    def write_xdpgen(self, path: Path) -> Path:
        """The testbed file of the same wires with xdpgen, in the generator's namespace."""
        document = self.document()
        told = document["generator"]
        document["generator"] = {"netns": self.made.tg_netns, "cores": told["cores"], "ports": told["ports"]}
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def servers(self) -> list[str]:
        """Command lines of TRex servers in the generator's namespace."""
        return servers(self.made.tg_netns)


def servers(namespace: str) -> list[str]:
    """Command lines of TRex servers in a namespace."""
    pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True)
    lines = []
    for pid in pids.stdout.split():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if "t-rex-64" in line:
            lines.append(line)
    return lines


def programs_off(made: Rack) -> None:
    """No XDP program on the generator's ports: xdpgen brings its own, and replaces nobody's."""
    for port in made.generator.ports:
        subprocess.run(enter_argv(made.tg_netns, ["ip", "link", "set", port.ifname, "xdpdrv", "off"]), check=True,
                       capture_output=True, timeout=30)


def pass_on(folder: Path, namespace: str, ifnames: Sequence[str]) -> None:
    """An XDP program that lets everything pass on each of these ports; it is built in ``folder``."""
    (folder / "pass.c").write_text(_PASS, encoding="ascii")
    argv = ["clang", "-O2", "-g", "-target", "bpf", "-c", "pass.c", "-o", "pass.o"]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=30)
    for ifname in ifnames:
        argv = ["ip", "link", "set", ifname, "xdpdrv", "obj", str(folder / "pass.o"), "sec", "xdp"]
        subprocess.run(enter_argv(namespace, argv), check=True, capture_output=True, timeout=30)
