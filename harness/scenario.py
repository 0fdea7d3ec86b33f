# SPDX-License-Identifier: Apache-2.0
"""What to measure: frozen models of a scenario file, read with units, every error naming file, line, key and remedy.

:func:`load_scenario` reads one; what needs the testbed or the stacks to be judged (cores, roles, parameters, line
rate) is checked by :mod:`harness.planning`. :func:`json_schema` is for editors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import gcd
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from harness import units
from harness.analysis.metrics import Kind, Metric, check_threshold
from harness.errors import UsageError
from harness.host.tuning.profile import PROFILES, NamedProfile, Profile, named_profile
from harness.plan import ETHERNET, FCS, IP_HEADER, MOST_SIZES, SIMPLE_IMIX, UDP, VLAN_TAG, FrameMix, Role
from harness.units import shown
from harness.yamlfile import Document, Location, load

#: Bytes that TRex writes over the end of a latency frame's payload, xdpgen over that of every frame.
LATENCY_HEADER = 16
SMALLEST_ETHERNET, LARGEST_ETHERNET = 64, 1518
IP_VERSION = {"ipv4": 4, "ipv6": 6}
#: CPU figures come from samples wholly inside a trial of at least this long (design.md, "CPU").
LEAST_CPU_TRIAL_S = 2.0
LEAST_TRIAL_S, LONGEST_TRIAL_S = 0.01, 3600.0


def minimum_frame(l3: str = "ipv4", *, vlan: bool = False, latency: bool = True) -> int:
    """Smallest frame on the wire (with FCS) that holds UDP's headers, and the latency header where one is written."""
    headers = ETHERNET + (VLAN_TAG if vlan else 0) + IP_HEADER[IP_VERSION[l3]] + UDP
    return max(SMALLEST_ETHERNET, headers + (LATENCY_HEADER if latency else 0) + FCS)


class Goal(StrEnum):
    """What the throughput search looks for: RFC 1242/2544 and FD.io CSIT."""

    MRR = "mrr"
    NDR = "ndr"
    PDR = "pdr"


class Order(StrEnum):
    """``interleaved``: every round goes over all points in a shuffled order, so that drift hits all alike."""

    INTERLEAVED = "interleaved"
    GIVEN = "given"


def _text_schema(pattern: str, *examples: str, number: bool = False) -> WithJsonSchema:
    text = {"type": "string", "pattern": pattern, "examples": list(examples)}
    return WithJsonSchema({"anyOf": [text, {"type": "number"}]} if number else text)


_DECIMAL = r"(\d+(\.\d+)?|\.\d+)"
_RATE_PATTERN = rf"^{_DECIMAL}\s*[kKMG]?(pps|fps|cps|/s)?$"
Duration = Annotated[float, BeforeValidator(units.parse_duration),
                     _text_schema(rf"^{_DECIMAL}\s*(ns|us|µs|ms|s|m|min|h)$", "1s", "500ms")]
Ratio = Annotated[float, BeforeValidator(units.parse_ratio), _text_schema(rf"^{_DECIMAL}\s*%$", "0.5%", "50%")]
Rate = Annotated[float, BeforeValidator(units.parse_rate), _text_schema(_RATE_PATTERN, "200k", "2.5M", number=True)]


def _optional(default: Any, description: str, **limits: Any) -> Any:
    """A field that may be left out; ``default`` is written, and validated, as in a file."""
    return Field(default=default, description=description, **limits)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


class Imix(_Section):
    """Frames of several sizes in a ratio, in one point: (size or ``min``, frames of it in a round)."""

    parts: tuple[tuple[int | Literal["min"], int], ...]


_FRAME_HELP = "frame sizes count the FCS; a size, min, imix, {imix: {64: 7, 594: 4, 1518: 1}}, or a list of these"
MOST_WEIGHT = 1000


def _size(value: object) -> int | Literal["min"]:
    if isinstance(value, str) and value.strip() == "min":
        return "min"
    return units.parse_bytes(value, least=1, most=1_000_000)


def _imix(value: object) -> Imix:
    if not isinstance(value, dict) or not 2 <= len(value) <= MOST_SIZES:
        raise ValueError(f"{shown(value)} is no mix; give 2 to {MOST_SIZES} sizes with the frames of each in a round, "
                         "for example {64: 7, 594: 4, 1518: 1}")
    return Imix(parts=tuple(
        (_size(size), units.parse_count(weight, what=f"the frames of {size} B in a round", least=1, most=MOST_WEIGHT))
        for size, weight in value.items()))


def _frame(item: object) -> int | Literal["min"] | Imix:
    if isinstance(item, str) and item.strip().lower() == "imix":
        return Imix(parts=SIMPLE_IMIX.parts)
    if isinstance(item, dict):
        if set(item) != {"imix"}:
            raise ValueError(f"{shown(item)} is no frame size")
        return _imix(item["imix"])
    return _size(item)


def _frames(value: object) -> tuple[int | Literal["min"] | Imix, ...]:
    frames: list[int | Literal["min"] | Imix] = []
    for item in _as_list(value):
        try:
            frames.append(item if isinstance(item, Imix) else _frame(item))
        except ValueError as error:
            raise ValueError(f"{error} ({_FRAME_HELP})") from None
    if not frames:
        raise ValueError(f"an empty list ({_FRAME_HELP})")
    return _distinct(frames)


IF_AVAILABLE = "if_available"
IF_SUPPORTED = "if_supported"


def _cores(value: object) -> object:
    if isinstance(value, CoreCounts):
        return value
    if isinstance(value, dict):
        if list(value) != [IF_AVAILABLE]:
            raise ValueError(f"{shown(value)} does not say how many cores; write [1, 2, 4], or {{{IF_AVAILABLE}: "
                             "[1, 2, 4]} to leave out the counts that a host does not have")
        return {"counts": _core_counts(value[IF_AVAILABLE]), "if_available": True}
    return {"counts": _core_counts(value)}


def _core_counts(value: object) -> tuple[int, ...]:
    counts = [units.parse_count(item, what="a core count", least=1, most=1024) for item in _as_list(value)]
    if not counts:
        raise ValueError("an empty list; say how many DUT cores the stack gets, for example [1] or [1, 2, 4]")
    return _distinct(counts)


class CoreCounts(_Section):
    """How many DUT cores the stacks get. ``if_available``: counts that a host does not have are left out of its points;
    otherwise they are an error."""

    counts: tuple[int, ...]
    if_available: bool = False

    def of(self, there: int) -> tuple[int, ...]:
        """The counts to measure on a host with this many cores for stacks."""
        return tuple(count for count in self.counts if count <= there or not self.if_available)


def _distinct(values: list[Any]) -> tuple[Any, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{shown(value)} is given twice; remove one")
    return tuple(values)


def _fractions(value: object) -> tuple[float, ...]:
    if not _as_list(value):
        raise ValueError("an empty list; give shares such as [10%, 50%, 90%]")
    return _distinct([units.parse_ratio(item, least=0.001, most=1.0) for item in _as_list(value)])


def _flows(value: object) -> int:
    return units.parse_count(value, what="the number of flows", least=1, most=1_000_000)


def _l4(value: object) -> object:
    if value not in ("udp", "tcp"):
        raise ValueError(f"{shown(value)} is not supported; test traffic is udp, or tcp for role accept")
    return value


_ONE_FRAME: dict[str, Any] = {"anyOf": [
    {"type": "integer"}, {"enum": ["min", "imix"]},
    {"type": "object", "required": ["imix"], "additionalProperties": False, "properties": {"imix": {
        "type": "object", "minProperties": 2, "maxProperties": MOST_SIZES, "examples": [{"64": 7, "594": 4, "1518": 1}],
        "propertyNames": {"pattern": "^(min|[0-9]+)$"},
        "additionalProperties": {"type": "integer", "minimum": 1, "maximum": MOST_WEIGHT}}}}]}
_FRAME_SCHEMA: dict[str, Any] = {"anyOf": [*_ONE_FRAME["anyOf"], {"type": "array", "items": _ONE_FRAME}]}


class Traffic(_Section):
    """The frames that are sent. Every flow differs in addresses or ports."""

    frame: Annotated[tuple[int | Literal["min"] | Imix, ...], BeforeValidator(_frames), WithJsonSchema(_FRAME_SCHEMA),
                     ] = _optional("min", "Frame size in bytes on the wire, FCS included: a size, min, imix (64, 594, "
                                          "1518 B as 7:4:1), a mix of your own, or a list of these (a point each)")
    flows: Annotated[int, BeforeValidator(_flows)] = _optional(1024, "Number of distinct flows each direction")
    l3: Literal["ipv4", "ipv6"] = _optional("ipv4", "Network layer: ipv4 or ipv6")
    l4: Annotated[Literal["udp", "tcp"], BeforeValidator(_l4)] = _optional(
        "udp", "Transport layer: udp; role accept is tcp, whether written or not")
    vlan: int | None = _optional(None, "VLAN id of a tag on every frame; none when left out", ge=1, le=4094)
    direction: Literal["one-way", "bidirectional"] = _optional(
        "one-way", "one-way, or bidirectional (role forward): both ports send at the rate given")


def _mix(frame: int | Literal["min"] | Imix, least: int) -> FrameMix:
    parts = frame.parts if isinstance(frame, Imix) else ((frame, 1),)
    weights: dict[int, int] = {}
    for size, weight in parts:
        bytes_ = least if size == "min" else size
        weights[bytes_] = weights.get(bytes_, 0) + weight
    common = gcd(*weights.values())
    return FrameMix(tuple((size, weight // common) for size, weight in sorted(weights.items())))


def _goals(value: object) -> list[object]:
    goals = _as_list(value)
    if not goals:
        raise ValueError("an empty list; one or more of mrr, ndr, pdr")
    return list(_distinct(goals))


class Throughput(_Section):
    """Settings of the search (MLRsearch). All are recorded; results under different settings are not compared."""

    goals: Annotated[tuple[Goal, ...], BeforeValidator(_goals)] = _optional(
        ("mrr", "ndr", "pdr"), "Any of mrr (forwarding rate at maximum load), ndr (no loss), pdr (loss up to `loss`)")
    trial: Duration = _optional("1s", "Length of the trials that decide")
    initial_trial: Duration | None = _optional(None, "Length of the first, coarse trials; as trial when left out")
    width: Ratio = _optional("0.5%", "How close lower and upper bound have to come")
    loss: Ratio = _optional("0.5%", "Loss ratio that pdr allows")
    duration_sum: Duration | None = _optional(
        None, "Trials of so much time in all decide a bound; a single trial when left out")
    exceed_ratio: Ratio = _optional("0%", "Share of these trials that may be worse than the goal (FD.io CSIT uses 50%)")
    min_load: Rate = _optional("1k", "Loads below this are not tried")
    timeout: Duration = _optional("10m", "A search that takes longer is cut short; its bounds stay as they are")


class Latency(_Section):
    """Latency percentiles at shares of the throughput found."""

    at: Annotated[tuple[float, ...], BeforeValidator(_fractions),
                  WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": rf"^{_DECIMAL}\s*%$"}}),
                  ] = _optional(("10%", "50%", "90%"), "Shares of the throughput at which to measure")
    of: Literal["pdr", "ndr"] = _optional("pdr", "Which throughput: pdr or ndr")
    trial: Duration = _optional("3s", "Length of a latency trial")
    rate: Rate = _optional("5k", "Latency frames per second and direction, counted in the load; a percentile p "
                                 "needs 10 / (1 - p) of them")


class Load(_Section):
    """An offered load: frames (role accept: connections) per second per direction, or a share of line rate."""

    value: float
    unit: Literal["pps", "line"]


def _load(value: object) -> Load:
    if isinstance(value, str) and value.strip().endswith("%"):
        return Load(value=units.parse_ratio(value, least=0.00001, most=1.0), unit="line")
    return Load(value=units.parse_rate(value), unit="pps")


def _loads(value: object) -> list[Load]:
    loads = [item if isinstance(item, Load) else _load(item) for item in _as_list(value)]
    if not loads:
        raise ValueError("an empty list; give the loads to offer, for example [50k, 100k, 200k]")
    return list(_distinct(loads))


def _cpu_trial(value: object) -> float:
    seconds = units.parse_duration(value)
    if seconds < LEAST_CPU_TRIAL_S:
        raise ValueError(f"{shown(value)} is too short for CPU figures; at least {LEAST_CPU_TRIAL_S:g}s")
    return seconds


class LoadCurve(_Section):
    """Every stack at the same offered loads: where per-core CPU comes from."""

    rates: Annotated[tuple[Load, ...], BeforeValidator(_loads), WithJsonSchema(
        {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}, "examples": [["50k", "100k"]]}),
        ] = Field(description="loads in frames per second per direction, such as [50k, 100k], or shares of line rate")
    trial: Annotated[float, BeforeValidator(_cpu_trial), _text_schema(rf"^{_DECIMAL}\s*(ms|s|m|min|h)$", "3s"),
                     ] = _optional("3s", "Length of each trial, at least 2s")


def _bystander(value: object) -> object:
    return {"service": value} if isinstance(value, str) else value


def _attempts(value: object) -> int:
    return units.parse_count(value, what="rate", least=1, most=100)


class Bystander(_Section):
    """Somebody else's connections to the DUT over the port under test, timed while the load curve is measured."""

    service: Literal["ssh"] = _optional("ssh", "ssh: connect to the DUT's SSH server and wait for its greeting")
    rate: Annotated[int, BeforeValidator(_attempts)] = _optional(10, "Connections a second, 1 to 100")
    timeout: Duration = _optional("1s", "An attempt without a greeting by then is lost")


class Measure(_Section):
    """What is measured at every point: any of throughput, latency, load_curve."""

    throughput: Throughput | None = _optional(None, "Search for MRR, NDR and PDR")
    latency: Latency | None = _optional(None, "Latency percentiles at shares of PDR or NDR")
    load_curve: LoadCurve | None = _optional(None, "Trials at fixed loads, with per-core CPU")
    bystander: Annotated[Bystander | None, BeforeValidator(
        _bystander, json_schema_input_type=Literal["ssh"] | Bystander | None)] = _optional(
        None, "Time other connections over the same port during the load curve: ssh")
    drop_reasons: bool = _optional(False, "After the load curve, a diagnostic trial at the highest load in which the "
                                          "DUT's kernel tells why it drops packets (skb:kfree_skb)")
    warmup: Duration = _optional("1s", "A discarded trial before the first; 0 for none")


Tuning = Annotated[NamedProfile, BeforeValidator(named_profile), WithJsonSchema(
    {"anyOf": [{"enum": sorted(PROFILES)}, Profile.model_json_schema(mode="validation")]})]


class StackEntry(_Section):
    """One stack to compare, with its parameters as the file gives them, and its own tuning if it has any.
    ``if_supported``: a host that lacks what it needs skips it, and the run counts as complete without it."""

    name: str
    params: Mapping[str, Any] = Field(default_factory=dict)
    tuning: NamedProfile | None = None
    if_supported: bool = False


#: Keys of an entry beside the stack's name.
_ENTRY_KEYS = {"tuning", IF_SUPPORTED}


def _entry(value: object) -> dict[str, Any]:
    example = "write `- xdp` or `- linux-udp: {reuseport: true}`, with `tuning: tuned` below it if you like"
    if isinstance(value, str):
        return {"name": value, "params": {}}
    if isinstance(value, dict) and len(set(value) - _ENTRY_KEYS) == 1:
        (name, params), = ((key, item) for key, item in value.items() if key not in _ENTRY_KEYS)
        tuning = named_profile(value["tuning"]) if "tuning" in value else None
        optional = value.get(IF_SUPPORTED, False)
        if not isinstance(optional, bool):
            raise ValueError(f"if_supported of {name} is {shown(optional)}; write true to go on without it, and call "
                             "the run complete, where a host lacks what it needs, or leave it out")
        if params is None or isinstance(params, dict):
            return {"name": name, "params": params or {}, "tuning": tuning, IF_SUPPORTED: optional}
        raise ValueError(f"parameters of {name} are {shown(params)}; {example}")
    raise ValueError(f"{shown(value)} is not a stack; {example}")


def _stacks(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise ValueError("a list of stacks is expected; see `harness stacks list`")
    entries = [_entry(item) for item in value]
    for index, entry in enumerate(entries):
        if entry in entries[:index]:
            raise ValueError(f"{entry['name']} is given twice with the same parameters and tuning; remove one")
    return entries


def _gate(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError(f'{shown(value)} is not a gate; write for example {{ndr: "-3%"}}')
    limits = {}
    for name, limit in value.items():
        metric = Metric.parse(str(name))
        if metric.name in limits:
            raise ValueError(f"{metric.name} is given twice; remove one")
        try:
            limits[metric.name] = units.parse_ratio(limit, least=-1.0, most=100.0, signed=True)
            check_threshold(metric, limits[metric.name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return limits


def _repeat(value: object) -> int:
    return units.parse_count(value, what="repeat", least=1, most=1000)


_CORES_SCHEMA = {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}


class Scenario(_Section):
    """A scenario file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
                      description="a short name for results: lower-case letters, digits, . _ -")
    description: str = _optional("", "What the scenario is for, in a sentence", max_length=2000)
    role: Role = Field(description="what the stack does with a frame: drop, forward, reflect or echo; or accept, for "
                                   "TCP connections")
    testbed: str = _optional("lab", "lab, or a testbed file relative to this one")
    traffic: Traffic = Field(default_factory=lambda: Traffic(), description="The frames that are sent")
    cores: Annotated[CoreCounts, BeforeValidator(_cores), WithJsonSchema(
        {"anyOf": [_CORES_SCHEMA, {"type": "object", "properties": {IF_AVAILABLE: _CORES_SCHEMA},
                                   "required": [IF_AVAILABLE], "additionalProperties": False}]}),
        ] = _optional(1, "DUT cores given to the stack; a list makes a point of each count, {if_available: [1, 2, 4]} "
                         "of each count that the host has")
    stacks: Annotated[tuple[StackEntry, ...], BeforeValidator(_stacks), WithJsonSchema(
        {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, {
            "type": "object", "description": f"The stack's name with its parameters; beside it tuning, and "
            f"{IF_SUPPORTED}: true where a host that lacks what the stack needs may skip it and call the run complete",
            "properties": {IF_SUPPORTED: {"type": "boolean", "default": False}}}]}}),
        ] = Field(description="list the stacks to compare; see `harness stacks list`")
    tuning: Tuning | None = _optional(
        None, "Tuning of the DUT: stock (nothing is touched), tuned, or a mapping of items; a stack may have its own")
    measure: Measure = Field(description="say what to measure: throughput, latency, load_curve")
    repeat: Annotated[int, BeforeValidator(_repeat)] = _optional(1, "How often every point is measured")
    order: Order = _optional(Order.INTERLEAVED, "interleaved (shuffled within a round) or given")
    gate: Annotated[Mapping[str, float], BeforeValidator(_gate), WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": "string"}, "examples": [{"ndr": "-3%"}]}),
        ] = Field(default_factory=dict, description="Largest change for the worse that `harness gate` lets pass: -3% "
                                                    "of a rate, +10% of latency, cores or cycles, +0.1% "
                                                    "(percentage points) of loss")

    def frames(self, *, trailer: bool = False) -> tuple[FrameMix, ...]:
        """The frame sizes, one mix a point, ``min`` resolved; distinct, in the order given. Role accept: one of 0
        bytes, it has none. ``trailer``: the generator writes over the payload's end even where latency is not measured
        (xdpgen marks its frames)."""
        if self.role is Role.ACCEPT:
            return (FrameMix.of(0),)
        least = self.smallest_frame(trailer=trailer)
        return tuple(dict.fromkeys(_mix(frame, least) for frame in self.traffic.frame))

    def smallest_frame(self, *, trailer: bool = False) -> int:
        """Smallest frame for this traffic, in bytes with FCS."""
        return minimum_frame(self.traffic.l3, vlan=self.traffic.vlan is not None,
                             latency=trailer or self.latency_header)

    @property
    def latency_header(self) -> bool:
        """Whether frames carry a latency header: where latency is measured."""
        return self.measure.latency is not None


@dataclass(frozen=True)
class ScenarioFile:
    """A scenario and the file it came from: ``document.error(location, message)`` names the line of any key."""

    spec: Scenario
    document: Document

    @property
    def path(self) -> Path:
        """Where it was read from."""
        return self.document.path

    @property
    def text(self) -> str:
        """The file as it was read."""
        return self.document.text


def load_scenario(path: Path, text: str | None = None) -> ScenarioFile:
    """Read and check a scenario file (``text``: as it once was). Raises UsageError with one line a problem."""
    document = load(path, text)
    spec = document.validate(Scenario)
    problems = [str(document.error(location, message)) for location, message in _contradictions(spec)]
    if problems:
        raise UsageError("\n".join(problems))
    return ScenarioFile(spec, document)


def _contradictions(spec: Scenario) -> list[tuple[Location, str]]:
    problems = _accept_problems(spec) if spec.role is Role.ACCEPT else _frame_problems(spec)
    return problems + _measure_problems(spec) + _direction_problems(spec)


def _accept_problems(spec: Scenario) -> list[tuple[Location, str]]:
    """What belongs to frames has no meaning for connections: said, not ignored."""
    traffic, measure = spec.traffic, spec.measure
    problems: list[tuple[Location, str]] = [
        (("traffic", key), f"role accept has connections, not frames; remove {key}: {why}")
        for key, why in (("frame", "segments are as large as TCP makes them"),
                         ("flows", "every connection comes from a port of its own"))
        if key in traffic.model_fields_set
    ]
    if "l4" in traffic.model_fields_set and traffic.l4 != "tcp":
        problems.append((("traffic", "l4"), "role accept is about TCP connections; write tcp, or leave it out"))
    if measure.latency is not None and "rate" in measure.latency.model_fields_set:
        problems.append((("measure", "latency", "rate"), "role accept times every connection, so there are no latency "
                                                         "frames; remove rate"))
    rates = measure.load_curve.rates if measure.load_curve is not None else ()
    problems += [(("measure", "load_curve", "rates", index), "a wire has no line rate in connections; write "
                                                             "connections per second, for example 5k")
                 for index, load in enumerate(rates) if load.unit == "line"]
    return problems


def _frame_problems(spec: Scenario) -> list[tuple[Location, str]]:
    return [(("traffic", "frame"), problem) for problem in frame_problems(spec, trailer=False)]


def frame_problems(spec: Scenario, *, trailer: bool) -> list[str]:
    """Sizes that this traffic does not fit into, in words; ``trailer`` as for :meth:`Scenario.frames`."""
    traffic, tagged = spec.traffic, spec.traffic.vlan is not None
    least, most = spec.smallest_frame(trailer=trailer), LARGEST_ETHERNET + (VLAN_TAG if tagged else 0)
    written = "latency header" if spec.latency_header else "xdpgen's mark" if trailer else ""
    headers = " + ".join([traffic.l3.replace("ip", "IP"), "UDP"] + ["VLAN"] * tagged + [written] * bool(written))
    problems = []
    for size in dict.fromkeys(size for mix in spec.frames(trailer=trailer) for size in mix.sizes):
        if size < least:
            own = ("; a mix of your own may hold min, such as {imix: {min: 7, 594: 4, 1518: 1}}"
                   if any(isinstance(frame, Imix) for frame in traffic.frame) else "")
            problems.append(f"{size} is too small for {headers}; at least {least}, or min{own}")
        if size > most:
            problems.append(f"{size} is too large; at most {most} bytes with FCS")
    return problems


def _measure_problems(spec: Scenario) -> list[tuple[Location, str]]:
    measure = spec.measure
    throughput, latency = measure.throughput, measure.latency
    problems: list[tuple[Location, str]] = []
    if throughput is None and latency is None and measure.load_curve is None:
        problems.append((("measure",), "nothing to measure; give throughput, latency or load_curve"))
    if latency is not None and spec.role is Role.DROP:
        problems.append((("measure", "latency"), "role drop returns nothing, so latency is not defined; remove it"))
    elif latency is not None and (throughput is None or Goal(latency.of) not in throughput.goals):
        problems.append((("measure", "latency", "of"), f"latency is measured at shares of {latency.of}, which is not "
                                                       f"searched; add {latency.of} to measure.throughput.goals"))
    if throughput is not None:
        problems += _throughput_problems(throughput)
    if latency is not None and not LEAST_TRIAL_S <= latency.trial <= LONGEST_TRIAL_S:
        problems.append((("measure", "latency", "trial"), f"{latency.trial:g}s is out of range; 10ms to 1h"))
    if measure.warmup and not LEAST_TRIAL_S <= measure.warmup <= LONGEST_TRIAL_S:
        problems.append((("measure", "warmup"), f"{measure.warmup:g}s is out of range; 10ms to 1h, or 0"))
    if measure.bystander is not None:
        problems += _bystander_problems(measure)
    highest = measure.load_curve is not None or (throughput is not None and Goal.MRR in throughput.goals)
    if measure.drop_reasons and not highest:
        problems.append((("measure", "drop_reasons"), "drops are explained at the highest load: add measure.load_curve "
                                                      "or mrr to measure.throughput.goals"))
    problems += [(("gate", name), problem) for name in spec.gate
                 if (problem := _not_gated(Metric.parse(name), measure))]
    return problems


def _not_gated(metric: Metric, measure: Measure) -> str:
    """Why a metric of the gate is not measured by this scenario; empty where it is."""
    if metric.kind is Kind.LATENCY:
        if measure.latency is None:
            return "latency is not measured; add measure.latency"
        if metric.at not in measure.latency.at:
            return f"{units.format_ratio(metric.at)} is not measured; add it to measure.latency.at"
    elif metric.at:
        if measure.load_curve is None:
            return f"{metric.kind} at a load comes from the load curve; add measure.load_curve"
        # What a share of line rate comes to is known with the testbed.
        fixed = [load.value for load in measure.load_curve.rates if load.unit == "pps"]
        if len(fixed) == len(measure.load_curve.rates) and metric.at not in fixed:
            return f"{metric.name.partition('@')[2]} is not measured; add it to measure.load_curve.rates"
    elif measure.throughput is None or Goal(str(metric.kind)) not in measure.throughput.goals:
        return f"{metric.kind} is not measured; add it to measure.throughput.goals"
    return ""


def _bystander_problems(measure: Measure) -> list[tuple[Location, str]]:
    assert measure.bystander is not None
    problems: list[tuple[Location, str]] = []
    if measure.load_curve is None:
        problems.append((("measure", "bystander"), "the bystander connects during the load curve; add "
                                                   "measure.load_curve"))
    if not 0.01 <= measure.bystander.timeout <= 60:
        problems.append((("measure", "bystander", "timeout"), f"{measure.bystander.timeout:g}s is out of range; 10ms "
                                                              "to 1m"))
    return problems


def _throughput_problems(throughput: Throughput) -> list[tuple[Location, str]]:
    at: Location = ("measure", "throughput")
    problems: list[tuple[Location, str]] = []
    if not LEAST_TRIAL_S <= throughput.trial <= LONGEST_TRIAL_S:
        problems.append(((*at, "trial"), f"{throughput.trial:g}s is out of range; 10ms to 1h"))
    initial = throughput.initial_trial
    if initial is not None and not LEAST_TRIAL_S <= initial <= throughput.trial:
        problems.append(((*at, "initial_trial"), f"{initial:g}s is out of range; from 10ms to trial "
                                                 f"({throughput.trial:g}s)"))
    together = throughput.duration_sum
    if together is not None and not throughput.trial <= together <= LONGEST_TRIAL_S:
        problems.append(((*at, "duration_sum"), f"{together:g}s is out of range; from trial ({throughput.trial:g}s) to "
                                                "1h"))
    if not 0 <= throughput.exceed_ratio < 1:
        problems.append(((*at, "exceed_ratio"), f"{units.format_ratio(throughput.exceed_ratio)} is out of range; 0% to "
                                                "99%"))
    if not 0.0001 <= throughput.width <= 0.5:
        problems.append(((*at, "width"), f"{units.format_ratio(throughput.width)} is out of range; 0.01% to 50%"))
    if not 0 < throughput.loss < 1 and Goal.PDR in throughput.goals:
        problems.append(((*at, "loss"), f"{units.format_ratio(throughput.loss)} is out of range; between 0% and 100%, "
                                        "for no loss use the goal ndr"))
    if throughput.timeout <= throughput.trial:
        problems.append(((*at, "timeout"), "shorter than one trial; give minutes, for example 10m"))
    return problems


def _direction_problems(spec: Scenario) -> list[tuple[Location, str]]:
    problems: list[tuple[Location, str]] = []
    if spec.traffic.direction == "bidirectional" and spec.role is not Role.FORWARD:
        problems.append((("traffic", "direction"), f"bidirectional needs role forward; role {spec.role} uses one wire "
                                                   "and sends one-way"))
    if spec.traffic.l4 == "tcp" and spec.role is not Role.ACCEPT:
        problems.append((("traffic", "l4"), f"role {spec.role} is measured with udp; tcp is for role accept"))
    return problems


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario file, for editors."""
    schema = Scenario.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Harness scenario"}
