# SPDX-License-Identifier: Apache-2.0
"""The SSH server's files."""

from __future__ import annotations

from pathlib import Path

from harness.lab import sshd


def test_configuration_lets_in_one_key_on_loopback_only(tmp_path: Path) -> None:
    options = dict(line.split(" ", 1) for line in sshd.config_text(tmp_path).splitlines())
    assert options["ListenAddress"] == "127.0.0.1:22"
    assert options["PasswordAuthentication"] == options["KbdInteractiveAuthentication"] == options["UsePAM"] == "no"
    assert options["AuthenticationMethods"] == "publickey"
    assert options["AuthorizedKeysFile"] == str(tmp_path / "authorized_keys")
    assert options["HostKey"] == str(tmp_path / "host_key")


def test_a_locked_root_is_unlocked_without_any_password(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root:!:0:0:99999:7:::\nbob:$6$secret$hash:19000:0:99999:7:::\n", encoding="ascii")
    assert sshd.unlocked_shadow(shadow) == "root:*::0:99999:7:::\nbob:*::0:99999:7:::\n"


def test_an_unlocked_root_needs_nothing(tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root:*:19000:0:99999:7:::\nbob:!:19000:0:99999:7:::\n", encoding="ascii")
    assert sshd.unlocked_shadow(shadow) is None
    assert sshd.unlocked_shadow(tmp_path / "absent") is None
