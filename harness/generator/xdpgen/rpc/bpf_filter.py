# SPDX-License-Identifier: Apache-2.0
"""tcpdump filter expressions, compiled and run by libpcap."""

from __future__ import annotations

import contextlib
import ctypes
from functools import lru_cache

_DLT_EN10MB = 1
_SNAPLEN = 65_535
#: libpcap as Debian and as others name it.
_NAMES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")
#: Longest expression accepted.
MAX_EXPRESSION = 4096


class FilterError(Exception):
    """The expression is not valid, or libpcap is missing; the text says which."""


class _Program(ctypes.Structure):
    _fields_ = [("bf_len", ctypes.c_uint), ("bf_insns", ctypes.c_void_p)]


class _Header(ctypes.Structure):
    _fields_ = [
        ("sec", ctypes.c_long),
        ("usec", ctypes.c_long),
        ("caplen", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
    ]


def _load() -> ctypes.CDLL:
    # Not ctypes.util.find_library: it runs other programs, and a client waits for the answer.
    for name in _NAMES:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    raise FilterError("capture filters need libpcap (Debian: apt install libpcap0.8); capture without a filter")


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = _load()
    library.pcap_open_dead.restype = ctypes.c_void_p
    library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
    library.pcap_compile.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Program),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint32,
    ]
    library.pcap_offline_filter.argtypes = [ctypes.POINTER(_Program), ctypes.POINTER(_Header), ctypes.c_char_p]
    library.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
    library.pcap_close.argtypes = [ctypes.c_void_p]
    return library


class BpfFilter:
    """A compiled expression; the empty one matches everything. ``close`` frees it."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._program: _Program | None = None
        if not expression.strip():
            return
        if len(expression) > MAX_EXPRESSION or not expression.isprintable():
            raise FilterError("the expression is too long or not printable")
        library = _library()
        handle = library.pcap_open_dead(_DLT_EN10MB, _SNAPLEN)
        program = _Program()
        try:
            status = library.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, 0xFFFF_FFFF)
        finally:
            library.pcap_close(handle)
        if status != 0:
            raise FilterError(f"'{expression}' is not a valid pattern")
        self._program = program

    def matches(self, frame: bytes) -> bool:
        """True if the frame passes."""
        if self._program is None:
            return True
        header = _Header(0, 0, len(frame), len(frame))
        return bool(_library().pcap_offline_filter(ctypes.byref(self._program), ctypes.byref(header), frame))

    def close(self) -> None:
        """Free the compiled program. Idempotent."""
        if self._program is not None:
            _library().pcap_freecode(ctypes.byref(self._program))
            self._program = None
