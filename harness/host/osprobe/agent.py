# SPDX-License-Identifier: Apache-2.0
"""Linux: the DUT agent's samples, pause probe and counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.host.contract import Dut, Sampling


class AgentProbe:
    """The probe of a host with an agent."""

    warning = ""

    def __init__(self, dut: Dut) -> None:
        self._dut = dut

    def start(self, period_s: float, probe_cores: Sequence[int]) -> None:
        self._dut.start_sampling(period_s, probe_cores)

    def stop(self) -> Sampling:
        return self._dut.stop_sampling()

    def interface_counters(self, ifnames: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        return self._dut.interface_counters(ifnames)
