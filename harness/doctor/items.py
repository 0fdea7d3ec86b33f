# SPDX-License-Identifier: Apache-2.0
"""Every check by name: why it matters, what it is worth by default, and how a testbed file says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harness.units import shown


class Policy(StrEnum):
    """What becomes of a check that does not find what it expects: recorded only, said, or the run is refused."""

    IGNORE = "ignore"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Item:
    """A check. ``lab``: its policy in the embedded lab. ``machine``: of the whole machine, so that it is made once
    where both sides are one. ``tuning``: the item of a tuning profile that takes care of it."""

    why: str
    policy: Policy
    lab: Policy
    machine: bool = False
    tuning: str = ""


_W, _F, _I = Policy.WARN, Policy.FAIL, Policy.IGNORE
ITEMS: Mapping[str, Item] = MappingProxyType({
    "link": Item("without a link every frame is lost", _F, _F),
    "link-speed": Item("line rate, and with it every bound of the search, is computed from it", _F, _F),
    "wires": Item("a wire in another port measures another path, or none", _F, _F),
    "frame-size": Item("a size that does not pass is lost at any load", _F, _F),
    "mtu": Item("longer frames are dropped by the driver, or never leave", _F, _F),
    "duplicate-addresses": Item("replies go to whoever else has the address", _F, _F),
    "firewall": Item("its rules are walked for every frame and belong to the result", _W, _W),
    "packet-sockets": Item("every frame is copied to each of them", _W, _W),
    "xdp-programs": Item("a program of somebody else's on a test port sees the frames first", _W, _W),
    "governor": Item("a clock that follows the load makes light loads look expensive", _W, _W, True, "governor"),
    "turbo": Item("the clock depends on temperature and on what other cores do", _W, _W, True, "turbo"),
    "idle-states": Item("waking from a deep state delays the first frames after a gap", _W, _W, True,
                        "idle_latency_us"),
    "smt": Item("two threads share one physical core, and neither does the work of one", _W, _W, True),
    "isolated-cores": Item("other programs may be scheduled on the stack's cores", _W, _I, True),
    "irqbalance": Item("it moves interrupts between cores during a trial", _W, _W, True, "irqbalance"),
    "hugepages": Item("stacks that bypass the kernel need memory in large pages", _W, _W, True),
    "numa": Item("frames that cross between nodes cost more at every access", _W, _W),
    "pause-frames": Item("the DUT slows the generator down instead of losing: NDR is then a fiction", _W, _W, False,
                         "pause_frames"),
    "offloads": Item("aggregated frames hide the cost of each, missing ones add to it", _W, _W),
    "rings": Item("a short ring overflows in every pause of its core", _W, _W, False, "rings"),
    "pcie": Item("a link slower than the slot allows caps the packet rate", _W, _W),
    "firmware": Item("packet rate and offloads change with it", _W, _W),
    "command-line": Item("debugging options of the kernel cost cycles on every frame", _W, _W, True),
    "mitigations": Item("without them the numbers hold for no host that has them", _W, _W, True),
    "load": Item("what others do on these cores is missing to the stack", _W, _W, True),
    "clock": Item("slow clock sources cost on every timestamp; wrong times misdate results", _W, _W, True),
})


class Setting(BaseModel):
    """What a testbed says of a check: its policy, and the value that is expected instead of the harness's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Policy | None = Field(default=None, description="ignore, warn or fail; the check's own when left out")
    expect: str | None = Field(default=None, max_length=200, description="The value that is right on this testbed, as "
                                                                         "`harness doctor` prints it")


def read_settings(value: object) -> Mapping[str, Setting]:
    """``checks`` of a testbed file: a policy by name, or {policy, expect}. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown(value)} is no mapping; write {{governor: ignore, firmware: {{expect: \"9.20\"}}}}")
    return {_known(name): _setting(str(name), said) for name, said in value.items()}


def _known(name: object) -> str:
    if name not in ITEMS:
        raise ValueError(f"{shown(name)} is no check; they are {', '.join(ITEMS)}")
    return str(name)


def _setting(name: str, said: Any) -> Setting:
    if isinstance(said, Setting):
        return said
    if isinstance(said, str):
        said = {"policy": said}
    if not isinstance(said, Mapping) or not set(said) <= {"policy", "expect"}:
        raise ValueError(f"{name}: {shown(said)} is no setting; write ignore, warn, fail, or {{policy: fail, expect: "
                         "VALUE}")
    if said.get("policy") not in (None, *Policy):
        raise ValueError(f"{name}: {shown(said['policy'])} is no policy; ignore, warn or fail")
    if not isinstance(said.get("expect", ""), str):
        raise ValueError(f"{name}: expect: {shown(said['expect'])} is no text; put it in quotes")
    return Setting.model_validate(said)
