# SPDX-License-Identifier: Apache-2.0
"""``python -m harness.generator.xdpgen``: the embedded generator alone; prints one JSON line when it is ready."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from harness.errors import HarnessError, UsageError
from harness.generator.xdpgen import ASYNC_PORT, LOOPBACK, SYNC_PORT, TABLE_CELLS

if TYPE_CHECKING:
    from harness.generator.xdpgen.server import Server


def parse_dst_macs(items: list[str]) -> dict[int, str]:
    """``PORT=MAC`` arguments as a mapping; ``UsageError`` for anything else."""
    from harness.generator.xdpgen.frames import mac_bytes

    result = {}
    for item in items:
        port, _, mac = item.partition("=")
        try:
            mac_bytes(mac)
            result[int(port)] = mac.lower()
        except ValueError as error:
            raise UsageError(f"{item!r}: expected PORT=MAC, such as 0=02:00:00:00:00:01") from error
    return result


def parse_cores(text: str) -> list[int]:
    """``0,1`` as a list; ``UsageError`` for anything else."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise UsageError(f"{text!r}: expected core numbers, such as 0,1")
    return [int(part) for part in text.split(",")]


def check_distinct(interfaces: list[str]) -> list[str]:
    """The interfaces; ``UsageError`` when one is named twice: a port of its own each."""
    twice = next((name for index, name in enumerate(interfaces) if name in interfaces[:index]), None)
    if twice is not None:
        raise UsageError(f"--interface {twice} is given twice; every port needs an interface of its own")
    return interfaces


def _announce(server: Server) -> None:
    """Say where it serves."""
    ports = {"serving": True, "sync_port": server.sync_port, "async_port": server.async_port}
    print(json.dumps(ports), flush=True)


def _announce_and_watch(server: Server) -> None:
    """The same, and end with whoever holds the other end of standard input: a harness that is killed cannot end it."""
    server.stop_at_eof(sys.stdin.fileno())
    _announce(server)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="harness xdpgen", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="The embedded generator alone: a server that speaks TRex's RPC. It prints one line of JSON when it "
                    "is ready, and runs until Ctrl-C. Needs root.")
    parser.add_argument("--interface", action="append", required=True, metavar="NAME", default=argparse.SUPPRESS,
                        help="network interface; repeat the option for port 0, 1, ...")
    parser.add_argument("--cores", required=True, metavar="LIST", default=argparse.SUPPRESS,
                        help="ids of the sending cores, comma-separated: 0,1")
    parser.add_argument("--bind", default=LOOPBACK, metavar="ADDRESS",
                        help="address to listen on; whoever reaches it can send traffic")
    parser.add_argument("--sync-port", type=int, default=SYNC_PORT, metavar="PORT",
                        help="TCP port of requests, as TRex's")
    parser.add_argument("--async-port", type=int, default=ASYNC_PORT, metavar="PORT",
                        help="TCP port of published events, as TRex's")
    parser.add_argument("--dst-mac", action="append", default=[], metavar="PORT=MAC",
                        help="destination MAC address of a port's frames, 0=02:00:00:00:00:01; may be repeated; the "
                             "neighbouring port's (0-1, 2-3, ...) when left out")
    parser.add_argument("--speed", type=float, default=10.0, metavar="GBPS",
                        help="nominal line rate of a port, in Gbit/s: what percentages of it mean")
    parser.add_argument("--table-cells", type=int, default=TABLE_CELLS, metavar="COUNT",
                        help="room for the prepared headers of all streams, 64 bytes each")
    parser.add_argument("--until-eof", action="store_true",
                        help="end when standard input ends, so with the program that started this one")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the generator; returns the exit code."""
    args = _arguments(argv)
    from harness.generator.xdpgen.server import serve

    try:
        serve(
            ifaces=check_distinct(args.interface),
            cores=parse_cores(args.cores),
            bind=args.bind,
            sync_port=args.sync_port,
            async_port=args.async_port,
            dst_macs=parse_dst_macs(args.dst_mac),
            speed_gbps=args.speed,
            table_cells=args.table_cells,
            ready=_announce_and_watch if args.until_eof else _announce,
        )
    except HarnessError as error:
        print(f"xdpgen: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
