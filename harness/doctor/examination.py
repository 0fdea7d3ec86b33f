# SPDX-License-Identifier: Apache-2.0
"""The checks of a testbed that is connected: hosts first, wires once the generator serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.doctor.contract import HostView
from harness.doctor.examine import check_generator_links, check_host, check_wires, no_generator, not_surveyed, view_of
from harness.doctor.items import Setting
from harness.errors import HostError
from harness.host.facts import facts_of
from harness.host.inventory import Survey
from harness.machines import Machines
from harness.plan import GENERATOR_HOST
from harness.records import Check

_BOOT = "/proc/sys/kernel/random/boot_id"


class Examination:
    """What is found is the caller's to keep, and to :func:`harness.doctor.examine.refuse`. ``largest``: the longest
    frame tried, where that is not for the plan's points to say."""

    def __init__(self, machines: Machines, largest: int = 0) -> None:
        self._machines, self._largest = machines, largest
        self._settings: Mapping[str, Setting] = machines.prepared.testbed.checks
        self._duts: list[HostView] = []
        self._generator: HostView | None = None
        #: Environment of the generator's host; None where it cannot be looked at.
        self.generator_facts: dict[str, Any] | None = None

    def hosts(self) -> list[Check]:
        """Of the DUTs, which are connected, and the generator's host. Changes nothing on them."""
        checks: list[Check] = []
        for name in self._machines.dut_names():
            seen = self._machines.surveys[name]
            self._duts.append(self._view(name, "dut", seen.survey, self._machines.cores_looked_at(name), seen.ahead_s))
            checks += check_host(self._duts[-1], self._settings)
        return checks + self._generator_host()

    def _view(self, name: str, side: str, survey: Survey, cores: list[int], ahead_s: float | None) -> HostView:
        view = view_of(self._machines.plan, name, side, survey, cores, ahead_s)
        return replace(view, largest=self._largest or view.largest)

    def _generator_host(self) -> list[Check]:
        plan = self._machines.plan
        try:
            seen = self._machines.survey_generator()
        except HostError as error:
            return not_surveyed(GENERATOR_HOST, "generator", plan.lab, str(error), self._settings)
        self.generator_facts = facts_of(seen.survey)
        view = self._view(GENERATOR_HOST, "generator", seen.survey, list(plan.generator.cores), seen.ahead_s)
        self._generator = replace(view, largest=max(view.largest, *(dut.largest for dut in self._duts)),
                                  vlan=any(dut.vlan for dut in self._duts))
        boot = seen.survey.line(_BOOT)
        same = boot is not None and any(dut.survey.line(_BOOT) == boot for dut in self._duts)
        return check_host(self._generator, self._settings, machine_too=not same)

    def without_generator(self, why: str) -> list[Check]:
        """In place of :meth:`wires`, where the generator does not serve."""
        return [check for host in self._duts for check in no_generator(host, why, self._settings)]

    def wires(self) -> list[Check]:
        """Of the wires, once the generator serves: a program on each DUT answers probe frames, and is ended again.
        Ports of a host that were set down are up meanwhile."""
        generator, checks = self._machines.generator, list[Check]()
        for host in self._duts:
            dut = self._machines.dut(host.name)
            mark = dut.undo_mark()
            try:
                checks += check_wires(host, dut, generator, self._settings, self._machines.plan.role)
            finally:
                dut.undo_to(mark)
        if self._generator is not None and self._machines.plan.generator.trex_dir:
            checks += check_generator_links(self._generator, generator, self._settings)
        return checks
