# SPDX-License-Identifier: Apache-2.0
"""Sends marked frames out of test ports and tells which came in, to find what is cabled to what.

One file, standard library only, Python 3.6 syntax, run on every host (``python3 -I -c``). argv[1], JSON: ``ports``,
interface names, of which only the first ``may_send`` ever send; ``nonce``, 16 hex digits; ``host``, this one's number;
``seconds``, after which it ends by itself. Prints ``ready``, then obeys lines of stdin: ``send PORT COUNT`` ->
``sent PORT COUNT`` or ``failed PORT why``; ``heard`` -> ``heard [[port, from host, from port, frames], ...]`` once
nothing came for a tenth of a second; ``end``.
"""

import json
import os
import selectors
import socket
import struct
import sys
import time
from typing import Any, Dict, List, Sequence, Tuple

#: IEEE 802 Local Experimental EtherType 1: nobody else's, and nothing forwards it as IP.
ETHERTYPE = 0x88B5
MARK = b"NSHcable"
#: Of a frame: mark, nonce, host, port, sequence.
HEAD = struct.Struct("!8s8sHHH")
STILL_S = 0.1
MOST_PAIRS, MOST_COUNT = 4096, 16


def frame_of(mac: bytes, nonce: bytes, host: int, port: int, sequence: int) -> bytes:
    """To everybody, 60 bytes: a frame of the smallest size."""
    head = b"\xff" * 6 + mac + struct.pack("!H", ETHERTYPE)
    return (head + HEAD.pack(MARK, nonce, host, port, sequence)).ljust(60, b"\0")


def read_frame(frame: bytes, nonce: bytes) -> Tuple[int, int]:
    """(host, port) that sent it; (-1, -1) for any other frame."""
    if len(frame) < 14 + HEAD.size or frame[12:14] != struct.pack("!H", ETHERTYPE):
        return -1, -1
    mark, said, host, port, _ = HEAD.unpack_from(frame, 14)
    return (host, port) if (mark, said) == (MARK, nonce) else (-1, -1)


class Ports:
    """Packet sockets, one a port."""

    def __init__(self, names: Sequence[str], may_send: int, nonce: bytes, host: int) -> None:
        self.nonce, self.host, self.may_send = nonce, host, may_send
        self.sockets: List[socket.socket] = []
        self.heard: Dict[Tuple[int, int, int], int] = {}
        for name in names:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
            opened.bind((name, ETHERTYPE))
            opened.setblocking(False)
            self.sockets.append(opened)

    def send(self, port: int, count: int) -> str:
        """The answer to ``send``."""
        if not 0 <= port < self.may_send:
            return "failed %d this port never sends" % port
        mac = self.sockets[port].getsockname()[4]
        try:
            for number in range(min(count, MOST_COUNT)):
                self.sockets[port].send(frame_of(mac, self.nonce, self.host, port, number))
        except OSError as error:  # the port is down
            return "failed %d %s" % (port, error.strerror)
        return "sent %d %d" % (port, count)

    def receive(self, port: int) -> bool:
        """One frame, if there is one; whether there was."""
        try:
            data, where = self.sockets[port].recvfrom(2048)
        except (BlockingIOError, OSError):  # nothing there, or the port went down
            return False
        pair = (port, *read_frame(data, self.nonce))
        if where[2] != socket.PACKET_OUTGOING and pair[1] >= 0 and (pair in self.heard or len(self.heard) < MOST_PAIRS):
            self.heard[pair] = self.heard.get(pair, 0) + 1
        return True


def obey(ports: Ports, words: Sequence[str], settle: Any) -> str:
    """The answer to one line."""
    if words[:1] == ["send"] and len(words) == 3:
        return ports.send(int(words[1]), int(words[2]))
    if words == ["heard"]:
        settle()
        return "heard " + json.dumps([[*pair, count] for pair, count in sorted(ports.heard.items())])
    return "unknown"


def serve(ports: Ports, seconds: float) -> None:
    """Until ``end``, the end of input, or of the time."""
    selector = selectors.DefaultSelector()
    for number, opened in enumerate(ports.sockets):
        selector.register(opened, selectors.EVENT_READ, number)

    def settle() -> None:
        limit = time.monotonic() + 20 * STILL_S
        while time.monotonic() < limit:
            events = [ports.receive(key.data) for key, _ in selector.select(STILL_S)]
            if not any(events):
                return

    commands = selectors.DefaultSelector()
    commands.register(0, selectors.EVENT_READ)
    print("ready", flush=True)
    deadline, pending = time.monotonic() + seconds, b""
    while time.monotonic() < deadline:
        if not commands.select(max(0.0, deadline - time.monotonic())):
            return
        data = os.read(0, 4096)
        if not data:
            return
        lines = (pending + data).split(b"\n")
        pending = lines.pop()
        for line in lines:
            if line == b"end":
                return
            print(obey(ports, line.decode("ascii", "replace").split(), settle), flush=True)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    serve(Ports([str(name) for name in asked["ports"]], int(asked["may_send"]), bytes.fromhex(asked["nonce"]),
                int(asked["host"])), float(asked["seconds"]))
