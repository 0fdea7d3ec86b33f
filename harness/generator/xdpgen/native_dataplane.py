# SPDX-License-Identifier: Apache-2.0
"""The dataplane on XDP live frames: a native process (``native/dp.c``) that sends, receives and counts.

This module turns streams into header tables, speaks ``native/protocol.h`` with that process and gives its numbers the
contract's meaning. Nothing here runs while frames are sent unless a caller asks for a figure.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from harness.errors import GeneratorDied, GeneratorError, TestbedError, UsageError
from harness.generator.xdpgen.build import native_programs
from harness.generator.xdpgen.contract import (
    MAGIC_LATENCY,
    MAGIC_MARK,
    CoreReport,
    GroupCounters,
    LatencyCounters,
    PortCounters,
    PortInfo,
    TxStream,
)
from harness.generator.xdpgen.tables import LATENCY_GROUPS, NO_GROUP, Share, shares_of

PROTOCOL_VERSION = 1
NEVER = 2**64 - 1
FCS = 4
GROUP_SLOTS = 1152
HIST_SUB = 1024
HIST_BUCKETS = 25 * HIST_SUB
PERIOD_NS = 500_000_000
ERROR_BUCKETS = 96
PAUSE_LOG = 1024
#: Longest frame without FCS: a live frame and the kernel's bookkeeping share a page.
MAX_FRAME = 3072
#: Room for header entries of all streams together: 64 MiB. An entry takes ceil((width - 60) / 64) + 1 cells.
TABLE_CELLS = 1 << 20
_REPLY_ROOM = 1 << 17
_TIMEOUT_S = 30.0

_HELLO, _START, _RATE, _STOP, _ACTIVE, _PORT, _GROUP_OPEN, _GROUP_CLOSE, _GROUP, _LATENCY = range(1, 11)
_REPORT, _RESET_REPORTS, _CAPTURE, _CAPTURED, _QUIT = range(11, 16)
_REQUEST = struct.Struct("=IIII")
_REPLY = struct.Struct("=iI")
_HELLO_REPLY = struct.Struct("=IIIIII")
_START_RECORD = struct.Struct("=QQQQQdIIIHHHHHHHBBI")
_RATE_RECORD = struct.Struct("=dII")
_PORT_REPLY = struct.Struct("=13QII")
_GROUP_REPLY = struct.Struct("=4Q")
_LATENCY_STATE = struct.Struct("=IIBBHI18Q")
_CAPTURE_RECORD = struct.Struct("=QII")
_MAGIC = {None: 0, "latency": MAGIC_LATENCY, "mark": MAGIC_MARK}
