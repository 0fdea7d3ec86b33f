# SPDX-License-Identifier: Apache-2.0
"""``python -IS pause_probe.py CORE SECONDS THRESHOLD_NS``: spin on a core and print the pauses as JSON
``[count, sum ns, longest ns]``. Standard library only and run as a file: it must start in milliseconds."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1


def watch(seconds: float, threshold_ns: int) -> tuple[int, int, int]:
    """Read the clock without rest; a gap of at least the threshold is a pause: something else had the core."""
    clock = time.monotonic_ns
    count = total = longest = 0
    last = clock()
    end = last + int(seconds * 1e9)
    while last < end:
        now = clock()
        gap = now - last
        last = now
        if gap >= threshold_ns:
            count += 1
            total += gap
            longest = max(longest, gap)
    return count, total, longest


if __name__ == "__main__":
    # A parent that is killed leaves no spinning process behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, {int(sys.argv[1])})
    print(list(watch(float(sys.argv[2]), int(sys.argv[3]))))
