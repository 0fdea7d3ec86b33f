# SPDX-License-Identifier: Apache-2.0
"""The words that the report explains itself with: roles, phases, verdicts, the lab."""

from __future__ import annotations

from dataclasses import dataclass

from harness.plan import Role
from harness.records import Phase, Verdict


@dataclass(frozen=True)
class VerdictText:
    """``means``: what the mark says about a number. ``change``: what would give another answer. ``tone``: the style
    sheet's class: "bad" (no number), "warn" (the number would change), "info" (context)."""

    means: str
    change: str
    tone: str


VERDICTS: dict[Verdict, VerdictText] = {
    Verdict.FAILED: VerdictText(
        "The stack did not start, died, or did not do what its role says. There is no number.",
        "Read the reason and the log below, fix it and run again.", "bad"),
    Verdict.SKIPPED: VerdictText(
        "The point was not measured because something it needs is missing. There is no number.",
        "Install what the reason names and run again.", "bad"),
    Verdict.GENERATOR_LIMITED: VerdictText(
        "The generator sent less than it was asked to, for reasons other than pauses, or had no time left. The stack "
        "may be faster than the number says: read it as “at least”.",
        "More generator cores, or a faster generator.", "warn"),
    Verdict.PAUSED: VerdictText(
        "A core of the generator or of the DUT stood still during a trial (a virtual or busy machine). Frames lost in "
        "such a moment say something about the machine, not about the stack.",
        "A quiet machine, isolated cores, or bare metal.", "warn"),
    Verdict.UNEXPLAINED_LOSS: VerdictText(
        "Frames were lost that no counter on either machine accounts for.",
        "A counter for the missing place. Until then the loss itself stands, its cause does not.", "warn"),
    Verdict.NOISY: VerdictText(
        "Repeats of this point scatter: the 95 % interval is wider than 5 % (two repeats: they are that far apart), so "
        "differences of this size between stacks mean nothing.",
        "More repeats, a quieter machine.", "warn"),
    Verdict.INCONCLUSIVE: VerdictText(
        "The load passed only after several attempts; between runs it may not.",
        "A quiet machine, isolated cores, or bare metal.", "warn"),
    Verdict.CONTRADICTED: VerdictText(
        "Another trial of the point refutes the rate: a lower load lost more than the goal allows, or a load above the "
        "search’s upper bound lost no more. The rate is no capacity to compare or plan with.",
        "Longer trials in the search (measure.throughput.trial), more repeats, a quiet machine.", "bad"),
    Verdict.CUT_SHORT: VerdictText(
        "The search ran out of time; the bracket is as far as it got.",
        "More time for the search (measure.throughput.timeout).", "warn"),
    Verdict.EXTRA_CORE: VerdictText(
        "More than 2 % of the work was found on cores that the stack was not given: it used more than the row says.",
        "Pin the work named in the trial, or count that core as the stack's.", "warn"),
    Verdict.OTHER_LOAD: VerdictText(
        "Other programs ran on the stack’s cores for more than 2 % of the time. Their work is in the CPU figures of "
        "these cores, and the stack had less of them.",
        "Stop the programs named, or keep them off these cores (isolcpus, cpusets).", "warn"),
    Verdict.DEGRADED: VerdictText(
        "The stack ran in a slower mode than the one it is known for.",
        "A driver that supports the faster mode (for AF_XDP: zero copy).", "warn"),
    Verdict.LAB_RSS: VerdictText(
        "Fewer than two receive queues were live, so this says nothing about how the stack spreads load over cores.",
        "More than one core and many flows, on a NIC with RSS or in a lab with more generator cores.", "info"),
    Verdict.LAB: VerdictText(
        "Measured over a virtual wire. Compare stacks with each other, not with published numbers.",
        "The same scenario on a testbed with real NICs.", "info"),
}

LAB_LEAD = "The wire is virtual."
LAB_TEXT = (
    "Frames crossed a pair of virtual Ethernet devices between two network namespaces of one machine. There is no "
    "NIC: no DMA, no hardware queues, no RSS in hardware, no PCIe. The nominal speed is a setting; the real limit is "
    "the CPU that generator and DUT share."
)
LAB_BYPASS = (
    "Bypass stacks (DPDK, AF_XDP, netmap, VPP) reach such a wire only through the kernel they exist to avoid, and "
    "with a copy of every frame. They look slower here than on a NIC, also relative to the kernel's own stacks. "
    "XDP runs inside the kernel and keeps more of its advantage. Differences between two settings of the same kernel "
    "path are what carries over best."
)

_DOES = {
    Role.DROP: ("drops", "received and discarded"),
    Role.FORWARD: ("forwards", "in on one port, out on the other"),
    Role.REFLECT: ("reflects", "sent back out of the same port, MAC addresses swapped"),
    Role.ECHO: ("echoes", "the UDP payload sent back to its sender"),
    Role.ACCEPT: ("accepts", "a TCP connection accepted, one request answered, closed by the server"),
}


def of_role(role: Role, text: str) -> str:
    """Words of the report's own, written about frames, as they read in this role: role accept has connections."""
    if role is not Role.ACCEPT:
        return text
    for frame, connection in (("Frames", "Connections"), ("frames", "connections"), (" frame ", " connection ")):
        text = text.replace(frame, connection)
    return text


def traffic_text(role: Role, label: str) -> str:
    """What is sent, for titles: "64 B frames" where ``label`` is "64 B"; "TCP connections"."""
    return "TCP connections" if role is Role.ACCEPT else f"{label} frames"


def latency_title(role: Role) -> str:
    """What the latency of a role is the time of."""
    return "Time from request to reply" if role is Role.ACCEPT else "Round-trip latency"


def verb(role: Role) -> str:
    """What a stack in this role does with a frame, third person."""
    return _DOES[role][0]


def done(role: Role) -> str:
    """What has become of a frame, or connection, that a rate in this role counts."""
    return {Role.DROP: "discarded", Role.ACCEPT: "completed"}.get(role, "forwarded")


def role_text(role: Role) -> str:
    """The role explained in a few words."""
    return _DOES[role][1]


PHASES: dict[Phase, str] = {
    Phase.CEILING: "generator's ceiling with the cheapest responder",
    Phase.FLOOR: "floor of latency with the cheapest responder",
    Phase.WARMUP: "discarded warm-up",
    Phase.SEARCH: "search for MRR, NDR and PDR",
    Phase.LATENCY: "latency at a fraction of a found rate",
    Phase.LOAD: "load curve: CPU at fixed rates",
    Phase.POLLS: "useful and empty polls, in a pass of their own",
    Phase.DIAGNOSE: "diagnosis: why the DUT’s kernel drops what it drops; not a measured rate",
}

RATE_TEXT = {
    "NDR": "highest offered load without a single lost frame (no-drop rate)",
    "PDR": "highest offered load at which at most {loss} of the frames were lost (partial-drop rate)",
    "MRR": "forwarding rate at the maximum offered load",
}

GLOSSARY = (
    ("DUT", "device under test: the machine, or namespace, that runs the stack"),
    ("trial", "one measurement at one offered load for one duration"),
    ("offered load", "what was really sent, per direction; not what was asked for"),
    ("forwarding rate", "frames per second that came back, per direction"),
    ("loss ratio", "lost ÷ sent"),
    ("connection", "role accept: handshake, one request, its reply, close. It has failed when it was refused or reset, "
                   "or made no progress for 0.8 s, so also when its first SYN was dropped"),
    ("frame size", "bytes on the wire including the 4-byte FCS; 20 more pass between frames"),
    ("core-%", "share of one core’s time: 250 core-% are two and a half cores"),
    ("polls", "the stack asks for frames in a loop, so its core is busy at any load; only the share of polls that "
              "found frames says how much of it was needed"),
    ("n/a", "not measured or not defined; the reason is beside it. It is never a zero"),
)
