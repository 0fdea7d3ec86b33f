# SPDX-License-Identifier: Apache-2.0
"""The DUT agent over a real sshd in a lab: deployed, abandoned in every way, and nothing left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import HostError, HostLost, TestbedError
from harness.host.agent import start_time
from harness.host.dut import SshDut
from harness.host.local import local_dut
from harness.host.ssh import SshConnection, SshTarget
from harness.host.topology import Topology, check_cores
from harness.host.tuning.napi import pin_napi
from harness.lab import netns, sshd
from harness.lab.lab import Lab
from harness.lab.napi import napi_threads, placement

pytestmark = pytest.mark.lab

TTL = "/proc/sys/net/ipv4/ip_default_ttl"
HUGEPAGES = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

#: A controller that changes things and then waits to be ended from outside.
CONTROLLER = """
import sys, time
from harness.host.dut import SshDut
from harness.lab.lab import Lab

lab = Lab.open(sys.argv[1])
dut = SshDut.connect("dut", lab.ssh, virtual=True, state_dir=str(lab.dut_state_dir), lease_s=3)
dut.set_file("/proc/sys/net/ipv4/ip_default_ttl", "41")
dut.apply(["ip", "addr", "add", "192.0.2.77/32", "dev", "lo"], ["ip", "addr", "del", "192.0.2.77/32", "dev", "lo"])
process = dut.spawn(["sh", "-c", "echo up; setsid sleep 600 & wait"], name="victim")
process.wait_output("up", 10)
print(process.pid, dut.agent["pid"], flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(wires=1, pause_s=0.1) as lab:
        yield lab


def connect(lab: Lab, **options: object) -> SshDut:
    return SshDut.connect("dut", lab.ssh, virtual=True, state_dir=str(lab.dut_state_dir), **options)  # type: ignore[arg-type]


def inside(lab: Lab, *argv: str) -> str:
    """What a command prints in the DUT's namespace, not by way of the agent."""
    done = subprocess.run(lab.exec_argv("dut", argv), capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip()


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.05)


@pytest.fixture
def controller(lab: Lab) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """A controller in a process of its own that has changed the DUT; with the pids of its victim and its agent."""
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CONTROLLER), lab.name], stdout=subprocess.PIPE,
                               text=True)
    assert process.stdout is not None
    try:
        victim, agent = map(int, process.stdout.readline().split())
        assert inside(lab, "cat", TTL) == "41"
        assert "192.0.2.77" in inside(lab, "ip", "-o", "addr")
        yield process, victim, agent
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def assert_undone(lab: Lab, victim: int) -> None:
    assert start_time(victim) is None
    assert inside(lab, "cat", TTL) == "64"
    assert "192.0.2.77" not in inside(lab, "ip", "-o", "addr")
    assert inside(lab, "pgrep", "-f", "sleep 600$") == ""


def test_a_killed_controller_is_undone(lab: Lab, controller: tuple[subprocess.Popen[str], int, int]) -> None:
    process, victim, agent = controller
    process.kill()
    wait_until(lambda: start_time(agent) is None, 20)
    assert_undone(lab, victim)


def test_a_silent_controller_loses_its_lease(lab: Lab, controller: tuple[subprocess.Popen[str], int, int]) -> None:
    process, victim, agent = controller
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: start_time(agent) is None, 20)
    assert_undone(lab, victim)


def test_silence_inside_a_trial_is_undone_within_the_lease(lab: Lab) -> None:
    """The management wire drops everything without a word while samples are taken; the trial has long to go."""
    with connect(lab, lease_s=4) as dut:
        agent = int(dut.agent["pid"])
        dut.set_file(TTL, "41")
        dut.start_sampling(0.5, [])
        time.sleep(6)
        assert inside(lab, "cat", TTL) == "41"  # heartbeats reach it during the trial
        chain = f"chain in {{ type filter hook input priority 0; tcp dport {sshd.PORT} drop; }}"
        subprocess.run(lab.exec_argv("dut", ["nft", "-f", "-"]), input=f"table inet nsh_cut {{ {chain} ; }}", text=True,
                       check=True, timeout=30)
        try:
            wait_until(lambda: start_time(agent) is None, 10)
            assert inside(lab, "cat", TTL) == "64"
        finally:
            inside(lab, "nft", "delete", "table", "inet", "nsh_cut")
        with pytest.raises(HostLost):
            dut.stop_sampling()


def test_a_killed_agent_is_undone_by_the_next_contact(
    lab: Lab, controller: tuple[subprocess.Popen[str], int, int],
) -> None:
    _, victim, agent = controller
    os.kill(agent, signal.SIGKILL)
    wait_until(lambda: start_time(agent) is None, 5)
    assert start_time(victim) is not None
    with connect(lab) as dut:
        assert dut.left_over == (3, [])
        assert_undone(lab, victim)


def test_a_busy_host_says_who_has_it(lab: Lab, controller: tuple[subprocess.Popen[str], int, int]) -> None:
    process, _, _ = controller
    with pytest.raises(TestbedError, match=rf"in use by .*harness pid {process.pid}.* since 20"):
        connect(lab, lock_wait_s=0.5)


def test_a_dead_agent_is_an_error_with_a_reason(lab: Lab) -> None:
    dut = connect(lab)
    os.kill(int(dut.agent["pid"]), signal.SIGKILL)
    with pytest.raises(HostLost, match=r"the agent ended|the agent is gone"):
        dut.run(["true"])
    with pytest.raises(HostLost, match="the agent"):
        dut.read("/proc/version")
    dut.close()


def test_napi_threads_are_pinned_and_come_back(lab: Lab) -> None:
    ifname = lab.ifnames("dut")[0]
    with connect(lab) as dut:
        threads = dut.napi_threads(ifname)
        assert len(threads) == lab.queues
        before = {pid: os.sched_getaffinity(pid) for pid in threads.values()}
        assert pin_napi(dut, ifname, lab.tg_cores, fifo=10) == len(threads)
        assert all(os.sched_getaffinity(pid) <= set(lab.tg_cores) for pid in threads.values())
        assert all(os.sched_getscheduler(pid) & 7 == os.SCHED_FIFO for pid in threads.values())
    assert {pid: os.sched_getaffinity(pid) for pid in threads.values()} == before
    assert all(os.sched_getscheduler(pid) & 7 == os.SCHED_OTHER for pid in threads.values())


@pytest.mark.parametrize(("change", "back"), [("-K gro off", "-K gro on"), ("-L rx 1 tx 1", "-L rx {n} tx {n}")])
def test_napi_threads_made_anew_get_the_place_of_the_old(lab: Lab, change: str, back: str) -> None:
    """One of them real-time, and its agent dead: the next one does it."""
    ifname = lab.ifnames("dut")[0]
    option, *words = change.split()

    def threads() -> list[tuple[int, frozenset[int], bool]]:
        return [(pid, *placement(pid)) for pid in napi_threads(ifname).values()]

    first = threads()
    os.sched_setscheduler(first[0][0], os.SCHED_FIFO, os.sched_param(7))
    before = threads()
    assert [real_time for _, _, real_time in before] == [True, *[False] * (lab.queues - 1)]
    with connect(lab) as dut:
        dut.keep_napi(ifname)
        dut.apply(["ethtool", option, ifname, *words],
                  ["ethtool", *back.format(n=lab.queues).replace(" ", f" {ifname} ", 1).split()])
        assert len(threads()) < len(before)
        os.kill(int(dut.agent["pid"]), signal.SIGKILL)
        dut.abandon()
    with connect(lab) as dut:
        assert dut.left_over == (2, [])
        after = threads()
        assert [place[1:] for place in after] == [place[1:] for place in before]
        assert after[-1][0] != before[-1][0]
    os.sched_setscheduler(after[0][0], os.SCHED_OTHER, os.sched_param(0))


def test_counters_and_facts_are_those_of_the_namespace(lab: Lab) -> None:
    ifname = lab.ifnames("dut")[0]
    with connect(lab) as dut:
        before = dut.interface_counters([ifname])[ifname]
        udp = dut.system_counters()["udp.OutDatagrams"]
        dut.run([sys.executable, "-c", "import socket; s = socket.socket(2, 2); s.sendto(b'x', ('127.0.0.1', 9))"])
        assert dut.system_counters()["udp.OutDatagrams"] == udp + 1
        assert "rx_queue_0_drops" in before
        facts = dut.facts()
        assert list(facts["nics"]) == [ifname]
        assert facts["nics"][ifname]["driver"] == "veth"
        assert facts["nics"][ifname]["queues"]["rx"] == lab.queues
        assert facts["cpu"]["cores"] == os.cpu_count() == len(Topology.parse(facts["cpu"]["topology"]).cpus)
        assert check_cores(dut, lab.dut_cores, [ifname], "lo") == []
        with pytest.raises(TestbedError, match=r"has no core 4000 online"):
            check_cores(dut, [4000], [ifname], "lo")
        with pytest.raises(HostError, match="no interface nosuch0"):
            dut.interface_counters(["nosuch0"])


def test_no_message_during_sampling(lab: Lab) -> None:
    with connect(lab) as dut:
        dut.start_sampling(0.1, lab.dut_cores)
        sent = dut.system_counters()["tcp.InSegs"]
        time.sleep(2.6)  # a heartbeat is due every 2 s, and every 3 s while it is sampled
        received = dut.system_counters()["tcp.InSegs"] - sent
        sampling = dut.stop_sampling()
    assert received <= 4  # the two requests themselves
    assert len(sampling.samples) >= 20
    assert sampling.samples[-1].ns - sampling.samples[0].ns > 2.5e9
    assert set(sampling.probe_periods) == set(lab.dut_cores)
    assert sampling.cost_s < 0.5
    assert all(core in lab.dut_cores and length >= 250_000 for _, length, core in sampling.pauses)


def test_programs_are_built_once(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "hello.c").write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    (source / "Makefile").write_text("hello: hello.c\n\tcc -o $@ $<\n")
    cache = tmp_path / "cache"
    with connect(lab, cache_dir=str(cache)) as dut:
        path = dut.program(source, "hello")
        assert dut.run([path]).stdout == "hello\n"
        built = os.stat(path).st_mtime_ns
        assert dut.program(source, "hello") == path
        assert os.stat(path).st_mtime_ns == built
        (source / "hello.c").write_text("int main(void) { return nothing; }\n")
        with pytest.raises(HostError, match=r"nothing.*undeclared"):
            dut.program(source, "hello")


def test_ssh_reports_what_went_wrong(lab: Lab, tmp_path: Path) -> None:
    with SshConnection.open(lab.ssh) as connection:
        assert connection.run(["printf", "%s", "a 'b' $HOME; true"]).stdout == "a 'b' $HOME; true"
        assert connection.run(["sh", "-c", "exit 3"], check=False).returncode == 3
        with pytest.raises(HostError, match="ended with status 3: oops"):
            connection.run(["sh", "-c", "echo oops >&2; exit 3"])
        with pytest.raises(HostError, match="not done in time"):
            connection.run(["sleep", "60"], timeout_s=0.5)
        with pytest.raises(HostError, match="more than 1048576 bytes"):
            connection.run(["head", "-c", "3000000", "/dev/zero"])
        path = connection.deploy(b"content", str(tmp_path / "a b"), "file.txt")
        assert Path(path).read_bytes() == b"content"
        assert connection.deploy(b"content", str(tmp_path / "a b"), "file.txt") == path
    target = SshTarget(lab.ssh.hostname, tmp_path / "none", key_path=lab.ssh.key_path, netns=lab.ssh.netns)
    with pytest.raises(TestbedError, match="cannot reach"):  # its name is nowhere to be resolved
        SshConnection.open(target)
    local = SshTarget("127.0.0.1", tmp_path / "none", key_path=lab.ssh.key_path, netns=lab.ssh.netns)
    with pytest.raises(TestbedError, match=r"ssh-keyscan -p 22 127\.0\.0\.1"):
        SshConnection.open(local)


def new_key(folder: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "other")], check=True)
    return folder / "other"


def test_a_wrong_host_key_and_a_wrong_client_key_are_refused(lab: Lab, tmp_path: Path) -> None:
    key = new_key(tmp_path)
    known = tmp_path / "known"
    known.write_text(f"{lab.ssh.hostname} {key.with_suffix('.pub').read_text()}")
    with pytest.raises(TestbedError, match="another machine answers, or it was reinstalled"):
        SshConnection.open(dataclasses.replace(lab.ssh, known_hosts=known))
    with pytest.raises(TestbedError, match=r"does not accept .*authorized_keys"):
        SshConnection.open(dataclasses.replace(lab.ssh, key_path=key))


@pytest.fixture
def plain_sshd(lab: Lab, tmp_path: Path) -> Iterator[SshTarget]:
    """A second sshd, on this machine's loopback, that allows forwarding."""
    sshd.prepare(tmp_path, "127.0.0.1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = sshd.config_text(tmp_path).replace(f"127.0.0.1:{sshd.PORT}", f"127.0.0.1:{port}")
    (tmp_path / "sshd_config").write_text(text.replace("AllowTcpForwarding no", "AllowTcpForwarding yes"))
    known = tmp_path / "known_hosts"
    known.write_text(known.read_text().replace("127.0.0.1", f"[127.0.0.1]:{port}"))
    made = not sshd.PRIVSEP_DIR.exists()
    sshd.PRIVSEP_DIR.mkdir(mode=0o755, exist_ok=True)
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(tmp_path / "sshd_config")],
                              stderr=subprocess.DEVNULL)
    try:
        target = SshTarget("127.0.0.1", known, port=port, key_path=tmp_path / "client_key")
        wait_until(lambda: server.poll() is not None or answers(target), 10)
        yield target
    finally:
        server.terminate()
        server.wait(10)
        if made:
            sshd.PRIVSEP_DIR.rmdir()


def answers(target: SshTarget) -> bool:
    try:
        target.open_socket(1.0).close()
    except OSError:
        return False
    return True


def test_a_host_behind_another(plain_sshd: SshTarget, tmp_path: Path) -> None:
    behind = dataclasses.replace(plain_sshd, jump=plain_sshd)
    with SshDut.connect("behind", behind, state_dir=str(tmp_path / "state")) as dut:
        assert dut.run(["printenv", "SSH_CONNECTION"]).stdout.startswith("127.0.0.1 ")
        assert not dut.virtual


def test_a_local_dut_lives_in_a_namespace(lab: Lab) -> None:
    with local_dut(lab.dut_netns) as dut:
        dut.set_file(TTL, "33")
        assert inside(lab, "cat", TTL) == "33"
        assert list(dut.interface_counters(lab.ifnames("dut"))) == list(lab.ifnames("dut"))
    assert inside(lab, "cat", TTL) == "64"


def test_what_a_killed_agent_changed_on_the_machine_is_put_back_with_the_lab(
    tmp_path: Path, capfd: pytest.CaptureFixture[str],
) -> None:
    """Hugepages and files are the machine's, not the namespace's: its end does not bring them back."""
    pages, runtime, obstacle = Path(HUGEPAGES), tmp_path / "runtime", tmp_path / "obstacle"
    before = pages.read_text(encoding="ascii")
    runtime.mkdir()
    obstacle.touch()
    with Lab.up(wires=1, pause_s=0.1) as lab:
        dut = connect(lab)
        dut.set_file(HUGEPAGES, str(int(before) + 1))
        dut.apply(["true"], ["rmdir", str(runtime)])
        dut.apply(["true"], ["test", "!", "-e", str(obstacle)])
        os.kill(int(dut.agent["pid"]), signal.SIGKILL)
        wait_until(lambda: start_time(int(dut.agent["pid"])) is None, 5)
        assert int(pages.read_text(encoding="ascii")) == int(before) + 1
        dut.abandon()
    assert pages.read_text(encoding="ascii") == before
    assert not runtime.exists()
    said = capfd.readouterr().err
    assert f"lab {lab.name!r}: changes to this machine that a killed run left could not all be undone" in said
    assert f"run test ! -e {obstacle}: exit status 1" in said
    assert not lab.directory.exists()


def test_it_is_put_back_although_the_namespace_is_gone(tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    changed.write_text("old", encoding="ascii")
    with Lab.up(wires=1, pause_s=0.1) as lab:
        dut = connect(lab)
        dut.set_file(str(changed), "new")
        os.kill(int(dut.agent["pid"]), signal.SIGKILL)
        wait_until(lambda: start_time(int(dut.agent["pid"])) is None, 5)
        dut.abandon()
        netns.delete(lab.dut_netns)
        assert changed.read_text(encoding="ascii") == "new"
    assert changed.read_text(encoding="ascii") == "old"
