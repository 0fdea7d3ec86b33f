# SPDX-License-Identifier: Apache-2.0
"""xdpgen's own methods: the generator's verdict on itself."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.generator.xdpgen.contract import CoreReport
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.pgid_stats import is_sending
from harness.generator.xdpgen.rpc.state import ServerState


def _as_json(report: CoreReport) -> dict[str, Any]:
    """All members of a report; histograms and logs as sorted lists of pairs."""
    members: dict[str, Any] = {}
    for one in dataclasses.fields(report):
        value = getattr(report, one.name)
        if isinstance(value, dict):
            value = sorted(value.items())
        members[one.name] = [list(pair) for pair in value] if isinstance(value, list) else value
    return members


def _get_reports(state: ServerState, p: Params) -> Any:
    """One object per core with the members of ``CoreReport``."""
    return [_as_json(report) for report in state.core_reports()]


def _reset_reports(state: ServerState, p: Params) -> Any:
    """Begin a trial: reports anew, and counters and latency of packet groups without traffic at zero."""
    state.dataplane.reset_reports()
    state.groups.renew(lambda group: not is_sending(state, group))
    return {}


METHODS = {"x_get_reports": Method(_get_reports), "x_reset_reports": Method(_reset_reports)}
