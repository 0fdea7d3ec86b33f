# SPDX-License-Identifier: Apache-2.0
"""Which interrupts of a port are its queues', by the names that drivers give them, and where they arrive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.host.contract import Dut
from harness.host.pci import DEVICES, pci_of

#: /proc/interrupts without its counts, which are most of it on a large host.
LISTING = ("sed", "-E", r"s/^( *[0-9]+:)( +[0-9]+)+ /\1 /", "/proc/interrupts")
_MOST_VECTORS = 2048
#: The queue's number in an interrupt's name. eth1-TxRx-0, i40e-eth1-TxRx-0, iavf-eth1-TxRx-0, eth1-rxtx-0 (vmxnet3),
#: eth1-Tx-Rx-0 (ena), eth1-rx-0, eth1-fp-0 (bnx2x), eth1-q0 (be2net), eth1-Rx0, virtio0-input.0, mlx5_comp0@pci:...
_RECEIVE = re.compile(r"(?:-(?:tx-?rx|rx-?tx|rx|fp|q)-?|-input\.|^mlx5_comp)(\d{1,9})(?:@\S*)?$", re.IGNORECASE)
_TRANSMIT = re.compile(r"(?:-tx-?|-output\.)(\d{1,9})$", re.IGNORECASE)


@dataclass(frozen=True)
class QueueInterrupt:
    """``queue``: 0 for the port's first one, of receive and transmit queues alike; ``name``: the driver's."""

    number: int
    name: str
    queue: int

    @property
    def affinity(self) -> str:
        """The file with the cores it may arrive on."""
        return f"/proc/irq/{self.number}/smp_affinity_list"


def vectors(dut: Dut, ifname: str) -> list[int]:
    """Numbers of all MSI interrupts of a port's device, ascending; none for a virtual port. A virtio interface belongs
    to a child of the PCI device that has them."""
    folder = f"/sys/class/net/{ifname}/device/msi_irqs"
    if not dut.exists(folder):
        pci = pci_of(dut, ifname) if dut.exists(f"/sys/class/net/{ifname}/device") else ""
        folder = f"{DEVICES}/{pci}/msi_irqs"
        if not pci or not dut.exists(folder):
            return []
    found = dut.run(["ls", folder], check=False).stdout.split()
    return sorted(int(word) for word in found if word.isdecimal())[:_MOST_VECTORS]


def parse(text: str) -> dict[int, str]:
    """/proc/interrupts, with or without its counts: number -> name of the (last) action."""
    found = {}
    for line in text.split("\n"):
        number, _, rest = line.partition(":")
        words = rest.split()
        if re.fullmatch(r" *\d{1,9}", number) and words:
            found[int(number)] = words[-1]
    return found


def queues_among(names: Mapping[int, str]) -> list[QueueInterrupt]:
    """The queues' interrupts among those of one port (number -> name), in the order of the numbers. Others (link state,
    mailbox, asynchronous events) are left out. Where no name is known all are taken for queues, in order."""
    found: list[QueueInterrupt] = []
    for pattern, not_of in ((_RECEIVE, None), (_TRANSMIT, _RECEIVE)):
        told = {number: int(match[1]) for number, name in names.items()
                if (match := pattern.search(name)) and not (not_of and not_of.search(name))}
        ranks = {queue: rank for rank, queue in enumerate(sorted(set(told.values())))}
        found += [QueueInterrupt(number, names[number], ranks[queue]) for number, queue in told.items()]
    if not found:
        found = [QueueInterrupt(number, names[number], n) for n, number in enumerate(sorted(names))]
    return sorted(found, key=lambda interrupt: interrupt.number)


def queue_interrupts(dut: Dut, ifname: str) -> list[QueueInterrupt]:
    """The interrupts of a port's queues; none for a virtual port."""
    numbers = vectors(dut, ifname)
    if not numbers:
        return []
    names = parse(dut.run(LISTING).stdout)
    # A vector that nobody has asked for is not in the list.
    return queues_among({number: names[number] for number in numbers if number in names})


def affinities(dut: Dut, ifnames: Sequence[str]) -> dict[str, str]:
    """Where the queues' interrupts of ports may arrive: "name (irq number)" -> list of cores."""
    return {f"{interrupt.name} (irq {interrupt.number})": dut.read(interrupt.affinity, "").strip()
            for ifname in ifnames for interrupt in queue_interrupts(dut, ifname)}
