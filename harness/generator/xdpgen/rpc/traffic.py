# SPDX-License-Identifier: Apache-2.0
"""Starting, changing and ending traffic (trex-stl-rpc.md 3.6)."""

from __future__ import annotations

from typing import Any

from harness.generator.xdpgen.contract import TxStream
from harness.generator.xdpgen.rpc.compile import PortFacts, Tables, tx_stream, unroll
from harness.generator.xdpgen.rpc.errors import BadParams, ExecuteError
from harness.generator.xdpgen.rpc.events import EventType
from harness.generator.xdpgen.rpc.graph import build_graph, check_links
from harness.generator.xdpgen.rpc.groups import Group
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import U64, Params
from harness.generator.xdpgen.rpc.port_stats import restart_port_rates
from harness.generator.xdpgen.rpc.ports import ALL_PROFILES, MAX_STREAMS, Port, Profile, Run, State
from harness.generator.xdpgen.rpc.rates import Multiplier, effective_factor, parse_multiplier
from harness.generator.xdpgen.rpc.schedule import lead
from harness.generator.xdpgen.rpc.state import ServerState
from harness.generator.xdpgen.rpc.stream_table import profile_name
from harness.generator.xdpgen.rpc.streams import Mode, Stream

#: A scheduled start must lie so far ahead (seconds), as in TRex.
_MIN_AHEAD = 0.1
#: Longest and shortest wait between two looks at traffic that should have ended (seconds).
_RECHECK_MIN, _RECHECK_MAX = 0.001, 0.2


def _emit(
    state: ServerState, port: Port, profile: Profile, before: State, kind: EventType, port_kind: EventType
) -> None:
    """A profile's event, and the port's if its state is no longer what it was ``before``."""
    state.events.emit(kind, {"port_id": port.index, "profile_id": profile.profile_id})
    if port.state is not before:
        state.events.emit(port_kind, {"port_id": port.index})


def _cores(state: ServerState, p: Params) -> tuple[int, ...]:
    mask, count = p.u64("core_mask", U64), len(state.dataplane.cores)
    chosen = tuple(core for core in range(count) if mask >> core & 1)
    if not chosen:
        raise BadParams(f"core_mask: '0x{mask:x}' for {count} cores generates an empty set")
    return chosen


def _check_destination(port: Port, profile: Profile) -> None:
    if not port.link_up:
        raise ExecuteError("Link state is DOWN.")
    implicit = any(stream.dst_mac_mode != 1 for stream in profile.streams.values())
    if implicit and not port.layer.resolved:
        raise ExecuteError(f"Port {port.index} dest MAC is invalid and there are streams without explicit dest MAC.")


def _rate_of(stream: Stream, port: Port, factor: float) -> float:
    pps = stream.pps(port.speed_bps)
    return pps if stream.latency else pps * factor


def _prepare(
    state: ServerState, port: Port, profile: Profile, factor: float, cores: tuple[int, ...]
) -> tuple[list[TxStream], dict[int, int], dict[int, float]]:
    """What to send, and for every key its stream id and rate."""
    segments = unroll(profile.streams, lambda stream: _rate_of(stream, port, factor))
    slots = {
        segment.stream.stream_id: state.groups.open(segment.stream.flow_stats)
        for segment in segments
        if segment.stream.flow_stats is not None
    }
    tables = Tables(PortFacts(port.index, port.info.mac, port.layer.dst_mac, cores), profile.tables)
    profile.tables.keep(profile.streams)
    prepared: list[TxStream] = []
    owners: dict[int, int] = {}
    rates: dict[int, float] = {}
    for segment in segments:
        key = state.take_key()
        prepared.append(tx_stream(segment, key, tables, slots.get(segment.stream.stream_id)))
        owners[key], rates[key] = segment.stream.stream_id, segment.pps
    return prepared, owners, rates


def _end_of(prepared: list[TxStream], rates: dict[int, float], at: float, duration: float) -> float | None:
    ends = [None if tx.total is None else at + tx.delay_s + tx.total / rates[tx.key] for tx in prepared]
    finite = [end for end in ends if end is not None]
    natural = max(finite, default=at) if len(finite) == len(ends) else None
    if duration <= 0:
        return natural
    return at + duration if natural is None else min(natural, at + duration)


def _start_at(p: Params, state: ServerState) -> float:
    wanted = p.number("start_at_ts", 0)
    if wanted and wanted < state.now() + _MIN_AHEAD:
        raise ExecuteError("start_at_ts, if defined, should be at least 100ms from now_sec()")
    return wanted


def _start_traffic(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    name, duration, force = profile_name(p), p.number("duration"), p.boolean("force")
    cores = _cores(state, p)
    mul = parse_multiplier(p.object("mul"), only_absolute=True)
    profile = port.profile(name)
    profile.require("start", State.STREAMS)
    state.refresh_link(port)
    if not force:
        _check_destination(port, profile)
    graph = build_graph(profile.streams.values(), port.speed_bps)
    factor = effective_factor(mul, graph, port.speed_bps, force)
    check_links(profile.streams)
    prepared, owners, rates = _prepare(state, port, profile, factor, cores)
    wanted = _start_at(p, state)
    now = state.now()
    at = wanted or now + lead(prepared)
    before = port.state
    until = at + duration if duration > 0 else None
    _restart_windows(state, port, profile)
    if prepared and wanted:
        state.schedule.add(prepared, at, until)
    elif prepared:
        state.dataplane.start(prepared, at, until)
    profile.run = Run(
        graph=graph,
        factor=factor,
        timed=duration > 0,
        streams=owners,
        pps=rates,
        end=_end_of(prepared, rates, at, duration),
        all_continuous=all(s.mode is Mode.CONTINUOUS for s in profile.streams.values() if s.enabled),
        scalable=len(set(owners.values())) == len(owners),
        paused_streams={number for number, stream in profile.streams.items() if stream.start_paused},
    )
    profile.paused = False
    _emit(state, port, profile, before, EventType.PROFILE_STARTED, EventType.PORT_STARTED)
    return {"multiplier": factor, "ts": now}


def _restart_windows(state: ServerState, port: Port, profile: Profile) -> None:
    """Rates are those of the traffic that starts now, not of the idle time before it."""
    now = state.now()
    if not state.sending():
        restart_port_rates(state, now)
    name = profile.profile_id

    def moving(group: Group) -> bool:
        return any(member[:2] == (port.index, name) for member in group.members)

    state.groups.restart_rates(now, moving)


def _finish(state: ServerState, port: Port, profile: Profile, kind: EventType, port_kind: EventType) -> None:
    before = port.state
    profile.run = None
    profile.paused = False
    _emit(state, port, profile, before, kind, port_kind)


def stop_profile(state: ServerState, port: Port, profile: Profile) -> None:
    """Stop a profile if it is active; returns when nothing of it is sent any more."""
    if profile.run is None:
        return
    state.schedule.forget(profile.run.streams)
    state.dataplane.stop(list(profile.run.streams))
    _finish(state, port, profile, EventType.PROFILE_STOPPED, EventType.PORT_STOPPED)


def _stop_traffic(state: ServerState, p: Params) -> Any:
    port, name = state.port(p), profile_name(p)
    chosen = list(port.active_profiles()) if name == ALL_PROFILES else [port.profile(name)]
    for profile in chosen:
        stop_profile(state, port, profile)
    return {}


def end_finished(state: ServerState) -> None:
    """Turn profiles whose frames are all sent to STREAMS, with their events."""
    now = state.now()
    for port in state.ports.values():
        for profile in port.active_profiles():
            run = profile.run
            if run is None or run.end is None or now < run.end:
                continue
            if state.dataplane.active(list(run.streams)):
                run.end = now + run.recheck
                run.recheck = min(run.recheck * 2, _RECHECK_MAX)
                continue
            state.dataplane.stop(list(run.streams))
            _finish(state, port, profile, EventType.PROFILE_FINISHED, EventType.PORT_JOB_DONE)


def next_end(state: ServerState) -> float | None:
    """When ``end_finished`` should next be called; None if no end is in sight."""
    runs = [profile.run for port in state.ports.values() for profile in port.active_profiles()]
    return min((run.end for run in runs if run is not None and run.end is not None), default=None)


def _require_pausable(run: Run) -> None:
    if not run.all_continuous:
        raise ExecuteError(" pause is supported when all streams are in continues mode ")
    if run.timed:
        raise ExecuteError(" pause is supported when duration is not enable is start command ")


def _apply_rates(state: ServerState, profile: Profile) -> None:
    """Tell the dataplane the rates of a profile: 0 while it or the stream is paused."""
    run = profile.running()
    rates = {
        key: 0.0 if profile.paused or run.streams[key] in run.paused_streams else pps for key, pps in run.pps.items()
    }
    state.schedule.begin(rates)
    state.dataplane.set_rate(rates)


def _pause_traffic(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    profile = port.profile(profile_name(p))
    profile.require("pause", State.TX)
    _require_pausable(profile.running())
    before = port.state
    profile.paused = True
    _apply_rates(state, profile)
    _emit(state, port, profile, before, EventType.PROFILE_PAUSED, EventType.PORT_PAUSED)
    return {}


def _resume_traffic(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    profile = port.profile(profile_name(p))
    profile.require("resume", State.PAUSE)
    before = port.state
    profile.paused = False
    _apply_rates(state, profile)
    _emit(state, port, profile, before, EventType.PROFILE_RESUMED, EventType.PORT_RESUMED)
    return {}


def _rescale(state: ServerState, port: Port, profile: Profile, mul: Multiplier, force: bool) -> float:
    run = profile.running()
    if not run.scalable:
        raise ExecuteError("changing the rate of chains and multi bursts is not implemented by xdpgen: stop and start")
    factor = effective_factor(mul, run.graph, port.speed_bps, force, run.factor)
    for key, number in run.streams.items():
        if not profile.streams[number].latency:
            run.pps[key] *= factor / run.factor
    run.factor = factor
    _apply_rates(state, profile)
    if run.end is not None and not run.all_continuous:
        # Bursts now end at another time: look again at once, then ever less often.
        run.end, run.recheck = min(run.end, state.now()), _RECHECK_MIN
    return factor


def _update_traffic(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    profile = port.profile(profile_name(p))
    force = p.boolean("force")
    mul = parse_multiplier(p.object("mul"), only_absolute=False)
    profile.require("update", State.TX, State.PAUSE)
    return {"multiplier": _rescale(state, port, profile, mul, force)}


def _named_streams(p: Params, profile: Profile, verb: str) -> set[int]:
    numbers = p.whole_numbers("stream_ids", MAX_STREAMS)
    for number in numbers:
        if number not in profile.streams:
            raise ExecuteError(f"stream {number} does not exists in profile_id({profile.profile_id})")
    if not numbers:
        raise BadParams(f"please specify streams to {verb}")
    return set(numbers)


def _pause_streams(state: ServerState, p: Params) -> Any:
    profile = state.port(p).profile(profile_name(p))
    numbers = _named_streams(p, profile, "pause")
    profile.require("pause", State.TX, State.PAUSE)
    _require_pausable(profile.running())
    profile.running().paused_streams |= numbers
    _apply_rates(state, profile)
    return {}


def _resume_streams(state: ServerState, p: Params) -> Any:
    profile = state.port(p).profile(profile_name(p))
    numbers = _named_streams(p, profile, "resume")
    profile.require("resume", State.TX, State.PAUSE)
    profile.running().paused_streams -= numbers
    _apply_rates(state, profile)
    return {}


def _update_streams(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    profile = port.profile(profile_name(p))
    force = p.boolean("force")
    mul = parse_multiplier(p.object("mul"), only_absolute=False)
    numbers = _named_streams(p, profile, "update")
    profile.require("update", State.TX, State.PAUSE)
    if mul.op != "abs":
        raise ExecuteError("Must use absolute multiplier for updating stream")
    run = profile.running()
    factors = {}
    for number in numbers:
        graph = build_graph([profile.streams[number]], port.speed_bps)
        factors[number] = effective_factor(mul, graph, port.speed_bps, force)
    for key, number in run.streams.items():
        if number in factors:
            run.pps[key] = profile.streams[number].pps(port.speed_bps) * factors[number]
    _apply_rates(state, profile)
    return {"multiplier": run.factor}


def _remove_rx_filters(state: ServerState, p: Params) -> Any:
    # The dataplane needs no filters; only the state is checked, as TRex does.
    state.port(p).profile(profile_name(p)).require("remove_rx_filters", State.STREAMS)
    return {}


METHODS = {
    "start_traffic": Method(_start_traffic, owned=True),
    "stop_traffic": Method(_stop_traffic, owned=True),
    "pause_traffic": Method(_pause_traffic, owned=True),
    "resume_traffic": Method(_resume_traffic, owned=True),
    "update_traffic": Method(_update_traffic, owned=True),
    "pause_streams": Method(_pause_streams, owned=True),
    "resume_streams": Method(_resume_streams, owned=True),
    "update_streams": Method(_update_streams, owned=True),
    "remove_rx_filters": Method(_remove_rx_filters, owned=True),
}
