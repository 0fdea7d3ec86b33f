# SPDX-License-Identifier: Apache-2.0
"""What ``ip`` of a host tells, in JSON."""

from __future__ import annotations

import json
from typing import Any

from harness.errors import HostError
from harness.host.contract import Dut


def families(dut: Dut) -> tuple[str, ...]:
    """Options of ``ip`` for the address families that the host's kernel has."""
    return ("-4", "-6") if dut.exists("/proc/net/if_inet6") else ("-4",)


def ip_json(dut: Dut, *words: str) -> list[dict[str, Any]]:
    """What ``ip -j`` answers, empty rows left out. Raises HostError."""
    done = dut.run(["ip", "-j", *words])
    try:
        rows = json.loads(done.stdout or "[]")
    except (ValueError, RecursionError) as error:
        raise HostError(f"{dut.name}: 'ip -j {' '.join(words)}' did not answer in JSON: {error}") from error
    return [row for row in rows if isinstance(row, dict) and row]
