# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: one Trial a line in ``trials.jsonl``, one RunInfo in ``run.json``, PointResults derived.

Units: frames (role accept: connections), seconds, nanoseconds where a name ends in ``_ns``; rates in frames per second
per direction; ratios 0..1. A missing number is None with a reason beside it, never a zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harness.plan import FrameMix

SCHEMA_VERSION = 4
#: Of a bystander, kept with one trial.
MOST_GREETINGS = 10_000
#: What the ceiling's trials are recorded under instead of a point of the plan.
CEILING = "ceiling"


class Verdict(StrEnum):
    """Words kept with a number and printed beside it (design.md, "Verdicts")."""

    GENERATOR_LIMITED = "generator-limited"
    PAUSED = "paused"
    UNEXPLAINED_LOSS = "unexplained-loss"
    NOISY = "noisy"
    LAB = "lab"
    LAB_RSS = "lab-rss"
    EXTRA_CORE = "extra-core"
    DEGRADED = "degraded"
    OTHER_LOAD = "other-load"
    INCONCLUSIVE = "inconclusive"
    CONTRADICTED = "contradicted"
    CUT_SHORT = "cut-short"
    SKIPPED = "skipped"
    FAILED = "failed"


def in_order(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Each verdict once, in the order in which they are defined."""
    given = set(verdicts)
    return [verdict for verdict in Verdict if verdict in given]


class Phase(StrEnum):
    """Why a trial was made."""

    CEILING = "ceiling"
    FLOOR = "floor"
    WARMUP = "warmup"
    SEARCH = "search"
    LATENCY = "latency"
    LOAD = "load"
    POLLS = "polls"
    DIAGNOSE = "diagnose"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Direction(_Record):
    """One direction of a trial. ``received`` is None for role drop (the stack's discard counter counts instead).

    ``sent`` includes frames the DUT's ring refused on a virtual wire (``refused``): on hardware those are sent and
    lost in the DUT's ring. ``skipped``: departures the generator left out, by reason; asked = sent + skipped +- 1.
    """

    tx_port: int
    rx_port: int | None
    asked: int
    sent: int
    received: int | None
    lost: int
    refused: int = 0
    skipped: dict[str, int] = Field(default_factory=dict)


class Percentiles(_Record):
    """Latency of one trial, ns, all directions merged. A percentile without 10 / (1 - p) samples is None ("n/a").

    ``histogram``: (lowest ns of bucket, count), merged to at most 400 buckets for storage.
    """

    samples: int
    lost: int
    out_of_order: int
    duplicate: int
    min_ns: int
    max_ns: int
    mean_ns: float
    jitter_ns: float
    p50_ns: int | None
    p90_ns: int | None
    p99_ns: int | None
    p999_ns: int | None
    resolution_ns: int
    histogram: list[tuple[int, int]] = Field(default_factory=list)


class Handshake(_Record):
    """Role accept: what the client tells of the time from SYN to established, ns. h2load: of all connections of a
    trial, no distribution (``samples`` and percentiles None). TRex: from SYN to SYN-ACK of ``samples`` connections; a
    percentile without 10 / (1 - p) samples is None ("n/a")."""

    min_ns: int
    max_ns: int
    mean_ns: int
    sd_ns: int
    samples: int | None = None
    p50_ns: int | None = None
    p99_ns: int | None = None


class Frequency(_Record):
    """A core's frequency in one trial, Hz: the mean (of its time out of idle where the source is APERF/MPERF), and the
    least and most between two samples (scaling_cur_freq: in a sample)."""

    mean_hz: float
    least_hz: float
    most_hz: float


class CoreLoad(_Record):
    """One core over the samples wholly inside the trial, shares of wall time 0..1 by state, and ``run``: share in
    which any task ran (schedstat; None where unknown). ``given``: the stack was given this core; of these alone
    ``frequency`` and ``throttled``: times that the core or its package was throttled for heat (None: not known)."""

    core: int
    given: bool
    user: float
    system: float
    irq: float
    softirq: float
    steal: float
    idle: float
    run: float | None
    frequency: Frequency | None = None
    throttled: int | None = None

    @property
    def busy(self) -> float:
        """Share of wall time in which the core worked, by the finer of the two sources."""
        ticks = self.user + self.system + self.irq + self.softirq
        return ticks if self.run is None else max(self.run, ticks if self.softirq + self.irq > 0.02 else 0.0)


class Cpu(_Record):
    """CPU of the DUT in one trial. ``indicative``: the trial was shorter than 2 s. ``cycles_per_packet`` with
    ``cycles_source`` (perf, APERF/MPERF, "time x nominal frequency"); per received test frame.
    ``useful_polls``/``empty_polls``: over the trial, where the stack can tell. ``frequency_source``: APERF/MPERF,
    scaling_cur_freq, or "not available: " and why."""

    indicative: bool
    seconds: float
    cores: list[CoreLoad]
    busy_cores: float
    cycles_per_packet: float | None = None
    cycles_source: str = ""
    useful_polls: int | None = None
    empty_polls: int | None = None
    polls_source: str = ""
    frequency_source: str = ""
    extra: list[str] = Field(default_factory=list)
    #: Programs that are not the test's on the given cores, named; their work is in the cores' figures.
    other: list[str] = Field(default_factory=list)
    #: What the samples and all pause probes took together, and the probe of the core that it took most of: shares of
    #: one core.
    sampling_cost: float | None = None
    probe_cost: float | None = None


class Pauses(_Record):
    """Times in which a core stood still during the trial, by side. ``total_ns``/``longest_ns`` over all.
    ``lost_at_most``: of the trial's lost frames those that recorded pauses of their side can have cost, no more than
    arrived meanwhile; an upper bound, of frames that have a place of their own. None: not recorded."""

    generator: int
    dut: int
    total_ns: int
    longest_ns: int
    probe: str = ""
    lost_at_most: int | None = None


class Times(_Record):
    """Order statistics, ns. A percentile without 10 / (1 - p) samples is None ("n/a")."""

    samples: int
    min_ns: int
    p50_ns: int | None
    p90_ns: int | None
    p99_ns: int | None
    max_ns: int


class Bystander(_Record):
    """Somebody else's TCP connections over the port under test, from the generator's side to ``target``, at ``rate`` a
    second. ``connected`` and ``greeted`` (the server's first bytes): since the attempt began. ``lost``: not greeted
    within ``timeout_s``, by ``reasons``. ``greeted_ns``: one by one, the first MOST_GREETINGS. ``reason``: why there
    was no bystander at all."""

    service: str
    target: str
    rate: float
    timeout_s: float
    attempts: int
    lost: int
    reasons: dict[str, int] = Field(default_factory=dict)
    connected: Times | None = None
    greeted: Times | None = None
    greeted_ns: list[int] = Field(default_factory=list, max_length=MOST_GREETINGS)
    reason: str = ""


class DropReasons(_Record):
    """Packets of the test ports that the DUT's kernel dropped in a diagnostic trial, by its own reason
    (skb:kfree_skb). A packet may be larger than a frame where the kernel merged several (GRO). ``missed``: drops that
    could not be looked at. ``reason``: why nothing was counted; ``counts`` None then."""

    counts: dict[str, int] | None = None
    missed: int = 0
    reason: str = ""


class Anomaly(_Record):
    """Something that should not be, and the evidence kept of it. ``kind``: role-check, unexplained-loss,
    latency-outlier or dead-stack; ``what``: a sentence; ``trial``: its number, None outside of any; ``folder``: below
    ``logs/anomalies`` of the run."""

    kind: str
    what: str
    trial: int | None = None
    folder: str


class Trial(_Record):
    """One (offered load, duration) measurement. ``losses``: frames by place; ``unexplained`` = lost - sum(losses).
    ``unread``: places of which no counter told, with the reason (what is lost there is unexplained).
    ``other_traffic``: drops that the DUT's counters saw beyond what the test lost, so they are not the test's."""

    schema_version: int = SCHEMA_VERSION
    number: int
    point: str
    repeat: int
    phase: Phase
    attempt: int = 0
    #: Lost frames, every one of which recorded pauses account for.
    spoilt: bool = False
    #: Superseded by a repetition: stored and counted, left out of results "without paused trials".
    superseded: bool = False
    started_at: str
    asked_pps: float
    duration_s: float
    real_s: float
    directions: list[Direction] = Field(default_factory=list)
    offered_pps: float = 0.0
    forwarding_pps: float = 0.0
    sent: int = 0
    received: int = 0
    lost: int = 0
    loss_ratio: float | None = None
    latency: Percentiles | None = None
    latency_note: str = ""
    handshake: Handshake | None = None
    cpu: Cpu | None = None
    cpu_note: str = ""
    pauses: Pauses | None = None
    losses: dict[str, int] = Field(default_factory=dict)
    unread: dict[str, str] = Field(default_factory=dict)
    unexplained: int = 0
    other_traffic: int = 0
    generator_utilisation: float | None = None
    bystander: Bystander | None = None
    drop_reasons: DropReasons | None = None
    counters: dict[str, Any] = Field(default_factory=dict)
    verdicts: list[Verdict] = Field(default_factory=list)
    status: str = "ok"
    reason: str = ""

    def lost_at(self, place: str) -> int | None:
        """Frames lost at a place; None where no counter told."""
        return None if place in self.unread else self.losses.get(place, 0)

    @property
    def surplus(self) -> int:
        """Frames by which one direction received more than was sent into it, in the worst; 0 where none did."""
        return max((-d.lost for d in self.directions if d.lost < 0), default=0)


class Bound(_Record):
    """A searched rate, as measured by the trials at the search's lower bound: ``pps`` was forwarded per direction,
    ``load_pps`` was offered (sent, not asked for); ``upper_pps``: the lowest load that failed. None with ``reason``
    when the search found none."""

    pps: float | None
    load_pps: float | None
    upper_pps: float | None
    loss_ratio: float | None = None
    reason: str = ""
    verdicts: list[Verdict] = Field(default_factory=list)
    #: Trials made at this load because the earlier ones lost frames in a pause.
    attempts: int = 1


class LatencyAt(_Record):
    """Latency at a fraction of PDR (or NDR); the numbers of trial ``trial``."""

    fraction: float
    of: str
    load_pps: float
    trial: int
    percentiles: Percentiles | None
    reason: str = ""


class LoadPoint(_Record):
    """One rate of the load curve: trial ``trial``."""

    load_pps: float
    trial: int


class TuningChange(_Record):
    """One setting of the DUT for a point, as read back. ``status``: applied, already (it was so), unsupported with
    ``reason``, or moved (by somebody else, during the point). ``target``: an interface, a core, an
    interrupt, a file of the kernel or the host."""

    item: str
    target: str
    before: str
    after: str
    status: str
    reason: str = ""


class PointOutcome(_Record):
    """What one repeat of one point came to; a line of ``points.jsonl``."""

    schema_version: int = SCHEMA_VERSION
    point: str
    repeat: int
    status: str = "ok"
    reason: str = ""
    log_tail: str = ""
    mrr: Bound | None = None
    ndr: Bound | None = None
    pdr: Bound | None = None
    #: The highest load whose first attempt met the goal, below the lowest whose first attempt did not.
    ndr_raw: Bound | None = None
    pdr_raw: Bound | None = None
    latency: list[LatencyAt] = Field(default_factory=list)
    load_curve: list[LoadPoint] = Field(default_factory=list)
    #: Before the load curve, without any load.
    bystander_idle: Bystander | None = None
    trials: int = 0
    #: Search trials made again: lost frames in a pause; the generator fell short of a load that it can send.
    paused_repeats: int = 0
    short_repeats: int = 0
    #: Search trials made again because more was received, or discarded, than sent.
    stray_repeats: int = 0
    #: Role drop: what reached the stack before the trials, when nothing was sent; "" when nothing did.
    strays: str = ""
    #: What the stack cannot record, and why.
    remark: str = ""
    deploy_s: float = 0.0
    undeploy_s: float = 0.0
    semantics: str = ""
    degraded: str = ""
    tuning: list[TuningChange] = Field(default_factory=list)
    anomaly: Anomaly | None = None
    verdicts: list[Verdict] = Field(default_factory=list)


class Floor(_Record):
    """Latency with the cheapest responder at a load that troubles nobody: what is the generator's own, and the wire's,
    of every latency in the run. ``load_pps``: asked for, per direction."""

    load_pps: float
    trial: int
    percentiles: Percentiles


class Ceiling(_Record):
    """The most the generator sent and received on this wire, with the cheapest responder (``stack``), asked for line
    rate, best of several trials; ``sent_min_pps``: the least. ``kept_pps``: what it sent when asked for that much,
    which bounds the searches."""

    frame_bytes: int
    host: str
    stack: str
    sent_pps: float | None
    received_pps: float | None
    trial: int
    sent_min_pps: float | None = None
    kept_pps: float | None = None
    #: None where the role has no latency, or none was asked for.
    floor: Floor | None = None
    reason: str = ""
    #: Where frames of several sizes were sent; ``frame_bytes`` is then the smallest.
    mix: FrameMix | None = None

    @property
    def frames(self) -> FrameMix:
        """The sizes of the frames sent."""
        return self.mix or FrameMix.of(self.frame_bytes)


class Check(_Record):
    """One check of a host or wire before the run (:mod:`harness.doctor`). ``status``: ok | warn | fail (of the
    ``policy``), ignored (not as expected, and it is not to matter), unknown (cannot be told, for ``reason``), n/a (has
    no meaning there). ``target``: interfaces or a wire; empty: the host. ``value`` is empty where it is not known."""

    name: str
    host: str
    target: str = ""
    value: str
    expected: str
    why: str
    remedy: str = ""
    status: str
    policy: str
    reason: str = ""


class Owner(_Record):
    """The process that makes a run: its pid and start (clock ticks since boot), which no other process of this boot and
    pid namespace shares."""

    pid: int
    start_ticks: int
    boot_id: str
    pid_namespace: str


class Request(_Record):
    """What was asked for, such that a run can be gone on with: the files by absolute path (testbed ``lab``: none) with
    the testbed's text, and what the command line said instead of the scenario."""

    scenario: str
    testbed: str
    testbed_text: str = ""
    only: list[str] = Field(default_factory=list)
    repeat: int | None = None


class Resumption(_Record):
    """A run that was gone on with. ``first_trial``: number of the first trial made since. ``abandoned``: trials of
    repeats that had not ended, which were begun again; kept, and left out of every result."""

    at: str
    command: list[str]
    first_trial: int
    abandoned: list[int] = Field(default_factory=list)


class RunInfo(_Record):
    """``run.json``. ``plan``: the Plan as JSON (secrets never enter it). ``state``: running | complete | interrupted |
    failed; a reader says died for one that is running and whose ``owner`` is gone. ``hosts``: environment facts by host
    name, the generator's among them."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    harness_version: str
    started_at: str
    ended_at: str | None = None
    state: str = "running"
    exit_code: int | None = None
    owner: Owner | None = None
    command: list[str]
    scenario_text: str
    scenario: dict[str, Any]
    plan: dict[str, Any]
    seed: int
    hosts: dict[str, Any] = Field(default_factory=dict)
    generator: dict[str, Any] = Field(default_factory=dict)
    ceilings: list[Ceiling] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    #: Of hosts and wires, before the first trial; of the last session, where the run was gone on with.
    checks: list[Check] = Field(default_factory=list)
    request: Request | None = None
    resumed: list[Resumption] = Field(default_factory=list)
    #: Wall time and sum of the trials' durations; of a run that was killed, since it was gone on with.
    wall_s: float | None = None
    trials_s: float | None = None
