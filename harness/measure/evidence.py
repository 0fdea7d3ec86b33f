# SPDX-License-Identifier: Apache-2.0
"""Evidence fetched from both ends of the wire: the end of the DUT's kernel log, and a few test frames captured on DUT
and generator at the same time. Bounded: a capture is at most MOST_FRAMES frames of SNAPLEN bytes, far below 1 MiB."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HostError, MeasurementError
from harness.generator.contract import CapturedFrame, TrafficSpec
from harness.generator.frames import flow_frame
from harness.host import capture
from harness.host.contract import Dut, RemoteProcess
from harness.measure.rolecheck import sample_flows
from harness.measure.trial import Bench
from harness.plan import Role

MOST_FRAMES, SNAPLEN = 400, 256
MOST_BYTES = 1 << 20
#: Frames sent in each direction, over different flows; of role accept connections, in the time beside it.
_FLOWS, _CONNECT_S = 16, 0.2
#: How long replies are waited for in each direction, and how long the DUT's capture lasts at most.
_WAIT_S, _LONGEST_S = 0.3, 60.0
_READY_S, _END_S = 20.0, 10.0
_KERNEL_LINES = 200


@dataclass(frozen=True)
class Piece:
    """A file of evidence. ``missing``: why there is none."""

    name: str
    what: str
    content: bytes = b""
    missing: str = ""


def kernel_log(dut: Dut) -> str:
    """The last lines of the DUT's kernel log. Raises HostError."""
    lines = dut.run(["dmesg"]).stdout.splitlines()
    return "".join(f"{line[:500]}\n" for line in lines[-_KERNEL_LINES:])


def captured_on_both_ends(bench: Bench) -> list[Piece]:
    """A few test frames of every direction sent once more, seen by both ends: a pcap file of each. Raises HostLost."""
    listening, missing = None, ""
    try:
        listening = _listen(bench)
    except MeasurementError as error:
        missing = str(error)
    pieces = []
    try:
        pieces.append(_sent_and_received(bench))
    finally:
        if listening is not None:
            pieces += _heard(bench, listening)
    if listening is None:
        pieces.append(Piece("dut.pcap", "test frames on the DUT", missing=missing))
    return pieces


def _sent_and_received(bench: Bench) -> Piece:
    name, what = "generator.pcap", "test frames that the generator sent, and what came back"
    try:
        seen = sorted(_send(bench), key=lambda frame: frame.at)[:MOST_FRAMES]
        return Piece(name, what, capture.pcap([(frame.at, frame.frame) for frame in seen], SNAPLEN))
    except MeasurementError as error:
        return Piece(name, what, missing=str(error))


def _send(bench: Bench) -> Iterator[CapturedFrame]:
    generator, point = bench.generator, bench.point
    if point.role is Role.ACCEPT:
        generator.configure(TrafficSpec(point.directions, point.frames))
        generator.trial(_FLOWS / _CONNECT_S, _CONNECT_S)
    for direction in point.directions:
        flows = sample_flows(direction, _FLOWS) if point.role is not Role.ACCEPT else []
        frames = [flow_frame(direction, point.frame_bytes, flow) for flow in flows]
        back = direction.tx_port if direction.rx_port is None else direction.rx_port
        yield from generator.capture(direction.tx_port, frames, back, _WAIT_S)


def _listen(bench: Bench) -> RemoteProcess:
    """The capture on the DUT, once it hears. Raises HostError."""
    if not bench.ifnames:
        raise HostError("the stack has taken the ports from the kernel, which sees none of their frames")
    python = bench.dut.which("python3")
    if python is None:
        raise HostError(f"{bench.dut.name} has no python3 to capture with")
    source = Path(capture.__file__).read_text(encoding="utf-8")
    process = bench.dut.spawn([python, "-I", "-S", "-c", source, str(MOST_FRAMES), str(SNAPLEN), str(_LONGEST_S),
                               *bench.ifnames], name="capture")
    try:
        process.wait_output("^ready$", _READY_S)
    except BaseException:
        process.stop()
        raise
    return process


def _heard(bench: Bench, process: RemoteProcess) -> list[Piece]:
    """What the DUT's interfaces saw, a file each; the capture is ended."""
    wanted = {ifname: _of_interface(ifname) for ifname in bench.ifnames}
    try:
        try:
            process.write("end\n")
            process.wait_output("^done$", _END_S)
            output = process.output(MOST_BYTES)
        finally:
            process.stop()
    except MeasurementError as error:
        return [Piece(piece.name, piece.what, missing=str(error)) for piece in wanted.values()]
    found = {match[1]: match[2] for match in re.finditer(r"^frames (\S+) ([A-Za-z0-9+/=]+)$", output, re.MULTILINE)}
    return [_decoded(piece, found.get(ifname)) for ifname, piece in wanted.items()]


def _of_interface(ifname: str) -> Piece:
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", ifname)
    return Piece(f"dut-{safe}.pcap", f"test frames on the DUT's {safe}, as its kernel's packet sockets see them: "
                                     "without what XDP or a bypass took before")


def _decoded(piece: Piece, text: str | None) -> Piece:
    if text is None:
        return Piece(piece.name, piece.what, missing="the capture ended without it")
    try:
        return Piece(piece.name, piece.what, base64.b64decode(text, validate=True))
    except ValueError:
        return Piece(piece.name, piece.what, missing="the capture's answer cannot be read")
