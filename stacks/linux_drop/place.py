# SPDX-License-Identifier: Apache-2.0
"""A place where Linux can discard, as the stack sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

from harness.errors import HostError, StackError
from harness.host.contract import Dut
from harness.stack import Missing, RunningStack, StackContext, StackCounters

from .target import Target

DISCARDED = "discarded"


class Place(ABC):
    """One rung of the ladder."""

    #: What becomes of a packet there, for the report.
    semantics: ClassVar[str]
    #: Whether no program works for it.
    in_softirq: ClassVar[bool] = True
    #: Whether a packet gets there only after connection tracking.
    after_conntrack: ClassVar[bool] = False
    #: Whether a packet with a wrong UDP checksum ends before it gets there.
    checks_checksum: ClassVar[bool] = False
    #: Whether there can be rules before the match.
    has_rules: ClassVar[bool] = True

    @abstractmethod
    def missing(self, dut: Dut, target: Target) -> list[Missing]:
        """What the host lacks for it; changes nothing."""

    @abstractmethod
    def deploy(self, context: StackContext, target: Target) -> AbstractContextManager[RunningStack]:
        """Discard until the end of the block. Ports are set up; what is journalled is undone by the caller."""


class RunningRule(RunningStack):
    """A rule of the kernel that discards and counts; ``read`` asks for its packets."""

    def __init__(self, dut: Dut, what: str, read: Callable[[], int]) -> None:
        self._dut, self._what, self._read = dut, what, read

    def check_alive(self) -> None:
        self.counters()

    def counters(self) -> StackCounters:
        try:
            return StackCounters({DISCARDED: self._read()})
        except (HostError, ValueError, LookupError, TypeError) as error:
            raise StackError(f"{self._what} on {self._dut.name} is gone or its counter cannot be read: {error}"
                             ) from error


def summed(per_worker: Sequence[Mapping[str, int]], losses: Mapping[str, int] | None = None) -> StackCounters:
    """Counters whose total is the sum over the workers."""
    return StackCounters({DISCARDED: sum(worker[DISCARDED] for worker in per_worker)}, tuple(per_worker), losses or {})
