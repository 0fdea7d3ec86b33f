# SPDX-License-Identifier: Apache-2.0
"""Whether TRex receives in software (``--software``), and what a run says of it.

TRex finds its latency frames by marks that it writes into their IP header. On NICs with filters these bring them to the
core that takes their time: IP id or flow label 0xffff on i40e, the id's bytes on ixgbe and igb, bit 0 of TOS or traffic
class on mlx5 and ice (v3.08, src/drivers, src/dpdk_drv_filter.cpp). A socket's reply has a new IP header, without
them, and is dropped by the NIC. In software mode TRex sees every frame and knows its own by the header at their end
(RXLatency::handle_pkt), so a new IP header does no harm. An echo that swaps addresses in the frame keeps the marks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness import stacks
from harness.generator.trexhost.release import receives_in_software
from harness.plan import GeneratorPlan, PointPlan, Role
from harness.testbed import Testbed


def software_mode(testbed: Testbed, points: Sequence[PointPlan], *, latency: bool) -> tuple[bool, tuple[str, ...]]:
    """Whether a TRex that is started for these points receives in software, and the stacks of which there is latency
    only so. ``latency``: whether it is measured."""
    trex = testbed.generator.trex
    if trex is None:
        return False, ()
    wanting = tuple(dict.fromkeys(point.stack for point in points if latency and _new_header(point)))
    if not any(port.pci for port in testbed.generator.ports):
        return True, ()  # interfaces of the kernel: there is no other way, and no other latency
    return (bool(wanting) if trex.software == "auto" else trex.software), wanting


def _new_header(point: PointPlan) -> bool:
    if point.role is not Role.ECHO or point.no_latency:
        return False
    return stacks.create(point.stack, point.params).role_info(point.role).new_ip_header


def remark(plan: GeneratorPlan, found: Mapping[str, Any], *, started: bool) -> str:
    """What a run with ``plan.software_for`` says of how its TRex receives, a sentence or nothing. ``found``: what
    the server says of itself (:func:`harness.generator.trexhost.server.look`); releases before v2.94 do not tell."""
    of = f"latency of {', '.join(plan.software_for)} in role echo"
    why = "a socket's reply has a new IP header, by which no filter of a NIC knows TRex's latency frames"
    here = receives_in_software(str(found.get("version", "")), found.get("software"))
    if started and plan.software:
        return (f"TRex runs with --software, which {of} needs: {why}. It receives fewer frames a second, and what it "
                "does not take is lost at `generator receive`; `software: false` under generator.trex is without that, "
                "and without this latency")
    if started:
        return f"there is no {of}: generator.trex.software is false, and {why}"
    if here is None:
        return (f"the TRex that runs does not tell whether it receives in software; if not, there is no {of}: {why}")
    if not here:
        return (f"there is no {of}: the TRex that runs receives by its NIC's filters, and {why}. End it: one "
                "with --software is started then, or start it so yourself")
    return ""
