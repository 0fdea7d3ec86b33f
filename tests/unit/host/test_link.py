# SPDX-License-Identifier: Apache-2.0
"""The controller's end: deadlines, broken channels, heartbeats, Ctrl-C."""

from __future__ import annotations

import json
import queue
import time

import pytest

from harness.errors import HostLost, TestbedError
from harness.host import link as link_module
from harness.host.link import AgentLink, AgentRefused, quiet


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


def test_beats_go_on_between_calls_and_stop_in_quiet(monkeypatch):
    monkeypatch.setattr(link_module, "BEAT_S", 0.02)
    channel = Script(lambda request: [] if request["op"] == "beat" else [{"id": request["id"], "ok": {}}])
    link = AgentLink(channel, "dut")
    link.hello("me")
    time.sleep(0.3)
    assert channel.sent.count("beat") >= 3
    with quiet(link, 60.0):
        time.sleep(0.05)
        count = len(channel.sent)
        time.sleep(0.2)
        assert len(channel.sent) == count
    time.sleep(0.3)
    assert channel.sent[count:].count("beat") >= 2
    assert [op for op in channel.sent if op == "extend"] == ["extend", "extend"]
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
