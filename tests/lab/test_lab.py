# SPDX-License-Identifier: Apache-2.0
"""The lab on this machine: real namespaces, frames, SSH and threads, and above all that nothing is left of it."""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from harness.errors import TestbedError
from harness.lab import Lab, LabNameError, connect_in_netns, in_netns, napi, netns, preflight, sshd
from harness.lab.state import ROOT, LabStore

pytestmark = pytest.mark.lab

#: Short watching: these tests are about making and removing, not about which core is quieter.
PAUSE_S = 0.1
SEED = int(os.environ.get("LAB_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
KILLS = int(os.environ.get("LAB_KILLS", "5"))
CHILD = f"""
import sys, time
from harness.lab import Lab
print("go", flush=True)
with Lab.up(sys.argv[1], pause_s={PAUSE_S}, persistent=sys.argv[2] == "persistent") as lab:
    for number in range(2):
        lab.spawn("dut", ["bash", "-c", "trap '' INT TERM; sleep 1000 & wait; wait"], name=f"stubborn{{number}}")
    print("ready", flush=True)
    time.sleep(1000)
"""


def marked_processes(mark: str) -> list[int]:
    """Pids whose environment carries the mark: a maker's descendants, wherever they went."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"LAB_TEST_MARK={mark}".encode() in environment.split(b"\0"):
                found.append(int(entry.name))
    return found


def leftovers(name: str) -> list[str]:
    """Everything of the lab ``name`` that this machine still has."""
    found = [f"namespace {path}" for path in netns.NETNS_DIR.glob(f"nsh-{name}-*")] if netns.NETNS_DIR.exists() else []
    found += [f"directory {path}" for path in (ROOT / name,) if path.exists()]
    found += [f"device {port}" for wire in range(4) for side in "td" for port in (f"h{name}{side}{wire}",)
              if napi.napi_threads(port) or Path(f"/sys/class/net/{port}").exists()]
    found += [f"mount {line}" for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
              if f"nsh-{name}-" in line]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"nsh-{name}-" in command or f"netstack-harness/{name}/" in command:
                found.append(f"process {entry.name} {command!r}")
    return found


def machine() -> tuple[list[str], list[str], list[str], bool, bool]:
    """What a lab could leave on the machine as a whole."""
    mounted = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    mounts = [line for line in mounted if "/run/netns" not in line]
    links = sorted(os.listdir("/sys/class/net"))
    pools = sorted(Path("/sys/kernel/mm/hugepages").glob("*/nr_hugepages"))
    hugepages = [path.read_text(encoding="ascii") for path in pools]
    return links, mounts, hugepages, ROOT.exists(), sshd.PRIVSEP_DIR.exists()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(pause_s=PAUSE_S) as made:
        yield made
    assert leftovers(made.name) == []


def connect(lab: Lab) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.load_host_keys(str(lab.ssh.known_hosts))
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    client.connect(lab.ssh.hostname, lab.ssh.port, lab.ssh.user, key_filename=str(lab.ssh.key_path),
                   sock=lab.ssh.open_socket(5), look_for_keys=False, allow_agent=False, timeout=10)
    return client


def output_of(client: paramiko.SSHClient, command: str) -> str:
    _, stdout, stderr = client.exec_command(command, timeout=20)
    text = stdout.read().decode()
    assert stdout.channel.recv_exit_status() == 0, stderr.read().decode()
    return text


def packet_socket(namespace: str, ifname: str) -> socket.socket:
    def make() -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        raw.bind((ifname, 0))
        return raw

    return in_netns(namespace, make)


def send_or_overflow(raw: socket.socket, frame: bytes) -> None:
    """Send; the receiver's ring being full is the receiver's business."""
    try:
        raw.send(frame)
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise


def received(raw: socket.socket, seconds: float) -> list[bytes]:
    """Frames that came in (not those that went out) within the time."""
    frames, deadline = [], time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and select.select([raw], [], [], left)[0]:
        frame, address = raw.recvfrom(2048)
        if address[2] != socket.PACKET_OUTGOING:
            frames.append(frame)
    return frames


# -- what a lab is ---------------------------------------------------------------------------------------------------


def test_ssh_reaches_the_dut_with_the_host_key_checked(lab: Lab) -> None:
    with connect(lab) as client:
        assert output_of(client, "ls /sys/class/net").split() == sorted(["lo", *lab.ifnames("dut")])
        assert "198.18.0.1/24" in output_of(client, "ip -4 address")
        assert output_of(client, "cat /proc/sys/net/ipv4/ip_forward").strip() == "0"
        assert output_of(client, "cat /proc/sys/net/ipv4/conf/all/rp_filter").strip() == "0"
        with client.open_sftp() as sftp, sftp.open(str(lab.dut_state_dir / "file"), "w") as file:
            file.write("over sftp")
    assert (lab.dut_state_dir / "file").read_text(encoding="ascii") == "over sftp"


def test_a_wrong_host_key_or_client_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    stranger = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key"))
    client.get_host_keys().add(lab.ssh.hostname, "ssh-ed25519", stranger)
    with pytest.raises(paramiko.BadHostKeyException):
        client.connect(lab.ssh.hostname, 22, "root", pkey=stranger, sock=lab.ssh.open_socket(5), look_for_keys=False,
                       allow_agent=False)
    client = paramiko.SSHClient()
    client.load_host_keys(str(lab.ssh.known_hosts))
    with pytest.raises(paramiko.AuthenticationException):
        client.connect(lab.ssh.hostname, 22, "root", pkey=stranger, sock=lab.ssh.open_socket(5), look_for_keys=False,
                       allow_agent=False)


def test_the_server_listens_in_its_namespace_only(lab: Lab) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect_in_netns(lab.tg_netns, ("127.0.0.1", 22), 2)
    listeners = in_netns(lab.dut_netns, lambda: subprocess.check_output(["ss", "-Hltn"], text=True))
    assert [line.split()[3] for line in listeners.splitlines()] == ["127.0.0.1:22"]


def test_programs_find_a_bpffs_of_the_lab_and_the_machine_sees_nothing_of_it(lab: Lab) -> None:
    with connect(lab) as client:
        assert output_of(client, "stat -f -c %T /sys/fs/bpf").strip() == "bpf_fs"
        output_of(client, "mkdir /sys/fs/bpf/of_this_lab")
        seen = subprocess.run(lab.exec_argv("dut", ["ls", "/sys/fs/bpf"]), capture_output=True, text=True, check=True)
        assert "of_this_lab" in seen.stdout.split()
    assert not Path("/sys/fs/bpf/of_this_lab").exists()
    on_tg = subprocess.check_output(lab.exec_argv("tg", ["stat", "-f", "-c", "%T", "/sys/fs/bpf"]), text=True)
    assert on_tg.strip() == "bpf_fs"


def test_exec_runs_on_either_side_and_passes_the_status_on(lab: Lab) -> None:
    for side in ("tg", "dut"):
        seen = subprocess.run(lab.exec_argv(side, ["ls", "/sys/class/net"]), capture_output=True, text=True, check=True)
        assert seen.stdout.split() == sorted(["lo", *lab.ifnames(side)])
    assert subprocess.run(lab.exec_argv("tg", ["sh", "-c", "exit 7"]), check=False).returncode == 7
    absent = subprocess.run(lab.exec_argv("tg", ["no-such-program"]), capture_output=True, text=True, check=False)
    assert absent.returncode == 127
    assert "no-such-program" in absent.stderr
    refused = subprocess.run(lab.exec_argv("tg", ["/etc/hostname"]), capture_output=True, text=True, check=False)
    assert refused.returncode == 126
    with pytest.raises(LabNameError, match="'tg' and 'dut'"):
        lab.exec_argv("middle", ["true"])


def test_napi_threads_are_pinned_apart(lab: Lab) -> None:
    assert not set(lab.tg_cores) & set(lab.dut_cores)
    for side, cores, is_fifo in (("tg", lab.tg_cores, True), ("dut", lab.dut_cores, False)):
        for ifname in lab.ifnames(side):
            threads = napi.napi_threads(ifname)
            assert len(threads) == lab.queues == os.cpu_count()
            for pid in threads.values():
                assert napi.placement(pid) in {(frozenset({core}), is_fifo) for core in cores}


def test_pinning_again_after_channels_changed(lab: Lab) -> None:
    ifname = lab.ifnames("dut")[0]
    before = napi.napi_threads(ifname)
    subprocess.run(lab.exec_argv("dut", ["ip", "link", "set", ifname, "down"]), check=True)
    subprocess.run(lab.exec_argv("dut", ["ip", "link", "set", ifname, "up"]), check=True)
    lab.pin_napi("dut")
    after = napi.napi_threads(ifname)
    assert len(after) == len(before)
    assert all(napi.placement(pid)[0] <= set(lab.dut_cores) for pid in after.values())
    # Taking the device down dropped its routes; give them back for the tests that follow.
    wire = lab.wires[0]
    subprocess.run(lab.exec_argv("dut", ["ip", "route", "replace", wire.flow_prefix, "via", wire.tg.ip]), check=True)
    subprocess.run(lab.exec_argv("dut", ["ip", "neigh", "replace", wire.tg.ip, "lladdr", wire.tg.mac, "dev", ifname,
                                         "nud", "permanent"]), check=True)


@pytest.mark.parametrize("index", [0, 1])
def test_frames_are_echoed_by_a_socket_complete_with_checksum(lab: Lab, index: int) -> None:
    wire = lab.wires[index]

    def server() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((wire.dut.ip, 9000))
        made.settimeout(5)
        return made

    flow = f"198.19.{64 * index}.77"
    link = Ether(src=wire.tg.mac, dst=wire.dut.mac)
    frame = link / IP(src=flow, dst=wire.dut.ip) / UDP(sport=1234, dport=9000) / b"abc"
    with in_netns(lab.dut_netns, server) as echo, packet_socket(lab.tg_netns, wire.tg.ifname) as raw:
        raw.send(bytes(frame))
        payload, sender = echo.recvfrom(100)
        assert sender == (flow, 1234)
        echo.sendto(payload, sender)
        (reply,) = received(raw, 0.5)
    parsed = Ether(reply)
    assert (parsed.src, parsed.dst) == (wire.dut.mac, wire.tg.mac)
    assert (parsed[IP].dst, parsed[UDP].dport) == (flow, 1234)
    checksum = parsed[UDP].chksum
    del parsed[UDP].chksum
    assert checksum == Ether(bytes(parsed))[UDP].chksum


def test_receiving_is_done_by_the_pinned_thread_not_by_the_sender(lab: Lab) -> None:
    """Frames into a port of the DUT cost run time in its NAPI threads."""
    wire = lab.wires[1]

    def run_ns() -> int:
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])
                   for pid in napi.napi_threads(wire.dut.ifname).values())

    link = Ether(src=wire.tg.mac, dst=wire.dut.mac)
    frame = bytes(link / IP(src="198.19.64.5", dst="198.18.1.9") / UDP() / bytes(18))
    before = run_ns()
    with packet_socket(lab.tg_netns, wire.tg.ifname) as raw:
        for _ in range(2000):
            send_or_overflow(raw, frame)
    assert run_ns() - before > 20_000


def test_no_stray_frames_on_a_fresh_lab() -> None:
    with Lab.up(pause_s=PAUSE_S) as fresh:
        ports = [(fresh.netns_of(side), ifname) for side in ("tg", "dut") for ifname in fresh.ifnames(side)]
        sockets = [packet_socket(*port) for port in ports]
        time.sleep(2.0)  # the silence is what is measured
        for raw in sockets:
            assert received(raw, 0.01) == []
            raw.close()
    assert leftovers(fresh.name) == []


# -- what is left of it ----------------------------------------------------------------------------------------------


def test_up_and_down_are_quick_and_leave_the_machine_as_it_was() -> None:
    others = LabStore().names()
    before = machine()
    started = time.monotonic()
    made = Lab.up()
    up_s = time.monotonic() - started
    with connect(made) as client:  # a session with a child that survives its shell, as a careless stack would
        client.exec_command("setsid sleep 1000 & nohup sleep 1000 >/dev/null 2>&1 & sleep 1000")
        started = time.monotonic()
        made.close()
        down_s = time.monotonic() - started
    assert leftovers(made.name) == []
    if others == LabStore().names():
        assert machine() == before
    assert up_s < 5, "2.5 s on an idle machine"
    assert down_s < 3, "1 s on an idle machine"
    made.close()


def test_two_labs_side_by_side() -> None:
    with Lab.up("sidea", pause_s=PAUSE_S) as first, Lab.up("sideb", pause_s=PAUSE_S) as second:
        assert first.ssh.key_path.read_bytes() != second.ssh.key_path.read_bytes()
        with connect(first) as client, connect(second) as other:
            assert output_of(client, "ls /sys/class/net").split() == ["hsidead0", "hsidead1", "lo"]
            assert output_of(other, "ls /sys/class/net").split() == ["hsidebd0", "hsidebd1", "lo"]
        names = {status.name: status for status in Lab.status()}
        assert names["sidea"].state == names["sideb"].state == "up"
        first.close()
        assert leftovers("sidea") == []
        with connect(second) as other:
            assert output_of(other, "echo still here").strip() == "still here"
    assert leftovers("sideb") == []


def start_maker(name: str, kind: str = "owned") -> subprocess.Popen[str]:
    """A process that brings a lab up and says "go" just before, "ready" after."""
    process = subprocess.Popen([sys.executable, "-c", CHILD, name, kind], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "LAB_TEST_MARK": name})
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n", process.communicate()[1]
    return process


@pytest.mark.parametrize("round_number", range(KILLS))
def test_kill_9_at_any_instant_then_the_next_command(round_number: int) -> None:
    name, after_s = f"kill{round_number}", random.Random(SEED + round_number).uniform(0.0, 0.7)
    print(f"seed {SEED}, round {round_number}: SIGKILL {after_s * 1e3:.0f} ms into up")
    maker = start_maker(name)
    time.sleep(after_s)
    maker.kill()
    maker.wait()  # not communicate(): what it left behind holds its pipes open
    Lab.clean_stale()
    maker.communicate()
    assert leftovers(name) == []
    assert marked_processes(name) == []
    with Lab.up(name, pause_s=PAUSE_S) as again:
        assert again.name == name


def test_kill_9_of_a_lab_in_use() -> None:
    maker = start_maker("killup")
    assert maker.stdout is not None
    assert maker.stdout.readline() == "ready\n", maker.communicate()[1]
    assert next(s for s in Lab.status() if s.name == "killup").owner == maker.pid
    with pytest.raises(LabNameError, match=f"running process {maker.pid}"):
        Lab.down("killup")
    maker.kill()
    maker.wait()
    assert next(s for s in Lab.status() if s.name == "killup").state == "stale"
    Lab.clean_stale()
    maker.communicate()
    assert leftovers("killup") == []
    assert marked_processes("killup") == []


@pytest.mark.parametrize("round_number", range(-1, KILLS))
def test_ctrl_c_leaves_nothing(round_number: int) -> None:
    """Interrupted while building, or (-1) while in use; a second Ctrl-C does not stop the removal."""
    name, chance = f"ctrlc{max(round_number, 0)}", random.Random(SEED + round_number)
    maker = start_maker(name)
    assert maker.stdout is not None
    if round_number < 0:
        assert maker.stdout.readline() == "ready\n", maker.communicate()[1]
    else:
        time.sleep(chance.uniform(0.0, 0.4))
    maker.send_signal(signal.SIGINT)
    time.sleep(chance.uniform(0.0, 0.05))
    if maker.poll() is None:
        maker.send_signal(signal.SIGINT)
    try:
        _, errors = maker.communicate(timeout=30)
    finally:
        maker.kill()
        maker.wait()
    print(f"seed {SEED}, round {round_number}\n{errors}")
    assert "KeyboardInterrupt" in errors
    assert leftovers(name) == []
    assert marked_processes(name) == []


def test_a_persistent_lab_outlives_its_maker_and_ends_with_down() -> None:
    code = f"from harness.lab import Lab; Lab.up('persist', persistent=True, pause_s={PAUSE_S})"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
    assert "persist" not in Lab.clean_stale()
    status = next(s for s in Lab.status() if s.name == "persist")
    assert (status.state, status.owner, status.persistent) == ("up", None, True)
    with pytest.raises(LabNameError, match="up already"):
        Lab.up("persist", pause_s=PAUSE_S)
    found = Lab.open("persist")
    assert found.tg_cores + found.dut_cores
    with connect(found) as client:
        assert output_of(client, "echo here").strip() == "here"
    Lab.down("persist")
    assert leftovers("persist") == []
    with pytest.raises(LabNameError, match="no lab"):
        Lab.down("persist")


def test_a_lab_of_another_boot_is_forgotten_without_touching_processes() -> None:
    """/run may survive a reboot (it is no tmpfs everywhere): pids in there mean other processes now."""
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        with Lab.up("reboot", pause_s=PAUSE_S) as made:
            store = LabStore()
            store.note_process("reboot", "bystander", bystander.pid)
            for path in [made.directory / "lab.json", *(made.directory / "pids").iterdir()]:
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace('"boot": "', '"boot": "0'), encoding="utf-8")
            Lab.clean_stale()
            assert "reboot" not in store.names()
            assert bystander.poll() is None
        assert leftovers("reboot") == []
    finally:
        bystander.kill()
        bystander.wait()


def test_a_failing_step_removes_what_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd, "config_text", lambda directory: "NoSuchOption yes\n")
    with pytest.raises(TestbedError, match="NoSuchOption"):
        Lab.up("broken", pause_s=PAUSE_S)
    assert leftovers("broken") == []


def test_a_namespace_of_someone_else_is_not_taken_over() -> None:
    subprocess.run(["ip", "netns", "add", "nsh-taken-tg"], check=True)
    try:
        with pytest.raises(LabNameError, match="ip netns del nsh-taken-tg"):
            Lab.up("taken", pause_s=PAUSE_S)
        assert netns.path_of("nsh-taken-tg").exists()
    finally:
        subprocess.run(["ip", "netns", "del", "nsh-taken-tg"], check=True)


def test_a_machine_with_a_locked_root_account_can_still_be_reached(tmp_path: Path) -> None:
    """Ubuntu's default. In a mount namespace of its own, so that the real file stays as it is."""
    shadow = tmp_path / "shadow"
    shadow.write_text("root:!:19000:0:99999:7:::\n", encoding="ascii")
    code = f"""
import subprocess, paramiko
from harness.lab import Lab
subprocess.run(["mount", "--bind", {str(shadow)!r}, "/etc/shadow"], check=True)
with Lab.up("locked", pause_s={PAUSE_S}) as lab:
    client = paramiko.SSHClient()
    client.load_host_keys(str(lab.ssh.known_hosts))
    client.connect(lab.ssh.hostname, 22, "root", key_filename=str(lab.ssh.key_path), sock=lab.ssh.open_socket(5))
    print(client.exec_command("cat /etc/shadow")[1].read().decode())
    client.close()
"""
    done = subprocess.run(["unshare", "--mount", "--propagation", "slave", sys.executable, "-c", code], check=False,
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "root:*::0:99999:7:::", done.stderr
    assert leftovers("locked") == []


def test_without_root_the_refusal_says_so() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = ""
        try:
            os.setuid(65534)
            preflight()
        except TestbedError as error:
            text = f"{error.exit_code} {error}"
        finally:
            os.write(writing, text.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    assert text.startswith("3 ")
    assert "root privileges: run the same command with sudo" in text
