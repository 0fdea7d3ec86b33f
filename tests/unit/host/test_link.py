# SPDX-License-Identifier: Apache-2.0
"""The controller's end: deadlines, broken channels, heartbeats, Ctrl-C."""

from __future__ import annotations

import json
import queue
import sys
import time

import pytest

from harness.errors import HostLost, TestbedError
from harness.host import link as link_module
from harness.host.agent import start_time
from harness.host.channel import PipeChannel
from harness.host.link import AgentLink, AgentRefused
from tests.unit.host.conftest import compiled

_LEASE_S = 0.8


class Script:
    """A channel whose agent is a function from request to answers."""

    def __init__(self, answer):
        self.answer, self.sent, self.closed = answer, [], False
        self._out = queue.Queue()

    def send(self, data):
        if self.closed:
            raise BrokenPipeError("closed")
        for line in data.splitlines():
            request = json.loads(line)
            self.sent.append(request["op"])
            for answer in self.answer(request):
                self._out.put(answer if isinstance(answer, bytes) else json.dumps(answer).encode() + b"\n")

    def receive(self, timeout_s):
        try:
            answer = self._out.get(timeout=min(timeout_s, 0.2))
        except queue.Empty:
            raise TimeoutError from None
        if answer == b"INTERRUPT":
            raise KeyboardInterrupt
        return answer

    def diagnosis(self):
        return "said on stderr"

    def close(self):
        self.closed = True


def well(request):
    return [] if request["op"] in ("beat", "cancel") else [{"id": request["id"], "ok": request["op"]}]


def test_answers_in_pieces_and_late_ones():
    def answer(request):
        yield {"id": request["id"] - 1, "ok": "late"}
        whole = json.dumps({"id": request["id"], "ok": 7}).encode() + b"\n"
        yield from (whole[:3], whole[3:])

    assert AgentLink(Script(answer), "dut").call("mark") == 7


def test_a_refusal_keeps_the_link():
    answers = iter([{"error": {"kind": "gone", "message": "no such"}}, {"ok": 1}])
    link = AgentLink(Script(lambda request: [{"id": request["id"], **next(answers)}]), "dut")
    with pytest.raises(AgentRefused, match="no such"):
        link.call("read", path="/x")
    assert link.call("mark") == 1


@pytest.mark.parametrize(("answers", "text"), [
    ([], "did not answer mark in time"), ([b""], "the agent ended during mark"), ([b"not json\n"], "not JSON"),
    ([b"[]\n"], "no object"),
])
def test_a_broken_link_says_why_and_stays_broken(monkeypatch, answers, text):
    monkeypatch.setattr(link_module, "_GRACE_S", 0.0)
    link = AgentLink(Script(lambda request: answers), "dut")
    with pytest.raises(HostLost, match=text) as first:
        link.call("mark", within_s=0.1)
    assert "said on stderr" in str(first.value)
    with pytest.raises(HostLost, match=text):
        link.call("mark")
    assert link.close() == []


def test_a_closed_channel_is_a_host_error():
    channel = Script(well)
    channel.close()
    with pytest.raises(HostLost, match="the agent is gone"):
        AgentLink(channel, "dut").call("mark")


def test_a_busy_host_is_a_testbed_error():
    channel = Script(lambda request: [{"id": 1, "error": {"kind": "busy", "message": "ann, since noon"}}])
    with pytest.raises(TestbedError, match="dut is in use by ann, since noon"):
        AgentLink(channel, "dut").hello("me")


class Silent:
    """A real agent's pipes, whose wire can be cut without a word: what is sent is lost, nothing is closed."""

    def __init__(self, channel):
        self.cut, self.sent, self._channel = False, [], channel

    def send(self, data):
        self.sent.append(time.monotonic())
        if not self.cut:
            self._channel.send(data)

    def __getattr__(self, name):
        return getattr(self._channel, name)


def test_beats_keep_a_lease_in_a_trial_and_silence_ends_it_there(tmp_path):
    state, target = str(tmp_path / "state"), tmp_path / "value"
    target.write_text("old")
    pipes = PipeChannel([sys.executable, "-I", compiled(sys.executable), "serve", state, state, state])
    channel = Silent(pipes)
    link = AgentLink(channel, "dut")
    pid = link.hello("me", lease_s=_LEASE_S)["pid"]
    link.call("set_file", path=str(target), value="new", verify=True)
    link.hush()
    began = len(channel.sent)
    time.sleep(1.5 * _LEASE_S)
    assert target.read_text() == "new"
    assert 1 <= len(channel.sent) - began <= 5  # in this time: never more often than each 0.3 of the lease
    channel.cut = True
    deadline = time.monotonic() + 10
    while start_time(pid) is not None:
        assert time.monotonic() < deadline, "silence does not end the lease"
        time.sleep(0.02)
    assert target.read_text() == "old"
    with pytest.raises(HostLost):
        link.close()


def test_after_a_trial_beats_are_as_before(monkeypatch):
    channel = Script(lambda request: [] if request["op"] == "beat" else [{"id": request["id"], "ok": {}}])
    monkeypatch.setattr(link_module, "_HUSHED_BEAT", 1e6)
    link = AgentLink(channel, "dut")
    link.hello("me", lease_s=0.1)
    link.hush()
    link.resume()
    deadline = time.monotonic() + 10
    while channel.sent.count("beat") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    link.close()
    assert channel.closed
    assert channel.sent[-1] == "bye"


def test_ctrl_c_cancels_and_the_link_lives():
    def answer(request):
        if request["op"] == "run":
            return [b"INTERRUPT"]
        if request["op"] == "cancel":
            return [{"id": request["id"], "error": {"kind": "cancelled", "message": "cancelled"}}]
        return well(request)

    channel = Script(answer)
    link = AgentLink(channel, "dut")
    with pytest.raises(KeyboardInterrupt):
        link.call("run", argv=["sleep"])
    assert channel.sent == ["run", "cancel"]
    assert link.call("mark") == "mark"
