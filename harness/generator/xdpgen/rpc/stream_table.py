# SPDX-License-Identifier: Apache-2.0
"""Adding, removing and listing streams (trex-stl-rpc.md 3.4)."""

from __future__ import annotations

from typing import Any

from harness.generator.xdpgen.rpc.errors import ExecuteError
from harness.generator.xdpgen.rpc.graph import Bandwidth, build_graph, check_links
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.ports import ALL_PROFILES, DEFAULT_PROFILE, MAX_STREAMS, Port, Profile, State
from harness.generator.xdpgen.rpc.state import ServerState
from harness.generator.xdpgen.rpc.streams import Stream, parse_stream

#: TRex multiplies the line utilisation it reports by this.
_UTIL_MARGIN = 1.0001


def profile_name(p: Params) -> str:
    """The ``profile_id`` parameter; absent means the default profile."""
    return p.text("profile_id", DEFAULT_PROFILE)


def _add_stream(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    name = profile_name(p)
    number = p.u32("stream_id")
    stream = parse_stream(number, p.object("stream"), len(state.dataplane.cores))
    present = port.profiles.get(name)
    if present is not None and number in present.streams:
        raise ExecuteError(f"stream {number} already exists in profile_id({name})")
    if present is not None:
        present.require("add_stream", State.IDLE, State.STREAMS)
    if port.stream_count() >= MAX_STREAMS:
        raise ExecuteError(f"Reached limit of {MAX_STREAMS} streams at the port.")
    state.groups.check(stream)
    profile = port.profile_for_add(name)
    state.groups.join(stream, (port.index, name, number))
    profile.streams[number] = stream
    return {}


def _forget(state: ServerState, port: Port, profile: Profile, stream: Stream) -> None:
    del profile.streams[stream.stream_id]
    state.groups.leave(stream.flow_stats, (port.index, profile.profile_id, stream.stream_id))


def _remove_stream(state: ServerState, p: Params) -> Any:
    port, name, number = state.port(p), profile_name(p), p.u32("stream_id")
    profile = port.profiles.get(name)
    if profile is None or number not in profile.streams:
        raise ExecuteError(f"stream {number} does not exists in profile_id({name})")
    profile.require("remove_stream", State.STREAMS)
    _forget(state, port, profile, profile.streams[number])
    return {}


def _remove_all_streams(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    profile = port.profiles.get(profile_name(p))
    if profile is None:
        return {}
    profile.require("remove_and_delete_all_streams", State.IDLE, State.STREAMS)
    for stream in list(profile.streams.values()):
        _forget(state, port, profile, stream)
    return {}


def _sources(profile: Profile) -> dict[str, Any]:
    return {str(number): stream.source for number, stream in profile.streams.items()}


def _get_all_streams(state: ServerState, p: Params) -> Any:
    port, name = state.port(p), profile_name(p)
    if name == ALL_PROFILES:
        profiles = port.profiles.items()
        return {"profiles": {pid: _sources(profile) for pid, profile in profiles if profile.streams}}
    profile = port.profiles.get(name)
    return {"streams": _sources(profile) if profile else {}}


def _get_stream_list(state: ServerState, p: Params) -> Any:
    port, name = state.port(p), profile_name(p)
    if name == ALL_PROFILES:
        return {pid: list(profile.streams) for pid, profile in port.profiles.items()}
    profile = port.profiles.get(name)
    return list(profile.streams) if profile else []


def _get_stream(state: ServerState, p: Params) -> Any:
    port, name = state.port(p), profile_name(p)
    with_packet, number = p.boolean("get_pkt"), p.u32("stream_id")
    profile = port.profile(name)
    if number not in profile.streams:
        raise ExecuteError(f"stream id {number}, profile id {name} on port {port.index} does not exists")
    source = profile.streams[number].source
    return {"stream": {key: value for key, value in source.items() if with_packet or key != "packet"}}


def _get_profile_list(state: ServerState, p: Params) -> Any:
    return list(state.port(p).profiles)


def _rates(prefix: str, rate: Bandwidth, speed_bps: float) -> dict[str, float]:
    return {
        f"{prefix}_pps": rate.pps,
        f"{prefix}_bps_l2": rate.bps_l2,
        f"{prefix}_bps_l1": rate.bps_l1,
        f"{prefix}_line_util": rate.bps_l1 / speed_bps * 100 * _UTIL_MARGIN,
    }


def _validate(state: ServerState, p: Params) -> Any:
    port = state.port(p)
    profile = port.profile(profile_name(p))
    if not profile.streams:
        raise ExecuteError("no streams attached to port")
    check_links(profile.streams)
    graph = build_graph(profile.streams.values(), port.speed_bps)
    events = [
        {
            "time_usec": event.time_us,
            "stream_id": event.stream_id,
            "diff_pps": event.change.pps,
            "diff_bps_l2": event.change.bps_l2,
            "diff_bps_l1": event.change.bps_l1,
        }
        for event in graph.events
    ]
    highest = _rates("max", graph.variable + graph.fixed, port.speed_bps)
    return {
        "rate": highest | _rates("min", graph.fixed, port.speed_bps),
        "graph": {"expected_duration": int(graph.duration_us), "events_count": len(events), "events": events},
    }


METHODS = {
    "add_stream": Method(_add_stream, owned=True),
    "remove_stream": Method(_remove_stream, owned=True),
    "remove_all_streams": Method(_remove_all_streams, owned=True),
    "get_all_streams": Method(_get_all_streams),
    "get_stream_list": Method(_get_stream_list),
    "get_stream": Method(_get_stream),
    "get_profile_list": Method(_get_profile_list),
    "validate": Method(_validate, owned=True),
}
