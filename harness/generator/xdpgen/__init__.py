# SPDX-License-Identifier: Apache-2.0
"""The embedded generator: TRex's STL RPC in front, XDP live frames behind."""

#: Room for the prepared headers of all streams together, in cells of 64 bytes (shares.py): 64 MiB unless more is asked
#: for, at most 512 MiB.
TABLE_CELLS, MOST_TABLE_CELLS = 1 << 20, 1 << 23
#: TCP ports of requests and of published events, as TRex's; where they are listened on unless told otherwise.
SYNC_PORT, ASYNC_PORT, LOOPBACK = 4501, 4500, "127.0.0.1"
