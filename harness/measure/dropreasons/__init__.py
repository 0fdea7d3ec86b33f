# SPDX-License-Identifier: Apache-2.0
"""The kernel's own reasons for dropping packets, counted on the DUT by a BPF program at skb:kfree_skb (``src/``).

For a diagnostic trial, never a measured one: the program runs for every packet that is dropped. Names come from the
running kernel's BTF. Where the host cannot do it, the record says why instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from harness.errors import MeasurementError
from harness.host.contract import Dut, RemoteProcess
from harness.measure.accounting import rise
from harness.records import DropReasons
from harness.stack import StackCounters
from harness.stacks.servers import NATIVE, RunningServer, missing_bpf_compiler, serving

SOURCE = Path(__file__).with_name("src")
#: Of one trial; a kernel has about a hundred.
MOST_REASONS = 512


class _Reason(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reason: str = Field(max_length=100)
    count: int = Field(ge=0, lt=1 << 64)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    reasons: list[_Reason] = Field(max_length=MOST_REASONS)
    missed: int = Field(ge=0, lt=1 << 64)


class Count(Protocol):
    """What was dropped since counting began."""

    def read(self) -> DropReasons:
        """By reason, those that rose. Where the host cannot tell, a record that says why."""


class _NoCount:
    def __init__(self, why: str) -> None:
        self._why = why

    def read(self) -> DropReasons:
        return DropReasons(reason=self._why)


class _Program(RunningServer[_Answer]):
    """The running program, and its counts when counting began."""

    def __init__(self, dut: Dut, process: RemoteProcess) -> None:
        super().__init__(dut, process, "dropreasons", _Answer.model_validate_json)
        self._before = self.stats()

    def counters(self) -> StackCounters:
        return StackCounters(_by_name(self.stats()))

    def read(self) -> DropReasons:
        try:
            after = self.stats()
        except MeasurementError as error:
            return DropReasons(reason=str(error))
        return DropReasons(counts=rise(_by_name(self._before), _by_name(after)),
                           missed=after.missed - self._before.missed)


def _by_name(answer: _Answer) -> dict[str, int]:
    return {entry.reason: entry.count for entry in answer.reasons}


@contextmanager
def counting(dut: Dut, ifnames: Sequence[str]) -> Iterator[Count]:
    """Count for the time of the block what the kernel drops of these interfaces' packets. What the host lacks is no
    error: the count then says why there is none. Raises HostLost."""
    with ExitStack() as running:
        yield _start(dut, ifnames, running)


def _start(dut: Dut, ifnames: Sequence[str], running: ExitStack) -> Count:
    if not ifnames:
        return _NoCount("the stack has taken the ports from the kernel, which sees none of their packets")
    missing = missing_bpf_compiler(dut)
    if missing:
        return _NoCount("; ".join(f"{lack.what} is missing ({lack.remedy})" for lack in missing))
    try:
        program = dut.program(SOURCE, "dropreasons", beside=(NATIVE,))
        process = running.enter_context(serving(dut, [program, *ifnames], "dropreasons"))
        return _Program(dut, process)
    except MeasurementError as error:
        return _NoCount(str(error))
