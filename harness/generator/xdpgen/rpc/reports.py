# SPDX-License-Identifier: Apache-2.0
"""xdpgen's own methods: the generator's verdict on itself."""

from __future__ import annotations

from typing import Any

from harness.generator.xdpgen.contract import CoreReport
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.state import ServerState


def _as_json(report: CoreReport) -> dict[str, Any]:
    return {
        "core": report.core,
        "pauses": report.pauses,
        "paused_ns": report.paused_ns,
        "longest_pause_ns": report.longest_pause_ns,
        "utilisation": report.utilisation,
        "departure_error": [list(item) for item in sorted(report.departure_error.items())],
        "pause_log": [list(item) for item in report.pause_log],
    }


def _get_reports(state: ServerState, p: Params) -> Any:
    """One object per core; ``departure_error``: [[upper edge ns, frames], ...], ``pause_log``: [[start, ns], ...]."""
    return [_as_json(report) for report in state.core_reports()]


def _reset_reports(state: ServerState, p: Params) -> Any:
    state.dataplane.reset_reports()
    return {}


METHODS = {"x_get_reports": Method(_get_reports), "x_reset_reports": Method(_reset_reports)}
