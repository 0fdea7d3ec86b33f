# SPDX-License-Identifier: Apache-2.0
"""What the kernel says about an interface of this network namespace (sysfs may show another namespace's)."""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import struct

from harness.errors import TestbedError
from harness.generator.xdpgen.contract import PortInfo

_SIOCGIFHWADDR = 0x8927
_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 0x00000003
_DRVINFO_SIZE = 196


def port_info(index: int, ifname: str, speed_gbps: float) -> PortInfo:
    """Address and driver of an interface; TestbedError if there is none of that name."""
    name = ifname.encode()
    if not 0 < len(name) < 16:
        raise TestbedError(f"{ifname!r} is not the name of an interface")
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as query:
        try:
            reply = fcntl.ioctl(query, _SIOCGIFHWADDR, struct.pack("16s240x", name))
        except OSError as error:
            raise TestbedError(f"there is no interface {ifname} in this network namespace") from error
        mac = ":".join(f"{byte:02x}" for byte in reply[18:24])
        return PortInfo(index, ifname, mac, speed_gbps, _driver(query, name))


def _driver(query: socket.socket, name: bytes) -> str:
    info = array.array("B", struct.pack(f"I{_DRVINFO_SIZE - 4}x", _ETHTOOL_GDRVINFO))
    try:
        fcntl.ioctl(query, _SIOCETHTOOL, struct.pack("16sP", name, info.buffer_info()[0]))
    except OSError:
        return "unknown"  # a device without ethtool operations
    return info.tobytes()[4:36].split(b"\0")[0].decode(errors="replace")
