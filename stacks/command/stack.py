# SPDX-License-Identifier: Apache-2.0
"""Any program as a stack: start, ready, stop and counter commands come from the scenario.

For stacks that nobody has written a folder for. What the program itself changes on the host is its user's to clean up
(``stop``, ``cleanup``); that it and all it started have ended is seen to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, ClassVar

from harness.errors import HostError, StackError
from harness.host.contract import Dut
from harness.host.undo import undone
from harness.plan import PointPlan, Role
from harness.stack import Missing, RoleInfo, RunningStack, Stack, StackContext, StackParams
from harness.stacks.ports import interrupts_on_cores, missing_for_ports, set_up_ports

from . import placeholders
from .params import CommandParams
from .process import Place, RunningCommand, await_ready, end, sockets_on

_SEMANTICS = "as the program does it; the scenario does not say"


class Command(Stack):
    """A program of the user's choice."""

    name = "command"
    summary = "any program: its start, ready, stop and counter commands come from the scenario"
    roles: ClassVar[Mapping[Role, RoleInfo]] = {
        Role.DROP: RoleInfo(_SEMANTICS, discard_counter="discard_counter"),
        Role.FORWARD: RoleInfo(_SEMANTICS, layer="l3"),
        Role.REFLECT: RoleInfo(_SEMANTICS),
        Role.ECHO: RoleInfo(_SEMANTICS, new_ip_header=True),
    }
    Params = CommandParams

    def __init__(self, params: StackParams) -> None:
        if not isinstance(params, CommandParams):
            raise TypeError(f"command needs CommandParams, not {type(params).__name__}")
        super().__init__(params)
        self.settings = params

    @property
    def title(self) -> str:
        """What it is called."""
        return self.settings.title or PurePosixPath(self.settings.start[0] if self.settings.start else "nothing").name

    def identity(self, given: Mapping[str, Any]) -> str:
        return f"{self.name} {self.title}"

    def polls(self) -> bool:
        return self.settings.polls

    def role_info(self, role: Role) -> RoleInfo:
        return RoleInfo(self.settings.semantics or _SEMANTICS,
                        discard_counter=self.settings.discard_counter if role is Role.DROP else "",
                        layer=self.settings.layer if role is Role.FORWARD else "")

    def requirements(self, dut: Dut, point: PointPlan) -> list[Missing]:
        settings, known = self.settings, placeholders.values(point)
        if not settings.start:
            return [Missing("a program to start", "give stack command its start: [program, option, ...] and ready")]
        missing = missing_for_ports(dut, point) if settings.ports == "kernel" else []
        words = [*settings.start, *settings.counters, *settings.cleanup, *settings.environment.values(),
                 *(settings.ready.command if settings.ready else ()),
                 *(settings.stop if isinstance(settings.stop, tuple) else ())]
        missing += [Missing(f"a value for {{{name}}}: the point has {len(point.wires)} port(s) and {len(point.cores)} "
                            "core(s)", "use another placeholder, or complete the testbed file")
                    for name in placeholders.unknown(words, known)]
        if missing:
            return missing
        program = placeholders.fill(settings.start[:1], known)[0]
        if dut.which(program) is None:
            remedy = settings.install or "install it on the host, or write its whole path"
            missing.append(Missing(f"the program {program}", remedy))
        if settings.directory and not dut.exists(settings.directory):
            missing.append(Missing(f"the directory {settings.directory}", "make it on the host"))
        if point.role is Role.DROP and not settings.discard_counter:
            missing.append(Missing("an exact count of what was discarded",
                                   "give counters, and discard_counter: the entry of them that counts it"))
        return missing

    @contextmanager
    def deploy(self, context: StackContext) -> Iterator[RunningStack]:
        dut, point, settings = context.dut, context.point, self.settings
        place = Place(dut, settings, placeholders.values(point))
        with undone(dut):
            if settings.ports == "kernel":
                set_up_ports(dut, point)
                interrupts_on_cores(dut, point)
            if settings.cleanup:
                dut.apply(["true"], place.argv(settings.cleanup))
            self._refuse_taken_port(place)
            try:
                process = dut.spawn(place.argv(settings.start), name=self.title, cores=point.cores)
            except HostError as error:
                raise StackError(f"{self.title} did not start: {error}") from error
            try:
                await_ready(place, process, self.title)
                running = RunningCommand(place, process, self.title)
                running.check_alive()
                running.begin()
                yield running
            finally:
                end(place, process, self.title)

    def _refuse_taken_port(self, place: Place) -> None:
        """A port that others have already would make the program look ready."""
        ready = self.settings.ready
        if ready is not None and (ready.tcp or ready.udp) and sockets_on(place.dut, ready, place.values):
            raise StackError(f"{self.title}: the port that is to say it is ready is taken on {place.dut.name} already; "
                             "end what has it (ss -lnup, ss -lntp), or choose another")
