# SPDX-License-Identifier: Apache-2.0
"""The same requests in the same order as a real TRex v3.08 got them; replies compared member by member.

Everything is compared by value except what ``MEASURED`` names (there presence and type are compared). Every other
difference must be in ``DIFFERENCES``, with its reason; an entry that no longer applies fails the test, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from harness.generator.xdpgen.rpc.dispatch import METHODS
from tests.unit.generator.recorded import Played, Player

#: Method pattern, path pattern: values that a run measures or draws by lot, and clocks.
MEASURED = [
    (r"api_sync_v2|acquire", r"/result(/api_h)?"),
    (r".*", r"(/\d)?/result/(ts|start_ts)"),
    (r"capture|get_rx_queue_pkts", r"/result/pkts/\d+/ts"),
    (r"get_version", r"/result/build_(date|time)"),
    (r"get_system_info", r"/result/(core_type|hostname|uptime)"),
    (r"get_system_info", r"/result/ports/\d+/(description|driver)"),
    (r"get_port_stats", r"/result/(m_total_[rt]x_[bp]ps|m_cpu_util|[oi](packets|bytes))"),
    (r"get_global_stats", r"/result/m_([rt]x_[bp]ps|rx_core_pps|total_[rt]x_(bytes|pkts)|cpu_util(_raw)?|bw_per_core)"),
    (r"get_utilization", r"/result/cpu/0/history/0"),
    (r"get_pgid_stats", r"/result/flow_stats/\d+/[rt][pb]s?/\d"),
    (r"get_pgid_stats", r"/result/latency/\d+/lat/(average|hdrh|jit|last_max|total_m(ax|in))"),
    (r"get_pgid_stats", r"/result/latency/\d+/lat/histogram(/\d+)?"),
]

#: Lines (None: all), method, path pattern, reason.
DIFFERENCES: list[tuple[set[int] | None, str, str, str]] = [
    (None, "get_version", "/result/(version|built_by)", "says that it is xdpgen; the version stays comparable"),
    (None, "get_system_info", r"/result/ports/\d/rx/caps", "tagged packet groups (tpg) are not served"),
    (None, "get_supported_cmds", "/result", "tested on its own: see test_supported_commands"),
    ({16}, "get_port_status", "/error/specific_err", "the real server prints the port numbers as raw bytes"),
    ({18}, "get_port_status", "/error/specific_err", "the offset inside the JSON text is not given"),
    (None, "get_port_xstats_(names|values)", r"/result/xstats_\w+", "the driver's own counters, other drivers"),
    (None, "get_port_stats", r"/result/x_\w+", "extension: marked, refused and skipped frames"),
    (None, "get_utilization", r"/result/mbuf_stats/cpu-socket-0/\w+", "there are no mbufs"),
    (
        {255, 257, 264, 267, 269, 273, 392, 393},
        "get_port_status|get_async_events",
        "/result/(attr|data/0/data/attr)/multicast/enabled",
        "multicast stays as it was set; the af_packet driver dropped the setting",
    ),
    (None, "get_pgid_stats", r"/result/latency/\d+/lat/x_(hist_ns|exact_ns(/\w+)?)", "extension: in ns"),
    (
        {362, 364, 367, 404, 409},
        "get_pgid_stats",
        "/result/latency/g",
        "frames with a foreign latency header are other traffic to this dataplane, not counted as bad_header",
    ),
    ({404}, "get_pgid_stats", r"/result/latency/41/er", "the simulated wire loses and reorders nothing"),
]

_UNORDERED = {"get_stream_list", "get_profile_list", "get_supported_cmds"}


def _canonical(method: str, reply: Any) -> Any:
    """The reply with lists sorted whose order means nothing."""
    result = reply.get("result") if isinstance(reply, dict) else None
    if method in _UNORDERED and isinstance(result, list):
        return reply | {"result": sorted(result)}
    if method == "get_stream_list" and isinstance(result, dict):
        return reply | {"result": {name: sorted(numbers) for name, numbers in result.items()}}
    if method == "get_system_info" and result:
        return reply | {"result": result | {"ports": sorted(result["ports"], key=lambda port: port["index"])}}
    if method == "validate" and result:
        events = sorted(
            result["graph"]["events"], key=lambda one: (one["time_usec"], one["stream_id"], one["diff_pps"])
        )
        return reply | {"result": result | {"graph": result["graph"] | {"events": events}}}
    return reply


def _differences(theirs: Any, ours: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, theirs, ours of everything that differs."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            if key in theirs and key in ours:
                yield from _differences(theirs[key], ours[key], f"{path}/{key}")
            else:
                yield f"{path}/{key}", theirs.get(key, "(absent)"), ours.get(key, "(absent)")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from _differences(one, other, f"{path}/{index}")
    elif not _equal(theirs, ours):
        yield path, theirs, ours


def _equal(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, bool) or isinstance(ours, bool) or not isinstance(theirs, (int, float)):
        return theirs == ours and type(theirs) is type(ours)
    return isinstance(ours, (int, float)) and math.isclose(theirs, ours, rel_tol=1e-9)


def _is_measured(played: Played, path: str, theirs: Any, ours: Any) -> bool:
    method = played.exchange.method
    if not any(re.fullmatch(m, method) and re.fullmatch(p, path) for m, p in MEASURED):
        return False
    if "/histogram" in path:  # which bins there are is measured, too
        return True
    kinds = [(int, float) if isinstance(one, (int, float)) else type(one) for one in (theirs, ours)]
    return kinds[0] == kinds[1]


def _excuse(played: Played, path: str) -> int | None:
    """The number of the table's entry that covers a difference."""
    for number, (lines, method, pattern, _) in enumerate(DIFFERENCES):
        known_line = lines is None or played.exchange.line in lines
        if known_line and re.fullmatch(method, played.exchange.method) and re.fullmatch(pattern, path):
            return number
    return None


def test_every_recorded_reply_is_given() -> None:
    used: set[int] = set()
    unlisted: list[str] = []
    count = 0
    for played in Player().play():
        count += 1
        method = played.exchange.method
        theirs, ours = _canonical(method, played.exchange.reply), _canonical(method, played.ours)
        for path, one, other in _differences(theirs, ours):
            if _is_measured(played, path, one, other):
                continue
            number = _excuse(played, path)
            if number is None:
                unlisted.append(f"line {played.exchange.line} {method} {path}: theirs {one!r}, ours {other!r}")
            else:
                used.add(number)
    assert count == 421
    assert not unlisted, "\n".join(unlisted)
    stale = [DIFFERENCES[number] for number in range(len(DIFFERENCES)) if number not in used]
    assert not stale


#: Methods of the real server that are answered with -32601, and why.
NOT_SERVED = {
    "tagged packet groups": "clear_tpg_unknown_tags get_tpg_unknown_tags clear_tpg_tx_stats get_tpg_tx_stats "
    "get_tpg_stats get_tpg_tags clear_updated update_tpg_tags enable_tpg disable_tpg clear_tpg_stats get_tpg_state",
    "capture to external endpoints": "set_capture_port_bpf start_capture_port stop_capture_port",
    "configuration is synchronous": "get_async_results cancel_async_task",
    "name spaces and global settings": "conf_ns_batch get_global_cfg set_global_cfg",
    "replay of files on the server": "push_remote",
}
EXTENSIONS = {"x_get_reports", "x_reset_reports"}


def test_supported_commands() -> None:
    """Listed are exactly the served ones: the real server's without those of ``NOT_SERVED``, and the extensions."""
    recorded = next(one for one in Player().play() if one.exchange.method == "get_supported_cmds")
    theirs = set(recorded.exchange.reply["result"])
    refused = {name for names in NOT_SERVED.values() for name in names.split()}
    assert refused <= theirs
    assert set(recorded.ours["result"]) == (theirs - refused) | EXTENSIONS == set(METHODS)
