# SPDX-License-Identifier: Apache-2.0
"""An account that is not root, with the sudoers file of the docs: enough for a run; other commands are refused, and
it is root all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.errors import TestbedError
from harness.host.dut import SshDut
from harness.host.ssh import SshConnection
from harness.lab import sshd
from harness.lab.lab import Lab
from harness.lab.wires import tool

pytestmark = pytest.mark.lab
SUDOERS = Path(__file__).parents[2] / "docs" / "netstack-harness.sudoers"
PORT = 2022
TTL = "/proc/sys/net/ipv4/ip_default_ttl"


@dataclass(frozen=True)
class Account(sshd.SshTarget):
    """As the lab's target, for a user who is not root."""

    sudo: bool = True


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.up(wires=1, pause_s=0.1) as lab:
        yield lab


@pytest.fixture(scope="module")
def account(lab: Lab) -> Iterator[Account]:
    """A user of this machine for as long as the test runs, without a password, and an SSH server that lets it in."""
    name = f"nsh{os.getpid()}"
    run("useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", "--password", "*", name)
    folder = Path(tempfile.mkdtemp(prefix="netstack-harness-test-"))
    try:
        folder.chmod(0o755)  # the keys are read as that user
        shutil.copy(lab.ssh.key_path.with_name("authorized_keys"), folder)
        text = sshd.config_text(lab.ssh.key_path.parent).replace(f"AllowUsers {sshd.USER}", f"AllowUsers {name}")
        text = text.replace(f":{sshd.PORT}", f":{PORT}").replace(
            str(lab.ssh.key_path.with_name("authorized_keys")), str(folder / "authorized_keys"))
        (folder / "sshd_config").write_text(text)
        argv = [tool("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")]
        with (folder / "log").open("wb") as log:
            process = lab.spawn("dut", argv, name="sshd-user", stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        target = Account(**{**vars(lab.ssh), "user": name, "port": PORT})
        try:
            sshd.await_ready(target, process, folder / "log")
            known = folder / "known_hosts"
            known.write_text(lab.ssh.known_hosts.read_text().replace(lab.ssh.hostname, f"[{lab.ssh.hostname}]:{PORT}"))
            yield replace(target, known_hosts=known)
        finally:
            process.terminate()
            process.wait(10)
    finally:
        shutil.rmtree(folder)
        deadline = time.monotonic() + 10
        while subprocess.run(["pgrep", "-u", name], check=False, capture_output=True).stdout:  # sshd
            assert time.monotonic() < deadline, "a program of the account is left"
            time.sleep(0.01)
        run("userdel", name)


@contextmanager
def allowed(account: Account) -> Iterator[None]:
    """The file of the docs, for this account."""
    path = Path("/etc/sudoers.d") / f"netstack-harness-{account.user}"
    text = SUDOERS.read_text().replace("harness ALL=", f"{account.user} ALL=")
    assert account.user in text
    path.write_text(text)
    path.chmod(0o440)
    try:
        run("visudo", "-c", "-f", str(path))
        yield
    finally:
        path.unlink()


def connect(lab: Lab, account: Account) -> SshDut:
    return SshDut.connect("dut", account, virtual=True, state_dir=str(lab.dut_state_dir))


def test_the_sudoers_file_of_the_docs_is_enough_for_a_run_and_allows_one_form_of_command(
    lab: Lab, account: Account,
) -> None:
    with allowed(account):
        with connect(lab, account) as dut:
            assert dut.run(["id", "-u"]).stdout == "0\n"
            before = dut.read(TTL)
            dut.set_file(TTL, "41")
            dut.apply(["ip", "addr", "add", "192.0.2.77/32", "dev", "lo"], ["ip", "addr", "del", "192.0.2.77/32", "dev",
                                                                             "lo"])
            assert dut.spawn(["sleep", "60"], name="sleeper").alive()
        with SshConnection.open(account) as connection:
            for argv in (["id", "-u"], ["/bin/sh", "-c", "id"], ["/usr/bin/python3", "-c", "print(1)"],
                         ["/usr/bin/python3", "-I", "/dev/null"]):
                with pytest.raises(TestbedError, match=r"refuses to run the harness's programs .*least-privilege\.md"):
                    connection.run(argv)
            # No fence, and docs/least-privilege.md says so: the text after -I -c may be anyone's.
            assert connection.run(["/usr/bin/python3", "-I", "-c", "import os; print(os.geteuid())"]).stdout == "0\n"
        with SshDut.connect("dut", lab.ssh, virtual=True, state_dir=str(lab.dut_state_dir)) as dut:
            assert dut.left_over == (0, [])
            assert dut.read(TTL) == before
            assert "192.0.2.77" not in dut.run(["ip", "addr"]).stdout


def test_without_it_the_one_message_says_what_to_do(lab: Lab, account: Account) -> None:
    with pytest.raises(TestbedError) as refused:
        connect(lab, account)
    assert refused.value.exit_code == 3
    assert str(refused.value).count("\n") == 0
    assert f"for {account.user} without a password (sudo: a password is required)" in str(refused.value)
    assert not subprocess.run(["pgrep", "-u", account.user, "-f", "agent"], capture_output=True).stdout
