# SPDX-License-Identifier: Apache-2.0
"""The agent's protocol, processes, lease and undo, from outside."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from harness.host import agent as agent_file


def gone(pid: int) -> bool:
    return agent_file.start_time(pid) is None


def wait_until(condition, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


# -- protocol


def test_serves_under_every_interpreter(start_agent, any_python, tmp_path):
    agent = start_agent(any_python)
    target = tmp_path / "value"
    target.write_text("old\n")
    assert agent.ok("run", argv=["printf", "a b"], timeout_s=5, stdin="")["stdout"] == "a b"
    assert agent.ok("set_file", path=str(target), value="new", verify=True) is True
    pid = agent.ok("spawn", argv=["sh", "-c", "echo up; exec sleep 60"], name="p", cores=[], env={"A": "b"})
    assert agent.ok("wait", pid=pid, pattern="^up$", timeout_s=10) == "up"
    agent.ok("sample_start", period_s=0.05, cores=[min(os.sched_getaffinity(0))], probe_period_ns=4000000,
             probe_program="", threads=True)
    time.sleep(0.2)
    sampled = agent.ok("sample_stop")
    assert len(sampled["samples"]) >= 3
    assert sampled["probes"][0]["wakes"] > 10
    assert agent.ok("bye") == []
    assert agent.process.wait(10) == 0
    assert target.read_text() == "old\n"
    assert gone(pid)


def test_hello_comes_first(start_agent):
    agent = start_agent(greet=False)
    assert agent.ask("exists", path="/")["error"]["kind"] == "bad-request"
    assert agent.process.wait(10) == 1


def test_another_protocol_is_refused(start_agent):
    agent = start_agent(greet=False)
    answer = agent.ask("hello", protocol=99, owner="x", lease_s=10, home_cores=[], wait_s=0)
    assert "protocol 99" in answer["error"]["message"]


HOSTILE = [
    b"", b"\0\xff\xfe", b"{", b"[]", b"null", b'"x"', b"{}", b'{"id": 1}', b'{"id": -1, "op": "exists"}',
    b'{"id": true, "op": "exists"}', b'{"id": 1, "op": 7}', b'{"id": 1, "op": "exists", "args": []}',
    b'{"id": 1, "op": "_close"}', b'{"id": 1, "op": "close"}', b'{"id": 1, "op": "hello"}',
    b'{"id": 1, "op": "exists", "args": {"path": "relative"}}',
    b'{"id": 1, "op": "exists", "args": {"path": "/a\\u0000b"}}',
    b'{"id": 1, "op": "exists", "args": {"path": "/", "more": 1}}',
    b'{"id": 1, "op": "run", "args": {"argv": [], "timeout_s": 1, "stdin": ""}}',
    b'{"id": 1, "op": "run", "args": {"argv": "ls", "timeout_s": 1, "stdin": ""}}',
    b'{"id": 1, "op": "run", "args": {"argv": ["ls"], "timeout_s": 1e9, "stdin": ""}}',
    b'{"id": 1, "op": "run", "args": {"argv": ["ls"], "timeout_s": NaN, "stdin": ""}}',
    b'{"id": 1, "op": "spawn", "args": {"argv": ["ls"], "name": "x", "cores": [-1], "env": {}}}',
    b'{"id": 1, "op": "spawn", "args": {"argv": ["ls"], "name": "x", "cores": [], "env": {"a=b": "c"}}}',
    b'{"id": 1, "op": "stop", "args": {"pid": 1, "timeout_s": 1}}',
    b'{"id": 1, "op": "pin", "args": {"pid": 1, "core": 0, "fifo": 99}}',
    b'{"id": 1, "op": "interface_counters", "args": {"ifnames": ["../lo"]}}',
    b'{"id": 1, "op": "build", "args": {"source": "x", "target": "../../bin/sh", "archive": "", "timeout_s": 1}}',
    b'{"id": 1, "op": "build", "args": {"source": "x", "target": "a", "archive": "!!", "timeout_s": 1}}',
    b"[" * 100000,
]


def test_hostile_lines_are_answered_not_died_of(agent):
    for line in HOSTILE:
        agent.send(line + b"\n")
        assert "error" in agent.receive(), line[:100]
    assert agent.ok("exists", path="/") is True


def test_random_bytes_are_answered_not_died_of(agent):
    chaos = random.Random(20260101)
    good = json.dumps({"id": 5, "op": "read", "args": {"path": "/proc/version"}}).encode()
    for _ in range(300):
        line = bytearray(good)
        for _ in range(chaos.randrange(1, 8)):
            line[chaos.randrange(len(line))] = chaos.randrange(256)
        agent.send(bytes(line).replace(b"\n", b" ") + b"\n")
        answer = agent.receive()
        assert "error" in answer or "ok" in answer
    assert agent.ok("exists", path="/") is True


def test_an_overlong_line_is_refused_and_passed_over(agent):
    agent.send(b"x" * (agent_file.MAX_LINE + 100) + b"\n")
    assert agent.receive()["error"]["kind"] == "bad-request"
    assert agent.ok("exists", path="/") is True


# -- commands


def test_run_reports_status_and_both_outputs(agent):
    done = agent.ok("run", argv=["sh", "-c", "cat; echo e >&2; exit 3"], timeout_s=5, stdin="in" * 100_000)
    assert (done["returncode"], done["stdout"], done["stderr"]) == (3, "in" * 100_000, "e\n")


@pytest.mark.parametrize(("argv", "limit", "kind", "text"), [
    (["sh", "-c", "echo begun; sleep 60 & wait"], 0.3, "timeout", "begun"),
    (["sh", "-c", "head -c 2000000 /dev/zero"], 5, "failed", "1048576 bytes"),
    (["/no/such/program"], 5, "gone", "No such file"),
])
def test_run_fails_with_its_reason(agent, argv, limit, kind, text):
    error = agent.ask("run", argv=argv, timeout_s=limit, stdin="")["error"]
    assert error["kind"] == kind
    assert text in error["message"]
    assert agent.ok("exists", path="/") is True


def test_cancel_ends_the_running_command_and_no_other(agent):
    begun = time.monotonic()
    agent.send(b'{"id": 1, "op": "run", "args": {"argv": ["sleep", "60"], "timeout_s": 100, "stdin": ""}}\n')
    agent.send(b'{"op": "cancel", "id": 1}\n')
    assert agent.receive()["error"]["kind"] == "cancelled"
    assert time.monotonic() - begun < 10
    agent.send(b'{"op": "cancel", "id": 1}\n')
    assert agent.ok("run", argv=["sleep", "0.2"], timeout_s=5, stdin="")["returncode"] == 0


# -- processes


def test_interactive_program(agent):
    pid = agent.ok("spawn", argv=["sh", "-c", "while read x; do echo got $x; done"], name="p", cores=[], env={})
    for word in ("one", "two"):
        agent.ok("write", pid=pid, text=word + "\n")
        assert agent.ok("wait", pid=pid, pattern="^got", timeout_s=5) == "got " + word
    assert agent.ok("status", pid=pid) is None
    assert agent.ok("output", pid=pid, bytes=4) == "two\n"
    assert agent.ok("stop", pid=pid, timeout_s=2) is not None


def test_a_prompt_without_newline_is_seen(agent):
    pid = agent.ok("spawn", argv=["sh", "-c", "printf 'cli> '; sleep 60"], name="p", cores=[], env={})
    assert agent.ok("wait", pid=pid, pattern="cli>", timeout_s=5) == "cli> "


def test_wait_tells_why_it_ended(agent):
    pid = agent.ok("spawn", argv=["sh", "-c", "echo broken pipe dream; exit 7"], name="p", cores=[], env={})
    error = agent.ask("wait", pid=pid, pattern="ready", timeout_s=10)["error"]
    assert error["kind"] == "gone"
    assert "status 7" in error["message"]
    assert "pipe dream" in error["message"]
    pid = agent.ok("spawn", argv=["sleep", "60"], name="q", cores=[], env={})
    assert agent.ask("wait", pid=pid, pattern="ready", timeout_s=0.2)["error"]["kind"] == "timeout"


def test_output_is_a_ring(agent):
    pid = agent.ok("spawn", argv=["sh", "-c", "seq 1 400000; echo done"], name="p", cores=[], env={})
    agent.ok("wait", pid=pid, pattern="^done", timeout_s=20)
    text = agent.ok("output", pid=pid, bytes=1 << 20)
    assert len(text) == 1 << 20
    assert text.endswith("400000\ndone\n")


def test_a_missing_program_is_an_error(start_agent, tmp_path):
    agent = start_agent()
    assert agent.ask("spawn", argv=["no-such-program"], name="p", cores=[], env={})["error"]["kind"] == "gone"
    broken = tmp_path / "broken"
    broken.write_text("not a program")
    broken.chmod(0o755)
    error = agent.ask("spawn", argv=[str(broken)], name="p", cores=[], env={})["error"]
    assert "Exec format" in error["message"]
    assert agent.ok("bye") == []


def test_stop_takes_stubborn_programs_and_their_children(agent):
    script = "trap '' INT TERM; setsid sleep 61 & echo child $!; while :; do sleep 0.05; done"
    pid = agent.ok("spawn", argv=["sh", "-c", script], name="p", cores=[], env={})
    child = int(agent.ok("wait", pid=pid, pattern="child", timeout_s=5).split()[1])
    assert agent.ok("stop", pid=pid, timeout_s=0.2) == -signal.SIGKILL
    assert gone(pid)
    assert gone(child)


def test_spawn_pins(agent):
    core = max(os.sched_getaffinity(0))
    pid = agent.ok("spawn", argv=["sleep", "60"], name="p", cores=[core], env={})
    assert os.sched_getaffinity(pid) == {core}


def test_the_launcher_starts_nothing_when_the_agent_dies_first(tmp_path):
    gate, opener = os.pipe()
    listener, complaint = os.pipe()
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", agent_file.LAUNCHER, str(gate), str(complaint)],
                             pass_fds=(gate, complaint))
    for fd in (gate, complaint):
        os.close(fd)
    os.write(opener, json.dumps({"argv": ["/bin/touch", str(tmp_path / "x")], "env": {}, "cores": []}).encode())
    os.close(opener)
    assert child.wait(10) == 99
    os.close(listener)
    assert not (tmp_path / "x").exists()


# -- lease, lock, undo


def test_silence_ends_the_lease_and_undoes(start_agent, tmp_path):
    target = tmp_path / "value"
    target.write_text("old")
    agent = start_agent(lease_s=0.6)
    agent.ok("set_file", path=str(target), value="new", verify=True)
    agent.ok("create", path=str(tmp_path / "made"))
    pid = agent.ok("spawn", argv=["sleep", "60"], name="p", cores=[], env={})
    for _ in range(5):
        time.sleep(0.2)
        agent.send(b'{"op": "beat"}\n')
    assert target.read_text() == "new"
    assert agent.process.wait(10) == 0
    assert target.read_text() == "old"
    assert not (tmp_path / "made").exists()
    assert gone(pid)


def test_a_closed_channel_undoes_at_once(start_agent, tmp_path):
    target = tmp_path / "value"
    target.write_text("old")
    agent = start_agent(lease_s=60)
    agent.ok("set_file", path=str(target), value="new", verify=True)
    agent.process.stdin.close()
    assert agent.process.wait(10) == 0
    assert target.read_text() == "old"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_undoes(start_agent, tmp_path, number):
    target = tmp_path / "value"
    target.write_text("old")
    agent = start_agent()
    agent.ok("set_file", path=str(target), value="new", verify=True)
    agent.process.send_signal(number)
    assert agent.process.wait(10) == 0
    assert target.read_text() == "old"


def test_the_lock_names_its_holder(start_agent):
    first = start_agent()
    second = start_agent(greet=False)
    answer = second.ask("hello", protocol=1, owner="me too", lease_s=10, home_cores=[], wait_s=0.2)
    assert answer["error"]["kind"] == "busy"
    assert "a test, since 20" in answer["error"]["message"]
    assert f"agent pid {first.process.pid}, lease 30 s" in answer["error"]["message"]


def test_a_waiting_agent_gets_the_lock(start_agent):
    first = start_agent()
    second = start_agent(greet=False)
    second.send(b'{"id": 1, "op": "hello", "args": {"protocol": 1, "owner": "me", "lease_s": 10, "home_cores": [], '
                b'"wait_s": 20}}\n')
    time.sleep(0.3)
    first.ok("bye")
    assert "ok" in second.receive()


def hello(agent, run="", part="", wait_s=0.1):
    return agent.ask("hello", protocol=1, owner="me", lease_s=10, home_cores=[], wait_s=wait_s, run=run, part=part)


def test_generator_and_dut_of_one_run_share_a_host_and_nobody_else_does(start_agent, any_python, tmp_path):
    generator, dut, twin = (start_agent(any_python, greet=False) for _ in range(3))
    assert "ok" in hello(generator, "secret", "generator")
    assert "ok" in hello(dut, "secret", "dut")
    assert hello(twin, "secret", "dut")["error"]["kind"] == "twin"
    others = (("other", "generator"), ("other", "dut"), ("", ""))

    def refused():
        said = [hello(start_agent(greet=False), *who)["error"] for who in others]
        assert [error["kind"] for error in said] == ["busy"] * 3
        assert all("secret" not in error["message"] and "me, since 20" in error["message"] for error in said)

    refused()
    # The generator's agent dies; its change stays, and the host is the DUT's still.
    value = tmp_path / "value"
    value.write_text("old")
    generator.ok("set_file", path=str(value), value="new", verify=True)
    generator.process.kill()
    generator.process.wait()
    refused()
    dut.ok("bye")
    assert dut.process.wait(5) == 0
    assert value.read_text() == "new"
    # Whoever is next, as whatever, puts it back before anybody shares the host.
    following = hello(start_agent(any_python, greet=False), "other", "dut", 5.0)["ok"]
    assert (following["left_over"], following["not_undone"], value.read_text()) == (1, [], "old")


def test_a_killed_agent_is_replayed(start_agent, any_python, tmp_path):
    target = tmp_path / "value"
    target.write_text("old")
    undone = tmp_path / "undone"
    agent = start_agent(any_python)
    agent.ok("set_file", path=str(target), value="new", verify=True)
    agent.ok("apply", do=["true"], undo=["touch", str(undone)], timeout_s=5)
    script = "(setsid sh -c 'sleep 61' &) ; exec sleep 62"
    pid = agent.ok("spawn", argv=["sh", "-c", script], name="p", cores=[], env={})
    agent.kill()
    assert not gone(pid)
    again = start_agent(any_python, greet=False)
    assert again.hello()["left_over"] == 3
    assert target.read_text() == "old"
    assert undone.exists()
    assert gone(pid)
    assert again.ok("mark") == 0 or again.ok("bye") == []


def test_the_lease_begins_once_what_was_left_over_is_undone(start_agent):
    """The controller has no reason to speak before hello is answered, however long the undoing takes."""
    dead = start_agent(sys.executable)
    dead.ok("apply", do=["true"], undo=["sleep", "0.6"], timeout_s=5)
    dead.kill()
    agent = start_agent(sys.executable, greet=False)
    assert agent.hello(lease_s=0.3)["left_over"] == 1
    assert agent.ok("bye") == []


def test_undo_to_goes_newest_first_and_past_failures(agent, tmp_path):
    before = agent.ok("mark")
    log, target, other = tmp_path / "log", tmp_path / "a", tmp_path / "b"
    target.write_text("1")
    other.write_text("old b")
    agent.ok("set_file", path=str(other), value="kept", verify=True)
    mark = agent.ok("mark")
    for number in ("1", "2"):
        agent.ok("apply", do=["true"], undo=["sh", "-c", f"echo {number} >> {log}"], timeout_s=5)
    agent.ok("apply", do=["true"], undo=["sh", "-c", "echo no way; exit 9"], timeout_s=5)
    agent.ok("set_file", path=str(target), value="2", verify=True)
    agent.ok("set_file", path=str(target), value="3", verify=True)
    failures = agent.ok("undo_to", mark=mark)
    assert len(failures) == 1
    assert "exit status 9: no way" in failures[0]
    assert log.read_text() == "2\n1\n"
    assert target.read_text() == "1"
    assert other.read_text() == "kept"
    assert agent.ok("undo_to", mark=before) == []
    assert other.read_text() == "old b"


def test_the_next_contact_says_what_is_still_not_undone(start_agent, tmp_path):
    obstacle = tmp_path / "obstacle"
    obstacle.touch()
    first = start_agent(sys.executable)
    first.ok("apply", do=["true"], undo=["test", "!", "-e", str(obstacle)], timeout_s=5)
    assert len(first.ok("bye")) == 1
    first.process.wait(10)
    second = start_agent(sys.executable, greet=False)
    greeting = second.hello()
    assert (greeting["left_over"], len(greeting["not_undone"])) == (1, 1)
    assert f"test ! -e {obstacle}: exit status 1" in greeting["not_undone"][0]
    assert second.ok("bye") == []
    second.process.wait(10)
    obstacle.unlink()
    greeting = start_agent(sys.executable, greet=False).hello()
    assert (greeting["left_over"], greeting["not_undone"]) == (1, [])


def test_apply_that_fails_is_undone_at_once_and_tolerantly(agent, tmp_path):
    half, log = tmp_path / "half", tmp_path / "log"
    done = agent.ok("apply", do=["sh", "-c", f"touch {half}; echo no; exit 4"], undo=["rm", str(half)], timeout_s=5)
    assert (done["returncode"], done["stdout"], half.exists()) == (4, "no\n", False)
    undo = ["sh", "-c", f"echo once >> {log}; exit 1"]
    assert agent.ok("apply", do=["false"], undo=undo, timeout_s=5)["returncode"] == 1
    guarded = ["sh", "-c", f"echo guarded >> {log}"]
    assert agent.ok("apply", do=["false"], undo=guarded, made=["false"], timeout_s=5)["returncode"] == 1
    assert agent.ok("undo_to", mark=0) == []
    assert log.read_text() == "once\n"


def test_apply_that_runs_out_of_time_is_undone_later(agent, tmp_path):
    """It was killed, so nobody knows how far it came: its undo has to succeed."""
    undone = tmp_path / "undone"
    assert agent.ask("apply", do=["sleep", "60"], undo=["touch", str(undone)], timeout_s=0.1)["error"]
    assert not undone.exists()
    assert agent.ok("undo_to", mark=0) == []
    assert undone.exists()


def test_a_value_that_does_not_take_is_an_error(agent, tmp_path):
    error = agent.ask("set_file", path="/dev/null", value="x", verify=True)["error"]
    assert "reads back" in error["message"]
    assert agent.ok("undo_to", mark=0) == []
    assert "No such file" in agent.ask("set_file", path=str(tmp_path / "none"), value="x", verify=True)["error"][
        "message"]


def test_pin_is_restored(agent):
    child = subprocess.Popen(["sleep", "60"])
    try:
        before = os.sched_getaffinity(child.pid)
        agent.ok("pin", pid=child.pid, core=min(before), fifo=0)
        assert os.sched_getaffinity(child.pid) == {min(before)}
        assert agent.ok("undo_to", mark=0) == []
        assert os.sched_getaffinity(child.pid) == before
    finally:
        child.kill()
        child.wait()


# -- programs


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def test_build_once_then_cached(start_agent, tmp_path):
    agent = start_agent()
    makefile = f"prog:\n\techo built >> {tmp_path}/count\n\tprintf '#!/bin/sh\\necho hi\\n' > prog\n\tchmod +x prog\n"
    assert agent.ok("cached", source="s", target="prog") is None
    archive = tar_of((tarfile.TarInfo("Makefile"), makefile.encode()))
    path = agent.ok("build", source="s", target="prog", archive=archive, timeout_s=60)
    assert agent.ok("run", argv=[path], timeout_s=5, stdin="")["stdout"] == "hi\n"
    assert agent.ok("cached", source="s", target="prog") == path
    assert agent.ok("build", source="s", target="prog", archive=archive, timeout_s=60) == path
    assert (tmp_path / "count").read_text() == "built\n"
    assert [entry.name for entry in (tmp_path / "state" / "cache").iterdir() if entry.name.endswith(".new")] == []


def test_a_failed_build_shows_its_tail_and_leaves_nothing(agent, tmp_path):
    archive = tar_of((tarfile.TarInfo("Makefile"), b"prog:\n\t@echo 'prog.c:1: error: no' >&2; false\n"))
    error = agent.ask("build", source="s", target="prog", archive=archive, timeout_s=60)["error"]
    assert error["kind"] == "build"
    assert "prog.c:1: error: no" in error["message"]
    assert agent.ok("cached", source="s", target="prog") is None


@pytest.mark.parametrize("name", ["../escape", "/etc/escape", "link"])
def test_an_archive_stays_in_its_folder(agent, name):
    member = tarfile.TarInfo(name)
    if name == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    error = agent.ask("build", source="s", target="prog", archive=tar_of((member, b"")), timeout_s=60)["error"]
    assert "not a plain file" in error["message"]


def test_build_refuses_what_is_no_archive(agent):
    assert "error" in agent.ask("build", source="s", target="p", archive=base64.b64encode(b"x" * 50).decode(),
                                timeout_s=5)


# -- counters


def test_counters_of_the_loopback(agent):
    counters = agent.ok("interface_counters", ifnames=["lo"])["lo"]
    assert counters["rx_packets"] >= 0
    assert agent.ask("interface_counters", ifnames=["nosuch0"])["error"]["kind"] == "gone"
    system = agent.ok("system_counters")
    assert system["udp.InDatagrams"] >= 0
    assert "softnet.0.dropped" in system
    assert [name for name in counters if name.startswith("qdisc.")] == ["qdisc.noqueue@0:.drops"]
    assert counters["qdisc.noqueue@0:.drops"] == 0


def test_sampling_is_one_at_a_time_and_tells_its_cost(agent):
    core = min(os.sched_getaffinity(0))
    assert agent.ask("sample_stop")["error"]["kind"] == "bad-request"
    args = {"period_s": 0.05, "cores": [core], "probe_period_ns": 0, "probe_program": "", "threads": True}
    info = agent.ok("sample_start", **args)["probes"][0]
    assert info["period_ns"] in agent_file.PROBE_PERIODS_NS
    assert agent.ask("sample_start", **args)["error"]["kind"] == "bad-request"
    deadline = time.monotonic() + 0.4
    while time.monotonic() < deadline:
        pass  # this process is to be seen among the threads that ran
    sampled = agent.ok("sample_stop")
    times = [sample[0] for sample in sampled["samples"]]
    assert times == sorted(times)
    assert times[-1] - times[0] > 0.3e9
    assert {row[0] for row in sampled["samples"][0][1]} >= {core}
    assert 0 < sampled["cost_s"] < 1
    assert all(length >= agent_file.PAUSE_NS for _, length in sampled["probes"][0]["pauses"])
    assert sum(seconds for _, _, seconds in sampled["threads"]) > 0.05


def made_host(root: Path, files: dict) -> str:
    """A tree of /dev and /sys that was made by hand: no such host is at hand."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(root)


def test_speed_comes_from_the_best_source_of_all_cores(tmp_path):
    registers = bytes(0xE7) + (7).to_bytes(1, "little")  # APERF at 0xE8 overlaps MPERF at 0xE7 in a plain file
    msr = registers + (9).to_bytes(8, "little")
    cpufreq = "sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq"
    heat = "sys/devices/system/cpu/cpu%d/thermal_throttle/%s_throttle_count"
    files = {"dev/cpu/1/msr": msr, cpufreq % 1: b"2100000\n", cpufreq % 2: b"1800000\n",
             heat % (1, "core"): b"4\n", heat % (1, "package"): b"10\n"}
    root = made_host(tmp_path, files)
    one = agent_file.Speed([1], root)
    ((core, aperf, mperf),) = one.parse(one.read())
    assert (one.source, one.reason, core, aperf, mperf) == ("APERF/MPERF", "", 1, 9, 7 + (9 << 8))
    both = agent_file.Speed([1, 2], root)  # core 2 has no registers
    assert (both.source, both.parse(both.read())) == ("scaling_cur_freq", [[1, 2_100_000, 0], [2, 1_800_000, 0]])
    (tmp_path / (heat % (1, "core"))).write_bytes(b"6\n")
    assert both.throttled() == {1: 2}
    (tmp_path / (cpufreq % 2)).write_bytes(b"<unknown>\n")
    assert both.parse(both.read()) == [[1, 2_100_000, 0]]
    none = agent_file.Speed([1, 2, 3], root)
    assert none.source == ""
    assert none.reason == ("/dev/cpu/*/msr: No such file or directory; /sys/devices/system/cpu/cpu*/cpufreq/"
                           "scaling_cur_freq: No such file or directory")
    assert none.parse(none.read()) == []
    for speed in (one, both, none):
        speed.close()


def test_a_probe_of_a_core_that_does_not_exist(agent):
    args = {"period_s": 1, "probe_period_ns": 0, "probe_program": "", "threads": False}
    error = agent.ask("sample_start", cores=[60000], **args)["error"]
    assert "pause probe of core 60000" in error["message"]
    assert agent.ok("sample_start", cores=[], **args) == {"probes": []}
    assert agent.ok("sample_stop")["probes"] == []


def test_the_undo_mode_replays_and_ends(start_agent, tmp_path):
    target = tmp_path / "value"
    target.write_text("old")
    agent = start_agent()
    agent.ok("set_file", path=str(target), value="new", verify=True)
    folder = str(tmp_path / "state")
    argv = [sys.executable, "-I", agent_file.__file__, "undo", folder, folder, folder]
    agent.kill()
    assert subprocess.run(argv, check=False, timeout=30).returncode == 0
    assert Path(target).read_text() == "old"
