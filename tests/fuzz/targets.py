# SPDX-License-Identifier: Apache-2.0
"""Everything that reads what others wrote: what it may be given, and which errors it may answer with.

A target takes bytes and returns, or raises one of its ``errors``: the ones that its docstring names and its callers
turn into words. Anything else would be a traceback in front of a user.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from harness.analysis.metrics import Metric
from harness.errors import GeneratorError, HarnessError, HostError, StackError, UsageError
from harness.generator import agent as generator_agent
from harness.generator import h2load
from harness.generator.trexhost import complaints, release
from harness.host import interrupts
from harness.host.agent import AgentError, Host, Server
from harness.host.facts import facts_of
from harness.host.inventory import Survey
from harness.host.osprobe import bsd, illumos
from harness.host.topology import Topology
from harness.host.tuning import ethtool
from harness.rundata import load_run
from harness.scenario import load_scenario
from harness.stacks import netdev_settings
from harness.testbed import check_testbed
from harness.yamlfile import load
from stacks.command import counters
from stacks.dpdk import parse as dpdk
from stacks.dpdk import telemetry
from stacks.netmap import parse as netmap
from stacks.vpp import parse as vpp
from stacks.xdp.stack import parse_stats
from tests.fuzz import rpc

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
#: Inputs that once were not read as they must, a folder a target. They are read again by every test run.
FOUND = Path(__file__).with_name("found")
_SCENARIO = Path("s.yaml")
#: Whatever a target raises has to be one of the harness's errors, or one of these that its caller turns into words.
KNOWN = (HarnessError, ValueError, LookupError, TypeError, OverflowError, RecursionError, AgentError)


_REQUESTS = tuple(f'{{"id": 1, "op": "{op}", "args": {args}}}'.encode() for op, args in (
    ("run", '{"argv": ["true", "-x"], "timeout_s": 1.5, "stdin": ""}'), ("read", '{"path": "/proc/stat"}'),
    ("set_file", '{"path": "/sys/x", "value": "1", "verify": true}'), ("hello", '{"left_over": 0}'),
    ("apply", '{"do": ["ip", "l"], "undo": ["ip", "l"], "made": ["true"], "timeout_s": 1}'),
    ("spawn", '{"argv": ["true"], "name": "x", "cores": [1], "env": {"A": "b"}}'),
    ("wait", '{"pid": 2, "pattern": "^x", "timeout_s": 1}'), ("pin", '{"pid": 2, "core": 1, "fifo": 0}'),
    ("interface_counters", '{"ifnames": ["eth0"]}'), ("undo_to", '{"mark": 3}'),
    ("sample_start", '{"period_s": 1, "cores": [0], "probe_period_ns": 0, "probe_program": "", "threads": true}'),
    ("build", '{"source": "ab12", "target": "x", "archive": "AA==", "timeout_s": 9}')))
_INTERRUPTS = (b" 24:  1  2  IR-PCI-MSI-0000:3b:00.0  0-edge  mlx5_comp0@pci:0000:3b:00.0\n"
               b" 25:  1  2  IR-PCI-MSI-0000:3b:00.0  1-edge  eth0-TxRx-1\nNMI:  0  0  Non-maskable interrupts\n",
               b"30: virtio0-input.0\n31: virtio0-output.0\n32: eth1-rx-0\n33: eth1-tx-0\n")
_COMPLAINTS = (b"ZMQ port is used by the following process:\npid: 12, cmd: python3\n",
               b"\x1b[31mEAL: Error - exiting with code: 1\n  Cause: Cannot create lock on '/var/run/x'\x1b[0m\n",
               b"ERROR: Could not find Linux interface eth7.\n")


@dataclass(frozen=True)
class Target:
    """``good``: real inputs to start from. ``share``: of the inputs, as some are slower to read than others."""

    name: str
    read: Callable[[bytes], object]
    good: Sequence[bytes]
    errors: tuple[type[BaseException], ...] = ()
    share: int = 4

    def found(self) -> list[bytes]:
        """Inputs of ``FOUND``."""
        return [file.read_bytes() for file in sorted((FOUND / slug(self.name)).glob("*"))]


def slug(name: str) -> str:
    """A target's name as a folder's."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """What arrives over SSH is decoded with replacement (harness.host.ssh)."""
    return lambda data: read(data.decode("utf-8", "replace"))


def _files(*paths: Path) -> list[bytes]:
    found = [path.read_bytes() for path in paths]
    assert found
    return found


def _scenario(data: bytes) -> None:
    load_scenario(_SCENARIO, data.decode("utf-8", "replace"))


def _testbed(data: bytes) -> None:
    check_testbed(load(_SCENARIO, data.decode("utf-8", "replace")))


def _run_file(folder: Path, name: str) -> Callable[[bytes], object]:
    """A run directory in which one file is hostile."""
    source = DATA / "runs" / "schema-1"
    made = folder / name
    made.mkdir()
    for file in ("run.json", "trials.jsonl", "points.jsonl"):
        (made / file).write_bytes((source / file).read_bytes())

    def read(data: bytes) -> None:
        (made / name).write_bytes(data)
        load_run(made)

    return read


class _Nobody:
    """A host on which every operation is allowed and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda **arguments: None


def _request(data: bytes) -> None:
    """A line to the DUT's agent, up to the point at which it would act."""
    _, op, args = Server.parse(data)
    if op not in ("beat", "cancel"):
        Server._serve_one(cast(Host, _Nobody()), op, args)


class _Clientless(generator_agent.Agent):
    """The generator's agent without a way out."""

    def handle(self, op: Any, params: generator_agent.Json) -> Any:
        return {} if op in ("look", "connect") else super().handle(op, params)


_LONGEST = 400


def _generator_lines(data: bytes) -> None:
    """Lines to the generator's agent, of which it may take some for too long: one reply each, and those are refused.

    Raises ValueError where one was refused."""
    agent, wrong = _Clientless(), 0
    given = data.split(b"\n")
    given = given if given[-1] else given[:-1]
    replies = [json.loads(generator_agent.reply_to(agent, line))
               for line in generator_agent.lines(io.BytesIO(data), _LONGEST)]
    assert len(replies) == len(given), f"{len(replies)} replies to {len(given)} lines"
    for reply, line in zip(replies, given, strict=True):
        wrong += not reply["ok"]
        assert not (reply["ok"] and len(line) >= _LONGEST), "an oversized line was taken for a request"
    if wrong:
        raise ValueError(f"{wrong} of {len(given)} refused")


def _survey(text: str) -> None:
    facts_of(Survey.parse(text))


def _bodies(data: bytes) -> None:
    usage, port = telemetry.answers(data.decode("utf-8", "replace"), ("/eal/lcore/usage", "/ethdev/xstats,0"))
    telemetry.lcore_usage(usage)
    telemetry.xstats(port)


def targets(folder: Path) -> list[Target]:
    """All of them; ``folder`` is for those that read files."""
    netmap_data, vpp_data, dpdk_data = (ROOT / "stacks" / name / "tests" / "data" for name in ("netmap", "vpp", "dpdk"))
    osprobe, pktgen = DATA / "osprobe", _files(*sorted(netmap_data.glob("pktgen*.txt")))
    tables = [b"Channel parameters for eth0:\nPre-set maximums:\nRX:\t\t8\nCombined:\t63\nCurrent hardware settings:\n"
              b"RX:\t\t0\nCombined:\t8\n", b"Adaptive RX: off  TX: on\nrx-usecs: 3\n",
              b"RX flow hash indirection table for eth0 with 4 RX ring(s):\n    0:      0     1     2     3\n",
              b"UDP over IPV4 flows use these fields for computing Hash flow key:\nIP SA\nIP DA\n"]
    return [
        Target("scenario file", _scenario, _files(*sorted((ROOT / "scenarios").glob("*.yaml"))), (UsageError,), 2),
        Target("testbed file", _testbed, _files(*sorted((ROOT / "scenarios" / "testbeds").glob("*.yaml"))),
               (UsageError,), 2),
        *(Target(name, _run_file(folder, name), _files(DATA / "runs" / "schema-1" / name), (UsageError,), 1)
          for name in ("run.json", "trials.jsonl", "points.jsonl")),
        Target("xdpgen's RPC", rpc.Target().read, rpc.good(), (), 8),
        Target("line to the DUT's agent", _request, [*_REQUESTS, b'{"op": "beat"}'], (AgentError,)),
        Target("lines to the generator's agent", _generator_lines, [
            b'{"id": 1, "op": "hello"}\n{"id": 2, "op": "look", "params": {"server": "127.0.0.1"}}\n',
            b'{"id": 3, "op": "connect", "params": {"client": "stl"}}\n{"op": "close"}\n',
            b'{"id": 5, "op": "hello", "params": {"a": "%s"}}\n' % (b"x" * (_LONGEST - 50)) * 2], (ValueError,)),
        Target("a host's survey", _text(_survey), _files(DATA / "surveys" / "lab-dut.json"), (HostError,), 1),
        Target("a host's interrupts", _text(lambda text: interrupts.queues_among(interrupts.parse(text))), _INTERRUPTS),
        Target("TRex's last words", _text(complaints.explain), _COMPLAINTS),
        Target("metric", _text(Metric.parse), [b"latency.p99@50%", b"ndr", b"cycles@2.5M"], (ValueError,)),
        Target("topology", _text(Topology.parse), _files(*sorted((DATA / "topologies").glob("*.csv"))),
               (ValueError,), 2),
        Target("ethtool's numbers", _text(ethtool.parse_maxima), tables),
        Target("ethtool's words", _text(ethtool.parse_words), tables),
        Target("ethtool's indirection", _text(ethtool.parse_indirection), tables),
        Target("ethtool's hash", _text(ethtool.parse_hash), tables),
        Target("ethtool's settings", _text(netdev_settings.listing), tables),
        Target("ethtool's table", _text(netdev_settings.table), tables),
        Target("TRex's version", _text(release._VERSION.search), [b"Starting\nVersion : v3.08   \nDPDK version : 2\n"]),
        Target("FreeBSD's CPU times", _text(bsd.cp_times), _files(osprobe / "freebsd-sysctl.txt"), (ValueError,)),
        Target("BSD's netstat", _text(lambda text: bsd.netstat(text, "ix0")),
               _files(osprobe / "freebsd-netstat.txt"), (ValueError,)),
        Target("illumos' CPU times", _text(illumos.cpu_times), _files(osprobe / "illumos-kstat-cpu.txt"),
               (ValueError,)),
        Target("illumos' links", _text(lambda text: illumos.link(text, "ixgbe0")),
               _files(osprobe / "illumos-kstat-link.txt"), (ValueError,)),
        Target("illumos' mpstat", _text(illumos.mpstat), _files(osprobe / "illumos-mpstat.txt"), (ValueError,)),
        Target("counters of xdp", _text(parse_stats), [
            b'{"ports": [{"queues": [{"queue": 0, "received": 1, "dropped": 1, '
            b'"redirected": 0, "sent": 0, "passed": 0, "refused": 0, "handed": 0}], "cpus": []}]}'],
               KNOWN[1:-1]),  # RunningServer.stats turns them into words
        Target("counters of a command", _text(counters.parse), [b"frames: 12\nlost=3\n", b'{"a": {"b": 12}}'],
               (StackError,)),
        *(Target(f"testpmd's {what}", _text(read), _files(dpdk_data / "5tswap.txt", dpdk_data / "rxonly.txt"), errors)
          for what, read, errors in (
              ("port statistics", dpdk.port_statistics, (StackError,)),
              ("forward statistics", dpdk.forward_statistics, (StackError,)), ("bursts", dpdk.bursts, ()))),
        Target("DPDK's telemetry", _bodies, [
            b'{"version": "DPDK 23.11.0", "pid": 4711}\n{"/eal/lcore/usage": {"lcore_ids": [1], "total_cycles": [9], '
            b'"busy_cycles": [4]}}\n{"/ethdev/xstats": {"rx_good_packets": 12, "rx_missed_errors": 0}}'],
            (StackError,)),
        *(Target(f"netmap's {what}", _text(read), good, errors) for what, read, good, errors in (
            ("reports", lambda text: list(netmap.reports(text)), pktgen, ()), ("summary", netmap.summary, pktgen, ()),
            ("reason", netmap.reason, _files(netmap_data / "errors.txt"), ()),
            ("bridge", netmap.bridge_ready, _files(netmap_data / "bridge.txt"), ()),
            ("balancer", netmap.balancer, _files(netmap_data / "lb.txt"), (StackError,)))),
        Target("VPP's runtime", _text(vpp.runtime), _files(*sorted(vpp_data.rglob("show-runtime*"))), (StackError,)),
        Target("VPP's interfaces", _text(vpp.interfaces), _files(*sorted(vpp_data.rglob("show-interface*"))),
               (StackError,)),
        Target("VPP's errors", _text(vpp.errors), _files(*sorted(vpp_data.rglob("show-errors*")))),
        Target("h2load's summary", _text(h2load.parse_summary),
               _files(*sorted((DATA / "h2load" / "1.52.0").glob("*.txt"))), (GeneratorError,)),
        Target("h2load's log", _text(lambda text: h2load.parse_log(text.splitlines(keepends=True))),
               _files(*sorted((DATA / "h2load" / "1.52.0").glob("*.log"))), (GeneratorError,)),
    ]
