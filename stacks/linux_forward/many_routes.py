# SPDX-License-Identifier: Apache-2.0
"""Run on a host: add many host routes to the main table over one netlink socket, many messages a call.

``FAMILY PROTOCOL NEXTHOP GATEWAY IFNAME RANGES``: FAMILY 4 or 6; NEXTHOP the id of a nexthop object that all of them
go through, or 0 for GATEWAY on IFNAME itself; RANGES JSON, [[first, last], ...] of addresses as numbers. Ends with
status 1 and the first route that the kernel refuses. Ends with its parent too: nobody would take away what it adds
then. Standard library only, Python 3.6 syntax.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys
from typing import Iterator, List, Tuple

_NEWROUTE, _ERROR = 24, 2
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_DST, _OIF, _GATEWAY, _NEXTHOP = 1, 4, 5, 30
_MAIN, _UNIVERSE, _UNICAST = 254, 0, 1
#: Messages of one call: what the kernel says of each, were all refused, still fits into the socket's buffer.
_BATCH = 128
_ANSWER_S = 20.0


def attribute(kind: int, data: bytes) -> bytes:
    """A netlink attribute, padded."""
    return (struct.pack("=HH", 4 + len(data), kind) + data).ljust((len(data) + 7) & ~3, b"\0")


def end_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it had ended before
        os.kill(os.getpid(), signal.SIGKILL)


class Adder:
    """Adds routes that differ in their address alone."""

    def __init__(self, family: int, protocol: int, target: bytes) -> None:
        """``target``: the attributes that say where the routes lead."""
        self._family, self._size = (socket.AF_INET6, 16) if family == 6 else (socket.AF_INET, 4)
        route = struct.pack("=BBBBBBBBI", self._family, 8 * self._size, 0, 0, _MAIN, protocol, _UNIVERSE, _UNICAST, 0)
        self._fixed = route + struct.pack("=HH", 4 + self._size, _DST)
        self._target = target
        self._length = 16 + len(self._fixed) + self._size + len(target)
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._socket.settimeout(_ANSWER_S)
        self._socket.bind((0, 0))

    def _message(self, sequence: int, address: int, flags: int) -> bytes:
        head = struct.pack("=IHHII", self._length, _NEWROUTE, _REQUEST | _CREATE | _EXCL | flags, sequence, 0)
        return head + self._fixed + address.to_bytes(self._size, "big") + self._target

    def add(self, addresses: List[int]) -> None:
        """Add a batch; the kernel confirms the last of it. Raises OSError naming the first route that it refused."""
        last = len(addresses) - 1
        self._socket.send(b"".join([self._message(number, address, _ACK if number == last else 0)
                                    for number, address in enumerate(addresses)]))
        for number, code in self._answers(last):
            if code:
                where = socket.inet_ntop(self._family, addresses[number].to_bytes(self._size, "big"))
                raise OSError(code, "route to %s/%d: %s" % (where, 8 * self._size, os.strerror(code)))

    def _answers(self, last: int) -> Iterator[Tuple[int, int]]:
        """(number in the batch, errno) of what was refused, up to the last of the batch, which is always answered."""
        number = -1
        while number != last:
            data, offset = self._socket.recv(1 << 16), 0
            while offset + 20 <= len(data):
                length, kind, _, number, _, code = struct.unpack_from("=IHHIIi", data, offset)
                if kind == _ERROR:
                    yield number, -code
                offset += (length + 3) & ~3


def batches(ranges: List[Tuple[int, int]]) -> Iterator[List[int]]:
    """The addresses of the ranges, in order, as many at a time as go into one call."""
    for first, last in ranges:
        for start in range(first, last + 1, _BATCH):
            yield list(range(start, min(start + _BATCH, last + 1)))


def main(argv: List[str]) -> int:
    """See the top of this file."""
    end_with(os.getppid())
    family, protocol, nexthop = map(int, argv[:3])
    gateway, ifname, ranges = argv[3], argv[4], json.loads(argv[5])
    if nexthop:
        target = attribute(_NEXTHOP, struct.pack("=I", nexthop))
    else:
        address = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, gateway)
        target = attribute(_GATEWAY, address) + attribute(_OIF, struct.pack("=I", socket.if_nametoindex(ifname)))
    try:
        adder = Adder(family, protocol, target)
        for batch in batches(ranges):
            adder.add(batch)
    except OSError as error:
        sys.stderr.write("%s\n" % (error.strerror or error))  # a timeout has no strerror
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
