# SPDX-License-Identifier: Apache-2.0
"""``python -m harness.generator.xdpgen``: the embedded generator alone; prints one JSON line when it is ready."""

from __future__ import annotations

import argparse
import json
import sys

from harness.errors import HarnessError, UsageError
from harness.generator.xdpgen.frames import mac_bytes
from harness.generator.xdpgen.server import ASYNC_PORT, LOOPBACK, SYNC_PORT, Server, serve


def parse_dst_macs(items: list[str]) -> dict[int, str]:
    """``PORT=MAC`` arguments as a mapping; ``UsageError`` for anything else."""
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


def _announce(server: Server) -> None:
    ports = {"serving": True, "sync_port": server.sync_port, "async_port": server.async_port}
    print(json.dumps(ports), flush=True)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="xdpgen", description=__doc__)
    parser.add_argument("--interface", action="append", required=True, help="interface; repeat for port 0, 1, ...")
    parser.add_argument("--cores", required=True, help="sending cores, comma-separated: 0,1")
    parser.add_argument("--bind", default=LOOPBACK, help="address to listen on")
    parser.add_argument("--sync-port", type=int, default=SYNC_PORT)
    parser.add_argument("--async-port", type=int, default=ASYNC_PORT)
    parser.add_argument("--dst-mac", action="append", default=[], metavar="PORT=MAC")
    parser.add_argument("--speed", type=float, default=10.0, help="nominal line rate of a port in Gbit/s")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the generator; returns the exit code."""
    args = _arguments(argv)
    try:
        serve(
            ifaces=args.interface,
            cores=parse_cores(args.cores),
            bind=args.bind,
            sync_port=args.sync_port,
            async_port=args.async_port,
            dst_macs=parse_dst_macs(args.dst_mac),
            speed_gbps=args.speed,
            ready=_announce,
        )
    except HarnessError as error:
        print(f"xdpgen: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
