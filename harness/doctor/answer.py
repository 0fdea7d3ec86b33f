# SPDX-License-Identifier: Apache-2.0
"""Answers probe frames on a DUT's test ports, each out of the port on which it came, saying which that is.

One file, standard library only, Python 3.6 syntax, run on the DUT (``python3 -I -c``). argv[1], JSON: ``ports``, a list
of interface names in the order of the testbed; ``seconds``, after which it ends by itself. Prints ``ready`` once it
hears. It sends nothing but answers, and opens nothing but packet sockets, which end with it.
"""

import json
import selectors
import socket
import struct
import sys
import time
from typing import Dict, Sequence, Tuple

#: IEEE 802 Local Experimental EtherType 1: nobody else's, and nothing forwards it as IP.
ETHERTYPE = 0x88B5
PROBE, ANSWER = b"NSHprobe", b"NSHhere!"
#: Of a probe: word, nonce, wire, sequence. An answer puts its word and the DUT's port in place of word and sequence.
HEAD = struct.Struct("!8s8sHH")


def answer(frame: bytes, port: int, mac: bytes) -> bytes:
    """What goes back, as long as what came; empty when it is no probe. It is from ``mac``, the answering port's own: a
    switch would take a frame from the prober's MAC for the prober, moved here."""
    if len(frame) < 14 + HEAD.size or frame[12:14] != struct.pack("!H", ETHERTYPE):
        return b""
    word, nonce, wire, _ = HEAD.unpack_from(frame, 14)
    if word != PROBE:
        return b""
    return frame[6:12] + mac + frame[12:14] + HEAD.pack(ANSWER, nonce, wire, port) + frame[14 + HEAD.size:]


def serve(ports: Sequence[str], seconds: float) -> None:
    """Until the time is over."""
    deadline = time.monotonic() + seconds
    selector = selectors.DefaultSelector()
    numbers: Dict[int, Tuple[int, bytes]] = {}
    for number, name in enumerate(ports):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
        opened.bind((name, ETHERTYPE))
        numbers[opened.fileno()] = number, opened.getsockname()[4]
        selector.register(opened, selectors.EVENT_READ)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while time.monotonic() < deadline:
        for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
            assert isinstance(key.fileobj, socket.socket)
            frame, where = key.fileobj.recvfrom(65536)
            reply = answer(frame, *numbers[key.fd]) if where[2] != socket.PACKET_OUTGOING else b""
            if reply:
                try:
                    key.fileobj.send(reply)
                except OSError as error:  # longer than the MTU, or the port went down: its lack is the finding
                    sys.stderr.write("%s: %s\n" % (ports[numbers[key.fd][0]], error))


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    serve([str(name) for name in asked["ports"]], float(asked["seconds"]))
