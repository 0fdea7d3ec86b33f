# SPDX-License-Identifier: Apache-2.0
"""Fixtures for what the user types: stacks that exist nowhere else, and files written on the spot."""

from __future__ import annotations

import gc
import textwrap
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import MLRsearch  # noqa: F401 - takes 1.6 s once many modules are there: it asks inspect.stack() about each
import pytest
from pydantic import Field

from harness import stacks
from harness.host.contract import Dut
from harness.plan import PointPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackParams


def pytest_collection_finish() -> None:
    """What collection made lives to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


class _Bare(Stack):
    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        return []

    def deploy(self, context: StackContext) -> AbstractContextManager[RunningStack]:
        raise AssertionError("planning deploys nothing")


class SocketsParams(StackParams):
    reuseport: bool = Field(False, description="One socket a worker")
    mode: Literal["block", "spin"] = Field("block", description="How a worker waits")
    buffer: int = Field(4096, ge=1024, description="Bytes")


class Sockets(_Bare):
    name = "sockets"
    summary = "an echo over sockets"
    roles: ClassVar = {Role.ECHO: RoleInfo("echo by an application", checks_checksum=True),
                       Role.DROP: RoleInfo("read", "datagrams"),
                       Role.ACCEPT: RoleInfo("accepted", completed_counter="served")}
    Params = SocketsParams
    features: ClassVar = frozenset({"ipv6"})


class BypassParams(StackParams):
    bridge: bool = Field(False, description="Forward frames as they are")


class Bypass(_Bare):
    name = "bypass"
    summary = "everything but echo, polling"
    roles: ClassVar = {role: RoleInfo("L2") for role in (Role.DROP, Role.REFLECT, Role.FORWARD)}
    Params = BypassParams
    features: ClassVar = frozenset({"ipv6", "vlan"})

    def polls(self) -> bool:
        return True

    def polls_apart(self, role: Role) -> bool:
        return True

    def role_info(self, role: Role) -> RoleInfo:
        bridged = isinstance(self.params, BypassParams) and self.params.bridge and role is Role.FORWARD
        return RoleInfo("bridged", layer="l2") if bridged else self.roles[role]


@pytest.fixture
def fake_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry holds ``sockets`` (echo, drop, accept) and ``bypass`` (drop, reflect, forward; polls)."""
    found = MappingProxyType({stack.name: stack for stack in (Bypass, Sockets)})
    monkeypatch.setattr(stacks, "available", lambda: found)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file, dedented, and return its path."""
    def write_file(text: str | bytes, name: str = "scenario.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).lstrip("\n").encode())
        return path

    return write_file
