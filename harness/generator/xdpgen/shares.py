# SPDX-License-Identifier: Apache-2.0
"""How a stream is divided among sending cores, and what its header table looks like in the kernel.

An entry is one or more cells of 64 bytes. The first holds the frame's bytes 0..59 and, in its last four, the frame's
length; each further cell holds 64 more bytes. What no cell covers comes from the template.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import GeneratorError
from harness.generator.xdpgen.contract import MIN_FRAME, TxStream

CELL = 64
FIRST_CELL = 60
#: Longest frame without FCS: a live frame and the kernel's bookkeeping share a page.
MAX_FRAME = 3072
#: Above this the interval of a stream is no longer a sensible number of nanoseconds.
MAX_PPS = 100e6


@dataclass(frozen=True)
class Share:
    """What one core sends of a stream.

    ``cells``: (entries, cells an entry, 64) uint8. ``covered``: frame bytes that the cells hold. ``total``: frames to
    send, None without limit. ``offset``: how many intervals of the whole stream lie before this core's first frame.
    """

    core: int
    cells: npt.NDArray[np.uint8]
    covered: int
    all_entries: int
    total: int | None
    offset: int

    @property
    def entries(self) -> int:
        return int(self.cells.shape[0])


def padded(template: bytes) -> bytes:
    """The template, zero-padded to Ethernet's minimum."""
    return template.ljust(MIN_FRAME, b"\0")


def shares_of(stream: TxStream, cores: int) -> list[Share]:
    """Divide a stream by its ``cores``; raises GeneratorError for what cannot be sent."""
    template = padded(stream.template)
    _check(stream, template, cores)
    covered = _covered(stream.headers.shape[1], len(template))
    return [_share(stream, template, covered, int(core)) for core in np.unique(stream.cores)]


def _check(stream: TxStream, template: bytes, cores: int) -> None:
    shape = stream.headers.shape
    wrong = None
    if len(shape) != 2 or shape[0] == 0 or stream.headers.dtype != np.uint8:
        wrong = f"headers must be a non-empty (n, width) array of uint8, not {shape} of {stream.headers.dtype}"
    elif stream.cores.shape != (shape[0],) or int(stream.cores.max()) >= cores:
        wrong = f"cores must name one of {cores} sending cores for each of {shape[0]} entries"
    elif len(template) > MAX_FRAME:
        wrong = f"frames of {len(template)} bytes are too long: a live frame holds at most {MAX_FRAME} without FCS"
    elif not 0 <= stream.pps <= MAX_PPS:
        wrong = f"{stream.pps:g} pps is out of range: 0 to {MAX_PPS:g}"
    elif stream.total is not None and stream.total < 1:
        wrong = f"total must be at least 1, not {stream.total}"
    elif stream.lengths is not None:
        wrong = _wrong_lengths(stream.lengths, shape[0], len(template))
    if wrong:
        raise GeneratorError(f"stream {stream.key}: {wrong}")


def _wrong_lengths(lengths: npt.NDArray[np.uint16], entries: int, longest: int) -> str | None:
    if lengths.shape != (entries,):
        return f"lengths must hold {entries} numbers"
    if int(lengths.min()) < MIN_FRAME or int(lengths.max()) > longest:
        return f"lengths must lie between {MIN_FRAME} and the template's {longest} bytes"
    return None


def _covered(width: int, length: int) -> int:
    """Frame bytes that the cells of one entry hold."""
    further = -(-max(0, min(width, length) - FIRST_CELL) // CELL)
    return min(length, FIRST_CELL + further * CELL)


def _share(stream: TxStream, template: bytes, covered: int, core: int) -> Share:
    chosen = np.flatnonzero(stream.cores == core)
    width = min(stream.headers.shape[1], covered)
    entries = stream.headers.shape[0]
    further = -(-(covered - FIRST_CELL) // CELL)
    frames = np.zeros((len(chosen), FIRST_CELL + further * CELL), np.uint8)
    frames[:, :covered] = np.frombuffer(template[:covered], np.uint8)
    frames[:, :width] = stream.headers[chosen, :width]
    cells = np.zeros((len(chosen), 1 + further, CELL), np.uint8)
    cells[:, 0, :FIRST_CELL] = frames[:, :FIRST_CELL]
    cells[:, 1:, :] = frames[:, FIRST_CELL:].reshape(len(chosen), further, CELL)
    lengths = np.full(entries, len(template)) if stream.lengths is None else stream.lengths
    cells[:, 0, FIRST_CELL:] = lengths[chosen].astype("=u4").reshape(-1, 1).view(np.uint8)
    return Share(core, cells, covered, entries, _total(stream, chosen), int(chosen[0]))


def _total(stream: TxStream, chosen: npt.NDArray[np.intp]) -> int | None:
    """This core's part of the first ``total`` frames of the sequence."""
    if stream.total is None:
        return None
    entries: int = stream.headers.shape[0]
    rounds, rest = divmod(stream.total, entries)
    return rounds * len(chosen) + int(np.count_nonzero(chosen < rest))
