# SPDX-License-Identifier: Apache-2.0
"""Programs that stacks bring with them: built on the DUT together with the C code they share (``harness/native``),
started, awaited, and asked for their counters over standard input (``harness/native/control.h``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Generic, TypeVar

import harness
from harness.errors import HostError, StackError
from harness.host.contract import Dut, RemoteProcess
from harness.plan import PointPlan
from harness.stack import Missing, RunningStack, StackContext
from harness.stacks.probes import missing_programs

#: Folder of the C code that stacks' programs share; in a build it lies beside their own sources.
NATIVE = Path(harness.__file__).resolve().parent / "native"
READY_S = 20.0
ANSWER_S = 5.0
LOG_BYTES = 4096
_NOTICE = "notice: "

Answer = TypeVar("Answer")


def missing_compiler(dut: Dut) -> list[Missing]:
    """What the host lacks to build a program in C."""
    return missing_programs(dut, ("make", "make"), ("cc", "gcc libc6-dev"))


def missing_bpf_compiler(dut: Dut) -> list[Missing]:
    """What the host lacks to build a BPF program and its loader with clang and libbpf."""
    headers = (("libbpf's headers", "libbpf-dev", "/usr/include/bpf/bpf_helpers.h"),
               ("the kernel's user headers", "linux-libc-dev", "/usr/include/linux/bpf.h"))
    return [*missing_programs(dut, ("clang", "clang"), ("make", "make")),
            *(Missing(what, f"apt-get install {package}") for what, package, path in headers if not dut.exists(path))]


def build(context: StackContext, target: str) -> str:
    """Path on the DUT of a program of the stack's ``src/``, built there if it is not yet. Raises HostError."""
    return context.dut.program(context.source / "src", target, beside=(NATIVE,))


def missing_room(point: PointPlan, workers: int, most: int) -> list[Missing]:
    """A server has room for ``most`` workers; ``workers`` are wanted on each core, of each wire."""
    wanted = len(point.cores) * workers * len(point.wires)
    return [] if wanted <= most else [Missing(f"room for {wanted} workers, the server has {most}",
                                              "give fewer workers to each core")]


@contextmanager
def serving(dut: Dut, argv: Sequence[str], name: str, *, cores: Sequence[int] = (), hint: str = "",
            ) -> Iterator[RemoteProcess]:
    """A program for the time of the block, entered when it says ``ready``. Raises StackError, with ``hint`` and its
    last words, when it does not."""
    process = dut.spawn(argv, name=name, cores=cores)
    try:
        try:
            process.wait_output(r"^ready\b", READY_S)
        except HostError as error:
            raise StackError(f"{name} did not start: {error}{hint}", process.output(LOG_BYTES)) from error
        yield process
    finally:
        process.stop()


def notices(output: str) -> list[str]:
    """What a program said is slower than asked ("notice: ..."), once each."""
    return list(dict.fromkeys(line.removeprefix(_NOTICE) for line in output.splitlines() if line.startswith(_NOTICE)))


class RunningServer(RunningStack, Generic[Answer]):
    """A running program, asked through its standard input."""

    def __init__(self, dut: Dut, process: RemoteProcess, name: str, read: Callable[[str], Answer]) -> None:
        """``read`` makes the answer of the JSON text that the program gives; it raises ValueError (ValidationError is
        one), LookupError or TypeError where that is malformed."""
        self.dut, self.process, self.name = dut, process, name
        self._read = read
        self._ids = count(1)

    def check_alive(self) -> None:
        if not self.process.alive():
            raise StackError(f"{self.name} on {self.dut.name} ended with status {self.process.returncode()}",
                             self.log_tail())

    def log_tail(self) -> str:
        return self.process.output(LOG_BYTES)

    def stats(self) -> Answer:
        """Everything the program counts. Raises StackError when it is gone or its answer is malformed."""
        asked = f"stats {next(self._ids)}"
        try:
            self.process.write(f"{asked}\n")
            line = self.process.wait_output(rf"^{asked} \{{.*\}}$", ANSWER_S)
        except HostError as error:
            self.check_alive()
            raise StackError(f"{self.name} does not answer: {error}", self.log_tail()) from error
        try:
            return self._read(line[line.index("{"):])
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
            raise StackError(f"{self.name} gave counters that cannot be read: {error!r}", self.log_tail()) from error
