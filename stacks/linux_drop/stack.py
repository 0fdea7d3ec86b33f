# SPDX-License-Identifier: Apache-2.0
"""The ladder of places where Linux can discard a packet, from the application down to the driver's doorstep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from harness.host.contract import Dut
from harness.host.undo import undone
from harness.plan import PointPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackParams
from harness.stacks.ports import interrupts_on_cores, missing_for_ports, set_up_ports

from .netfilter import IptablesInput, IptablesRaw, NftIngress, missing_conntrack, set_conntrack
from .place import DISCARDED, Place
from .programs import Recvmmsg, SocketFilter, SocketUnread
from .target import MAX_RULES, Target
from .tc import TcBpf, TcMatchall

PLACES: Mapping[str, Place] = MappingProxyType({
    "socket-unread": SocketUnread(), "recvmmsg": Recvmmsg(), "socket-filter": SocketFilter(),
    "iptables-input": IptablesInput(), "iptables-raw": IptablesRaw(), "nft-ingress": NftIngress(),
    "tc-clsact": TcBpf(), "tc-matchall": TcMatchall(),
})


class LinuxDropParams(StackParams):
    """Parameters of ``linux-drop``."""

    at: Literal["socket-unread", "recvmmsg", "socket-filter", "iptables-input", "iptables-raw", "nft-ingress",
                "tc-clsact", "tc-matchall"] = Field("iptables-raw", description="Where the test's packets are dropped.")
    conntrack: bool | None = Field(None, description="Whether the kernel tracks the test's connections on the way; as "
                                   "the host has it when not given. Only where packets get that far: sockets, recvmmsg "
                                   "and iptables-input.")
    rules: int = Field(0, ge=0, le=MAX_RULES, description="Rules that match nothing before the one that drops; not "
                                                          "with socket-unread and recvmmsg, which have no rules.")

    @model_validator(mode="after")
    def _fits_the_place(self) -> LinuxDropParams:
        place = PLACES[self.at]
        if self.conntrack is not None and not place.after_conntrack:
            after = ", ".join(name for name, one in PLACES.items() if one.after_conntrack)
            raise ValueError(f"at: {self.at} drops before connection tracking sees a packet; leave conntrack out, or "
                             f"use one of: {after}")
        if self.rules and not place.has_rules:
            ruled = ", ".join(name for name, one in PLACES.items() if one.has_rules)
            raise ValueError(f"at: {self.at} has no rules; leave rules out, or use one of: {ruled}")
        return self


class LinuxDrop(Stack):
    """Linux discards the test's packets at the place that is asked for, and counts them there."""

    name = "linux-drop"
    summary = "discard in Linux: at a socket, in iptables, at nftables' or tc's ingress"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.DROP: RoleInfo(PLACES["iptables-raw"].semantics, discard_counter=DISCARDED),
    }
    Params = LinuxDropParams
    features: ClassVar[frozenset[str]] = frozenset({"ipv6"})

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, LinuxDropParams):
            raise TypeError(f"linux-drop needs LinuxDropParams, not {type(params).__name__}")
        super().__init__(params)
        self.settings = params
        self.place = PLACES[params.at]

    def role_info(self, role: Role) -> RoleInfo:
        how = {None: "", True: ", connections tracked", False: ", connections not tracked"}[self.settings.conntrack]
        before = f", after {self.settings.rules} rules that do not match" if self.settings.rules else ""
        return RoleInfo(self.place.semantics + before + how, discard_counter=DISCARDED,
                        checks_checksum=self.place.checks_checksum)

    def in_softirq(self) -> bool:
        return self.place.in_softirq

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        missing = missing_for_ports(dut, point)
        if missing:
            return missing
        target = Target.of(point, self.settings.rules)
        missing += self.place.missing(dut, target)
        if self.settings.conntrack is not None:
            missing += missing_conntrack(dut, point, target, self.settings.conntrack)
        return missing

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point = context.dut, context.point
        target = Target.of(point, self.settings.rules)
        with undone(dut):
            set_up_ports(dut, point)
            interrupts_on_cores(dut, point)
            if self.settings.conntrack is not None:
                set_conntrack(dut, target, self.settings.conntrack)
            with self.place.deploy(context, target) as running:
                yield running
