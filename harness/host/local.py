# SPDX-License-Identifier: Apache-2.0
"""A Dut on this machine without SSH: the same agent over a pipe. For tests of stacks and for trying things out."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.host.bootstrap import AGENT_FILE
from harness.host.channel import PipeChannel
from harness.host.dut import CACHE_DIR, AgentDut
from harness.host.link import ALONE, LEASE_S, AgentLink, Member


@contextmanager
def local_dut(netns: str | None = None, *, prefix: Sequence[str] = (), home_cores: Sequence[int] = (),
              name: str = "local", cache_dir: str = CACHE_DIR, lease_s: float = LEASE_S,
              state_dir: str = "", run_dir: str = "", member: Member = ALONE,
              python: str = sys.executable) -> Iterator[AgentDut]:
    """A Dut whose agent is a child of this process, in the network namespace ``netns`` when given. ``prefix``: an argv
    to start it with instead (``lab.exec_argv("dut", [])``). On leaving everything is undone; HostNotRestored says
    what is not. ``state_dir``: keep lock and journal there (``run_dir``: the lock); a throw-away folder otherwise.
    ``member``: who may share the lock."""
    folder = state_dir or tempfile.mkdtemp(prefix="netstack-harness-local-")
    enter = list(prefix) or (["ip", "netns", "exec", netns] if netns else [])
    try:
        channel = PipeChannel([*enter, python, "-I", str(AGENT_FILE), "serve", run_dir or folder, folder, cache_dir])
        dut = AgentDut(AgentLink(channel, name), name, virtual=True)
        try:
            dut.greet(home_cores=home_cores, lease_s=lease_s, member=member)
        except BaseException:
            dut.abandon()
            raise
        with dut:
            yield dut
    finally:
        if not state_dir:
            shutil.rmtree(Path(folder))
