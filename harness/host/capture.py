# SPDX-License-Identifier: Apache-2.0
"""A short capture on a DUT's interfaces: ``capture.py LIMIT SNAPLEN SECONDS IFNAME...``. One file, standard library
only, Python 3.6 syntax; sent to the host and run there (:mod:`harness.measure.anomaly`).

Says ``ready`` once it listens, ends after SECONDS or at the first line (or the end) of its input, and then prints
``frames IFNAME BASE64`` for each interface: a pcap file of at most LIMIT frames of both directions, SNAPLEN bytes of
each.
Sees what the kernel's packet sockets see: not what an XDP program or a bypass took before.
"""

import base64
import select
import socket
import struct
import sys
import time
from typing import Dict, List, Tuple

ETH_P_ALL = 0x0003
#: linux/if_packet.h: struct tpacket_auxdata, which holds the VLAN tag that the kernel took out of a frame.
SOL_PACKET, PACKET_AUXDATA, VLAN_VALID, AUXDATA = 263, 8, 1 << 4, struct.Struct("=IIIHHHH")
#: pcap with microseconds, Ethernet.
HEADER = struct.Struct("=IHHiIII")
RECORD = struct.Struct("=IIII")
#: For what had arrived when the end was asked for.
LAST_S = 0.2


def listen(ifname: str) -> socket.socket:
    """A packet socket on an interface."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    opened.bind((ifname, ETH_P_ALL))
    opened.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    opened.setblocking(False)
    return opened


def receive(opened: socket.socket) -> bytes:
    """The next frame, with its VLAN tag."""
    frame, ancillary, _, _ = opened.recvmsg(65536, socket.CMSG_SPACE(AUXDATA.size))
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA) and len(data) >= AUXDATA.size:
            status, _, _, _, _, tci, tpid = AUXDATA.unpack(data[:AUXDATA.size])
            if status & VLAN_VALID:
                frame = frame[:12] + struct.pack(">HH", tpid or 0x8100, tci) + frame[12:]
    return frame


def pcap(frames: List[Tuple[float, bytes]], snaplen: int) -> bytes:
    """A pcap file of frames with their times (seconds since the epoch)."""
    parts = [HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, snaplen, 1)]
    for at, frame in frames:
        kept = frame[:snaplen]
        parts.append(RECORD.pack(int(at), int(at % 1 * 1e6), len(kept), len(frame)) + kept)
    return b"".join(parts)


def main(limit: int, snaplen: int, seconds: float, ifnames: List[str]) -> None:
    """Capture until told to end."""
    sockets = {listen(ifname): ifname for ifname in ifnames}
    frames: Dict[str, List[Tuple[float, bytes]]] = {ifname: [] for ifname in ifnames}
    print("ready", flush=True)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ready, _, _ = select.select([*sockets, sys.stdin], [], [], max(0.0, deadline - time.monotonic()))
        for opened in ready:
            if isinstance(opened, socket.socket):
                frame, kept = receive(opened), frames[sockets[opened]]
                if len(kept) < limit:
                    kept.append((time.time(), frame))
        if ready == [sys.stdin]:  # what had arrived before has been read
            break
        if sys.stdin in ready:  # other traffic may never leave a gap
            deadline = min(deadline, time.monotonic() + LAST_S)
    for ifname in ifnames:
        print("frames %s %s" % (ifname, base64.b64encode(pcap(frames[ifname], snaplen)).decode()), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
