# SPDX-License-Identifier: Apache-2.0
"""What a DUT's kernel and NICs are set to for a point: named profiles, or items one by one.

``stock`` touches nothing. ``tuned`` is what a kernel network engineer would do for small frames at a fixed load:
queues, transmit steering and interrupts on the stack's cores, hashing over ports, deep rings, no pause frames, no
adaptive coalescing, a steady clock and shallow idle states.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from harness.units import parse_count, shown

#: Only knobs of the network stack: a scenario is untrusted, and must not set what else /proc/sys holds.
_SYSCTL = re.compile(r"net\.(core|ipv4|ipv6|unix|netfilter)(\.[A-Za-z0-9_-]{1,40}){1,3}")
#: Settings of one interface. Of all interfaces at once (all, default, ip_forward) there are none for a profile: they
#: act on the management interface too, and some of them reset others.
_OF_INTERFACE = re.compile(r"net\.ipv[46]\.(?:conf|neigh)\.(?!(?:all|default)\.)([^.]+)\.[^.]+")
_OF_INTERFACES = re.compile(r"net\.ipv[46]\.(?:conf|neigh)(?:\..*)?|net\.ipv4\.ip_forward")
_MOST_SYSCTLS = 32


def _count(most: int) -> BeforeValidator:
    return BeforeValidator(lambda value: value if value is None else parse_count(value, most=most))


def _sysctls(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or len(value) > _MOST_SYSCTLS:
        raise ValueError(f"{shown(value)} is not a mapping of at most {_MOST_SYSCTLS} settings; write "
                         "{net.core.netdev_budget: 600}")
    for name, setting in value.items():
        if not isinstance(name, str) or not _SYSCTL.fullmatch(name):
            raise ValueError(f"{shown(name)} is no setting of the network stack; net.core, net.ipv4 and net.ipv6 ones "
                             "can be set, such as net.core.netdev_budget")
        if _OF_INTERFACES.fullmatch(name) and not _OF_INTERFACE.fullmatch(name):
            raise ValueError(f"{shown(name)} acts on every interface of the host, the management's among them; name a "
                             "test port, such as net.ipv4.conf.eth1.forwarding")
        if isinstance(setting, bool) or not isinstance(setting, int | str) or not re.fullmatch(
                r"-?\d{1,15}([ \t]-?\d{1,15}){0,3}", str(setting)):
            raise ValueError(f"{name}: {shown(setting)} is not a number (or several, separated by blanks)")
    return {name: str(setting) for name, setting in value.items()}


class Profile(BaseModel):
    """Items of tuning. What is left out is left as it is found. The order is that of applying: rings and queues first,
    since a driver that makes its queues anew resets what is set of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rings: Annotated[int | Literal["max"] | None, BeforeValidator(
        lambda value: value if value in (None, "max") else parse_count(value, least=1, most=1 << 16)),
        ] = Field(default=None, description="Descriptors of each receive and transmit ring, or max")
    rss_queues: Literal["cores"] | None = Field(
        default=None, description="cores: as many combined queues as the stack has cores, spread equally by RSS")
    rss_hash: Literal["addresses", "ports"] | None = Field(
        default=None, description="What RSS hashes UDP by: addresses, or addresses and ports")
    rps: Literal["off", "cores"] | None = Field(
        default=None, description="Receive packet steering: off, or to the cores")
    rfs: Annotated[int | None, _count(1 << 20)] = Field(
        default=None, description="Receive flow steering: entries of the flow table, 0 for off")
    xps: Literal["off", "cores"] | None = Field(
        default=None, description="Transmit packet steering: off, or queue i for core i")
    irqbalance: Literal["stopped"] | None = Field(
        default=None, description="stopped: irqbalance does not move interrupts")
    threaded_napi: bool | None = Field(
        default=None, description="NAPI in kernel threads (pinned to the cores), or in softirq")
    coalesce_us: Annotated[int | None, _count(10_000)] = Field(
        default=None, description="Microseconds between interrupts of a queue; adaptive coalescing is turned off")
    gro: bool | None = Field(default=None, description="Generic receive offload")
    lro: bool | None = Field(default=None, description="Large receive offload")
    tso: bool | None = Field(default=None, description="TCP segmentation offload")
    pause_frames: bool | None = Field(default=None, description="Ethernet flow control, both directions")
    governor: Literal["performance", "powersave", "schedutil", "ondemand"] | None = Field(
        default=None, description="CPU frequency governor of the cores")
    turbo: bool | None = Field(default=None, description="Clock above the nominal one (of the whole host)")
    idle_latency_us: Annotated[int | None, _count(100_000)] = Field(
        default=None, description="Idle states of the cores that take longer to leave are disabled; 0 leaves polling")
    sysctls: Annotated[Mapping[str, str], BeforeValidator(_sysctls), WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": ["integer", "string"]}})] = Field(
        default_factory=dict, description="Settings of the network stack by name")
    required: Literal["all"] | tuple[str, ...] = Field(
        default=(), description="Items without which the point fails: a list of names, or all")

    @model_validator(mode="after")
    def _required_are_set(self) -> Profile:
        for name in () if self.required == "all" else self.required:
            if name not in self.items():
                raise ValueError(f"required: {shown(name)} is not set in this profile; it sets "
                                 f"{', '.join(self.items()) or 'nothing'}")
        return self

    def items(self) -> dict[str, Any]:
        """The items that are set, by name, in the order in which they are applied."""
        names = [name for name in type(self).model_fields if name != "required"]
        return {name: value for name in names if (value := getattr(self, name)) not in (None, {})}

    def strangers(self, ports: Collection[str]) -> list[str]:
        """Sysctls of interfaces other than these test ports; a profile with any is not to be applied."""
        names = {name: match[1] for name in self.sysctls if (match := _OF_INTERFACE.fullmatch(name))}
        return [name for name, ifname in names.items() if ifname not in ports]

    def requires(self, item: str) -> bool:
        """Whether a host that cannot do an item fails the point."""
        return self.required == "all" or item in self.required


STOCK = Profile()
TUNED = Profile(
    rss_queues="cores", rss_hash="ports", rps="off", rfs=0, xps="cores", irqbalance="stopped", rings="max",
    coalesce_us=10, lro=False, pause_frames=False, governor="performance", turbo=False, idle_latency_us=10,
    sysctls={"net.core.netdev_budget": "600", "net.core.netdev_budget_usecs": "8000",
             "net.core.netdev_max_backlog": "10000"},
)
PROFILES: Mapping[str, Profile] = MappingProxyType({"stock": STOCK, "tuned": TUNED})


def read_profile(value: object) -> Profile:
    """A profile from a file: a name, or a mapping of items, which may start from a profile (``base: tuned``).

    Raises ValueError (pydantic's ValidationError among them)."""
    if isinstance(value, Profile):
        return value
    if isinstance(value, str):
        if value not in PROFILES:
            raise ValueError(f"{shown(value)} is no profile; {', '.join(PROFILES)}, or a mapping of items")
        return PROFILES[value]
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)} is no profile; {', '.join(PROFILES)}, or a mapping of items")
    items = dict(value)
    base = read_profile(items.pop("base", "stock"))
    return Profile.model_validate({**base.model_dump(exclude_defaults=True), **items})


class NamedProfile(BaseModel):
    """A profile with the name to print: stock, tuned, or custom."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    profile: Profile


def named_profile(value: object) -> NamedProfile:
    """As :func:`read_profile`, with a name."""
    if isinstance(value, NamedProfile):
        return value
    profile = read_profile(value)
    names = [name for name, known in PROFILES.items() if known == profile]
    return NamedProfile(name=names[0] if names else "custom", profile=profile)
