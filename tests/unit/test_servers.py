# SPDX-License-Identifier: Apache-2.0
"""Programs of stacks: what a build on a DUT is given, and what is made of a program's answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest

from harness.errors import HostError, StackError
from harness.host.build import source_files, source_hash
from harness.host.contract import Dut, RemoteProcess
from harness.stack import StackCounters
from harness.stacks.servers import RunningServer, notices


def test_a_build_gets_the_shared_code_beside_the_sources_and_its_hash_covers_both(tmp_path: Path) -> None:
    source, shared = tmp_path / "src", tmp_path / "native"
    for folder in (source, shared):
        folder.mkdir()
    (source / "main.c").write_text("one")
    (shared / "control.c").write_text("two")
    alone, together = source_files(source), source_files(source, (shared,))
    assert list(alone) == ["main.c"]
    assert together == {"main.c": b"one", "native/control.c": b"two"}
    (shared / "control.c").write_text("three")
    assert len({source_hash(alone), source_hash(together), source_hash(source_files(source, (shared,)))}) == 3
    (source / "native").mkdir()
    (source / "native" / "mine.c").write_text("four")
    with pytest.raises(HostError, match="has a native of its own"):
        source_files(source, (shared,))


class Program:
    """A process that gives one answer to everything."""

    def __init__(self, answer: str | None, alive: bool = True) -> None:
        self.answer, self.running = answer, alive

    def alive(self) -> bool:
        return self.running

    def returncode(self) -> int:
        return 3

    def output(self, tail: int = 0) -> str:
        return "last words"

    def write(self, text: str) -> None:
        self.asked = text.strip()

    def wait_output(self, pattern: str, timeout_s: float) -> str:
        line = f"{self.asked} {self.answer}"
        if self.answer is None or re.search(pattern, line) is None:
            raise HostError("nothing came")
        return line


class Host:
    name = "dut"


def server(program: Program) -> RunningServer[Any]:
    class Running(RunningServer[int]):
        def counters(self) -> StackCounters:
            return StackCounters({"n": self.stats()})

    return Running(cast(Dut, Host()), cast(RemoteProcess, program), "srv", lambda text: int(json.loads(text)["n"]))


def test_an_answer_is_read_and_anything_else_is_an_error_with_the_programs_last_words() -> None:
    assert server(Program('{"n": 7}')).stats() == 7
    unreadable = ('{"m": 1}', '{"n": "x"}', '{"n": null}', "{n}")
    for answer, message in (*((text, "cannot be read") for text in unreadable), ('{"n": ', "srv does not answer"),
                            (None, "srv does not answer")):
        with pytest.raises(StackError, match=message) as failed:
            server(Program(answer)).stats()
        assert failed.value.log_tail == "last words"
    with pytest.raises(StackError, match="srv on dut ended with status 3"):
        server(Program(None, alive=False)).stats()


def test_notices_are_said_once_each() -> None:
    assert notices("notice: a\nnotice: b: c\nready workers=1\nnotice: a\n") == ["a", "b: c"]
