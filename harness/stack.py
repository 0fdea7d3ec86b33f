# SPDX-License-Identifier: Apache-2.0
"""The Stack contract. A stack is a folder ``stacks/<name>/`` with ``stack.py``; the core names none of them.

``stack.py`` defines exactly one subclass of :class:`Stack`. The folder's name is the stack's name with ``-``
written ``_``. Discovery is in :mod:`harness.stacks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from harness.host.contract import Dut
from harness.plan import PointPlan, Role


class StackParams(BaseModel):
    """Base of a stack's parameters: frozen, unknown keys refused. Document every field: ``harness stacks show``
    and the report print the descriptions."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Missing:
    """Something a host lacks. ``remedy`` is a sentence or command that gets it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class RoleInfo:
    """How a stack fills a role. ``semantics`` is printed in the report ("L3, TTL - 1"); ``discard_counter`` names the
    entry of ``counters()`` that counts discarded test frames exactly (role drop)."""

    semantics: str
    discard_counter: str = ""
    #: Role accept: the entry of ``counters()`` that counts connections accepted, answered and closed.
    completed_counter: str = ""
    #: Forwarding only: "l2" keeps the frame, which is addressed to the generator's far port (so ports must take frames
    #: for other addresses); "l3" takes frames for its own port, rewrites MACs and lowers the TTL.
    layer: str = ""
    #: Frames whose UDP checksum is wrong do not get through: they end in the kernel, before a socket.
    checks_checksum: bool = False
    #: Role echo: the reply has an IP header of its own, as a socket's has, so what a generator marked there is gone.
    new_ip_header: bool = False


@dataclass(frozen=True)
class PollUsage:
    """Polls of all workers since deployment. ``source`` says where the figures come from."""

    useful: int
    empty: int
    source: str


@dataclass(frozen=True)
class StackCounters:
    """Monotonic counts since deployment. ``totals``: by name; ``per_worker``: one mapping a worker (or queue);
    ``losses``: frames the stack itself lost, by place ("socket buffer", "application", "tx ring"). ``in_port_drops``:
    how many of these the DUT port's driver counts as its own receive drops as well; they are not counted twice."""

    totals: Mapping[str, int]
    per_worker: tuple[Mapping[str, int], ...] = ()
    losses: Mapping[str, int] = field(default_factory=dict)
    in_port_drops: int = 0


class RunningStack(ABC):
    """A deployed stack that serves its role."""

    #: Said with every number of the point: a slower mode than asked ("AF_XDP copy mode"). Verdict ``degraded``.
    degraded: str = ""
    #: Said with the point: what users expect of its counters that it cannot record, and why.
    remark: str = ""
    #: Beginnings of the names (comm) of the stack's own threads: their work is the stack's, on whatever core.
    thread_names: tuple[str, ...] = ()

    @abstractmethod
    def check_alive(self) -> None:
        """Raise StackError (with the log's tail) when the stack no longer runs."""

    @abstractmethod
    def counters(self) -> StackCounters:
        """Read all counters. Called between trials only."""

    def poll_usage(self) -> PollUsage | None:
        """Useful and empty polls; None where the stack cannot tell (or does not poll)."""
        return None

    def record_polls(self, on: bool) -> bool:
        """Switch the recording of polls on or off, where it costs something and so needs a pass of its own. Returns
        whether the stack has such a switch; ``poll_usage`` is then valid only while it is on."""
        return False

    def log_tail(self) -> str:
        """The last lines of the stack's log, for failures."""
        return ""


@dataclass(frozen=True)
class StackContext:
    """What a stack is deployed with. ``source`` is the stack's folder on the controller."""

    dut: Dut
    point: PointPlan
    source: Path


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Stack(ABC):
    """One way of handling packets. Construct with validated parameters; deploy on a point."""

    name: ClassVar[str]
    summary: ClassVar[str]
    roles: ClassVar[Mapping[Role, RoleInfo]]
    Params: ClassVar[type[StackParams]] = StackParams
    #: Roles for which this is the cheapest responder known: used to find the generator's ceiling.
    ceiling_for: ClassVar[frozenset[Role]] = frozenset()
    #: IPv6 or VLAN traffic it can serve: subset of {"ipv6", "vlan"}.
    features: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, params: StackParams) -> None:
        self.params = params

    def polls(self) -> bool:
        """Whether workers poll with these parameters, so that their cores are busy at any load."""
        return False

    def polls_apart(self, role: Role) -> bool:
        """Whether polls are counted in a pass apart (:meth:`RunningStack.record_polls`) in this role."""
        return False

    def identity(self, given: Mapping[str, Any]) -> str:
        """What it is called in labels and ids of points: its name and the parameters ``given`` in the scenario."""
        return " ".join([self.name, *(f"{key}={_plain(value)}" for key, value in given.items())])

    def takes(self) -> frozenset[str]:
        """What of ``features`` it serves with these parameters."""
        return self.features

    def role_info(self, role: Role) -> RoleInfo:
        """How it fills a role with these parameters; ``roles`` says how it does with the default ones."""
        return self.roles[role]

    def in_softirq(self) -> bool:
        """Whether all of its work is done in softirq, none in a program. Where NAPI runs in threads, those of such a
        stack are given the precedence over every program that softirq has elsewhere."""
        return False

    @abstractmethod
    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        """What this host lacks for this point, and how to get it. Changes nothing."""

    @abstractmethod
    def deploy(self, context: StackContext) -> AbstractContextManager[RunningStack]:
        """Enter when the role is being served; on exit nothing is left behind. Raises StackError."""
