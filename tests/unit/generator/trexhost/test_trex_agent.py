# SPDX-License-Identifier: Apache-2.0
"""The agent beside a TRex: who serves, by recorded replies of a real v3.08; ownership, and a server that was restarted,
with a simulated client."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from harness.errors import GeneratorDied, GeneratorError, TestbedError
from harness.generator.agent import UNKNOWN_STILL_S, Cadence, Session
from harness.generator.channel import AgentClient
from harness.generator.contract import TrafficSpec
from harness.generator.trex import Server, TrexGenerator
from harness.generator.trexhost.release import api_versions
from harness.host.channel import PipeChannel
from harness.plan import DirectionPlan, FlowPlan, FrameMix
from tests.unit.generator.recorded import exchanges

AGENT = Path(__file__).parents[4] / "harness" / "generator" / "agent.py"
SIMULATED = Path(__file__).parents[1] / "simulated_client.py"
FLOWS = FlowPlan(16, "198.19.0.1", 4, 1024, 4, "198.18.0.1", 9000)
TRAFFIC = TrafficSpec((DirectionPlan(0, 0, "02:00:00:00:02:00", "02:00:00:00:01:00", FLOWS),), FrameMix.of(64))
#: What TRex's client has and the built-in one has not; a file named "gone" stands for a server that was restarted.
MORE = '''
HERE = os.path.dirname(os.path.abspath(__file__))

class STLClient(STLClient):
    def connect(self):
        self._say("connect")
        if os.path.exists(os.path.join(HERE, "down")):
            raise STLError("Failed to get server response from tcp://127.0.0.1:4501")
    def _say(self, word):
        with open(os.path.join(HERE, "said"), "a") as said:
            said.write(word + "\\n")
    def acquire(self, ports, force):
        self._say("acquire by force" if force else "acquire")
    def reset(self, ports):
        self._say("reset")
        super(STLClient, self).reset(ports)
    @property
    def ports(self):
        taken = os.path.exists(os.path.join(HERE, "taken"))
        return {0: type("Port", (), {"get_owner": lambda self: "alice" if taken else "harness"})()}
    def add_streams(self, streams, ports):
        for stream in streams:
            self._say("cache %s" % stream.fields["packet"].fields["vm"].fields.get("cache_size"))
        super(STLClient, self).add_streams(streams, ports)
    def start(self, **how):
        gone = os.path.join(HERE, "gone")
        if os.path.exists(gone):
            os.remove(gone)
            raise STLError("API verification failed - API handler provided mismatch for class: 'STL'")
        super(STLClient, self).start(**how)
    def get_port_info(self, ports):
        info, = super(STLClient, self).get_port_info(ports)
        down = os.path.exists(os.path.join(HERE, "unplugged"))
        return [dict(info, driver="net_af_packet", link="DOWN" if down else "UP")]
    def get_server_system_info(self):
        return {"dp_core_count_per_port": 3 if os.path.exists(os.path.join(HERE, "three")) else 1}
    def get_stats(self, ports):
        row = {"opackets": self.count, "ipackets": self.count, "obytes": 64 * self.count, "ibytes": 64 * self.count}
        return {0: row, "global": {"queue_full": 3, "rx_cpu_util": 2.0, "rx_drop_bps": 64.0}}
    def get_xstats(self, port_id):
        return {"rx_good_packets": 9, "rx_missed_errors": 4, "tx_errors": 0}
    def get_util_stats(self):
        return {"cpu": [{"ports": [0, -1], "history": [1, 40, 35] + 17 * [0]}]}
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An installation whose client is simulated."""
    package = tmp_path / "automation" / "trex_control_plane" / "interactive" / "trex"
    (package / "stl").mkdir(parents=True)
    for folder in (package, package / "stl"):
        (folder / "__init__.py").write_text("")
    (package / "stl" / "api.py").write_text(SIMULATED.read_text() + MORE)
    return tmp_path


@pytest.fixture
def agent() -> Iterator[AgentClient]:
    with closing(AgentClient(PipeChannel([sys.executable, str(AGENT)]))) as made:
        yield made


def server(tree: Path, **more: Any) -> Server:
    return Server("trex", "127.0.0.1", 4501, 4500, trex_dir=str(tree), here=True, **more)


def said(tree: Path) -> list[str]:
    path = next(tree.rglob("said"))
    return path.read_text().splitlines()


def put(tree: Path, name: str) -> Path:
    path = next(tree.rglob("api.py")).with_name(name)
    path.touch()
    return path


class Recorded(threading.Thread):
    """A REP socket that answers as the recorded server did; ``owner``: of every port, ``api``: the one it speaks."""

    def __init__(self, owner: str, api: tuple[int, int] = (5, 0)) -> None:
        super().__init__(daemon=True)
        self.replies: dict[str, Any] = {}
        self.api = api
        for exchange in exchanges():
            if "result" in exchange.reply:
                self.replies.setdefault(exchange.method, exchange.reply["result"])
        self.replies["get_owner"] = {"owner": owner}
        self.asked = list[dict[str, Any]]()
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REP)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.count = 0

    def run(self) -> None:
        while True:
            request = json.loads(self.socket.recv())
            if request["method"] == "end":
                self.socket.send(b"{}")
                return
            self.asked.append(request)
            reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
            offered = (request["params"].get("major"), request["params"].get("minor"))
            if request["method"] == "api_sync_v2" and offered != self.api:
                reply["error"] = {"code": -32000, "message": "no", "specific_err": "Version mismatch"}
            else:
                reply["result"] = self.replies[request["method"]]
            self.socket.send(json.dumps(reply).encode())

    def close(self) -> None:
        ending = self.context.socket(zmq.REQ)
        ending.connect(f"tcp://127.0.0.1:{self.port}")
        ending.send(b'{"method": "end"}')
        self.join(5.0)
        self.socket.close(0)
        ending.close(0)
        self.context.term()


@pytest.mark.parametrize(("told", "owner", "api"), [
    ("<FREE>", "", (5, 1)), ("alice", "alice", (5, 0)), ("<FREE>", "", (4, 8)), ("<FREE>", "", (4, 7))])
def test_who_serves_is_seen_without_touching_a_port(agent: AgentClient, tree: Path, told: str, owner: str,
                                                    api: tuple[int, int]) -> None:
    recorded = Recorded(told, api)
    with closing(recorded):
        recorded.start()
        found = agent.call("look", {"trex_dir": str(tree), "server": "127.0.0.1", "sync_port": recorded.port,
                                    "apis": api_versions()}, 20.0)
    assert (found["serving"], found["version"], found["mode"], found["software"]) == (True, "v3.08", "STL", True)
    assert sorted(port["index"] for port in found["ports"]) == [0, 1]
    assert {port["owner"] for port in found["ports"]} == {owner}
    assert all(port["driver"] == "net_af_packet" and len(port["mac"]) == 17 for port in found["ports"])
    # Only what reads; an older API version is tried where the newest is refused.
    assert {request["method"] for request in recorded.asked} == {
        "get_version", "api_sync_v2", "get_system_info", "get_owner", "get_port_status"}
    # An unknown profile is a segmentation fault of the real server.
    assert {r["params"].get("profile_id", "*") for r in recorded.asked} == {"*"}


def test_nobody_serves(agent: AgentClient, tree: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
    assert agent.call("look", {"trex_dir": str(tree), "server": "127.0.0.1", "sync_port": port,
                               "apis": api_versions()}, 20.0) == {
        "serving": False}


def test_ports_of_others_are_not_taken_and_a_dead_harness_s_are(agent: AgentClient, tree: Path) -> None:
    taken = put(tree, "taken")
    with pytest.raises(TestbedError, match="port 0 belongs to 'alice'"):
        TrexGenerator(agent, server(tree), [0])
    assert said(tree) == ["connect"]
    taken.unlink()
    TrexGenerator(agent, server(tree), [0])
    assert said(tree)[-2:] == ["acquire by force", "reset"]


def test_after_a_restart_of_the_server_the_next_call_connects_anew_once(agent: AgentClient, tree: Path) -> None:
    generator = TrexGenerator(agent, server(tree), [0])
    generator.configure(TRAFFIC)
    put(tree, "gone")
    with pytest.raises(GeneratorError, match="handler provided mismatch"):
        generator.trial(1000.0, 0.05)
    assert generator.trial(1000.0, 0.05).directions[0].sent == 50
    assert said(tree).count("connect") == 2
    put(tree, "gone")
    down = put(tree, "down")
    with pytest.raises(GeneratorError):
        generator.trial(1000.0, 0.05)
    with pytest.raises(GeneratorDied, match="no longer answers"):  # nothing serves: said, and not tried for ever
        generator.trial(1000.0, 0.05)
    down.unlink()
    assert generator.alive()


def test_a_trial_over_a_wire_that_lost_its_link_is_no_trial(agent: AgentClient, tree: Path) -> None:
    generator = TrexGenerator(agent, server(tree), [0])
    generator.configure(TRAFFIC)
    unplugged = put(tree, "unplugged")
    with pytest.raises(GeneratorError, match="port 0 of the generator has no link after the trial; look at its cable"):
        generator.trial(1000.0, 0.05)
    unplugged.unlink()
    assert generator.trial(1000.0, 0.05).directions[0].sent == 50


def test_trex_tells_of_itself_and_prepares_as_many_frames_as_there_are_flows(agent: AgentClient, tree: Path) -> None:
    generator = TrexGenerator(agent, server(tree), [0])
    generator.configure(TRAFFIC)
    result = generator.trial(10_000.0, 0.1)
    assert result.report.utilisation is None  # no whole second of its history lies inside
    told = result.report.extra["trex"]
    assert told["cores"] == [{"ports": [0], "utilisation": None}]
    assert told["receiving_utilisation"] == 0.02
    assert told["link_gbps"]["0"]["o"] == pytest.approx(10_000 * 84 * 8e-9, rel=0.1)
    assert "cache 16" in said(tree)
    session = Session.__new__(Session)
    session.ports, session.client = [0], SimpleNamespace(
        get_util_stats=lambda: {"cpu": [{"ports": [0, -1], "history": [99, 40, 35, 98] + 16 * [0]}]},
        get_stats=lambda ports: {"global": {"rx_cpu_util": 2.0}}, get_port_info=lambda ports: [{"link": "UP"}],
        get_xstats=lambda port: {})
    session.cadence = Cadence(immediate=True)
    assert session.own_state(4.0)["utilisation"] == 0.4  # the first and the fourth may lie in part outside
    generator.configure(TrafficSpec(TRAFFIC.directions, FrameMix.of(1518)))
    assert said(tree)[-1] == "cache None"


class SlowNic:
    """SIMULATED: a NIC whose counters are brought up to date every so often, and a clock that only sleep moves. Sends
    and receives 1000 frames a second up to ``end``; ``strays``: others' frames a second, for ever."""

    def __init__(self, every: float, end: float = 0.0, strays: float = 0.0) -> None:
        self.every, self.end, self.strays, self.now = every, end, strays, 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def get_stats(self, ports: list[int]) -> dict[int, dict[str, int]]:
        seen = 100.0 + (self.now - 100.0) // self.every * self.every
        sent = round(1000 * (min(seen, self.end) - 100.0))
        strays = int(self.strays * (seen - 100.0))
        return {port: {"opackets": sent, "ipackets": sent + strays, "oerrors": 0, "ierrors": 0} for port in ports}


def on(nic: SlowNic, monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session.__new__(Session)
    session.kind, session.ports, session.tx_ports, session.client = "trex", [0], [0], nic
    session.cadence = Cadence(immediate=False)
    monkeypatch.setattr("harness.generator.agent.time", nic)
    return session


@pytest.mark.parametrize(("every", "longest_s"), [(0.001, 0.1), (0.25, 0.8), (1.0, 3.2)])
def test_counters_are_final_after_the_nic_has_brought_them_up_to_date(
        every: float, longest_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = SlowNic(every, end=110.07)
    session = on(nic, monkeypatch)
    session.watch(110.07)  # a trial of ten seconds, in which it is learnt
    assert every - 1e-6 < max(session.cadence.still_s(), 0.04) / 2 < every + 0.05
    ended = nic.now
    counters, unsettled = session.settled()
    assert (counters[0]["ipackets"], unsettled) == (10_070, {})
    assert nic.now - ended < longest_s


def test_before_it_is_known_counters_have_to_stand_still_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = SlowNic(1.0, end=100.5)
    session = on(nic, monkeypatch)
    session.watch(100.5)  # too short to see the counters move
    assert session.cadence.still_s() == UNKNOWN_STILL_S
    nic.now = 100.6
    assert session.port_counters()[0]["ipackets"] == 0  # what a look at the end would have found
    assert session.settled()[0][0]["ipackets"] == 500
    assert nic.now < 104.0


def test_counters_that_never_stand_still_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = SlowNic(0.01, end=101.0, strays=50.0)
    session = on(nic, monkeypatch)
    session.watch(101.0)
    _, unsettled = session.settled()
    assert unsettled["counters"] == ["ipackets of port 0"]
    assert 2.0 <= unsettled["watched_s"] < 2.1


def test_errors_by_name_and_drops_are_kept_with_the_trial(agent: AgentClient, tree: Path) -> None:
    generator = TrexGenerator(agent, server(tree), [0])
    generator.configure(TRAFFIC)
    extra = generator.trial(10_000.0, 0.05).report.extra
    assert (extra["trex"]["nic"], extra["trex"]["rx_drop_bps"]) == ({"0": {"rx_missed_errors": 4}}, 64.0)
    assert "unsettled" not in extra


@pytest.mark.parametrize(("size", "marker", "frames", "why"), [
    (64, "", 16, ""), (1518, "", 0, "frames of more than 128 bytes"),
    (64, "three", 0, "16 flows do not divide by 3 sending cores"),
])
def test_a_trial_tells_whether_its_frames_were_prepared(agent: AgentClient, tree: Path, size: int, marker: str,
                                                       frames: int, why: str) -> None:
    generator = TrexGenerator(agent, server(tree), [0])
    if marker:
        put(tree, marker)
    for _ in range(2):  # of these streams only, not of those before them
        generator.configure(TrafficSpec(TRAFFIC.directions, FrameMix.of(size)))
    assert said(tree)[-1] == f"cache {frames or None}"
    only, = generator.trial(10_000.0, 0.05).report.extra["trex"]["prepared"]
    assert (only["port"], only["frames"], only["why_none"]) == (0, frames, why)
