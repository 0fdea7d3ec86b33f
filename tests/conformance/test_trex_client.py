# SPDX-License-Identifier: Apache-2.0
"""TRex v3.08's own client against xdpgen on real interfaces: two ends of a veth pair in a namespace of their own.

Needs root, and TRex's tree: ``TREX_DIR`` (a release, or the source tree), ``TREX_PYTHON`` (default: this interpreter;
TRex's client runs on 3.6 to 3.12). With ``TREX_KEEP=FILE`` what it printed is kept there, without host names.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.trex

_DRIVER = Path(__file__).with_name("drive_trex_client.py")
_TREES = ("automation/trex_control_plane/interactive", "scripts/automation/trex_control_plane/interactive")
_SYNC, _ASYNC = 4511, 4510


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=30)


@contextlib.contextmanager
def _wire() -> Iterator[str]:
    """A namespace with the veth pair p0-p1; both ends process frames with NAPI."""
    name = f"xdpconf{os.getpid()}"
    _run("ip", "netns", "add", name)
    try:
        inside = ("ip", "netns", "exec", name)
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        _run(*inside, "ip", "link", "add", "p0", "type", "veth", "peer", "name", "p1")
        for end in ("p0", "p1"):
            _run(*inside, "ethtool", "-K", end, "gro", "on")
            _run(*inside, "ip", "link", "set", end, "up")
        yield name
    finally:
        _run("ip", "netns", "del", name)


@contextlib.contextmanager
def _server(namespace: str) -> Iterator[None]:
    argv = ["ip", "netns", "exec", namespace, sys.executable, "-m", "harness.generator.xdpgen"]
    argv += ["--interface=p0", "--interface=p1", "--cores=0", f"--sync-port={_SYNC}", f"--async-port={_ASYNC}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["serving"]
            yield
        finally:
            process.terminate()
            assert process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def observed() -> dict[str, Any]:
    """What TRex's client saw."""
    base = Path(os.environ["TREX_DIR"])
    tree = next(base / tail for tail in _TREES if (base / tail / "trex" / "stl").is_dir())
    python = os.environ.get("TREX_PYTHON", sys.executable)
    with _wire() as namespace, _server(namespace):
        argv = ["ip", "netns", "exec", namespace, python, str(_DRIVER), str(tree), str(_SYNC), str(_ASYNC)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "TREX_KEEP" in os.environ:
        _keep(Path(os.environ["TREX_KEEP"]), result)
    return result


def _keep(path: Path, result: dict[str, Any]) -> None:
    about = {
        "what": "TRex v3.08's STLClient against xdpgen, two veth ends, one core",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kernel": platform.release(),
    }
    path.write_text(json.dumps(about | {"observed": result}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def test_versions_and_ports(observed: dict[str, Any]) -> None:
    assert observed["version"].startswith("v3.08")
    assert observed["ports"] == [0, 1]
    assert observed["warnings"] == []


def test_continuous_streams_arrive_and_are_counted(observed: dict[str, Any]) -> None:
    seen = observed["continuous"]
    assert seen["active"]
    sent, received = seen["ports"]["0"]["opackets"], seen["ports"]["1"]["ipackets"]
    # 4500 pps for 0.7 s, then 2500 pps: frames skipped in a pause of the machine are missing, none is invented.
    assert 4000 < sent <= 7200
    assert received == sent
    flow, latency = seen["flow"], seen["latency_flow"]
    assert flow["tx_pkts"]["0"] + latency["tx_pkts"]["0"] == sent
    assert flow["rx_pkts"]["1"] == flow["tx_pkts"]["0"]
    assert flow["tx_bytes"]["0"] == flow["tx_pkts"]["0"] * 68


def test_latency_is_measured(observed: dict[str, Any]) -> None:
    latency = observed["continuous"]["latency"]
    assert set(latency["err_cntrs"].values()) == {0}
    assert sum(latency["latency"]["histogram"].values()) == observed["continuous"]["latency_flow"]["rx_pkts"]["1"]
    # The built-in clock and wire: well below a second, and not zero.
    assert 0 < latency["latency"]["average"] < 100_000


def test_pause_and_resume(observed: dict[str, Any]) -> None:
    seen = observed["pausing"]
    assert seen["before"] == seen["during"] < seen["after"]


def test_bursts_send_exactly_what_they_say(observed: dict[str, Any]) -> None:
    assert observed["bursts"] == {"21": [50, 50], "22": [30, 30]}


def test_refusals_carry_the_servers_reason(observed: dict[str, Any]) -> None:
    assert "exceeds port line rate" in observed["refusals"]["over line rate"]
    assert "Can't have two streams with same pg_id" in observed["refusals"]["same latency group"]


def test_pushed_packet_is_captured(observed: dict[str, Any]) -> None:
    assert observed["capturing"] == [{"port": 1, "origin": "RX", "length": 64}]
