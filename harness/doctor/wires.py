# SPDX-License-Identifier: Apache-2.0
"""The wires as the testbed says: a probe frame out of each generator port, answered by the DUT's port that it reached.

The generator sends, a program on the DUT (:mod:`harness.doctor.answer`) answers out of the port on which the frame
came. So both directions are tried, with the smallest and the longest frame that will be sent. A host's port that is set
down is up meanwhile, as it is for the stack that will use it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.doctor import answer
from harness.doctor.contract import Finding, HostView, PortView, judged, unknown
from harness.errors import GeneratorDied, GeneratorError, HostError
from harness.generator.contract import Generator
from harness.host.contract import Dut
from harness.plan import FCS
from harness.stacks.ports import await_links, bring_up

SMALLEST = 64
#: Frames of each size; how long their answers may take; how often it is tried: the first may meet a path that warms up.
_FRAMES, _WAIT_S, _TRIES = 4, 0.1, 4
#: How often on a host: a driver may tell of a link while the two ends still negotiate (e1000: half a second).
_TRIES_OF_HOST = 30
_READY_S = 10.0
_BROADCAST = b"\xff" * 6
_SCRIPT = Path(answer.__file__)


class Answering(Dut, Protocol):
    """A DUT on which a Python program runs."""

    def python(self) -> str:
        """Its interpreter."""


@dataclass(frozen=True)
class Heard:
    """An answer: the wire whose probe it is, the DUT's port that answered, bytes with FCS."""

    wire: int
    port: int
    size: int


def probe_frame(tg_mac: str, nonce: bytes, wire: int, sequence: int, size: int) -> bytes:
    """A frame of ``size`` bytes with FCS, to everybody: a port that is not the one meant answers too."""
    head = _BROADCAST + bytes.fromhex(tg_mac.replace(":", "")) + answer.ETHERTYPE.to_bytes(2, "big")
    body = answer.HEAD.pack(answer.PROBE, nonce, wire, sequence)
    return (head + body).ljust(size - FCS, b"\0")


def read_answer(frame: bytes, nonce: bytes) -> Heard | None:
    """What an answer says; None for any other frame."""
    if len(frame) < 14 + answer.HEAD.size or frame[12:14] != answer.ETHERTYPE.to_bytes(2, "big"):
        return None
    word, said, wire, port = answer.HEAD.unpack_from(frame, 14)
    return Heard(wire, port, len(frame) + FCS) if (word, said) == (answer.ANSWER, nonce) else None


def probe_wires(host: HostView, dut: Answering, generator: Generator) -> Iterable[tuple[str, Finding]]:
    """(check, finding) of every wire to a DUT: ``wires`` and ``frame-size``. What it starts and sets up is on the DUT's
    journal, for the caller to undo. A lab's port that is set down stays so: it was made up."""
    here = [port for port in host.ports if port.ifname]
    for port in host.ports:
        if not port.ifname:
            for check in ("wires", "frame-size"):
                yield check, unknown(_name(port), _name(port), port.gone)
    if not here:
        return
    nonce = secrets.token_bytes(8)
    try:
        if not host.lab:
            _links_up(dut, [port.ifname for port in here])
        with _answering(dut, [port.ifname for port in here]):
            for port in here:
                heard = _exchange(generator, port, nonce, host.largest, _TRIES if host.lab else _TRIES_OF_HOST)
                yield "wires", _wire_finding(port, here, heard)
                yield "frame-size", _size_finding(port, heard, host.largest)
    except (GeneratorError, HostError) as error:
        for check in ("wires", "frame-size"):
            yield check, unknown("", "an answer to every probe frame", f"no probe could be made: {error}"[:300])


def _links_up(dut: Dut, ifnames: Sequence[str]) -> None:
    """Set up the ports that are down, and wait for the links; one that does not come is the probe's to find."""
    for name in ifnames:
        bring_up(dut, name)
    await_links(dut, ifnames)


@contextmanager
def _answering(dut: Answering, ifnames: Sequence[str]) -> Iterator[None]:
    asked = json.dumps({"ports": list(ifnames), "seconds": 60})
    program = dut.spawn([dut.python(), "-I", "-c", _SCRIPT.read_text(encoding="utf-8"), asked], name="probe-answer")
    try:
        program.wait_output("^ready$", _READY_S)
        yield
    finally:
        program.stop()


def _exchange(generator: Generator, port: PortView, nonce: bytes, largest: int, tries: int) -> set[Heard]:
    """Answers to probes of the smallest and the longest size; again where there is none."""
    tg, heard = port.wire.tg, set[Heard]()
    for size in sorted({SMALLEST, max(largest, SMALLEST)}):
        frames = [probe_frame(tg.mac, nonce, port.wire.index, number, size) for number in range(_FRAMES)]
        for _ in range(tries):
            try:
                received = generator.exchange(tg.index, frames, tg.index, _WAIT_S)
            except GeneratorDied:
                raise
            except GeneratorError:
                if size == SMALLEST:
                    raise
                break  # the wire does not take frames of this length: they do not pass
            heard |= {said for frame in received if (said := read_answer(frame, nonce)) is not None}
            if any((said.wire, said.size) == (port.wire.index, size) for said in heard):
                break
    return heard


def _name(port: PortView) -> str:
    return f"generator port {port.wire.tg.index} to {port.wire.host}/{port.plan.index}"


def _wire_finding(port: PortView, here: Sequence[PortView], heard: Iterable[Heard]) -> Finding:
    answered = sorted({said.port for said in heard if said.wire == port.wire.index and said.port < len(here)})
    names = [f"{here[number].wire.host}/{here[number].plan.index} ({here[number].ifname})" for number in answered]
    right = f"{port.wire.host}/{port.plan.index} ({port.ifname}) answers"
    remedy = ("give each generator port a VLAN of its own in the switch: one that joins them lets frames past the DUT"
              if len(names) > 1 else "swap the cables, or correct `wires` in the testbed file" if names else
              "look at the cable, at both ports' links, and at `wires` in the testbed file")
    return judged(_name(port), f"{' and '.join(names)} answers" if names else "no answer", right,
                  [here[number] for number in answered] == [port], remedy)


def _size_finding(port: PortView, heard: Iterable[Heard], largest: int) -> Finding:
    sizes = sorted({said.size for said in heard if said.wire == port.wire.index})
    wanted = sorted({SMALLEST, max(largest, SMALLEST)})
    words = " and ".join(str(size) for size in wanted) + " bytes both ways"
    passed = " and ".join(map(str, sizes)) + " bytes" if sizes else "none"
    return judged(_name(port), passed, words, set(wanted) <= set(sizes),
                  f"raise the MTU of both ends (ip link set dev {port.ifname} mtu 1500) and of what is between")


def generator_links(generator: Generator, host: HostView) -> Iterable[tuple[str, Finding]]:
    """Links of ports that a generator has taken from the kernel, as it sees them itself."""
    seen: dict[int, Any] = {port.index: port for port in generator.ports()}
    for port in host.ports:
        found = seen.get(port.plan.index)
        if port.ifname or found is None:
            continue
        label = f"port {port.plan.index}"
        yield "link", judged(label, "up" if found.link_up else "down", "up", found.link_up,
                             "look at the cable and at the other end's port")
        yield "link-speed", judged(label, f"{found.speed_gbps:g} Gbit/s", f"{port.wire.speed_gbps:g} Gbit/s",
                                   found.speed_gbps == port.wire.speed_gbps,
                                   "look at the other end's port; or correct the wire's speed in the testbed file")
