# SPDX-License-Identifier: Apache-2.0
"""What a machine may lack, and that the refusal names all of it with remedies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import TestbedError
from harness.lab import fitness
from harness.lab.fitness import Machine, kernel_version, missing

FIT = Machine(euid=0, kernel="6.1.0-18-amd64", programs=frozenset(fitness.PROGRAMS), cores=2, netns_error="",
              veth_error="")


def test_a_fit_machine_lacks_nothing() -> None:
    assert missing(FIT) == []


@pytest.mark.parametrize(("change", "words"), [
    ({"euid": 1000}, ["root", "sudo"]),
    ({"kernel": "5.15.0-100-generic"}, ["5.18", "5.15.0-100-generic", "Debian 12"]),
    ({"programs": frozenset({"ip", "ethtool"})}, ["sshd, ssh-keygen", "apt-get install openssh-client openssh-server"]),
    ({"cores": 1}, ["two cores", "may use 1"]),
    ({"netns_error": "unshare: Operation not permitted"}, ["network namespaces", "--privileged"]),
    ({"veth_error": "Unknown device type"}, ["veth", "modprobe veth"]),
])
def test_each_lack_is_named_with_its_remedy(change: dict[str, object], words: list[str]) -> None:
    lacking = missing(replace(FIT, **change))  # type: ignore[arg-type]
    assert len(lacking) == 1
    assert all(word in lacking[0] for word in words)


def test_everything_at_once_is_one_error_of_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Machine(euid=1000, kernel="4.19.0", programs=frozenset(), cores=1, netns_error="no", veth_error="no")
    monkeypatch.setattr(fitness, "look", lambda: bare)
    with pytest.raises(TestbedError) as caught:
        fitness.preflight()
    assert caught.value.exit_code == 3
    assert str(caught.value).count("\n  - ") == 6


@pytest.mark.parametrize(("release", "version"), [
    ("6.18.44-fc-v595", (6, 18)), ("5.18.0", (5, 18)), ("7.0-rc1", (7, 0)), ("weird", (0, 0)),
])
def test_kernel_version(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
