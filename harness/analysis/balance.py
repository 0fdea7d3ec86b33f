# SPDX-License-Identifier: Apache-2.0
"""How evenly receive queues and workers shared the frames of a trial: shares, busiest against mean, Jain's index.

From ``Trial.counters``. A queue that received nothing is a member too; a total over the members would hide it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: A driver's count of frames that one receive queue took in, by its number: veth, ixgbe and others, i40e, mlx5, ena,
#: bnxt. The first pattern that a port has counters for is used, so that none counts twice.
_QUEUE = tuple(re.compile(pattern) for pattern in (
    r"rx_queue_(\d+)_packets", r"rx_queue_(\d+)_xdp_packets", r"rx-(\d+)\.packets", r"rx(\d+)_packets",
    r"queue_(\d+)_rx_cnt", r"\[(\d+)\]: rx_ucast_packets"))
#: What workers call the frames they received; the first that any of them has.
_WORKER = ("received", "rx_packets", "rx", "packets")
#: What tells a worker apart: kept with its counters although it never rises.
IDENTITY = ("core", "port", "queue")
#: Share of an even one below which a member is not live: neighbours' and a bystander's frames go elsewhere than the
#: test's flows, and are few.
LIVE = 0.01
#: Members kept of one table: a run directory may come from anybody.
_MOST = 4096


@dataclass(frozen=True)
class Balance:
    """Frames by member (queue or worker), in the members' order; at least one frame in all."""

    members: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """Frames of all members."""
        return sum(frames for _, frames in self.members)

    @property
    def live(self) -> int:
        """Members with more than a stray share of the frames."""
        return sum(frames > LIVE * self.total / len(self.members) for _, frames in self.members)

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """(member, share of all frames 0..1)."""
        return tuple((name, frames / self.total) for name, frames in self.members)

    @property
    def busiest(self) -> float:
        """The busiest member's frames over the mean of all: 1 when even, the number of members when one has all."""
        return max(frames for _, frames in self.members) * len(self.members) / self.total

    @property
    def jain(self) -> float:
        """Jain's fairness index: 1 when even, 1 / members when one has all."""
        return self.total ** 2 / (len(self.members) * sum(frames ** 2 for _, frames in self.members))


def is_queue_counter(name: str) -> bool:
    """Whether a driver's counter counts the frames of one receive queue."""
    return any(pattern.fullmatch(name) for pattern in _QUEUE)


def queue_balance(counters: Mapping[str, Any], ifname: str) -> Balance | None:
    """Receive queues of one port in a trial; None where its driver does not count by queue, or nothing arrived."""
    port = _mapping(_mapping(counters.get("interfaces")).get(ifname))
    for pattern in _QUEUE:
        found = sorted((int(match[1]), frames) for name, frames in list(port.items())[:_MOST]
                       if (match := pattern.fullmatch(str(name))) and _is_count(frames))
        if any(frames for _, frames in found):
            return Balance(tuple((f"queue {number}", frames) for number, frames in found))
    return None


def live_queues(counters: Mapping[str, Any], ifnames: Iterable[str], otherwise: int) -> int:
    """Receive queues that had work in a trial, of the port that had most; ``otherwise`` where no driver tells."""
    found = [balance.live for name in ifnames if (balance := queue_balance(counters, name)) is not None]
    return max(found, default=otherwise)


def worker_balance(counters: Mapping[str, Any]) -> Balance | None:
    """A stack's workers in a trial; None where it has none of its own, or nothing arrived."""
    rows = [_mapping(row) for row in counters.get("workers", ())][:_MOST]
    rows = [row for row in rows if "core" in row or "queue" in row]
    name = next((name for name in _WORKER if any(name in row for row in rows)), None)
    if name is None:
        return None
    members = tuple((_worker(row), row.get(name, 0)) for row in rows)
    usable = all(_is_count(frames) for _, frames in members) and any(frames for _, frames in members)
    return Balance(members) if usable else None


def _worker(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {row[name]}" for name in IDENTITY if isinstance(row.get(name), int))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 62


def identified(worker: Mapping[str, int], rose: Mapping[str, int]) -> dict[str, int]:
    """What rose of a worker's counters, with what tells it apart."""
    return {name: worker[name] for name in IDENTITY if name in worker} | dict(rose)


def with_idle_queues(counters: Mapping[str, int], rose: Mapping[str, int]) -> dict[str, int]:
    """What rose of a port's counters, and the receive queues that did not."""
    return {name: 0 for name in counters if is_queue_counter(name)} | dict(rose)
